/** PAUSE | RESUME | CANCEL JOB id */
import type { Statement } from '../sql/index.ts';
import { loggerOf } from './core.ts';
import { findJob, requireControl } from './job-visibility.ts';
import { type UseCase, done } from './use-case.ts';
import { jobIdValue } from './values.ts';

type ControlJob = Extract<Statement, { kind: 'control_job' }>;

export const controlJob: UseCase<ControlJob> = {
  columns: () => undefined,
  refusedInTransaction: 'job control',
  async run(core, statement, context) {
    const { session } = context;
    const { action } = statement;
    const { job, keeper } = await findJob(core, jobIdValue(statement.jobId), context);
    await requireControl(core, job, context);
    await core.runner.control({ virtualClusterId: keeper, jobId: job.id }, action, { signal: core.signal });
    loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
      `job ${job.id}: ${action} asked by ${session.user}`,
    );
    return done(`${action.toUpperCase()} JOBS 1`);
  },
};
