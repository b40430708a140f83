/** OS users of instances. Postgres refuses to run as root, and the kernel keeps users apart. */
import type { Owner } from './durable-files.ts';
import { runProgram } from './run-program.ts';

/** Virtual cluster n runs under uid and gid 700000 + n: above what distributions and subordinate ids use by default. */
export const UID_BASE = 700_000;

/** True when instances can, and must, run under users of their own. */
export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

export function ownerOf(uid: number): Owner {
  return { uid, gid: uid };
}

/** `nobody`: unlike instances, `initdb` insists on a user that has a name. Null when this process is not root. */
export async function namedUnprivilegedUser(options: { signal: AbortSignal }): Promise<Owner | null> {
  if (!isRoot()) return null;
  const idOf = async (flag: string) =>
    Number(
      (await runProgram({ program: 'id', parameters: [flag, 'nobody'], user: null, ...options })).stdout,
    );
  return { uid: await idOf('-u'), gid: await idOf('-g') };
}

/** Ids of virtual clusters have at most six digits. */
const IDS_MAX = 1_000_000;

/** Whether instances run under this uid, of whatever virtual cluster. */
export function isUidOfInstance(uid: number): boolean {
  return uid > UID_BASE && uid < UID_BASE + IDS_MAX;
}
