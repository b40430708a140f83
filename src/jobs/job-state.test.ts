import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AssertionError, type Timestamp, isAppError } from '../base/index.ts';
import type { JobState, JobStatus } from '../catalog/index.ts';
import { type JobEvent, nextJobState } from './job-state.ts';

const AT = 5n as Timestamp;
const FAILED = { kind: 'failed', error: 'why' } as const;
const STATES: Record<JobStatus, JobState> = {
  pending: { kind: 'pending' },
  running: { kind: 'running' },
  'retry-running': { kind: 'retry-running', retryAt: AT, error: 'why' },
  'pause-requested': { kind: 'pause-requested', reason: undefined },
  paused: { kind: 'paused', error: undefined, reason: undefined },
  'cancel-requested': { kind: 'cancel-requested' },
  reverting: { kind: 'reverting', outcome: FAILED },
  'retry-reverting': { kind: 'retry-reverting', retryAt: AT, outcome: FAILED },
  'revert-failed': { kind: 'revert-failed', error: 'why' },
  succeeded: { kind: 'succeeded' },
  failed: FAILED,
  canceled: { kind: 'canceled' },
};

type EventName =
  | Exclude<JobEvent['kind'], 'work_failed' | 'revert_failed'>
  | 'work_failed_retry'
  | 'work_failed_pause'
  | 'work_failed_fail'
  | 'revert_failed_retry'
  | 'revert_failed_fail';

const EVENTS: Record<EventName, JobEvent> = {
  begun: { kind: 'begun' },
  pause_asked: { kind: 'pause_asked' },
  resume_asked: { kind: 'resume_asked' },
  cancel_asked: { kind: 'cancel_asked' },
  retry_due: { kind: 'retry_due' },
  work_done: { kind: 'work_done' },
  work_failed_retry: { kind: 'work_failed', failure: { then: 'retry', error: 'why', retryAt: AT } },
  work_failed_pause: { kind: 'work_failed', failure: { then: 'pause', error: 'why' } },
  work_failed_fail: { kind: 'work_failed', failure: { then: 'fail', error: 'why' } },
  work_stopped: { kind: 'work_stopped' },
  revert_done: { kind: 'revert_done' },
  revert_failed_retry: { kind: 'revert_failed', failure: { then: 'retry', error: 'why', retryAt: AT } },
  revert_failed_fail: { kind: 'revert_failed', failure: { then: 'fail', error: 'why' } },
  closed: { kind: 'closed', error: 'why' },
};

/** `refused`: the user asked for what is not possible. `bug`: the runner contradicts itself. */
type Outcome = JobStatus | 'refused' | 'bug';

const OVER = {
  begun: 'bug',
  pause_asked: 'refused',
  resume_asked: 'refused',
  cancel_asked: 'refused',
  retry_due: 'bug',
  work_done: 'bug',
  work_failed_retry: 'bug',
  work_failed_pause: 'bug',
  work_failed_fail: 'bug',
  work_stopped: 'bug',
  revert_done: 'bug',
  revert_failed_retry: 'bug',
  revert_failed_fail: 'bug',
  closed: 'bug',
} as const;
const AT_REST = { ...OVER, closed: 'failed' } as const;

const EXPECTED: Record<JobStatus, Record<EventName, Outcome>> = {
  pending: { ...AT_REST, begun: 'running', pause_asked: 'pause-requested', cancel_asked: 'cancel-requested' },
  running: {
    ...AT_REST,
    pause_asked: 'pause-requested',
    cancel_asked: 'cancel-requested',
    work_done: 'succeeded',
    work_failed_retry: 'retry-running',
    work_failed_pause: 'paused',
    work_failed_fail: 'reverting',
  },
  'retry-running': {
    ...AT_REST,
    pause_asked: 'pause-requested',
    cancel_asked: 'cancel-requested',
    retry_due: 'running',
  },
  'pause-requested': {
    ...AT_REST,
    pause_asked: 'pause-requested',
    cancel_asked: 'cancel-requested',
    work_done: 'succeeded',
    work_failed_retry: 'paused',
    work_failed_pause: 'paused',
    work_failed_fail: 'reverting',
    work_stopped: 'paused',
  },
  paused: { ...AT_REST, pause_asked: 'paused', resume_asked: 'running', cancel_asked: 'cancel-requested' },
  'cancel-requested': {
    ...AT_REST,
    cancel_asked: 'cancel-requested',
    work_done: 'succeeded',
    work_failed_retry: 'reverting',
    work_failed_pause: 'reverting',
    work_failed_fail: 'reverting',
    work_stopped: 'reverting',
  },
  reverting: {
    ...AT_REST,
    revert_done: 'failed',
    revert_failed_retry: 'retry-reverting',
    revert_failed_fail: 'revert-failed',
  },
  'retry-reverting': { ...AT_REST, retry_due: 'reverting' },
  'revert-failed': OVER,
  succeeded: OVER,
  failed: OVER,
  canceled: OVER,
};

function outcomeOf(state: JobState, event: JobEvent): Outcome {
  try {
    return nextJobState(state, event).kind;
  } catch (error) {
    if (error instanceof AssertionError) return 'bug';
    assert.ok(isAppError(error, 'object_state'));
    return 'refused';
  }
}

describe('states of a job', () => {
  for (const [from, row] of Object.entries(EXPECTED)) {
    for (const [event, expected] of Object.entries(row)) {
      it(`${from} on ${event}: ${expected}`, () => {
        assert.equal(outcomeOf(STATES[from as JobStatus], EVENTS[event as EventName]), expected);
      });
    }
  }

  it('carry the reason of a failure through its clean-up', () => {
    const reverting = nextJobState(STATES.running, EVENTS.work_failed_fail);
    const again = nextJobState(nextJobState(reverting, EVENTS.revert_failed_retry), EVENTS.retry_due);
    assert.deepEqual(nextJobState(again, EVENTS.revert_done), { kind: 'failed', error: 'why' });
    const canceled = nextJobState(STATES['cancel-requested'], EVENTS.work_stopped);
    assert.deepEqual(nextJobState(canceled, EVENTS.revert_done), { kind: 'canceled' });
  });

  it('say why something was refused', () => {
    assert.throws(() => nextJobState(STATES.succeeded, EVENTS.pause_asked), {
      message: 'job with status succeeded cannot be requested to be paused',
    });
    assert.throws(() => nextJobState(STATES.running, EVENTS.resume_asked), {
      message: 'job with status running cannot be resumed',
    });
  });
});
