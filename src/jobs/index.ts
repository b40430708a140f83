export { readError } from './job-error.ts';
export * from './job-runner.ts';
export * from './job-state.ts';
export * from './job-type.ts';
export * from './retry.ts';
export * from './backup-job.ts';
export * from './backup-totals.ts';
export * from './restore-job.ts';
