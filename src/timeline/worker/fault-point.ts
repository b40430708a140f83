/**
 * Places where a test may cut a process off. Active only when the variable names some, with commas between; nothing but tests sets it.
 */
import { AppError } from '../../base/index.ts';

export const FAULT_POINT_VARIABLE = 'ATOLL_TEST_FAULT_POINT';

export const BACKUP_FAULT_POINTS = [
  'backup.after_claim',
  'backup.after_lock',
  'capture.after_slot',
  'capture.after_start',
  'capture.after_plan',
  'capture.after_first_task',
  'capture.before_control_file',
  'capture.before_stop',
  'capture.after_stop',
  'capture.after_target',
  'capture.after_first_wal_object',
  'capture.before_closing_packs',
  'capture.after_closing_packs',
  'verify.before',
  'publish.before_manifest',
  'publish.after_manifest',
  'publish.after_latest',
] as const;

export const MATERIALIZE_FAULT_POINTS = [
  'materialize.after_emptying',
  'materialize.after_folders',
  'materialize.after_first_task',
  'materialize.before_wal',
  'materialize.before_control_file',
  'materialize.before_sync',
  'materialize.after_sync',
] as const;

export const REWIND_FAULT_POINTS = [
  'rewind.before_first_change',
  'rewind.after_control_file_removed',
  'rewind.after_clearing',
  'rewind.after_first_task',
  'rewind.before_log',
  'rewind.before_control_file',
  'rewind.before_summaries_removed',
  'rewind.after_sync',
] as const;

/** While the image of a source arrives that will be followed. */
export const RECEIVE_FAULT_POINTS = [
  'receive.before_sync',
  'receive.after_sync',
  'receive.after_first_change',
] as const;

/** In the daemon, on the way to the point of a RESET DATA or branch, and back again when a RESET DATA fails. */
export const RESET_FAULT_POINTS = [
  'reset.filled',
  'reset.proved',
  'reset.committed',
  'reset.back_begun',
  'reset.back_filled',
  'reset.back_proved',
  'reset.back_committed',
] as const;

/** Of backups that are captured, and are large enough. */
export const CHECKPOINT_FAULT_POINTS = ['capture.after_checkpoint'] as const;

/** Of backups that are published from a timeline store; those they share with captured ones are among `BACKUP_FAULT_POINTS`. */
export const PUBLISH_FAULT_POINTS = [
  'backup.after_claim',
  'backup.after_lock',
  'publish.after_plan',
  'publish.after_checkpoint',
  'verify.before',
  'publish.before_manifest',
  'publish.after_manifest',
  'publish.after_latest',
] as const;

/** Of backups of databases and tables; those they share with others are among `BACKUP_FAULT_POINTS`. */
export const OBJECTS_FAULT_POINTS = [
  'objects.after_range',
  'objects.after_checkpoint',
  'objects.committed',
] as const;

/** In the daemon, while an idle virtual cluster is suspended or woken. */
export const SUSPEND_FAULT_POINTS = ['suspend.stopped', 'suspend.recorded', 'wake.started'] as const;

/** In the daemon, while a virtual cluster goes out of service for a planned failover, and while its standby takes over. */
export const DRAIN_FAULT_POINTS = ['drain.recorded', 'drain.stopped', 'drain.drained'] as const;
export const FAILOVER_FAULT_POINTS = [
  /** A moment to come is asked for, and nothing done for it yet. */
  'failover.awaited',
  'failover.drain_asked',
  'failover.cut',
  'failover.promoted',
] as const;

/** In the daemon, while a virtual cluster that follows another is made: recorded, and a plain source keeps its log for it. */
export const STREAM_FAULT_POINTS = ['stream.recorded', 'stream.reserved'] as const;

/** In the daemon, while its own data is taken back to where the source's history left it. */
export const FAILBACK_FAULT_POINTS = [
  'failback.secured',
  'failback.rewound',
  'failback.fenced',
  'failback.committed',
  'failback.consistent',
] as const;

export const VAULT_FAULT_POINTS = [
  'vault.after_slot',
  'vault.after_record',
  'vault.after_first_write',
  'vault.before_sync',
  'vault.after_sync',
  'vault.after_index',
  'vault.before_closing',
  'vault.after_closing',
  'vault.after_removing_open_segment',
] as const;

/** Where it goes over to the next timeline; behind it the record of that one is written, as the first one's is. */
export const VAULT_SWITCH_FAULT_POINTS = ['vault.after_timeline_end'] as const;

export const RETENTION_FAULT_POINTS = [
  'retention.before_bases',
  'retention.after_first_base',
  'retention.before_objects',
  'retention.after_first_object',
  'retention.before_log',
  'retention.after_first_segment',
  'retention.after_log',
] as const;

/** Each when the state has become durable. */
export const JOB_FAULT_POINTS = [
  'job.pending',
  'job.running',
  'job.retry-running',
  'job.pause-requested',
  'job.paused',
  'job.cancel-requested',
  'job.reverting',
  'job.retry-reverting',
  'job.revert-failed',
  'job.succeeded',
  'job.failed',
  'job.canceled',
] as const;

/** Of continuous backup; see publish-log.ts, copy-base.ts and prune.ts. */
export const CONTINUOUS_FAULT_POINTS = [
  'continuous.before_piece',
  'continuous.after_piece',
  'continuous.after_object',
  'continuous.before_manifest',
  'continuous.after_manifest',
  'continuous.after_pruned_manifest',
  'continuous.after_pruned_objects',
] as const;

export type FaultPoint =
  | (typeof CONTINUOUS_FAULT_POINTS)[number]
  | (typeof JOB_FAULT_POINTS)[number]
  | (typeof OBJECTS_FAULT_POINTS)[number]
  | (typeof RETENTION_FAULT_POINTS)[number]
  | (typeof RECEIVE_FAULT_POINTS)[number]
  | (typeof RESET_FAULT_POINTS)[number]
  | (typeof SUSPEND_FAULT_POINTS)[number]
  | (typeof DRAIN_FAULT_POINTS)[number]
  | (typeof FAILOVER_FAULT_POINTS)[number]
  | (typeof FAILBACK_FAULT_POINTS)[number]
  | (typeof STREAM_FAULT_POINTS)[number]
  | (typeof VAULT_FAULT_POINTS)[number]
  | (typeof VAULT_SWITCH_FAULT_POINTS)[number]
  | (typeof BACKUP_FAULT_POINTS)[number]
  | (typeof CHECKPOINT_FAULT_POINTS)[number]
  | (typeof PUBLISH_FAULT_POINTS)[number]
  | (typeof REWIND_FAULT_POINTS)[number]
  | (typeof MATERIALIZE_FAULT_POINTS)[number];

/** Ends this process here, as a power cut would, when a test asked for it. */
export function faultPoint(point: FaultPoint): void {
  if (isAskedFor(point)) process.kill(process.pid, 'SIGKILL');
}

/** Fails here in a way that is worth another try, when a test asked for it. @throws AppError `worker_lost` */
export function failurePoint(point: 'job.clean_up_fails'): void {
  if (isAskedFor(point)) throw new AppError('worker_lost', `asked to fail at ${point}`);
}

function isAskedFor(point: string): boolean {
  return process.env[FAULT_POINT_VARIABLE]?.split(',').includes(point) === true;
}
