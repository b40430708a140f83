import type { ControlledJobs, IdQuery, ListedJobs, ScheduleSelection, Statement } from './ast.ts';
import { printValue, words } from './print-parts.ts';
import { printRole } from './print-privileges.ts';

type JobStatement = Extract<
  Statement,
  { kind: 'show_jobs' | 'show_job' | 'control_jobs' | 'alter_job_owner' }
>;

export function printJobStatement(statement: JobStatement): string {
  switch (statement.kind) {
    case 'show_jobs':
      return words(
        'SHOW',
        statement.automatic && 'AUTOMATIC',
        'JOBS',
        statement.whenComplete && 'WHEN COMPLETE',
        printJobs(statement.jobs),
        printDetails(statement),
      );
    case 'show_job':
      return words(
        'SHOW JOB',
        statement.whenComplete && 'WHEN COMPLETE',
        printValue(statement.jobId),
        printDetails(statement),
      );
    case 'alter_job_owner':
      return `ALTER JOB ${printValue(statement.jobId)} OWNER TO ${printRole(statement.owner)}`;
    case 'control_jobs':
      return words(
        statement.action.toUpperCase(),
        printControlled(statement.jobs),
        statement.reason !== undefined && `WITH REASON = ${printValue(statement.reason)}`,
      );
  }
}

/** `SCHEDULE id` or `SCHEDULES (query)`. */
export function printSchedules(selection: ScheduleSelection): string {
  return selection.kind === 'one'
    ? `SCHEDULE ${printValue(selection.id)}`
    : `SCHEDULES ${printQuery(selection)}`;
}

function printControlled(jobs: ControlledJobs): string {
  switch (jobs.kind) {
    case 'one':
      return `JOB ${printValue(jobs.id)}`;
    case 'of_type':
      return `ALL ${jobs.type.toUpperCase()} JOBS`;
    default:
      return words('JOBS', printJobs(jobs));
  }
}

function printJobs(jobs: ListedJobs): string | undefined {
  switch (jobs.kind) {
    case 'all':
      return undefined;
    case 'query':
      return printQuery(jobs);
    case 'of_schedules':
      return `FOR ${printSchedules(jobs.schedules)}`;
  }
}

function printQuery({ text }: IdQuery): string {
  return `(${text})`;
}

function printDetails(statement: { readonly withExecutionDetails: boolean }): string | false {
  return statement.withExecutionDetails && 'WITH EXECUTION DETAILS';
}
