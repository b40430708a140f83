/** The role that a job copies as: chosen and recorded before it is made, and known again by later attempts. */
import type { Rng } from '../base/index.ts';
import type { JsonObject } from '../catalog/index.ts';
import type { JobContext } from './job-type.ts';

const SUFFIX_BYTES = 4;

/** The name that earlier attempts recorded, or null. */
export function recordedRole({ progress }: { readonly progress: JsonObject }): string | null {
  const role = progress['copyRole'];
  return typeof role === 'string' ? role : null;
}

/** A new name, recorded when this returns. Nobody can have foreseen it. */
export async function recordRole(context: JobContext, rng: Rng): Promise<string> {
  const suffix = Buffer.from(rng.bytes(SUFFIX_BYTES)).toString('hex');
  const role = `atoll_copy_${context.job.id}_${suffix}`;
  await context.save({ copyRole: role });
  return role;
}
