/** CREATE SCHEDULE label FOR BACKUP INTO 'collection' RECURRING 'crontab' [FULL BACKUP ...] [WITH SCHEDULE OPTIONS ...] */
import { InputError, type Timestamp, isAppError } from '../../base/index.ts';
import type { ScheduleId, ScheduleRecord } from '../../catalog/index.ts';
import { WAITS_FOR_FULL } from '../../jobs/index.ts';
import { type Statement, printStatement, redactUri } from '../../sql/index.ts';
import type { CollectionLocation } from '../../timeline/index.ts';
import { admitBackup } from '../backup/backup.ts';
import type { Cell, ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { requirePrivilege } from '../privileges/privileges.ts';
import { scheduleStoreOf } from './schedule-access.ts';
import {
  firstRunOf,
  onFailureOf,
  onPreviousOf,
  type Recurrence,
  recurrenceOf,
  requireDetached,
  statementsOf,
} from './schedule-options.ts';
import { scheduledStatement } from './scheduled-backup.ts';
import { type UseCase, askerOf, columnsOf, rowsResult, timestampCell } from '../use-case.ts';
import { isFlagOn, textValue } from '../values.ts';

type CreateSchedule = Extract<Statement, { kind: 'create_schedule' }>;

/** Also of ALTER BACKUP SCHEDULE. The label's heading is the one that people's scripts know. */
export const SCHEDULE_COLUMNS = columnsOf({
  schedule_id: 'int8',
  name: 'text',
  status: 'text',
  first_run: 'timestamptz',
  schedule: 'text',
  backup_stmt: 'text',
});

export const createSchedule: UseCase<CreateSchedule> = {
  columns: () => SCHEDULE_COLUMNS,
  refusedInTransaction: 'CREATE SCHEDULE FOR BACKUP',
  async run(core, statement, context) {
    const now = core.options.clock.now();
    const { session } = context;
    if (statement.ifNotExists && statement.label === undefined) {
      throw new InputError('parameter_invalid', 'IF NOT EXISTS needs a label to know the schedule by', {
        hint: 'write CREATE SCHEDULE IF NOT EXISTS label FOR BACKUP ...',
      });
    }
    const wanted = readSchedule(statement, now);
    const statements = statementsOf(statement.backup);
    const { collection } = await admitBackup(core, statements.full, context);
    if (wanted.updatesLastBackupMetric) await requireMetricAllowed(core, context);
    return core.scheduler.change(session.virtualClusterId, async () => {
      const store = scheduleStoreOf(core, session.virtualClusterId);
      const existing = (await store.list({ signal: context.signal })).map(({ schedule }) => schedule);
      if (statement.ifNotExists && existing.some(({ label }) => label === wanted.label)) {
        context.onNotice({
          severity: 'NOTICE',
          sqlstate: '42710',
          message: `schedule "${wanted.label}" already exists, skipping`,
        });
        return rowsResult(SCHEDULE_COLUMNS, [], 'CREATE SCHEDULE 0');
      }
      if (!wanted.ignoreExistingBackups) {
        refuseSharedCollection(existing, collection);
        await refuseExistingBackups(core, collection, context);
      }
      const schedules = newSchedules(core, { wanted, statements, now, context });
      await store.change({ insert: schedules }, { signal: core.signal });
      const labelled = `schedule "${wanted.label}" into ${collection.displayUri}`;
      loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
        `${labelled} created by ${session.user}`,
      );
      return schedulesResult(schedules, 'CREATE SCHEDULE');
    });
  },
};

interface WantedSchedule
  extends Pick<
    ScheduleRecord,
    'label' | 'onPreviousRunning' | 'onExecutionFailure' | 'updatesLastBackupMetric' | 'ignoreExistingBackups'
  > {
  readonly recurrence: Recurrence;
  readonly firstRun: Timestamp | undefined;
}

/** @throws InputError `parameter_invalid` */
function readSchedule(statement: CreateSchedule, now: Timestamp): WantedSchedule {
  const { scheduleOptions, label } = statement;
  requireDetached(statement.backup.options);
  return {
    label: label === undefined ? `BACKUP ${now / 1_000_000n}` : textValue(label, 'the label of a schedule'),
    recurrence: recurrenceOf(statement),
    firstRun: firstRunOf(scheduleOptions, now),
    onPreviousRunning: onPreviousOf(scheduleOptions) ?? 'wait',
    onExecutionFailure: onFailureOf(scheduleOptions) ?? 'reschedule',
    updatesLastBackupMetric: isFlagOn(scheduleOptions, 'updates_cluster_last_backup_time_metric'),
    ignoreExistingBackups: isFlagOn(scheduleOptions, 'ignore_existing_backups'),
  };
}

/** @throws InputError `insufficient_privilege` */
export async function requireMetricAllowed(core: Core, context: ExecuteContext): Promise<void> {
  await requirePrivilege(askerOf(core, context), {
    refusal:
      'only users with the admin role are allowed to use updates_cluster_last_backup_time_metric: it speaks for the whole cluster',
  });
}

/** Two schedules would append to each other's chains. @throws InputError `object_exists` */
export function refuseSharedCollection(
  existing: readonly ScheduleRecord[],
  collection: CollectionLocation,
): void {
  const other = existing.find((schedule) => isInto(schedule, collection));
  if (other === undefined) return;
  throw new InputError(
    'object_exists',
    `schedule ${other.id} ("${other.label}") already backs up into ${collection.displayUri}`,
    { hint: "choose another collection, or create the schedule with the 'ignore_existing_backups' option" },
  );
}

function isInto(schedule: ScheduleRecord, collection: CollectionLocation): boolean {
  return scheduledStatement(schedule).destination.some(
    (uri) => uri.kind === 'string' && plainUri(uri.value) === plainUri(collection.displayUri),
  );
}

function plainUri(uri: string): string {
  return redactUri(uri).replace(/\?.*$/, '').replace(/\/+$/, '');
}

/** @throws InputError `object_exists` */
async function refuseExistingBackups(
  core: Core,
  collection: CollectionLocation,
  context: ExecuteContext,
): Promise<void> {
  try {
    await core.options.collectionReader.latest(collection, { signal: context.signal });
  } catch (error) {
    if (isAppError(error, 'backup_not_found')) return;
    throw error;
  }
  throw new InputError(
    'object_exists',
    `backups already created in ${collection.displayUri}; to ignore existing backups, the schedule can be created with the 'ignore_existing_backups' option`,
  );
}

/** The incremental half first, as it is shown. */
function newSchedules(
  core: Core,
  options: {
    wanted: WantedSchedule;
    statements: ReturnType<typeof statementsOf>;
    now: Timestamp;
    context: ExecuteContext;
  },
): readonly ScheduleRecord[] {
  const { wanted, statements, now, context } = options;
  const { recurrence, firstRun, ...shared } = wanted;
  const fullId = core.ids.next() as bigint as ScheduleId;
  const incrementalId =
    recurrence.incremental === undefined ? null : (core.ids.next() as bigint as ScheduleId);
  const full: ScheduleRecord = {
    ...shared,
    id: fullId,
    owner: context.session.user,
    database: context.session.database,
    created: now,
    recurrence: recurrence.full.text,
    // Nothing can be appended before there is a full backup: a pair does not wait for its first time.
    nextRun: firstRun ?? (incrementalId === null ? recurrence.full.next(now) : now),
    message: null,
    backupType: 'full',
    statement: printStatement(statements.full),
    partnerId: incrementalId,
    waitsForFullAfter: null,
    firstRun: firstRun ?? null,
    incarnation: askerOf(core, context).instance.identity.incarnation,
  };
  if (recurrence.incremental === undefined || incrementalId === null) return [full];
  return [incrementalOf(full, { id: incrementalId, recurrence: recurrence.incremental.text }), full];
}

/** The half that waits for the first full backup, then appends to the newest. */
export function incrementalOf(
  full: ScheduleRecord,
  options: { id: ScheduleId; recurrence: string },
): ScheduleRecord {
  const statement = { ...scheduledStatement(full), appendTo: { kind: 'latest' } } as const;
  return {
    ...full,
    ...options,
    nextRun: null,
    message: WAITS_FOR_FULL,
    onPreviousRunning: 'wait',
    backupType: 'incremental',
    statement: printStatement(statement),
    partnerId: full.id,
    waitsForFullAfter: options.id,
    firstRun: null,
  };
}

export function schedulesResult(schedules: readonly ScheduleRecord[], tag: string): StatementResult {
  return rowsResult(SCHEDULE_COLUMNS, schedules.map(cellsOf), `${tag} ${schedules.length}`);
}

function cellsOf(schedule: ScheduleRecord): readonly Cell[] {
  const { message, nextRun } = schedule;
  const paused = message === null ? 'PAUSED' : `PAUSED: ${message}`;
  return [
    String(schedule.id),
    schedule.label,
    nextRun === null ? paused : 'ACTIVE',
    timestampCell(nextRun),
    schedule.recurrence,
    redactedStatement(schedule),
  ];
}

/** The statement as it may be shown to whoever may see the schedule. */
export function redactedStatement(schedule: ScheduleRecord): string {
  return printStatement(scheduledStatement(schedule), { redact: redactUri });
}
