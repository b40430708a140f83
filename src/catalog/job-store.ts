/** Reading and writing job records in the `system` database of a virtual cluster. */
import type { IncarnationId, JobId, Timestamp, VirtualClusterId } from '../base/index.ts';
import { AppError, formatTimestamp } from '../base/index.ts';
import {
  type Row,
  type SqlClient,
  type SystemDatabase,
  microsecondsOf,
  storable,
  textOf,
  timestampOf,
} from './database.ts';
import type { ScheduleId } from './schedule-record.ts';
import {
  type JobRecord,
  type JobState,
  type JsonObject,
  type RevertOutcome,
  errorOf,
  isTerminal,
} from './job-record.ts';

export interface JobStoreWait {
  readonly signal: AbortSignal;
}

export interface JobListOptions {
  readonly finishedSince: Timestamp;
  readonly targetVirtualClusterId?: VirtualClusterId;
  /** Only jobs of these schedules. */
  readonly scheduleIds?: readonly ScheduleId[];
}

/** The job records of one virtual cluster. */
export interface JobStore {
  /** Harmless when a record of that number is there already. */
  insert(job: JobRecord, wait: JobStoreWait): Promise<void>;
  /** Writes what may change of a record, unless a record that was modified later is there. */
  update(job: JobRecord, wait: JobStoreWait): Promise<void>;
  read(id: JobId, wait: JobStoreWait): Promise<JobRecord | undefined>;
  /** Those that are not over, oldest first. */
  readUnfinished(wait: JobStoreWait): Promise<readonly JobRecord[]>;
  /** Unfinished jobs, and those that finished at or after `finishedSince`; newest first. */
  list(options: JobListOptions & JobStoreWait): Promise<readonly JobRecord[]>;
  /** The newest number in use, 0 when there is none. */
  newestId(wait: JobStoreWait): Promise<bigint>;
  /** Deletes records of jobs that finished before `before`, at most `countMax`; gives how many. */
  deleteFinished(options: { before: Timestamp; countMax: number; signal: AbortSignal }): Promise<number>;
}

export function postgresJobStore(database: SystemDatabase): JobStore {
  return {
    insert: (job, wait) => database.withSystemClient((client) => insertJob(client, job), wait),
    update: (job, wait) => database.withSystemClient((client) => writeJob(client, job), wait),
    read: (id, wait) => database.withSystemClient((client) => readJob(client, id), wait),
    readUnfinished: (wait) => database.withSystemClient(unfinishedJobs, wait),
    list: (options) => database.withSystemClient((client) => listJobs(client, options), options),
    newestId: (wait) => database.withSystemClient(newestJobId, wait),
    deleteFinished: (options) =>
      database.withSystemClient((client) => deleteFinishedJobs(client, options), options),
  };
}

/** Most jobs one listing gives. */
export const JOBS_LISTED_MAX = 10_000;

const COLUMNS = `job_id, job_type, description, user_name, status, running_status,
  ${microsecondsOf('created')} as created_us, ${microsecondsOf('started')} as started_us,
  ${microsecondsOf('finished')} as finished_us, ${microsecondsOf('modified')} as modified_us,
  fraction_completed, error, coordinator_id, payload::text as payload, progress::text as progress, attempt,
  incarnation, target_virtual_cluster_id, revert_outcome, ${microsecondsOf('retry_at')} as retry_at_us,
  schedule_id, ${microsecondsOf('scheduled_for')} as scheduled_for_us, pause_reason`;

/** Writes a record of any state; for a restored virtual cluster that is not served yet. Harmless when it is there. */
export async function insertJob(client: SqlClient, job: JobRecord): Promise<void> {
  await client.query(
    `insert into public.jobs (job_id, job_type, description, user_name, created, payload, incarnation,
        target_virtual_cluster_id, schedule_id, scheduled_for, status, running_status, started, finished, modified, fraction_completed, error,
        coordinator_id, progress, attempt, revert_outcome, retry_at, pause_reason)
      values ($1, $2, $3, $4, $5::timestamptz, $6::jsonb, $7::uuid, $8, $9, $10::timestamptz, $11, $12, $13::timestamptz,
        $14::timestamptz, $15::timestamptz, $16, $17, $18, $19::jsonb, $20, $21, $22::timestamptz, $23)
      on conflict (job_id) do nothing`,
    [
      String(job.id),
      job.type,
      storable(job.description),
      job.user,
      formatTimestamp(job.created),
      storableJson(job.payload),
      job.incarnation,
      job.targetVirtualClusterId === undefined ? null : String(job.targetVirtualClusterId),
      job.schedule === undefined ? null : String(job.schedule.scheduleId),
      job.schedule === undefined ? null : formatTimestamp(job.schedule.scheduledFor),
      ...mutableColumns(job),
    ],
  );
}

/**
 * Writes what may change of a record, unless a later one is there: a write that was given up as too slow may still arrive, after those that
 * came in its place.
 */
export async function writeJob(client: SqlClient, job: JobRecord): Promise<void> {
  await client.query(
    `update public.jobs set status = $2, running_status = $3, started = $4::timestamptz,
        finished = $5::timestamptz, modified = $6::timestamptz, fraction_completed = $7, error = $8,
        coordinator_id = $9, progress = $10::jsonb, attempt = $11, revert_outcome = $12,
        retry_at = $13::timestamptz, pause_reason = $14, user_name = $15
      where job_id = $1 and modified <= $6::timestamptz`,
    [String(job.id), ...mutableColumns(job), job.user],
  );
}

async function readJob(client: SqlClient, id: JobId): Promise<JobRecord | undefined> {
  const rows = await client.query(`select ${COLUMNS} from public.jobs where job_id = $1`, [String(id)]);
  return rows[0] === undefined ? undefined : recordOf(rows[0]);
}

/** Those that are not over, oldest first. */
export async function unfinishedJobs(client: SqlClient): Promise<readonly JobRecord[]> {
  const rows = await client.query(
    `select ${COLUMNS} from public.jobs where finished is null order by job_id limit ${JOBS_LISTED_MAX}`,
  );
  return rows.map(recordOf);
}

async function listJobs(client: SqlClient, options: JobListOptions): Promise<readonly JobRecord[]> {
  const { finishedSince, targetVirtualClusterId, scheduleIds } = options;
  const rows = await client.query(
    // Two parts, each with an index of its own: old jobs are many, and none of them is looked at.
    `select ${COLUMNS} from (select * from public.jobs where finished is null
        union all select * from public.jobs where finished >= $1::timestamptz) listed
      where ($2::int8 is null or target_virtual_cluster_id = $2::int8)
        and ($3::text is null or schedule_id = any (pg_catalog.string_to_array($3, ',')::int8[]))
      order by job_id desc limit ${JOBS_LISTED_MAX}`,
    [
      formatTimestamp(finishedSince),
      targetVirtualClusterId === undefined ? null : String(targetVirtualClusterId),
      scheduleIds === undefined ? null : scheduleIds.join(','),
    ],
  );
  return rows.map(recordOf);
}

async function newestJobId(client: SqlClient): Promise<bigint> {
  const rows = await client.query('select coalesce(max(job_id), 0)::text as newest from public.jobs');
  return BigInt(rows[0]?.['newest'] ?? '0');
}

async function deleteFinishedJobs(
  client: SqlClient,
  options: { before: Timestamp; countMax: number },
): Promise<number> {
  const rows = await client.query(
    `delete from public.jobs where job_id in (
        select job_id from public.jobs where finished < $1::timestamptz order by finished limit $2::int8)
      returning job_id`,
    [formatTimestamp(options.before), String(options.countMax)],
  );
  return rows.length;
}

function mutableColumns(job: JobRecord): (string | null)[] {
  const { state } = job;
  return [
    state.kind,
    storable(job.runningStatus),
    job.started === null ? null : formatTimestamp(job.started),
    isTerminal(state) ? formatTimestamp(job.finished ?? job.modified) : null,
    formatTimestamp(job.modified),
    String(job.fractionCompleted),
    storable(errorOf(state) ?? null),
    String(job.coordinatorId),
    storableJson(job.progress),
    String(job.attempt),
    'outcome' in state ? state.outcome.kind : null,
    'retryAt' in state ? formatTimestamp(state.retryAt) : null,
    'reason' in state ? storable(state.reason ?? null) : null,
  ];
}

function storableJson(value: JsonObject): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === 'string' ? storable(member) : member,
  );
}

function recordOf(row: Row): JobRecord {
  const target = row['target_virtual_cluster_id'];
  const schedule = row['schedule_id'];
  return {
    id: BigInt(textOf(row, 'job_id')) as JobId,
    type: textOf(row, 'job_type'),
    description: textOf(row, 'description'),
    user: textOf(row, 'user_name'),
    payload: JSON.parse(textOf(row, 'payload')) as JsonObject,
    ...(target === null || target === undefined
      ? {}
      : { targetVirtualClusterId: Number(target) as VirtualClusterId }),
    ...(schedule === null || schedule === undefined
      ? {}
      : {
          schedule: {
            scheduleId: BigInt(schedule) as ScheduleId,
            scheduledFor: BigInt(textOf(row, 'scheduled_for_us')) as Timestamp,
          },
        }),
    state: stateOf(row),
    runningStatus: row['running_status'] ?? null,
    created: BigInt(textOf(row, 'created_us')) as Timestamp,
    started: timestampOf(row['started_us']),
    finished: timestampOf(row['finished_us']),
    modified: BigInt(textOf(row, 'modified_us')) as Timestamp,
    fractionCompleted: Number(textOf(row, 'fraction_completed')),
    coordinatorId: Number(textOf(row, 'coordinator_id')),
    progress: JSON.parse(textOf(row, 'progress')) as JsonObject,
    attempt: Number(textOf(row, 'attempt')),
    incarnation: textOf(row, 'incarnation') as IncarnationId,
  };
}

function stateOf(row: Row): JobState {
  const kind = textOf(row, 'status') as JobState['kind'];
  const error = row['error'] ?? undefined;
  switch (kind) {
    case 'pending':
    case 'running':
    case 'cancel-requested':
    case 'succeeded':
    case 'canceled':
      return { kind };
    case 'pause-requested':
      return { kind, reason: row['pause_reason'] ?? undefined };
    case 'paused':
      return { kind, error, reason: row['pause_reason'] ?? undefined };
    case 'retry-running':
      return { kind, retryAt: timestampOf(row['retry_at_us']) ?? (0n as Timestamp), error: error ?? '' };
    case 'reverting':
      return { kind, outcome: outcomeOf(row) };
    case 'retry-reverting':
      return { kind, retryAt: timestampOf(row['retry_at_us']) ?? (0n as Timestamp), outcome: outcomeOf(row) };
    case 'failed':
    case 'revert-failed':
      return { kind, error: error ?? '' };
    default:
      throw new AppError('format_unsupported', `job status "${String(kind)}" is not known to this program`);
  }
}

function outcomeOf(row: Row): RevertOutcome {
  return row['revert_outcome'] === 'canceled'
    ? { kind: 'canceled' }
    : { kind: 'failed', error: row['error'] ?? '' };
}
