/** Finding schedules, and who may see and change them: their owners, and admins. */
import { InputError, type VirtualClusterId } from '../../base/index.ts';
import {
  type ListedSchedule,
  type ScheduleId,
  type ScheduleRecord,
  type ScheduleStore,
  postgresScheduleStore,
} from '../../catalog/index.ts';
import type { ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { holdsPrivilege } from '../privileges/privileges.ts';
import { askerOf } from '../use-case.ts';

/** The two halves of a backup schedule. One that takes full backups only has no incremental half. */
export interface SchedulePair {
  readonly full: ScheduleRecord;
  readonly incremental: ScheduleRecord | undefined;
}

export function scheduleStoreOf(core: Core, virtualClusterId: VirtualClusterId): ScheduleStore {
  const name = core.catalog.get(virtualClusterId)?.name;
  if (name === undefined) throw new InputError('object_state', `virtual cluster ${virtualClusterId} is gone`);
  return postgresScheduleStore(core.services.instanceOf({ id: virtualClusterId, name }));
}

/** Those the user may see, oldest first. */
export async function visibleSchedules(
  core: Core,
  context: ExecuteContext,
  ids?: readonly ScheduleId[],
): Promise<readonly ListedSchedule[]> {
  const { session, signal } = context;
  const store = scheduleStoreOf(core, session.virtualClusterId);
  const all = await store.list(ids === undefined ? { signal } : { ids, signal });
  if (await holdsPrivilege(askerOf(core, context), [])) return all;
  return all.filter(({ schedule }) => schedule.owner === session.user);
}

/** @throws InputError `object_not_found` */
export async function findSchedule(
  core: Core,
  scheduleId: ScheduleId,
  context: ExecuteContext,
): Promise<ScheduleRecord> {
  const store = scheduleStoreOf(core, context.session.virtualClusterId);
  const [found] = await store.list({ ids: [scheduleId], signal: context.signal });
  if (found === undefined) throw scheduleNotFound(scheduleId);
  return found.schedule;
}

/** Both halves, whichever is named. @throws InputError `object_not_found` */
export async function findPair(
  core: Core,
  scheduleId: ScheduleId,
  context: ExecuteContext,
): Promise<SchedulePair> {
  const named = await findSchedule(core, scheduleId, context);
  const partner = named.partnerId === null ? undefined : await findSchedule(core, named.partnerId, context);
  if (named.backupType === 'full') return { full: named, incremental: partner };
  if (partner === undefined) throw scheduleNotFound(scheduleId);
  return { full: partner, incremental: named };
}

/** @throws InputError `insufficient_privilege` */
export async function requireScheduleOwner(
  core: Core,
  schedule: ScheduleRecord,
  context: ExecuteContext,
): Promise<void> {
  if (schedule.owner === context.session.user) return;
  if (await holdsPrivilege(askerOf(core, context), [])) return;
  throw new InputError(
    'insufficient_privilege',
    `must be admin or owner of the schedule ${schedule.id} to change it`,
  );
}

export function scheduleNotFound(scheduleId: ScheduleId): InputError {
  return new InputError('object_not_found', `schedule ${scheduleId} does not exist`, {
    hint: 'SHOW SCHEDULES lists those there are',
  });
}
