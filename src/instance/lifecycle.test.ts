import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  INITIAL_STATE,
  type LifecycleEffect,
  type LifecycleEvent,
  type LifecycleState,
  transition,
} from './lifecycle.ts';

const STATES: { readonly [Kind in LifecycleState['kind']]: LifecycleState & { kind: Kind } } = {
  stopped: { kind: 'stopped' },
  starting: { kind: 'starting', failures: 2 },
  running: { kind: 'running', failures: 2, pid: 7, sinceMs: 1000 },
  stopping: { kind: 'stopping', restarts: false },
  backing_off: { kind: 'backing_off', failures: 2, retryAtMs: 5000, lastError: 'x' },
};

const EVENTS: { readonly [Kind in LifecycleEvent['kind']]: LifecycleEvent & { kind: Kind } } = {
  start_requested: { kind: 'start_requested' },
  stop_requested: { kind: 'stop_requested', mode: 'orderly' },
  ready: { kind: 'ready', pid: 9, nowMs: 2000 },
  ended: { kind: 'ended', error: 'killed', nowMs: 2000 },
  retry_due: { kind: 'retry_due' },
};

type Expected = readonly [LifecycleState['kind'], ...LifecycleEffect['kind'][]];

/** Every cell: the next state, and what is to be done. */
const TABLE: Record<LifecycleState['kind'], Record<LifecycleEvent['kind'], Expected>> = {
  stopped: {
    start_requested: ['starting', 'launch'],
    stop_requested: ['stopped'],
    ready: ['stopped'],
    ended: ['stopped'],
    retry_due: ['stopped'],
  },
  starting: {
    start_requested: ['starting'],
    stop_requested: ['stopping', 'terminate'],
    ready: ['running'],
    ended: ['backing_off', 'schedule_retry'],
    retry_due: ['starting'],
  },
  running: {
    start_requested: ['running'],
    stop_requested: ['stopping', 'terminate'],
    ready: ['running'],
    ended: ['backing_off', 'schedule_retry'],
    retry_due: ['running'],
  },
  stopping: {
    start_requested: ['stopping'],
    stop_requested: ['stopping', 'terminate'],
    ready: ['stopping'],
    ended: ['stopped'],
    retry_due: ['stopping'],
  },
  backing_off: {
    start_requested: ['starting', 'cancel_retry', 'launch'],
    stop_requested: ['stopped', 'cancel_retry'],
    ready: ['backing_off'],
    ended: ['backing_off'],
    retry_due: ['starting', 'launch'],
  },
};

for (const [stateKind, row] of Object.entries(TABLE)) {
  for (const [eventKind, expected] of Object.entries(row)) {
    test(`${stateKind} on ${eventKind}: ${expected.join(', ')}`, () => {
      const { state, effects } = transition(
        STATES[stateKind as LifecycleState['kind']],
        EVENTS[eventKind as LifecycleEvent['kind']],
      );
      assert.deepEqual([state.kind, ...effects.map((effect) => effect.kind)], expected);
    });
  }
}

test('a start asked for while it stops comes after the stop, a later stop forgets it', () => {
  const asked = transition(STATES.stopping, EVENTS.start_requested).state;
  assert.deepEqual(transition(asked, EVENTS.ended), {
    state: { kind: 'starting', failures: 0 },
    effects: [{ kind: 'launch' }],
  });
  const stopped = transition(asked, EVENTS.stop_requested).state;
  assert.equal(transition(stopped, EVENTS.ended).state.kind, 'stopped');
});

test('waits between restarts double, are bounded, and begin anew after a stable run', () => {
  let state: LifecycleState = { kind: 'starting', failures: 0 };
  const waits: number[] = [];
  for (let round = 0; round < 12; round++) {
    state = transition(state, { kind: 'ended', error: 'x', nowMs: 0 }).state;
    assert.equal(state.kind, 'backing_off');
    if (state.kind === 'backing_off') waits.push(state.retryAtMs);
    state = transition(state, EVENTS.retry_due).state;
  }
  assert.deepEqual(waits.slice(0, 4), [100, 200, 400, 800]);
  assert.equal(waits.at(-1), 30_000);

  const stable = transition({ ...STATES.running, sinceMs: 0 }, { kind: 'ended', error: 'x', nowMs: 60_000 });
  assert.equal(stable.state.kind === 'backing_off' && stable.state.failures, 1);
  const shaky = transition({ ...STATES.running, sinceMs: 0 }, { kind: 'ended', error: 'x', nowMs: 59_999 });
  assert.equal(shaky.state.kind === 'backing_off' && shaky.state.failures, 3);
});

test('whatever happens, at most one process is launched at a time', () => {
  const anyEvent = fc.constantFrom(...Object.values(EVENTS));
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 40 }), (events) => {
      let state: LifecycleState = INITIAL_STATE;
      let isProcessThere = false;
      for (const event of events) {
        // A process ends only if there is one, and speaks only while it lives.
        if ((event.kind === 'ended' || event.kind === 'ready') && !isProcessThere) continue;
        if (event.kind === 'ended') isProcessThere = false;
        const next = transition(state, event);
        for (const effect of next.effects) {
          if (effect.kind !== 'launch') continue;
          assert.equal(isProcessThere, false);
          isProcessThere = true;
        }
        state = next.state;
        const needsProcess = ['starting', 'running', 'stopping'].includes(state.kind);
        assert.equal(needsProcess, isProcessThere);
      }
    }),
  );
});
