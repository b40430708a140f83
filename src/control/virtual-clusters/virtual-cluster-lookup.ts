/** Finding the virtual cluster a statement names, and checking who names it. */
import { InputError, SYSTEM_VIRTUAL_CLUSTER_ID, type VirtualClusterId } from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import { BRANCH_JOB, RESET_DATA_JOB, RESTORE_JOB } from '../../jobs/index.ts';
import type { ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { storeOf } from '../jobs/job-visibility.ts';
import { requirePrivilege, requireSystem } from '../privileges/privileges.ts';
import { askerOf } from '../use-case.ts';

/** @throws InputError `insufficient_privilege` outside the system VC, and for users who may not manage virtual clusters */
export async function requireManager(core: Core, context: ExecuteContext): Promise<void> {
  requireSystem(context.session);
  await requirePrivilege(askerOf(core, context), {
    anyOf: ['MANAGEVIRTUALCLUSTER'],
    refusal: `user ${context.session.user} does not have MANAGEVIRTUALCLUSTER system privilege`,
    hint: 'an admin of the system virtual cluster may do this, or grant the admin role',
  });
}

/** @throws InputError `object_not_found` */
export function lookupVirtualCluster(core: Core, name: string): VirtualClusterRecord {
  const record = core.catalog.find(name);
  if (record === undefined) throw noSuchVirtualCluster(name);
  return record;
}

/** Works on the virtual cluster of that name while nobody else changes it. @throws InputError `object_not_found` */
export async function withVirtualCluster<T>(
  core: Core,
  name: string,
  use: (record: VirtualClusterRecord) => Promise<T>,
): Promise<T> {
  const { id } = lookupVirtualCluster(core, name);
  return core.locks.run(id, async () => {
    const record = lookupVirtualCluster(core, name);
    if (record.id !== id) throw noSuchVirtualCluster(name); // Renamed while its lock was waited for.
    return use(record);
  });
}

/** Works on a reader while nobody else changes it, or what it reads. @throws InputError `object_not_found` */
export async function withReader(
  core: Core,
  name: string,
  use: (reader: VirtualClusterRecord) => Promise<void>,
): Promise<void> {
  const { id, readerOf } = lookupVirtualCluster(core, name);
  await core.locks.run(readerOf ?? id, async () => {
    const reader = lookupVirtualCluster(core, name);
    if (reader.id !== id) throw noSuchVirtualCluster(name);
    await use(reader);
  });
}

/** By its number, which a renamed one keeps. @throws InputError `object_not_found` */
export function requireRecord(core: Pick<Core, 'catalog'>, id: VirtualClusterId): VirtualClusterRecord {
  const record = core.catalog.get(id);
  if (record === undefined) throw new InputError('object_not_found', `virtual cluster ${id} is gone`);
  return record;
}

export function noSuchVirtualCluster(name: string): InputError {
  return new InputError('object_not_found', `virtual cluster "${name}" does not exist`, {
    hint: 'SHOW VIRTUAL CLUSTERS lists those there are',
  });
}

/**
 * A RESTORE, a RESET DATA or a branch in the making would take the virtual cluster from under the change, or the other way round; a paused
 * one too, for it can be resumed.
 * @throws InputError `object_in_use`
 */
export async function requireNoRestore(core: Core, record: VirtualClusterRecord): Promise<void> {
  const unfinished = await storeOf(core, SYSTEM_VIRTUAL_CLUSTER_ID).readUnfinished({ signal: core.signal });
  const job = unfinished.find(({ targetVirtualClusterId: id }) => id === record.id);
  if (job === undefined) return;
  const what = JOBS_AT_WORK.get(job.type) ?? 'being worked on';
  throw new InputError('object_in_use', `virtual cluster "${record.name}" is ${what} by job ${job.id}`, {
    hint: `wait for the job, or end it with CANCEL JOB ${job.id}`,
  });
}

const JOBS_AT_WORK: ReadonlyMap<string, string> = new Map([
  [RESTORE_JOB, 'being restored'],
  [RESET_DATA_JOB, 'being taken back in time'],
  [BRANCH_JOB, 'being made'],
]);

/** Among those dropped and not yet removed, the one that was dropped last. @throws InputError `object_not_found` */
export function lookupDropped(core: Core, name: string): VirtualClusterRecord {
  const droppedAt = ({ state }: VirtualClusterRecord) => (state.kind === 'dropped' ? state.dropped : 0n);
  const [newest] = core.catalog
    .listAll()
    .filter((record) => record.name === name && record.state.kind === 'dropped')
    .toSorted((left, right) => (droppedAt(left) < droppedAt(right) ? 1 : -1));
  if (newest !== undefined) return newest;
  throw new InputError('object_not_found', `there is no dropped virtual cluster "${name}"`, {
    hint: 'SHOW VIRTUAL CLUSTERS WITH DROPPED lists those that can still be had back',
  });
}
