/** What a kind of job has to bring, and what it is given to run. */
import type { IncarnationId, Logger, VirtualClusterId, VirtualClusterName } from '../base/index.ts';
import type { JobRecord, JobStore, JsonObject, PausePoint } from '../catalog/index.ts';
import type { TransactionOutcome } from './transaction.ts';

/** The virtual cluster that keeps a job's record: while it serves, its jobs run. */
export interface JobDomain {
  readonly virtualClusterId: VirtualClusterId;
  readonly virtualClusterName: VirtualClusterName;
  readonly incarnation: IncarnationId;
  readonly store: JobStore;
  /** What became of a transaction of this virtual cluster, by its 64-bit number. */
  readonly outcomeOf: (transactionId: string, wait: { signal: AbortSignal }) => Promise<TransactionOutcome>;
  /** Where jobs are to pause. Read anew each time. */
  readonly pausePoints: () => ReadonlySet<PausePoint>;
  /** Read anew for every failure. */
  readonly retryDelays: () => { readonly initialDelayUs: bigint; readonly maxDelayUs: bigint };
}

export interface JobContext {
  /** As it was when this attempt began; `progress` is what earlier attempts have saved. */
  readonly job: JobRecord;
  readonly domain: JobDomain;
  /** Aborts when the job is to be paused or cancelled, or the daemon stops. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** Cheap; what is shown is at most a second old. */
  report(progress: { fraction: number; runningStatus: string }): void;
  /** Ends the attempt here, as paused, when an operator has asked for that. */
  pauseAt(point: PausePoint): void;
  /** Durable when it returns: what the next attempt will find, merged over what was there. */
  save(progress: JsonObject): Promise<void>;
}

export interface JobType {
  readonly name: string;
  readonly attemptsMax: number;
  /** What becomes of a job whose error somebody can act upon: `pause` keeps what was done. */
  readonly onExhausted: 'pause' | 'fail';
  /** It goes on for months, and mostly waits: it takes no place among the jobs that work at the same time. */
  readonly isLasting?: true;
  /** Longest it rests between two attempts, whatever the settings allow, in microseconds: somebody cannot be served meanwhile. */
  readonly retryDelayUsMax?: bigint;
  /** Where a job that is about to be given up can be held instead, for somebody to look at what it leaves. */
  readonly pausePointOfFailure?: PausePoint;
  /**
   * Does the work, or the rest of it: an earlier attempt may have ended anywhere. What it returns is merged into the progress
   * together with the final state.
   */
  run(context: JobContext): Promise<JsonObject>;
  /** Takes away what a failed or cancelled job has left behind. May run twice. */
  revert(context: JobContext): Promise<void>;
}
