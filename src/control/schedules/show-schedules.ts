/** SHOW SCHEDULES, SHOW SCHEDULE id and SHOW CREATE SCHEDULE. */
import { formatTimestamp } from '../../base/index.ts';
import type { ListedSchedule, ScheduleRecord } from '../../catalog/index.ts';
import { type Option, type Statement, printStatement, redactUri } from '../../sql/index.ts';
import type { Cell, Column } from '../contract.ts';
import { redactedStatement } from './create-schedule.ts';
import type { Core } from '../core.ts';
import { requirePrivilege } from '../privileges/privileges.ts';
import { type SchedulePair, findPair, scheduleNotFound, visibleSchedules } from './schedule-access.ts';
import { scheduledStatement } from './scheduled-backup.ts';
import { statusOf } from './schedule-options.ts';
import { type UseCase, askerOf, columnsOf, rowsResult, timestampCell } from '../use-case.ts';
import { scheduleIdValue } from '../values.ts';
import type { ExecuteContext } from '../contract.ts';

type ShowSchedules = Extract<Statement, { kind: 'show_schedules' }>;
type ShowSchedule = Extract<Statement, { kind: 'show_schedule' }>;
type ShowCreate = Extract<Statement, { kind: 'show_create_schedule' }>;

const COLUMNS = columnsOf({
  id: 'int8',
  label: 'text',
  schedule_status: 'text',
  next_run: 'timestamptz',
  state: 'text',
  recurrence: 'text',
  jobsrunning: 'int8',
  owner: 'text',
  created: 'timestamptz',
  on_previous_running: 'text',
  on_execution_failure: 'text',
  command: 'jsonb',
});
const BACKUP_COLUMNS: readonly Column[] = [...COLUMNS, ...columnsOf({ backup_type: 'text' })];
const CREATE = columnsOf({ schedule_id: 'int8', create_statement: 'text' });

/** As the catalog of the original spells them. */
export const ON_FAILURE = { retry: 'RETRY_SOON', reschedule: 'RETRY_SCHED', pause: 'PAUSE_SCHED' } as const;

export const showSchedules: UseCase<ShowSchedules> = {
  columns: columnsFor,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const isOther = statement.of !== undefined && statement.of !== 'backup';
    const all = isOther ? [] : await visibleSchedules(core, context);
    const shown = all.filter(({ schedule }) => isShown(statement, schedule));
    const byId = schedulesById(all);
    return rowsResult(
      columnsFor(statement),
      shown.map((listed) => cellsOf(listed, { withType: statement.of === 'backup', byId })),
    );
  },
};

export const showSchedule: UseCase<ShowSchedule> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const id = scheduleIdValue(statement.scheduleId);
    const all = await visibleSchedules(core, context);
    const found = all.find(({ schedule }) => schedule.id === id);
    if (found === undefined) throw scheduleNotFound(id);
    return rowsResult(COLUMNS, [cellsOf(found, { withType: false, byId: schedulesById(all) })]);
  },
};

export const showCreateSchedule: UseCase<ShowCreate> = {
  columns: () => CREATE,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    await requirePrivilege(askerOf(core, context), {
      refusal: 'only users with the admin role are allowed to SHOW CREATE SCHEDULE',
    });
    const pairs =
      statement.scheduleId === undefined
        ? await allPairs(core, context)
        : await pairOf(core, scheduleIdValue(statement.scheduleId), context);
    return rowsResult(
      CREATE,
      pairs.map(({ id, pair }) => [String(id), createStatement(pair)]),
    );
  },
};

function columnsFor(statement: ShowSchedules): readonly Column[] {
  return statement.of === 'backup' ? BACKUP_COLUMNS : COLUMNS;
}

function isShown(statement: ShowSchedules, schedule: ScheduleRecord): boolean {
  if (statement.status === 'all') return true;
  return statusOf(schedule) === (statement.status === 'running' ? 'ACTIVE' : 'PAUSED');
}

function cellsOf(
  { schedule, jobsRunning }: ListedSchedule,
  options: { withType: boolean; byId: SchedulesById },
): readonly Cell[] {
  return [
    String(schedule.id),
    schedule.label,
    statusOf(schedule),
    timestampCell(schedule.nextRun),
    schedule.message,
    schedule.recurrence,
    String(jobsRunning),
    schedule.owner,
    timestampCell(schedule.created),
    schedule.onPreviousRunning.toUpperCase(),
    ON_FAILURE[schedule.onExecutionFailure],
    commandOf(schedule, options.byId),
    ...(options.withType ? [schedule.backupType.toUpperCase()] : []),
  ];
}

export type SchedulesById = ReadonlyMap<ScheduleRecord['id'], ScheduleRecord>;

export function schedulesById(all: readonly ListedSchedule[]): SchedulesById {
  return new Map(all.map(({ schedule }) => [schedule.id, schedule]));
}

/** A JSON object; numbers of schedules are written out, for they are larger than a JavaScript number holds. */
export function commandOf(schedule: ScheduleRecord, byId: SchedulesById): string {
  const partner = schedule.partnerId === null ? undefined : byId.get(schedule.partnerId);
  const unpauses =
    schedule.backupType === 'full' && partner?.waitsForFullAfter !== null ? partner : undefined;
  const members = [
    `"backup_statement":${JSON.stringify(redactedStatement(schedule))}`,
    ...(schedule.backupType === 'incremental' ? ['"backup_type":1'] : []),
    ...(unpauses === undefined ? [] : [`"unpause_on_success":${unpauses.id}`]),
    ...(schedule.partnerId === null ? [] : [`"dependent_schedule_id":${schedule.partnerId}`]),
    ...(schedule.updatesLastBackupMetric ? ['"updates_last_backup_metric":true'] : []),
  ];
  return `{${members.join(',')}}`;
}

interface NamedPair {
  readonly id: ScheduleRecord['id'];
  readonly pair: SchedulePair;
}

async function allPairs(core: Core, context: ExecuteContext): Promise<readonly NamedPair[]> {
  const all = (await visibleSchedules(core, context)).map(({ schedule }) => schedule);
  const byId = new Map(all.map((schedule) => [schedule.id, schedule]));
  return all.flatMap((schedule) => {
    const partner = schedule.partnerId === null ? undefined : byId.get(schedule.partnerId);
    if (schedule.backupType === 'full')
      return [{ id: schedule.id, pair: { full: schedule, incremental: partner } }];
    return partner === undefined ? [] : [{ id: schedule.id, pair: { full: partner, incremental: schedule } }];
  });
}

async function pairOf(
  core: Core,
  id: ScheduleRecord['id'],
  context: ExecuteContext,
): Promise<readonly NamedPair[]> {
  return [{ id, pair: await findPair(core, id, context) }];
}

/** The same statement for both halves. A first run that is over is left out: it would be refused as past. */
function createStatement({ full, incremental }: SchedulePair): string {
  const { targets, destination, options } = scheduledStatement(full);
  const text = (value: string) => ({ kind: 'string', value }) as const;
  const option = (name: string, value?: string): Option => ({
    name,
    value: value === undefined ? undefined : text(value),
  });
  const isFirstRunToCome = full.firstRun !== null && full.firstRun === full.nextRun;
  return printStatement(
    {
      kind: 'create_schedule',
      ifNotExists: false,
      label: text(full.label),
      backup: { targets, destination, options },
      recurring: text((incremental ?? full).recurrence),
      fullBackup: incremental === undefined ? 'always' : text(full.recurrence),
      scheduleOptions: [
        ...(isFirstRunToCome ? [option('first_run', formatTimestamp(full.nextRun))] : []),
        option('on_execution_failure', full.onExecutionFailure.toUpperCase()),
        option('on_previous_running', full.onPreviousRunning.toUpperCase()),
        ...(full.ignoreExistingBackups ? [option('ignore_existing_backups')] : []),
        ...(full.updatesLastBackupMetric ? [option('updates_cluster_last_backup_time_metric')] : []),
      ],
    },
    { redact: redactUri },
  );
}
