/**
 * The life of a replication stream as its consumer records it: what a virtual cluster that follows another one is doing. A step is recorded
 * before it is done, and every step may be done twice. Described in docs/replication-states.md.
 */
import { assertNever, InputError, type IncarnationId, type Lsn, type Timestamp } from '../base/index.ts';

/** What somebody asked a failover to be of. */
export type FailoverTarget =
  /** All that there is. */
  | { readonly kind: 'latest' }
  /** A moment that is still to come, or that the follower has not reached. */
  | { readonly kind: 'time'; readonly time: Timestamp };

/** Where the data is cut; never changed once it is recorded. */
export interface FailoverCut {
  /** The life that the virtual cluster begins. */
  readonly incarnation: IncarnationId;
  /** The moment that is told: later commits are not part of the data. */
  readonly time: Timestamp;
  /**
   * A place behind the follower, which it is taken back to in the timeline that it keeps itself. Null: where the follower stands, which
   * receives nothing any more.
   */
  readonly point: {
    readonly incarnation: IncarnationId;
    readonly timelineId: number;
    readonly lsn: Lsn;
  } | null;
}

export type StreamState =
  /** The first image of the source is on its way. */
  | { readonly kind: 'initializing' }
  | { readonly kind: 'replicating' }
  | { readonly kind: 'paused'; readonly isScanned: boolean; readonly since: Timestamp }
  /** Goes on until the target is reached. */
  | { readonly kind: 'pending_failover'; readonly isScanned: boolean; readonly target: FailoverTarget }
  /**
   * A planned failover: the source is asked to go out of service, and everything up to its end is awaited. The name of this attempt is used
   * once, so that neither a late request nor a late refusal of an earlier one counts.
   */
  | { readonly kind: 'draining'; readonly drainId: string }
  | { readonly kind: 'failing_over'; readonly cut: FailoverCut }
  /** Given up, with the data as far as it came. */
  | { readonly kind: 'failed'; readonly isScanned: boolean; readonly reason: string }
  /** The virtual cluster is one of its own. */
  | { readonly kind: 'completed'; readonly failoverTime: Timestamp };

export type StreamEvent =
  | { readonly kind: 'scanned' }
  | { readonly kind: 'pause_asked'; readonly at: Timestamp }
  | { readonly kind: 'resume_asked' }
  | { readonly kind: 'failover_asked'; readonly target: FailoverTarget }
  | { readonly kind: 'drain_asked'; readonly drainId: string }
  /** The source does not go out of service, or serves again. */
  | { readonly kind: 'drain_ended' }
  | { readonly kind: 'cut'; readonly cut: FailoverCut }
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'promoted' };

/** The state after `event`; asked twice, the same answer. @throws InputError `object_state` */
export function nextStreamState(state: StreamState, event: StreamEvent): StreamState {
  switch (event.kind) {
    case 'scanned':
      return onScanned(state);
    case 'pause_asked':
      return onPause(state, event.at);
    case 'resume_asked':
      return onResume(state);
    case 'failover_asked':
      return onFailover(state, event.target);
    case 'drain_asked':
      return onDrain(state, event.drainId);
    case 'drain_ended':
      return state.kind === 'draining' ? { kind: 'replicating' } : state;
    case 'cut':
      return onCut(state, event.cut);
    case 'failed':
      return onFailed(state, event.reason);
    case 'promoted':
      return onPromoted(state);
    default:
      return assertNever(event);
  }
}

/** The first image is complete, and the follower consistent. */
function onScanned(state: StreamState): StreamState {
  switch (state.kind) {
    case 'initializing':
      return { kind: 'replicating' };
    case 'paused':
    case 'pending_failover':
    case 'failed':
      return { ...state, isScanned: true };
    case 'replicating':
    case 'draining':
    case 'failing_over':
    case 'completed':
      return state;
    default:
      return assertNever(state);
  }
}

function onPause(state: StreamState, since: Timestamp): StreamState {
  switch (state.kind) {
    case 'initializing':
    case 'replicating':
      return { kind: 'paused', isScanned: isScanned(state), since };
    case 'paused':
      return state;
    case 'pending_failover':
    case 'draining':
    case 'failing_over':
    case 'failed':
    case 'completed':
      return refuse(state, 'be paused');
    default:
      return assertNever(state);
  }
}

/** What is drained is let go: the source serves again. */
function onResume(state: StreamState): StreamState {
  switch (state.kind) {
    case 'draining':
      return { kind: 'replicating' };
    case 'paused':
    case 'failed':
      return { kind: state.isScanned ? 'replicating' : 'initializing' };
    case 'initializing':
    case 'replicating':
    case 'pending_failover':
    case 'failing_over':
      return state;
    case 'completed':
      return refuse(state, 'be resumed');
    default:
      return assertNever(state);
  }
}

/** The last target that was asked for counts, until one is cut to. */
function onFailover(state: StreamState, target: FailoverTarget): StreamState {
  switch (state.kind) {
    case 'initializing':
    case 'replicating':
    case 'paused':
    case 'pending_failover':
    case 'draining':
    case 'failed':
      return { kind: 'pending_failover', isScanned: isScanned(state), target };
    case 'failing_over':
    case 'completed':
      return refuse(state, 'be failed over to another time');
    default:
      return assertNever(state);
  }
}

/** Only a source that is being followed can be waited for. */
function onDrain(state: StreamState, drainId: string): StreamState {
  switch (state.kind) {
    case 'replicating':
      return { kind: 'draining', drainId };
    case 'pending_failover':
      return isScanned(state) ? { kind: 'draining', drainId } : refuse(state, 'be drained yet');
    case 'draining':
      return state;
    case 'initializing':
    case 'paused':
    case 'failing_over':
    case 'failed':
    case 'completed':
      return refuse(state, 'be drained');
    default:
      return assertNever(state);
  }
}

function onCut(state: StreamState, cut: FailoverCut): StreamState {
  switch (state.kind) {
    case 'replicating':
    case 'paused':
    case 'pending_failover':
    case 'draining':
    case 'failed':
      return isScanned(state) ? { kind: 'failing_over', cut } : refuse(state, 'be failed over yet');
    case 'failing_over':
      return state;
    case 'initializing':
    case 'completed':
      return refuse(state, 'be failed over yet');
    default:
      return assertNever(state);
  }
}

/** A failover that has begun is tried again: nothing else can become of it. */
function onFailed(state: StreamState, reason: string): StreamState {
  switch (state.kind) {
    case 'initializing':
    case 'replicating':
    case 'paused':
    case 'pending_failover':
    case 'draining':
      return { kind: 'failed', isScanned: isScanned(state), reason };
    case 'failed':
    case 'failing_over':
    case 'completed':
      return state;
    default:
      return assertNever(state);
  }
}

function onPromoted(state: StreamState): StreamState {
  switch (state.kind) {
    case 'failing_over':
      return { kind: 'completed', failoverTime: state.cut.time };
    case 'completed':
      return state;
    case 'initializing':
    case 'replicating':
    case 'paused':
    case 'pending_failover':
    case 'draining':
    case 'failed':
      return refuse(state, 'be promoted without a failover');
    default:
      return assertNever(state);
  }
}

/** Whether there is a consistent follower: only then can anything be failed over to. */
export function isScanned(state: StreamState): boolean {
  switch (state.kind) {
    case 'paused':
    case 'pending_failover':
    case 'failed':
      return state.isScanned;
    case 'initializing':
      return false;
    case 'replicating':
    case 'draining':
    case 'failing_over':
    case 'completed':
      return true;
    default:
      return assertNever(state);
  }
}

/** As the columns `data_state` and `status` show it. */
export const STREAM_STATE_TEXTS: Readonly<Record<StreamState['kind'], string>> = {
  initializing: 'initializing replication',
  replicating: 'replicating',
  paused: 'replication paused',
  pending_failover: 'replication pending failover',
  draining: 'replication pending failover',
  failing_over: 'replication failing over',
  failed: 'replication error',
  completed: 'ready',
};

function refuse(state: StreamState, what: string): never {
  throw new InputError(
    'object_state',
    `a virtual cluster in state "${STREAM_STATE_TEXTS[state.kind]}" cannot ${what}`,
    { hint: 'SHOW VIRTUAL CLUSTER … WITH REPLICATION STATUS tells how far it is' },
  );
}
