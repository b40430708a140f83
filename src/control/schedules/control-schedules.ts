/** PAUSE | RESUME | DROP SCHEDULE id, or SCHEDULES query. */
import type { ScheduleChange, ScheduleId, ScheduleRecord } from '../../catalog/index.ts';
import { nextSchedule } from '../../jobs/index.ts';
import type { ScheduleSelection, Statement } from '../../sql/index.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { idsOf } from '../id-query.ts';
import { requireScheduleOwner, scheduleNotFound, scheduleStoreOf } from './schedule-access.ts';
import { type UseCase, done } from '../use-case.ts';
import { scheduleIdValue } from '../values.ts';

type ControlSchedules = Extract<Statement, { kind: 'control_schedules' }>;

export const controlSchedules: UseCase<ControlSchedules> = {
  columns: () => undefined,
  refusedInTransaction: 'schedule control',
  async run(core, statement, context) {
    const { virtualClusterId, virtualClusterName, user } = context.session;
    const { action } = statement;
    const ids = await scheduleIdsOf(core, statement.schedules, context);
    return core.scheduler.change(virtualClusterId, async () => {
      const store = scheduleStoreOf(core, virtualClusterId);
      const listed = await store.list({ ids, signal: context.signal });
      const schedules = listed.map(({ schedule }) => schedule);
      requireFound(statement.schedules, ids, schedules);
      for (const schedule of schedules) await requireScheduleOwner(core, schedule, context);
      await store.change(changeOf(core, action, schedules), { signal: core.signal });
      if (action === 'drop') {
        await core.scheduler.releaseHistory(virtualClusterId, { scheduleIds: ids, signal: core.signal });
      }
      loggerOf(core, { id: virtualClusterId, name: virtualClusterName }).info(
        `${action} of schedules ${ids.join(', ')} by ${user}`,
      );
      return done(`${action.toUpperCase()} SCHEDULES ${schedules.length}`);
    });
  },
};

/** The schedules that a statement names, each once. @throws InputError `parameter_invalid` */
export async function scheduleIdsOf(
  core: Core,
  selection: ScheduleSelection,
  context: ExecuteContext,
): Promise<readonly ScheduleId[]> {
  if (selection.kind === 'one') return [scheduleIdValue(selection.id)];
  return (await idsOf(core, {
    query: selection.text,
    of: 'schedule',
    context,
  })) as readonly bigint[] as readonly ScheduleId[];
}

/** Several that a query names may include some that are gone; one that is named must be there. */
function requireFound(
  selection: ScheduleSelection,
  ids: readonly ScheduleId[],
  found: readonly ScheduleRecord[],
): void {
  const [id] = ids;
  if (selection.kind === 'one' && found.length === 0 && id !== undefined) throw scheduleNotFound(id);
}

function changeOf(
  core: Core,
  action: ControlSchedules['action'],
  schedules: readonly ScheduleRecord[],
): ScheduleChange {
  if (action === 'drop') return dropOf(schedules);
  const kind = action === 'pause' ? 'pause_asked' : 'resume_asked';
  const now = core.options.clock.now();
  return { update: schedules.map((schedule) => nextSchedule(schedule, { kind }, now)) };
}

/** Without its full half an incremental one has nothing to append to; without an incremental half every run is a full backup. */
function dropOf(schedules: readonly ScheduleRecord[]): ScheduleChange {
  const ids = new Set(schedules.map(({ id }) => id));
  for (const { backupType, partnerId } of schedules) {
    if (backupType === 'full' && partnerId !== null) ids.add(partnerId);
  }
  return { delete: [...ids] };
}
