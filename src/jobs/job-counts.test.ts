import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Timestamp } from '../base/index.ts';
import type { JobState } from '../catalog/index.ts';
import { countTransition, type JobCounts, noJobCounts } from './job-counts.ts';

const FAILED = { kind: 'failed', error: 'e' } as const;
const AT = 1n as Timestamp;
const running: JobState = { kind: 'running' };
const reverting: JobState = { kind: 'reverting', outcome: FAILED };
const cancelling: JobState = { kind: 'reverting', outcome: { kind: 'canceled' } };

const CASES: readonly (readonly [string, JobState, JobState, Partial<JobCounts>])[] = [
  ['success', running, { kind: 'succeeded' }, { resumeCompleted: 1 }],
  ['a retry', running, { kind: 'retry-running', retryAt: AT, error: 'e' }, { resumeRetryError: 1 }],
  ['a failure', running, reverting, { resumeFailed: 1 }],
  ['a cancellation', { kind: 'cancel-requested' }, cancelling, {}],
  [
    'a pause that was asked for',
    { kind: 'pause-requested', reason: 'x' },
    { kind: 'paused', error: undefined, reason: 'x' },
    {},
  ],
  ['a pause after an error', running, { kind: 'paused', error: 'e', reason: undefined }, { resumeFailed: 1 }],
  ['a clean-up', reverting, FAILED, { failOrCancelCompleted: 1 }],
  ['a clean-up after a cancellation', cancelling, { kind: 'canceled' }, { failOrCancelCompleted: 1 }],
  [
    'a clean-up that is repeated',
    reverting,
    { kind: 'retry-reverting', retryAt: AT, outcome: FAILED },
    { failOrCancelRetryError: 1 },
  ],
  ['the repeated clean-up', { kind: 'retry-reverting', retryAt: AT, outcome: FAILED }, reverting, {}],
  [
    'a clean-up that was given up',
    reverting,
    { kind: 'revert-failed', error: 'e' },
    { failOrCancelFailed: 1 },
  ],
  ['a job that was closed', running, FAILED, {}],
  ['progress', running, running, {}],
  ['a resumption', { kind: 'paused', error: 'e', reason: undefined }, running, {}],
];

describe('counting transitions of jobs', () => {
  for (const [name, before, after, expected] of CASES) {
    it(name, () => {
      const counts = noJobCounts();
      countTransition(counts, before, after);
      assert.deepEqual(counts, { ...noJobCounts(), ...expected });
    });
  }
});
