/** What is recorded of a schedule. How it moves on is decided in `jobs`. */
import type { Branded, IncarnationId, JobId, Timestamp } from '../base/index.ts';

/** Number of a schedule, unique in its physical cluster, from the same source as those of jobs. */
export type ScheduleId = Branded<bigint, 'ScheduleId'>;

/** What happens at the next time while a run is still going on. */
export type OnPreviousRunning = 'wait' | 'skip' | 'start';
/** What happens after a run that failed. */
export type OnExecutionFailure = 'retry' | 'reschedule' | 'pause';

export interface ScheduleRecord {
  readonly id: ScheduleId;
  readonly label: string;
  /** Who made it; its runs have this user's privileges. */
  readonly owner: string;
  /** Where it was made: names without one in its statement mean this database's. */
  readonly database: string;
  readonly created: Timestamp;
  /** The crontab as it was written. */
  readonly recurrence: string;
  /** Null while paused. */
  readonly nextRun: Timestamp | null;
  /** Why it is paused or late, or the newest error; null when all is well. */
  readonly message: string | null;
  readonly onPreviousRunning: OnPreviousRunning;
  readonly onExecutionFailure: OnExecutionFailure;
  readonly backupType: 'full' | 'incremental';
  /** The BACKUP that it runs, with its secrets. Shown to nobody but redacted. */
  readonly statement: string;
  /** The other half of a pair of full and incremental. */
  readonly partnerId: ScheduleId | null;
  /** Of an incremental one: it is paused until a full backup succeeds whose job is numbered above this; null when it does not wait. */
  readonly waitsForFullAfter: bigint | null;
  readonly updatesLastBackupMetric: boolean;
  readonly ignoreExistingBackups: boolean;
  /** What the user asked for; null when nothing. */
  readonly firstRun: Timestamp | null;
  /** Life of the data directory that its chain of backups belongs to. */
  readonly incarnation: IncarnationId;
}

/** The run of a schedule that a job is. */
export interface ScheduledRun {
  readonly scheduleId: ScheduleId;
  /** When it was due. */
  readonly scheduledFor: Timestamp;
}

/** A job of a schedule that is over and whose schedule has not taken note of it. */
export interface UnsettledRun extends ScheduledRun {
  readonly jobId: JobId;
  readonly status: string;
  readonly error: string | null;
  readonly finished: Timestamp;
}
