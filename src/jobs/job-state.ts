/**
 * How a job moves between its states: a pure function of the state and what happened. The page of this machine is
 * docs/job-states.md; the table of every pair is in the test.
 */
import type { Timestamp } from '../base/index.ts';
import { AssertionError, InputError, assertNever } from '../base/index.ts';
import { type JobState, type RevertOutcome, isTerminal } from '../catalog/index.ts';

/** What to do about an error of a job's work. */
export type Failure =
  | { readonly then: 'retry'; readonly error: string; readonly retryAt: Timestamp }
  | { readonly then: 'pause'; readonly error: string }
  | { readonly then: 'fail'; readonly error: string };

export type RevertFailure = Exclude<Failure, { then: 'pause' }>;

export type JobEvent =
  | { readonly kind: 'begun' }
  | { readonly kind: 'pause_asked'; readonly reason?: string | undefined }
  | { readonly kind: 'resume_asked' }
  | { readonly kind: 'cancel_asked' }
  | { readonly kind: 'retry_due' }
  | { readonly kind: 'work_done' }
  | { readonly kind: 'work_failed'; readonly failure: Failure }
  /** The work has come to rest because it was asked to. */
  | { readonly kind: 'work_stopped' }
  | { readonly kind: 'revert_done' }
  | { readonly kind: 'revert_failed'; readonly failure: RevertFailure }
  /** The job belongs to another life of the data directory, or can never run for a similar reason. */
  | { readonly kind: 'closed'; readonly error: string };

/**
 * The state after `event`.
 * @throws InputError `object_state` when somebody asked for what this state does not allow
 * @throws AssertionError when the runner reports what cannot happen in this state
 */
export function nextJobState(state: JobState, event: JobEvent): JobState {
  switch (event.kind) {
    case 'begun':
      return state.kind === 'pending' ? { kind: 'running' } : impossible(state, event);
    case 'pause_asked':
      return onPause(state, event.reason);
    case 'resume_asked':
      return state.kind === 'paused' ? { kind: 'running' } : refuse(state, 'resumed');
    case 'cancel_asked':
      return onCancel(state);
    case 'retry_due':
      if (state.kind === 'retry-running') return { kind: 'running' };
      if (state.kind === 'retry-reverting') return { kind: 'reverting', outcome: state.outcome };
      return impossible(state, event);
    case 'work_done':
      return isWorking(state) ? { kind: 'succeeded' } : impossible(state, event);
    case 'work_failed':
      return onWorkFailed(state, event.failure);
    case 'work_stopped':
      if (state.kind === 'pause-requested') return { kind: 'paused', error: undefined, reason: state.reason };
      if (state.kind === 'cancel-requested') return { kind: 'reverting', outcome: { kind: 'canceled' } };
      return impossible(state, event);
    case 'revert_done':
      return state.kind === 'reverting' ? state.outcome : impossible(state, event);
    case 'revert_failed':
      return onRevertFailed(state, event.failure);
    case 'closed':
      return isTerminal(state) ? impossible(state, event) : { kind: 'failed', error: event.error };
    default:
      return assertNever(event);
  }
}

/** Whether the job's own work may be going on. */
function isWorking(state: JobState): boolean {
  return state.kind === 'running' || state.kind === 'pause-requested' || state.kind === 'cancel-requested';
}

function onPause(state: JobState, reason: string | undefined): JobState {
  switch (state.kind) {
    case 'pending':
    case 'running':
    case 'retry-running':
      return { kind: 'pause-requested', reason };
    case 'pause-requested':
    case 'paused':
      return state; // Asked again: same answer.
    default:
      return refuse(state, 'requested to be paused');
  }
}

function onCancel(state: JobState): JobState {
  switch (state.kind) {
    case 'pending':
    case 'running':
    case 'retry-running':
    case 'pause-requested':
    case 'paused':
      return { kind: 'cancel-requested' };
    case 'cancel-requested':
      return state;
    default:
      return refuse(state, 'requested to be canceled');
  }
}

function onWorkFailed(state: JobState, failure: Failure): JobState {
  switch (state.kind) {
    case 'running':
      if (failure.then === 'retry')
        return { kind: 'retry-running', retryAt: failure.retryAt, error: failure.error };
      if (failure.then === 'pause') return { kind: 'paused', error: failure.error, reason: undefined };
      return { kind: 'reverting', outcome: { kind: 'failed', error: failure.error } };
    case 'pause-requested':
      return failure.then === 'fail'
        ? { kind: 'reverting', outcome: { kind: 'failed', error: failure.error } }
        : { kind: 'paused', error: failure.error, reason: state.reason };
    case 'cancel-requested':
      return { kind: 'reverting', outcome: { kind: 'canceled' } };
    default:
      return impossible(state, { kind: 'work_failed' });
  }
}

function onRevertFailed(state: JobState, failure: RevertFailure): JobState {
  if (state.kind !== 'reverting') return impossible(state, { kind: 'revert_failed' });
  return failure.then === 'retry'
    ? { kind: 'retry-reverting', retryAt: failure.retryAt, outcome: state.outcome }
    : {
        kind: 'revert-failed',
        error: `${reasonOf(state.outcome)}what it left was not taken back: ${failure.error}`,
      };
}

function reasonOf(outcome: RevertOutcome): string {
  return outcome.kind === 'failed' ? `${outcome.error}; ` : '';
}

function refuse(state: JobState, what: string): never {
  throw new InputError('object_state', `job with status ${state.kind} cannot be ${what}`, {
    hint: hintFor(state),
  });
}

function hintFor(state: JobState): string {
  if (isTerminal(state))
    return 'it is over: SHOW JOB tells how it ended; run its statement again to begin another';
  if (state.kind === 'reverting' || state.kind === 'retry-reverting') {
    return 'what it did is being taken back: wait for it with SHOW JOB WHEN COMPLETE';
  }
  return 'only a job that is paused is resumed: SHOW JOB tells what it does now';
}

function impossible(state: JobState, event: { kind: JobEvent['kind'] }): never {
  throw new AssertionError(`job in state ${state.kind} met ${event.kind}`);
}
