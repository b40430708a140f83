/** When a failed attempt is tried again, and when it is given up. */
import type { Timestamp } from '../base/index.ts';
import { AppError, toError } from '../base/index.ts';
import type { Failure } from './job-state.ts';

export interface RetryPolicy {
  /** Before the second attempt; doubled for every further one. */
  readonly initialDelayUs: bigint;
  readonly maxDelayUs: bigint;
  /** The attempt after which a transient error is no longer retried. */
  readonly attemptsMax: number;
  /** What becomes of a job that could be resumed once somebody has acted: out of attempts, or out of disk. */
  readonly onExhausted: 'pause' | 'fail';
}

const DOUBLINGS_MAX = 40;

/** `initial · 2^(attempt-1)`, at most the maximum. */
export function retryDelayUs(policy: RetryPolicy, attempt: number): bigint {
  const doublings = BigInt(Math.min(Math.max(attempt - 1, 0), DOUBLINGS_MAX));
  const delay = policy.initialDelayUs << doublings;
  return delay < policy.maxDelayUs ? delay : policy.maxDelayUs;
}

/** Decides from the error's retry class; an error that is none of ours is a bug, and never retried. */
export function failureOf(
  thrown: unknown,
  options: { policy: RetryPolicy; attempt: number; now: Timestamp },
): Failure {
  const { policy, attempt, now } = options;
  const error = toError(thrown).message;
  if (!(thrown instanceof AppError)) return { then: 'fail', error: `internal error: ${error}` };
  if (thrown.row.retry === 'backoff' && attempt < policy.attemptsMax) {
    return { then: 'retry', error, retryAt: (now + retryDelayUs(policy, attempt)) as Timestamp };
  }
  const canBeResumed = thrown.row.retry === 'backoff' || thrown.code === 'disk_full';
  return canBeResumed && policy.onExhausted === 'pause' ? { then: 'pause', error } : { then: 'fail', error };
}
