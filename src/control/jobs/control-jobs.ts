/** PAUSE | RESUME | CANCEL JOB id, JOBS query, JOBS FOR SCHEDULE(S), and ALL type JOBS. */
import {
  type JobId,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  type Timestamp,
  assertNever,
  isAppError,
} from '../../base/index.ts';
import { isTerminal } from '../../catalog/index.ts';
import { nextJobState } from '../../jobs/index.ts';
import type { ControlledJobs, Statement } from '../../sql/index.ts';
import type { ExecuteContext } from '../contract.ts';
import { scheduleIdsOf } from '../schedules/control-schedules.ts';
import { type Core, loggerOf } from '../core.ts';
import { idsOf } from '../id-query.ts';
import { type FoundJob, findJob, findJobs, requireControl, seesAllJobs, storeOf } from './job-visibility.ts';
import { isSystem } from '../privileges/privileges.ts';
import { type UseCase, done } from '../use-case.ts';
import { jobIdValue, textValue } from '../values.ts';

type ControlJobs = Extract<Statement, { kind: 'control_jobs' }>;

/** After every time there is: of jobs that are over, none. */
const NONE_FINISHED = 253_402_300_799_000_000n as Timestamp;

/**
 * Jobs that were named must all allow it, or none is asked. Of those that nobody named, whoever is over meanwhile is passed over.
 */
export const controlJobs: UseCase<ControlJobs> = {
  columns: () => undefined,
  refusedInTransaction: 'job control',
  async run(core, statement, context) {
    const { session } = context;
    const { action, jobs } = statement;
    const reason =
      statement.reason === undefined ? {} : { reason: textValue(statement.reason, 'the reason') };
    const found = await controlledJobs(core, jobs, { context, action });
    for (const { job } of found) await requireControl(core, job, context);
    const isNamed = jobs.kind === 'one' || jobs.kind === 'query';
    if (isNamed) for (const { job } of found) nextJobState(job.state, { kind: `${action}_asked` });
    const logger = loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName });
    let asked = 0;
    for (const { job, keeper } of found) {
      const reference = { virtualClusterId: keeper, jobId: job.id };
      try {
        await core.runner.control(reference, action, { signal: core.signal, ...reason });
      } catch (error) {
        if (isNamed || !isAppError(error, 'object_state')) throw error;
        continue;
      }
      asked += 1;
      logger.info(`job ${job.id}: ${action} asked by ${session.user}`);
    }
    const of = jobs.kind === 'of_schedules' ? ' FOR SCHEDULES' : '';
    const count = jobs.kind === 'of_schedules' ? await scheduleCount(core, jobs, context) : asked;
    return done(`${action.toUpperCase()} JOBS${of} ${count}`);
  },
};

async function controlledJobs(
  core: Core,
  jobs: ControlledJobs,
  options: { context: ExecuteContext; action: ControlJobs['action'] },
): Promise<readonly FoundJob[]> {
  const { context } = options;
  switch (jobs.kind) {
    case 'one':
      return [await findJob(core, jobIdValue(jobs.id), context)];
    case 'query': {
      const ids = await idsOf(core, { query: jobs.text, of: 'job', context });
      return findJobs(core, ids as readonly JobId[], context);
    }
    case 'of_schedules': {
      const scheduleIds = await scheduleIdsOf(core, jobs.schedules, context);
      const store = storeOf(core, context.session.virtualClusterId);
      const found = await store.list({ finishedSince: NONE_FINISHED, scheduleIds, signal: context.signal });
      const keeper = context.session.virtualClusterId;
      return suitable(
        await ofVisible(
          core,
          found.map((job) => ({ job, keeper })),
          context,
        ),
        options,
      );
    }
    case 'of_type':
      return suitable(await unfinishedOfType(core, jobs.type.toUpperCase(), context), options);
    default:
      return assertNever(jobs);
  }
}

/** Of many that nobody named, those that can be asked; RESUME finds nothing to do with one that runs. */
function suitable(
  found: readonly FoundJob[],
  { action }: { action: ControlJobs['action'] },
): readonly FoundJob[] {
  return found.filter(({ job: { state } }) => {
    if (isTerminal(state) || state.kind === 'reverting' || state.kind === 'retry-reverting') return false;
    if (action === 'resume') return state.kind === 'paused';
    return action === 'cancel' || state.kind !== 'cancel-requested';
  });
}

async function unfinishedOfType(
  core: Core,
  type: string,
  context: ExecuteContext,
): Promise<readonly FoundJob[]> {
  const { session, signal } = context;
  const keeper = session.virtualClusterId;
  const own = await storeOf(core, keeper).readUnfinished({ signal });
  const kept = isSystem(keeper)
    ? []
    : await storeOf(core, SYSTEM_VIRTUAL_CLUSTER_ID).list({
        finishedSince: NONE_FINISHED,
        targetVirtualClusterId: keeper,
        signal,
      });
  const found: readonly FoundJob[] = [
    ...own.map((job) => ({ job, keeper })),
    ...kept.map((job) => ({ job, keeper: SYSTEM_VIRTUAL_CLUSTER_ID })),
  ];
  return ofVisible(
    core,
    found.filter(({ job }) => job.type === type),
    context,
  );
}

async function ofVisible(
  core: Core,
  found: readonly FoundJob[],
  context: ExecuteContext,
): Promise<readonly FoundJob[]> {
  if (await seesAllJobs(core, context)) return found;
  return found.filter(({ job }) => job.user === context.session.user);
}

/** The tag counts schedules, not jobs. */
async function scheduleCount(
  core: Core,
  jobs: Extract<ControlledJobs, { kind: 'of_schedules' }>,
  context: ExecuteContext,
): Promise<number> {
  return (await scheduleIdsOf(core, jobs.schedules, context)).length;
}
