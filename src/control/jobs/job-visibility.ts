/** Which jobs a session can see and control, and where their records are. */
import {
  InputError,
  type JobId,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  type VirtualClusterId,
} from '../../base/index.ts';
import { type JobRecord, type JobStore, postgresJobStore } from '../../catalog/index.ts';
import { jobNotFound } from '../../jobs/index.ts';
import type { ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { holdsPrivilege, isSystem } from '../privileges/privileges.ts';
import { askerOf } from '../use-case.ts';

export interface FoundJob {
  readonly job: JobRecord;
  /** The virtual cluster that keeps the record. */
  readonly keeper: VirtualClusterId;
}

/** A virtual cluster keeps the records of its jobs; those of its restores are kept by the control plane until they are over. */
export function storeOf(core: Core, virtualClusterId: VirtualClusterId): JobStore {
  const name = core.catalog.get(virtualClusterId)?.name;
  if (name === undefined) throw new InputError('object_state', `virtual cluster ${virtualClusterId} is gone`);
  return postgresJobStore(core.services.instanceOf({ id: virtualClusterId, name }));
}

/** Whether the user sees everybody's jobs, or only the own ones. */
export async function seesAllJobs(core: Core, context: ExecuteContext): Promise<boolean> {
  return holdsPrivilege(askerOf(core, context), ['VIEWJOB', 'CONTROLJOB']);
}

/** @throws InputError `object_not_found`, also for a job that the user may not see */
export async function findJob(core: Core, jobId: JobId, context: ExecuteContext): Promise<FoundJob> {
  const found = await locate(core, jobId, context);
  if (found === undefined) throw jobNotFound(jobId);
  const isOwn = found.job.user === context.session.user;
  if (!isOwn && !(await seesAllJobs(core, context))) throw jobNotFound(jobId);
  return found;
}

/** Those of the jobs that are there and that the user may see. */
export async function findJobs(
  core: Core,
  jobIds: readonly JobId[],
  context: ExecuteContext,
): Promise<readonly FoundJob[]> {
  const seesAll = await seesAllJobs(core, context);
  const found: FoundJob[] = [];
  for (const jobId of jobIds) {
    const each = await locate(core, jobId, context);
    if (each !== undefined && (seesAll || each.job.user === context.session.user)) found.push(each);
  }
  return found;
}

async function locate(core: Core, jobId: JobId, context: ExecuteContext): Promise<FoundJob | undefined> {
  const { session, signal } = context;
  const keeper = session.virtualClusterId;
  const own = await storeOf(core, keeper).read(jobId, { signal });
  if (own !== undefined || isSystem(keeper)) return own && { job: own, keeper };
  const kept = await storeOf(core, SYSTEM_VIRTUAL_CLUSTER_ID).read(jobId, { signal });
  return kept?.targetVirtualClusterId === keeper
    ? { job: kept, keeper: SYSTEM_VIRTUAL_CLUSTER_ID }
    : undefined;
}

/**
 * Admins control every job; holders of CONTROLJOB those that no admin owns; everybody the own ones.
 * @throws InputError `insufficient_privilege`
 */
export async function requireControl(core: Core, job: JobRecord, context: ExecuteContext): Promise<void> {
  const asker = askerOf(core, context);
  if (job.user === context.session.user || (await holdsPrivilege(asker, []))) return;
  const ownerIsAdmin = await holdsPrivilege({ ...asker, user: job.user }, []);
  if (!ownerIsAdmin && (await holdsPrivilege(asker, ['CONTROLJOB']))) return;
  throw new InputError(
    'insufficient_privilege',
    ownerIsAdmin
      ? `only admins can control jobs owned by other admins`
      : `user ${context.session.user} does not have CONTROLJOB privilege`,
  );
}
