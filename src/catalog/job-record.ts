/** What is recorded of a job, and its states as `SHOW JOBS` names them. Transitions are decided in `jobs`. */
import type { IncarnationId, JobId, Timestamp, VirtualClusterId } from '../base/index.ts';
import type { ScheduledRun } from './schedule-record.ts';

/** How a job that is being reverted will end. */
export type RevertOutcome =
  | { readonly kind: 'failed'; readonly error: string }
  | { readonly kind: 'canceled' };

export type JobState =
  | { readonly kind: 'pending' }
  | { readonly kind: 'running' }
  /** A transient error stopped it; the next attempt begins at `retryAt`. */
  | { readonly kind: 'retry-running'; readonly retryAt: Timestamp; readonly error: string }
  | { readonly kind: 'pause-requested'; readonly reason: string | undefined }
  /** With the error that paused it, or the reason that somebody gave. */
  | { readonly kind: 'paused'; readonly error: string | undefined; readonly reason: string | undefined }
  | { readonly kind: 'cancel-requested' }
  | { readonly kind: 'reverting'; readonly outcome: RevertOutcome }
  | { readonly kind: 'retry-reverting'; readonly retryAt: Timestamp; readonly outcome: RevertOutcome }
  /** What it left behind could not be removed; a person has to look. */
  | { readonly kind: 'revert-failed'; readonly error: string }
  | { readonly kind: 'succeeded' }
  | { readonly kind: 'failed'; readonly error: string }
  | { readonly kind: 'canceled' };

export type JobStatus = JobState['kind'];

export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };
export type JsonObject = { readonly [key: string]: JsonValue };

/** What is decided when a job is made and never changes. */
export interface JobSpec {
  readonly type: string;
  /** The statement, secrets redacted. */
  readonly description: string;
  readonly user: string;
  /** What the job needs to run, and to run again. Never holds a secret. */
  readonly payload: JsonObject;
  /** Set when the job works on another virtual cluster than the one that keeps its record. */
  readonly targetVirtualClusterId?: VirtualClusterId;
  /** The run of a schedule that it is. */
  readonly schedule?: ScheduledRun;
}

export interface JobRecord extends JobSpec {
  readonly id: JobId;
  readonly state: JobState;
  readonly runningStatus: string | null;
  readonly created: Timestamp;
  readonly started: Timestamp | null;
  readonly finished: Timestamp | null;
  readonly modified: Timestamp;
  /** 0 to 1. */
  readonly fractionCompleted: number;
  /** Node that runs it. */
  readonly coordinatorId: number;
  /** What it has reached, written by the job itself. */
  readonly progress: JsonObject;
  /** Counts from 1 when it first runs. */
  readonly attempt: number;
  /** Life of the data directory in which it was made; in any other it is not run. */
  readonly incarnation: IncarnationId;
}

const TERMINAL: ReadonlySet<JobStatus> = new Set(['succeeded', 'failed', 'canceled', 'revert-failed']);

/** Whether the job will never run again. */
export function isTerminal(state: JobState): boolean {
  return TERMINAL.has(state.kind);
}

/** The message in the `error` column. */
export function errorOf(state: JobState): string | undefined {
  if ('error' in state) return state.error;
  if ('outcome' in state && state.outcome.kind === 'failed') return state.outcome.error;
  return undefined;
}

/** When a record is written next: never at the moment of what it replaces or before, whatever the clock says. */
export function modifiedNext(record: Pick<JobRecord, 'modified'>, now: Timestamp): Timestamp {
  return now > record.modified ? now : ((record.modified + 1n) as Timestamp);
}
