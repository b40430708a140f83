export { readError } from './job-error.ts';
export type { JobCounts } from './job-counts.ts';
export * from './job-runner.ts';
export * from './job-state.ts';
export * from './job-type.ts';
export * from './retry.ts';
export * from './backup-job.ts';
export * from './backup-totals.ts';
export type { PublishDependencies, PublishedMoment } from './publish-backup.ts';
export { prepareRestored } from './prepare-restored.ts';
export * from './restore-job.ts';
export { describeImage } from './part/describe-image.ts';
export { type ImagePayload, imagePayload, systemTablesPayload, usersPayload } from './part/part-job.ts';
export {
  isRestorableSystemTable,
  RESTORABLE_SYSTEM_TABLES,
  type RestorableSystemTable,
} from './part/restore-system-tables.ts';
export * from './restore-objects.ts';
export * from './restored-regions.ts';
export { type ObjectsDependencies, selectionOf } from './backup-objects.ts';
export * from './crontab.ts';
export * from './schedule-state.ts';
export * from './scheduler.ts';
export * from './point-job.ts';
export * from './timeline-check/check-job.ts';
export {
  TimelineVerifier,
  type TimelineVerifierOptions,
  type VerifiedTimeline,
} from './timeline-check/verifier.ts';
export { CaptureTurns } from './timeline-keeper/capture-turns.ts';
export { type KeptTimeline, TimelineKeeper, type TimelineKeeperOptions } from './timeline-keeper/keeper.ts';
export type { BasePolicy } from './timeline-keeper/policy.ts';
export { DiskGuard, type DiskGuardOptions, type GuardedCluster } from './disk-guard/disk-guard.ts';
export { type DiskRoom, PRESSURE_LEVELS } from './disk-guard/pressure.ts';
export { readTransactionOutcome, transactionPayload } from './transaction.ts';
