/**
 * The life of an instance as a state machine without effects; docs/instance-lifecycle.md draws it. `transition` says
 * what becomes of a state and what is to be done; whoever calls it does that.
 */
import { assertNever } from '../base/index.ts';
import type { InstanceState, StopMode } from './contract.ts';

/** Waits between restarts double from the first to the last; a run this long starts the count anew. */
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 30_000;
const STABLE_MS = 60_000;

export type LifecycleState =
  | { readonly kind: 'stopped' }
  | { readonly kind: 'starting'; readonly failures: number }
  | { readonly kind: 'running'; readonly failures: number; readonly pid: number; readonly sinceMs: number }
  | { readonly kind: 'stopping'; readonly restarts: boolean }
  | {
      readonly kind: 'backing_off';
      readonly failures: number;
      readonly retryAtMs: number;
      readonly lastError: string;
    };

export type LifecycleEvent =
  | { readonly kind: 'start_requested' }
  | { readonly kind: 'stop_requested'; readonly mode: StopMode }
  /** It accepts connections. */
  | { readonly kind: 'ready'; readonly pid: number; readonly nowMs: number }
  /** The process has ended, or could not be started. Comes once for every `launch`. */
  | { readonly kind: 'ended'; readonly error: string; readonly nowMs: number }
  | { readonly kind: 'retry_due' };

export type LifecycleEffect =
  | { readonly kind: 'launch' }
  | { readonly kind: 'terminate'; readonly mode: StopMode }
  | { readonly kind: 'schedule_retry'; readonly atMs: number }
  | { readonly kind: 'cancel_retry' };

export interface Transition {
  readonly state: LifecycleState;
  readonly effects: readonly LifecycleEffect[];
}

export const INITIAL_STATE: LifecycleState = { kind: 'stopped' };

export function transition(state: LifecycleState, event: LifecycleEvent): Transition {
  switch (event.kind) {
    case 'start_requested':
      return onStartRequested(state);
    case 'stop_requested':
      return onStopRequested(state, event.mode);
    case 'ready':
      return onReady(state, event);
    case 'ended':
      return onEnded(state, event);
    case 'retry_due':
      return state.kind === 'backing_off' ? launch(state.failures) : stay(state);
    default:
      return assertNever(event);
  }
}

function onStartRequested(state: LifecycleState): Transition {
  switch (state.kind) {
    case 'stopped':
      return launch(0);
    case 'backing_off':
      return launch(state.failures, { kind: 'cancel_retry' });
    case 'stopping':
      return { state: { kind: 'stopping', restarts: true }, effects: [] };
    case 'starting':
    case 'running':
      return stay(state);
    default:
      return assertNever(state);
  }
}

function onStopRequested(state: LifecycleState, mode: StopMode): Transition {
  switch (state.kind) {
    case 'stopped':
      return stay(state);
    case 'backing_off':
      return { state: { kind: 'stopped' }, effects: [{ kind: 'cancel_retry' }] };
    case 'starting':
    case 'running':
    case 'stopping': // Asked again, perhaps in more haste: whoever terminates takes the faster of the two.
      return { state: { kind: 'stopping', restarts: false }, effects: [{ kind: 'terminate', mode }] };
    default:
      return assertNever(state);
  }
}

function onReady(state: LifecycleState, event: { pid: number; nowMs: number }): Transition {
  if (state.kind !== 'starting') return stay(state);
  const { pid, nowMs: sinceMs } = event;
  return { state: { kind: 'running', failures: state.failures, pid, sinceMs }, effects: [] };
}

function onEnded(state: LifecycleState, event: { error: string; nowMs: number }): Transition {
  switch (state.kind) {
    case 'starting':
      return backOff({ ...event, failures: state.failures + 1 });
    case 'running': {
      const isStable = event.nowMs - state.sinceMs >= STABLE_MS;
      return backOff({ ...event, failures: isStable ? 1 : state.failures + 1 });
    }
    case 'stopping':
      return state.restarts ? launch(0) : { state: { kind: 'stopped' }, effects: [] };
    case 'stopped':
    case 'backing_off':
      return stay(state);
    default:
      return assertNever(state);
  }
}

function backOff(facts: { failures: number; error: string; nowMs: number }): Transition {
  const { failures, error, nowMs } = facts;
  const retryAtMs = nowMs + Math.min(RETRY_MS_MIN * 2 ** (failures - 1), RETRY_MS_MAX);
  return {
    state: { kind: 'backing_off', failures, retryAtMs, lastError: error },
    effects: [{ kind: 'schedule_retry', atMs: retryAtMs }],
  };
}

function launch(failures: number, ...before: LifecycleEffect[]): Transition {
  return { state: { kind: 'starting', failures }, effects: [...before, { kind: 'launch' }] };
}

function stay(state: LifecycleState): Transition {
  return { state, effects: [] };
}

/** What others may know of a state. */
export function publicState(state: LifecycleState): InstanceState {
  switch (state.kind) {
    case 'stopped':
      return { kind: 'stopped' };
    case 'starting':
      return { kind: 'starting' };
    case 'running':
      return { kind: 'running', pid: state.pid };
    case 'stopping':
      return { kind: 'stopping' };
    case 'backing_off':
      return { kind: 'backing_off', retryAtMs: state.retryAtMs, lastError: state.lastError };
    default:
      return assertNever(state);
  }
}
