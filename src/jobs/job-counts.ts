/** How jobs of one kind fared since the daemon started, as the metrics tell it. */
import type { JobState } from '../catalog/index.ts';

export interface JobCounts {
  /** Work that ended well, for good, or will be tried again. */
  resumeCompleted: number;
  resumeFailed: number;
  resumeRetryError: number;
  /** The same of the clean-up after a failure or a cancellation. */
  failOrCancelCompleted: number;
  failOrCancelFailed: number;
  failOrCancelRetryError: number;
}

export function noJobCounts(): JobCounts {
  return {
    resumeCompleted: 0,
    resumeFailed: 0,
    resumeRetryError: 0,
    failOrCancelCompleted: 0,
    failOrCancelFailed: 0,
    failOrCancelRetryError: 0,
  };
}

/** Counts a move between two states; a record that was written without one counts nothing. */
export function countTransition(counts: JobCounts, before: JobState, after: JobState): void {
  if (before.kind === after.kind) return;
  switch (after.kind) {
    case 'succeeded':
      counts.resumeCompleted += 1;
      return;
    case 'retry-running':
      counts.resumeRetryError += 1;
      return;
    case 'paused':
      if (after.error !== undefined) counts.resumeFailed += 1;
      return;
    case 'reverting':
      if (before.kind !== 'retry-reverting' && after.outcome.kind === 'failed') counts.resumeFailed += 1;
      return;
    case 'retry-reverting':
      counts.failOrCancelRetryError += 1;
      return;
    case 'revert-failed':
      counts.failOrCancelFailed += 1;
      return;
    case 'failed':
    case 'canceled':
      if (before.kind === 'reverting') counts.failOrCancelCompleted += 1;
      return;
    default:
      return;
  }
}
