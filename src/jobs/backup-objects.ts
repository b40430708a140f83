/** BACKUP of databases or tables: a logical one. */
import type { Rng, VirtualClusterId } from '../base/index.ts';
import type { JsonObject } from '../catalog/index.ts';
import type { Instance } from '../instance/index.ts';
import type {
  BackupSummary,
  LogicalBackupRequest,
  LogicalSelection,
  LogicalWorker,
} from '../timeline/index.ts';
import { recordedRole, recordRole } from './copy-role.ts';
import type { JobContext } from './job-type.ts';

export interface ObjectsDependencies {
  readonly worker: LogicalWorker;
  readonly rng: Rng;
  readonly instanceOf: (virtualClusterId: VirtualClusterId) => Instance;
}

/** What is backed up; null for the whole virtual cluster. */
export function selectionOf({ payload }: { readonly payload: JsonObject }): LogicalSelection | null {
  const text = payload['selection'];
  return typeof text === 'string' ? (JSON.parse(text) as LogicalSelection) : null; // What `backupPayload` wrote.
}

/** With a role that may read what is selected, and is gone afterwards. */
export async function backupObjects(
  context: JobContext,
  dependencies: ObjectsDependencies,
  request: Omit<LogicalBackupRequest, 'role'>,
): Promise<BackupSummary> {
  const { signal, domain } = context;
  const instance = dependencies.instanceOf(domain.virtualClusterId);
  await dropReader(context, instance);
  const role = await recordRole(context, dependencies.rng);
  const { selection } = request;
  const databases = selection.kind === 'databases' ? selection.names : [selection.database];
  try {
    await instance.copyRoles.makeReader({ role, databases, signal });
    return await dependencies.worker.backupObjects(
      { ...request, role },
      {
        onProgress: ({ fraction, phase }) => context.report({ fraction, runningStatus: phase }),
        signal,
      },
    );
  } finally {
    // When this attempt is broken off the next one, or the end of the job, does it.
    if (!signal.aborted) await instance.copyRoles.remove({ role, signal });
  }
}

/** Of an earlier attempt. Harmless when there is none. */
export async function dropReader(context: JobContext, instance: Instance): Promise<void> {
  const role = recordedRole(context.job);
  if (role !== null) await instance.copyRoles.remove({ role, signal: context.signal });
}
