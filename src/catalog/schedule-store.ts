/** Reading and writing schedules in the `system` database of a virtual cluster. */
import type { IncarnationId, JobId, Timestamp } from '../base/index.ts';
import { formatTimestamp } from '../base/index.ts';
import {
  type Row,
  type SqlClient,
  type SystemDatabase,
  inTransaction,
  microsecondsOf,
  storable,
  textOf,
  timestampOf,
} from './database.ts';
import { noteOwner } from './ownership.ts';
import type {
  OnExecutionFailure,
  OnPreviousRunning,
  ScheduledRun,
  ScheduleId,
  ScheduleRecord,
  UnsettledRun,
} from './schedule-record.ts';

interface Wait {
  readonly signal: AbortSignal;
}

/** What becomes durable together. */
export interface ScheduleChange {
  readonly insert?: readonly ScheduleRecord[];
  readonly update?: readonly ScheduleRecord[];
  /** Their jobs can no longer be found by them. */
  readonly delete?: readonly ScheduleId[];
  /** The job whose end the schedules have taken note of. */
  readonly settle?: JobId;
}

export interface ListedSchedule {
  readonly schedule: ScheduleRecord;
  /** Jobs of it that are not over. */
  readonly jobsRunning: number;
}

/** The schedules of one virtual cluster. */
export interface ScheduleStore {
  /** All, oldest first, or those with these ids. */
  list(options: { ids?: readonly ScheduleId[]; signal: AbortSignal }): Promise<readonly ListedSchedule[]>;
  /** Those whose time has come, the longest due first, at most `countMax`. */
  due(options: { now: Timestamp; countMax: number; signal: AbortSignal }): Promise<readonly ListedSchedule[]>;
  /** The earliest time at which one is due; null when all are paused. */
  nextDue(wait: Wait): Promise<Timestamp | null>;
  /** All of it, or nothing. */
  change(change: ScheduleChange, wait: Wait): Promise<void>;
  /** The job that a run became, if it did. */
  findRun(run: ScheduledRun, wait: Wait): Promise<JobId | undefined>;
  /** Runs that ended and were not settled, oldest first. */
  unsettled(options: { countMax: number; signal: AbortSignal }): Promise<readonly UnsettledRun[]>;
  /** The newest number in use, 0 when there is none. */
  newestId(wait: Wait): Promise<bigint>;
}

export function postgresScheduleStore(database: SystemDatabase): ScheduleStore {
  return {
    list: (options) => database.withSystemClient((client) => listSchedules(client, options), options),
    due: (options) => database.withSystemClient((client) => dueSchedules(client, options), options),
    nextDue: (wait) => database.withSystemClient(nextDue, wait),
    change: (change, wait) =>
      database.withSystemClient((client) => inTransaction(client, () => applyChange(client, change)), wait),
    findRun: (run, wait) => database.withSystemClient((client) => findRun(client, run), wait),
    unsettled: (options) => database.withSystemClient((client) => unsettledRuns(client, options), options),
    newestId: (wait) => database.withSystemClient(newestScheduleId, wait),
  };
}

/** Most schedules one listing gives. */
export const SCHEDULES_LISTED_MAX = 10_000;

const COLUMNS = `schedule_id, label, owner_name, ${microsecondsOf('created')} as created_us, recurrence,
  ${microsecondsOf('next_run')} as next_run_us, message, on_previous_running, on_execution_failure, backup_type, statement,
  partner_id, waits_for_full_after,
  updates_last_backup_metric::text as updates_last_backup_metric,
  ignore_existing_backups::text as ignore_existing_backups, ${microsecondsOf('first_run')} as first_run_us, incarnation,
  database_name`;

const LISTED = `select ${COLUMNS}, coalesce(running.count, 0)::text as jobs_running
  from public.scheduled_jobs s
  left join (select schedule_id as of_schedule, count(*) as count from public.jobs
      where schedule_id is not null and finished is null group by schedule_id) running
    on running.of_schedule = s.schedule_id`;

async function listSchedules(
  client: SqlClient,
  options: { ids?: readonly ScheduleId[] },
): Promise<readonly ListedSchedule[]> {
  const rows = await client.query(
    `${LISTED} where ($1::text is null or schedule_id = any (pg_catalog.string_to_array($1, ',')::int8[]))
      order by created, schedule_id limit ${SCHEDULES_LISTED_MAX}`,
    [options.ids === undefined ? null : options.ids.join(',')],
  );
  return rows.map(listedOf);
}

async function dueSchedules(
  client: SqlClient,
  options: { now: Timestamp; countMax: number },
): Promise<readonly ListedSchedule[]> {
  const rows = await client.query(
    `${LISTED} where next_run <= $1::timestamptz order by next_run, schedule_id limit $2::int8`,
    [formatTimestamp(options.now), String(options.countMax)],
  );
  return rows.map(listedOf);
}

async function nextDue(client: SqlClient): Promise<Timestamp | null> {
  const rows = await client.query(
    `select ${microsecondsOf('min(next_run)')} as next_run_us from public.scheduled_jobs where next_run is not null`,
  );
  return timestampOf(rows[0]?.['next_run_us']);
}

async function applyChange(client: SqlClient, change: ScheduleChange): Promise<void> {
  const owners = new Set((change.insert ?? []).map(({ owner }) => owner));
  for (const schedule of change.insert ?? []) await insertSchedule(client, schedule);
  for (const schedule of change.update ?? []) await updateSchedule(client, schedule);
  for (const id of change.delete ?? []) {
    const [deleted] = await client.query(
      'delete from public.scheduled_jobs where schedule_id = $1 returning owner_name',
      [String(id)],
    );
    if (deleted !== undefined) owners.add(textOf(deleted, 'owner_name'));
    await client.query('update public.jobs set schedule_id = null where schedule_id = $1', [String(id)]);
  }
  for (const owner of owners) await noteOwner(client, { of: 'schedules', owner });
  if (change.settle !== undefined) {
    await client.query('update public.jobs set schedule_settled = true where job_id = $1', [
      String(change.settle),
    ]);
  }
}

async function insertSchedule(client: SqlClient, schedule: ScheduleRecord): Promise<void> {
  await client.query(
    `insert into public.scheduled_jobs (schedule_id, owner_name, created, backup_type, first_run, label, recurrence,
        next_run, message, on_previous_running, on_execution_failure, statement, partner_id, waits_for_full_after,
        updates_last_backup_metric, ignore_existing_backups, incarnation, database_name)
      values ($1, $2, $3::timestamptz, $4, $5::timestamptz, $6, $7, $8::timestamptz, $9, $10, $11, $12, $13, $14, $15,
        $16, $17::uuid, $18)`,
    [
      String(schedule.id),
      schedule.owner,
      formatTimestamp(schedule.created),
      schedule.backupType,
      timeParameter(schedule.firstRun),
      ...mutableColumns(schedule),
      schedule.database,
    ],
  );
}

async function updateSchedule(client: SqlClient, schedule: ScheduleRecord): Promise<void> {
  await client.query(
    `update public.scheduled_jobs set label = $2, recurrence = $3, next_run = $4::timestamptz, message = $5,
        on_previous_running = $6, on_execution_failure = $7, statement = $8, partner_id = $9, waits_for_full_after = $10,
        updates_last_backup_metric = $11, ignore_existing_backups = $12, incarnation = $13::uuid
      where schedule_id = $1`,
    [String(schedule.id), ...mutableColumns(schedule)],
  );
}

async function findRun(client: SqlClient, run: ScheduledRun): Promise<JobId | undefined> {
  const rows = await client.query(
    'select job_id from public.jobs where schedule_id = $1 and scheduled_for = $2::timestamptz limit 1',
    [String(run.scheduleId), formatTimestamp(run.scheduledFor)],
  );
  return rows[0] === undefined ? undefined : (BigInt(textOf(rows[0], 'job_id')) as JobId);
}

async function unsettledRuns(
  client: SqlClient,
  options: { countMax: number },
): Promise<readonly UnsettledRun[]> {
  const rows = await client.query(
    `select job_id, schedule_id, ${microsecondsOf('scheduled_for')} as scheduled_for_us, status, error,
        ${microsecondsOf('finished')} as finished_us
      from public.jobs where schedule_id is not null and finished is not null and not schedule_settled
      order by job_id limit $1::int8`,
    [String(options.countMax)],
  );
  return rows.map((row) => ({
    jobId: BigInt(textOf(row, 'job_id')) as JobId,
    scheduleId: BigInt(textOf(row, 'schedule_id')) as ScheduleId,
    scheduledFor: BigInt(textOf(row, 'scheduled_for_us')) as Timestamp,
    status: textOf(row, 'status'),
    error: row['error'] ?? null,
    finished: BigInt(textOf(row, 'finished_us')) as Timestamp,
  }));
}

async function newestScheduleId(client: SqlClient): Promise<bigint> {
  const rows = await client.query(
    'select coalesce(max(schedule_id), 0)::text as newest from public.scheduled_jobs',
  );
  return BigInt(rows[0]?.['newest'] ?? '0');
}

function mutableColumns(schedule: ScheduleRecord): (string | null)[] {
  return [
    storable(schedule.label),
    schedule.recurrence,
    timeParameter(schedule.nextRun),
    storable(schedule.message),
    schedule.onPreviousRunning,
    schedule.onExecutionFailure,
    schedule.statement,
    schedule.partnerId === null ? null : String(schedule.partnerId),
    schedule.waitsForFullAfter === null ? null : String(schedule.waitsForFullAfter),
    String(schedule.updatesLastBackupMetric),
    String(schedule.ignoreExistingBackups),
    schedule.incarnation,
  ];
}

function timeParameter(time: Timestamp | null): string | null {
  return time === null ? null : formatTimestamp(time);
}

function listedOf(row: Row): ListedSchedule {
  return { schedule: scheduleOf(row), jobsRunning: Number(textOf(row, 'jobs_running')) };
}

function scheduleOf(row: Row): ScheduleRecord {
  return {
    id: BigInt(textOf(row, 'schedule_id')) as ScheduleId,
    label: textOf(row, 'label'),
    owner: textOf(row, 'owner_name'),
    database: textOf(row, 'database_name'),
    created: BigInt(textOf(row, 'created_us')) as Timestamp,
    recurrence: textOf(row, 'recurrence'),
    nextRun: timestampOf(row['next_run_us']),
    message: row['message'] ?? null,
    onPreviousRunning: textOf(row, 'on_previous_running') as OnPreviousRunning,
    onExecutionFailure: textOf(row, 'on_execution_failure') as OnExecutionFailure,
    backupType: textOf(row, 'backup_type') as ScheduleRecord['backupType'],
    statement: textOf(row, 'statement'),
    partnerId: numberOf(row, 'partner_id') as ScheduleId | null,
    waitsForFullAfter: numberOf(row, 'waits_for_full_after'),
    updatesLastBackupMetric: row['updates_last_backup_metric'] === 'true',
    ignoreExistingBackups: row['ignore_existing_backups'] === 'true',
    firstRun: timestampOf(row['first_run_us']),
    incarnation: textOf(row, 'incarnation') as IncarnationId,
  };
}

function numberOf(row: Row, column: string): bigint | null {
  const value = row[column];
  return value === null || value === undefined ? null : BigInt(value);
}
