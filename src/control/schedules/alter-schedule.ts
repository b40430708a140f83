/** ALTER BACKUP SCHEDULE id action, ...: both halves of a pair change together, or nothing does. */
import { InputError, type Timestamp } from '../../base/index.ts';
import type { ScheduleChange, ScheduleId, ScheduleRecord } from '../../catalog/index.ts';
import { type ScheduleEvent, nextSchedule } from '../../jobs/index.ts';
import { type AlterScheduleAction, type Option, type Statement, printStatement } from '../../sql/index.ts';
import { KEY_OPTIONS } from '../backup/backup-keys.ts';
import { admitBackup } from '../backup/backup.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import {
  SCHEDULE_COLUMNS,
  incrementalOf,
  refuseSharedCollection,
  requireMetricAllowed,
  schedulesResult,
} from './create-schedule.ts';
import { type SchedulePair, findPair, requireScheduleOwner, scheduleStoreOf } from './schedule-access.ts';
import { onFailureOf, onPreviousOf, recurrenceOf, requireDetached } from './schedule-options.ts';
import { type BackupStatement, scheduledStatement } from './scheduled-backup.ts';
import type { UseCase } from '../use-case.ts';
import { isFlagOn, scheduleIdValue, textValue } from '../values.ts';

type Alter = Extract<Statement, { kind: 'alter_backup_schedule' }>;
type ActionOf<Kind extends AlterScheduleAction['kind']> = Extract<AlterScheduleAction, { kind: Kind }>;

export const alterBackupSchedule: UseCase<Alter> = {
  columns: () => SCHEDULE_COLUMNS,
  refusedInTransaction: 'ALTER BACKUP SCHEDULE',
  async run(core, statement, context) {
    const { virtualClusterId, virtualClusterName, user } = context.session;
    const id = scheduleIdValue(statement.scheduleId);
    requireOnce(statement.actions);
    return core.scheduler.change(virtualClusterId, async () => {
      const before = await findPair(core, id, context);
      await requireScheduleOwner(core, before.full, context);
      const after = await altered(core, { before, actions: statement.actions, context });
      const store = scheduleStoreOf(core, virtualClusterId);
      await store.change(changeOf(before, after), { signal: core.signal });
      loggerOf(core, { id: virtualClusterId, name: virtualClusterName }).info(
        `schedule ${id} altered by ${user}`,
      );
      return schedulesResult(halvesOf(after), 'ALTER SCHEDULE');
    });
  },
};

/** The pair with all actions applied; nothing is written. */
async function altered(
  core: Core,
  options: { before: SchedulePair; actions: readonly AlterScheduleAction[]; context: ExecuteContext },
): Promise<SchedulePair> {
  const { before, actions, context } = options;
  const now = core.options.clock.now();
  let pair = withLabel(before, one(actions, 'set_label'));
  pair = await withBackup(core, { pair, actions, context });
  pair = await withScheduleOptions(core, { pair, actions, context });
  pair = withRecurrence(core, { pair, actions, now });
  for (const { full } of all(actions, 'execute_immediately')) pair = executed(pair, { full, now });
  return pair;
}

function withLabel(pair: SchedulePair, action: ActionOf<'set_label'> | undefined): SchedulePair {
  if (action === undefined) return pair;
  const label = textValue(action.label, 'the label of a schedule');
  return each(pair, (schedule) => ({ ...schedule, label }));
}

async function withBackup(
  core: Core,
  options: { pair: SchedulePair; actions: readonly AlterScheduleAction[]; context: ExecuteContext },
): Promise<SchedulePair> {
  const { pair, actions, context } = options;
  const into = one(actions, 'set_into');
  const given = all(actions, 'set_with').map(({ option }) => option);
  if (into === undefined && given.length === 0) return pair;
  for (const option of given) requireValue(option);
  requireDetached(given);
  const change = (statement: BackupStatement): BackupStatement => ({
    ...statement,
    destination: into?.destination ?? statement.destination,
    options: withOptions(statement.options, given),
  });
  const { collection } = await admitBackup(core, change(scheduledStatement(pair.full)), context);
  const written = each(pair, (schedule) => ({
    ...schedule,
    statement: printStatement(change(scheduledStatement(schedule))),
  }));
  const hasNewKeys = given.some(({ name }) => KEY_OPTIONS.some((option) => option === name));
  if (into === undefined && !hasNewKeys) return written;
  if (into !== undefined && !pair.full.ignoreExistingBackups) {
    const store = scheduleStoreOf(core, context.session.virtualClusterId);
    const others = (await store.list({ signal: context.signal })).map(({ schedule }) => schedule);
    refuseSharedCollection(
      others.filter(({ id }) => id !== pair.full.id && id !== pair.incremental?.id),
      collection,
    );
  }
  // Runs that have begun still go to the old place, with the old keys: only a later full backup is one to append to.
  const event: ScheduleEvent = { kind: 'full_needed', after: core.ids.next() };
  return { ...written, incremental: moved(written.incremental, event, core.options.clock.now()) };
}

/** An option given anew takes the place of the old one. */
function withOptions(options: readonly Option[], given: readonly Option[]): readonly Option[] {
  const kept = options.filter(({ name }) => given.every((option) => option.name !== name));
  return [...given.filter(({ name }) => name !== 'detached'), ...kept];
}

/** @throws InputError `parameter_invalid` */
function requireValue({ name, value }: Option): void {
  if (name !== 'revision_history' || value !== undefined) return;
  throw new InputError('parameter_invalid', 'SET WITH revision_history needs a value', {
    hint: "write SET WITH revision_history = 'true' or 'false'",
  });
}

async function withScheduleOptions(
  core: Core,
  options: { pair: SchedulePair; actions: readonly AlterScheduleAction[]; context: ExecuteContext },
): Promise<SchedulePair> {
  const { pair, actions, context } = options;
  const given = all(actions, 'set_schedule_option').map(({ option }) => option);
  const fixed = given.find(({ name }) => name === 'first_run' || name === 'ignore_existing_backups');
  if (fixed !== undefined) {
    throw new InputError('parameter_invalid', `${fixed.name} cannot be changed once a schedule is made`, {
      hint: 'drop the schedule and create it anew',
    });
  }
  const metric = given.some(({ name }) => name === 'updates_cluster_last_backup_time_metric');
  if (metric) await requireMetricAllowed(core, context);
  const onFailure = onFailureOf(given);
  const onPrevious = onPreviousOf(given);
  const shared = {
    ...(onFailure === undefined ? {} : { onExecutionFailure: onFailure }),
    ...(metric
      ? { updatesLastBackupMetric: isFlagOn(given, 'updates_cluster_last_backup_time_metric') }
      : {}),
  };
  const changed = each(pair, (schedule) => ({ ...schedule, ...shared }));
  return onPrevious === undefined
    ? changed
    : { ...changed, full: { ...changed.full, onPreviousRunning: onPrevious } };
}

function withRecurrence(
  core: Core,
  options: { pair: SchedulePair; actions: readonly AlterScheduleAction[]; now: Timestamp },
): SchedulePair {
  const { pair, actions, now } = options;
  const recurring = one(actions, 'set_recurring')?.recurring;
  const full = one(actions, 'set_full_backup')?.fullBackup;
  if (recurring === undefined && full === undefined) return pair;
  const wanted = recurrenceOf({
    recurring: recurring ?? { kind: 'string', value: (pair.incremental ?? pair.full).recurrence },
    fullBackup:
      full ?? (pair.incremental === undefined ? 'always' : { kind: 'string', value: pair.full.recurrence }),
  });
  const nextFull = withCrontab(pair.full, wanted.full.text, now);
  if (wanted.incremental === undefined) {
    return { full: { ...nextFull, partnerId: null }, incremental: undefined };
  }
  const { text } = wanted.incremental;
  if (pair.incremental !== undefined) {
    return { full: nextFull, incremental: withCrontab(pair.incremental, text, now) };
  }
  const id = core.ids.next() as bigint as ScheduleId;
  const paired = { ...nextFull, partnerId: id };
  return { full: paired, incremental: { ...incrementalOf(paired, { id, recurrence: text }), created: now } };
}

/** One that is paused stays so. */
function withCrontab(schedule: ScheduleRecord, recurrence: string, now: Timestamp): ScheduleRecord {
  if (schedule.recurrence === recurrence) return schedule;
  const changed = { ...schedule, recurrence };
  return schedule.nextRun === null
    ? changed
    : nextSchedule({ ...changed, nextRun: null }, { kind: 'resume_asked' }, now);
}

/** @throws InputError `object_state` when that half is paused */
function executed(pair: SchedulePair, options: { full: boolean; now: Timestamp }): SchedulePair {
  const event: ScheduleEvent = { kind: 'run_now_asked' };
  if (options.full) return { ...pair, full: nextSchedule(pair.full, event, options.now) };
  if (pair.incremental === undefined) {
    throw new InputError('object_state', `schedule ${pair.full.id} takes full backups only`, {
      hint: 'write EXECUTE FULL IMMEDIATELY',
    });
  }
  return { ...pair, incremental: nextSchedule(pair.incremental, event, options.now) };
}

function moved(
  schedule: ScheduleRecord | undefined,
  event: ScheduleEvent,
  now: Timestamp,
): ScheduleRecord | undefined {
  return schedule === undefined ? undefined : nextSchedule(schedule, event, now);
}

function changeOf(before: SchedulePair, after: SchedulePair): ScheduleChange {
  const { incremental } = after;
  const wasThere = before.incremental !== undefined;
  return {
    update: wasThere ? halvesOf(after) : [after.full],
    insert: incremental !== undefined && !wasThere ? [incremental] : [],
    delete: incremental === undefined && before.incremental !== undefined ? [before.incremental.id] : [],
  };
}

/** The incremental half first, as they are shown. */
function halvesOf({ full, incremental }: SchedulePair): readonly ScheduleRecord[] {
  return incremental === undefined ? [full] : [incremental, full];
}

function each(pair: SchedulePair, change: (schedule: ScheduleRecord) => ScheduleRecord): SchedulePair {
  return {
    full: change(pair.full),
    incremental: pair.incremental === undefined ? undefined : change(pair.incremental),
  };
}

function all<Kind extends AlterScheduleAction['kind']>(
  actions: readonly AlterScheduleAction[],
  kind: Kind,
): readonly ActionOf<Kind>[] {
  return actions.filter((action): action is ActionOf<Kind> => action.kind === kind);
}

function one<Kind extends AlterScheduleAction['kind']>(
  actions: readonly AlterScheduleAction[],
  kind: Kind,
): ActionOf<Kind> | undefined {
  return all(actions, kind)[0];
}

/** @throws InputError `parameter_invalid` when one thing is set twice */
function requireOnce(actions: readonly AlterScheduleAction[]): void {
  const names = actions.map((action) => ('option' in action ? action.option.name : action.kind));
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice === undefined) return;
  throw new InputError('parameter_invalid', `ALTER BACKUP SCHEDULE sets ${twice.replace(/^set_/, '')} twice`);
}
