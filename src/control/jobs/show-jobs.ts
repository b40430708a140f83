/** SHOW [AUTOMATIC] JOBS in all its forms, SHOW JOB id, and both WHEN COMPLETE. */
import {
  AppError,
  type JobId,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  type Timestamp,
  assertNever,
} from '../../base/index.ts';
import { type JobRecord, type ScheduleId, errorOf, isTerminal } from '../../catalog/index.ts';
import type { Statement } from '../../sql/index.ts';
import type { Cell, Column, ExecuteContext } from '../contract.ts';
import { scheduleIdsOf } from '../schedules/control-schedules.ts';
import type { Core } from '../core.ts';
import { idsOf } from '../id-query.ts';
import { type FoundJob, findJob, findJobs, seesAllJobs, storeOf } from './job-visibility.ts';
import { isSystem } from '../privileges/privileges.ts';
import { type UseCase, columnsOf, rowsResult, timestampCell } from '../use-case.ts';
import { jobIdValue } from '../values.ts';

type ShowJobs = Extract<Statement, { kind: 'show_jobs' }>;
type ShowJob = Extract<Statement, { kind: 'show_job' }>;

/** How long a finished job stays in the list. */
const LISTED_AFTER_END_US = 12n * 3_600_000_000n;
/** How much of a description the list shows. */
const DESCRIPTION_LENGTH_MAX = 100;
/** How long WHEN COMPLETE waits. */
const COMPLETE_WAIT_MS = 24 * 3_600_000;

const TIMES_AND_AFTER = {
  user_name: 'text',
  status: 'text',
  running_status: 'text',
  created: 'timestamptz',
  started: 'timestamptz',
  finished: 'timestamptz',
  modified: 'timestamptz',
  fraction_completed: 'float8',
  error: 'text',
  coordinator_id: 'int8',
} as const;
const LIST = columnsOf({ job_id: 'int8', job_type: 'text', description: 'text', ...TIMES_AND_AFTER });
const SINGLE = columnsOf({
  job_id: 'int8',
  job_type: 'text',
  description: 'text',
  statement: 'text',
  ...TIMES_AND_AFTER,
  trace_id: 'int8',
  execution_errors: 'text',
});

const DETAILS = columnsOf({ execution_details: 'jsonb' });

export const showJobs: UseCase<ShowJobs> = {
  columns: (statement) => withDetails(LIST, statement),
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    // Atoll's own upkeep makes no jobs.
    const jobs = statement.automatic ? [] : await listedJobs(core, statement, context);
    return rowsResult(
      withDetails(LIST, statement),
      jobs.toSorted(byRecency).map((job) => [...listCells(job), ...detailCells(job, statement)]),
    );
  },
};

export const showJob: UseCase<ShowJob> = {
  columns: (statement) => withDetails(SINGLE, statement),
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const found = await findJob(core, jobIdValue(statement.jobId), context);
    const job = statement.whenComplete ? await whenComplete(core, found, context) : found.job;
    return rowsResult(withDetails(SINGLE, statement), [
      [...singleCells(job), ...detailCells(job, statement)],
    ]);
  },
};

function withDetails(
  columns: readonly Column[],
  statement: { readonly withExecutionDetails: boolean },
): readonly Column[] {
  return statement.withExecutionDetails ? [...columns, ...DETAILS] : columns;
}

/** How the work went so far, for those who look into a failure; it holds no secrets. */
function detailCells(job: JobRecord, statement: { readonly withExecutionDetails: boolean }): readonly Cell[] {
  if (!statement.withExecutionDetails) return [];
  return [JSON.stringify({ attempt: job.attempt, incarnation: job.incarnation, progress: job.progress })];
}

async function listedJobs(
  core: Core,
  { jobs, whenComplete: waits }: ShowJobs,
  context: ExecuteContext,
): Promise<readonly JobRecord[]> {
  switch (jobs.kind) {
    case 'all':
      return visibleJobs(core, context);
    case 'of_schedules':
      return visibleJobs(core, context, await scheduleIdsOf(core, jobs.schedules, context));
    case 'query': {
      const ids = (await idsOf(core, { query: jobs.text, of: 'job', context })) as readonly JobId[];
      const found = await findJobs(core, ids, context);
      return waits
        ? Promise.all(found.map((each) => whenComplete(core, each, context)))
        : found.map(({ job }) => job);
    }
    default:
      return assertNever(jobs);
  }
}

/** Own records, and those that the control plane keeps for this virtual cluster; none twice. */
async function visibleJobs(
  core: Core,
  context: ExecuteContext,
  scheduleIds?: readonly ScheduleId[],
): Promise<readonly JobRecord[]> {
  const finishedSince = (core.options.clock.now() - LISTED_AFTER_END_US) as Timestamp;
  const all = await jobsSince(core, context, { finishedSince, scheduleIds });
  return (await seesAllJobs(core, context)) ? all : all.filter((job) => job.user === context.session.user);
}

/** Everybody's: those that are not over, and those that ended at or after `finishedSince`. */
export async function jobsSince(
  core: Core,
  context: ExecuteContext,
  options: { finishedSince: Timestamp; scheduleIds?: readonly ScheduleId[] | undefined },
): Promise<readonly JobRecord[]> {
  const { session, signal } = context;
  const { finishedSince, scheduleIds } = options;
  const own = await storeOf(core, session.virtualClusterId).list({
    finishedSince,
    ...(scheduleIds === undefined ? {} : { scheduleIds }),
    signal,
  });
  const kept =
    isSystem(session.virtualClusterId) || scheduleIds !== undefined
      ? []
      : await storeOf(core, SYSTEM_VIRTUAL_CLUSTER_ID).list({
          finishedSince,
          targetVirtualClusterId: session.virtualClusterId,
          signal,
        });
  const ownIds = new Set(own.map((job) => job.id));
  return [...own, ...kept.filter((job) => !ownIds.has(job.id))];
}

/** @throws AppError `timed_out` after a day */
async function whenComplete(core: Core, found: FoundJob, context: ExecuteContext): Promise<JobRecord> {
  if (isTerminal(found.job.state)) return found.job;
  const done = new AbortController();
  const signal = AbortSignal.any([context.signal, done.signal]);
  const complete = core.runner.waitFor(
    { virtualClusterId: found.keeper, jobId: found.job.id },
    { until: (record) => isTerminal(record.state), signal },
  );
  const tooLong = core.options.clock.sleep(COMPLETE_WAIT_MS, { signal }).then(() => {
    throw new AppError('timed_out', `job ${found.job.id} is not complete after 24 hours`);
  });
  try {
    return await Promise.race([complete, tooLong]);
  } finally {
    done.abort();
    await Promise.allSettled([complete, tooLong]);
  }
}

/** Those that are not over by their beginning, then the others by their end, the newest first. */
function byRecency(a: JobRecord, b: JobRecord): number {
  if ((a.finished === null) !== (b.finished === null)) return a.finished === null ? -1 : 1;
  const [left, right] = [a.finished ?? a.started ?? a.created, b.finished ?? b.started ?? b.created];
  if (left !== right) return left > right ? -1 : 1;
  return a.id > b.id ? -1 : 1;
}

function listCells(job: JobRecord): readonly Cell[] {
  return [String(job.id), job.type, shorten(job.description), ...commonCells(job)];
}

function singleCells(job: JobRecord): readonly Cell[] {
  return [String(job.id), job.type, job.description, job.description, ...commonCells(job), null, null];
}

function commonCells(job: JobRecord): readonly Cell[] {
  return [
    job.user,
    job.state.kind,
    runningStatusOf(job),
    timestampCell(job.created),
    timestampCell(job.started),
    timestampCell(job.finished),
    timestampCell(job.modified),
    String(job.fractionCompleted),
    errorOf(job.state) ?? null,
    String(job.coordinatorId),
  ];
}

/** Of a job that somebody paused, why. */
function runningStatusOf({ state, runningStatus }: JobRecord): Cell {
  if (state.kind !== 'paused' && state.kind !== 'pause-requested') return runningStatus;
  return state.reason ?? runningStatus;
}

function shorten(description: string): string {
  const characters = Array.from(description);
  if (characters.length <= DESCRIPTION_LENGTH_MAX) return description;
  return `${characters.slice(0, DESCRIPTION_LENGTH_MAX - 3).join('')}...`;
}
