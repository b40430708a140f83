import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type IncarnationId, isAppError, type Lsn, type Timestamp } from '../base/index.ts';
import { parseStreamState, printStreamState } from './stream-record.ts';
import {
  isScanned,
  nextStreamState,
  STREAM_STATE_TEXTS,
  type StreamEvent,
  type StreamState,
} from './stream-state.ts';

type StateName =
  | 'initializing'
  | 'replicating'
  | 'paused'
  | 'paused, no image'
  | 'pending failover'
  | 'pending failover, no image'
  | 'draining'
  | 'failing over'
  | 'failed'
  | 'failed, no image'
  | 'completed';
/** `–`: nothing changes. */
type Outcome = StateName | 'refused' | '–';

const AT = 1_695_922_878_030_920n as Timestamp;
const cut = { incarnation: '4a4109b7-7cf1-49dc-9cd9-32a5ae1b8f7c' as IncarnationId, time: AT, point: null };
const target = { kind: 'time', time: AT } as const;

const STATES: Record<StateName, StreamState> = {
  initializing: { kind: 'initializing' },
  replicating: { kind: 'replicating' },
  paused: { kind: 'paused', isScanned: true, since: AT },
  'paused, no image': { kind: 'paused', isScanned: false, since: AT },
  'pending failover': { kind: 'pending_failover', isScanned: true, target },
  'pending failover, no image': { kind: 'pending_failover', isScanned: false, target },
  draining: { kind: 'draining', drainId: cut.incarnation },
  'failing over': { kind: 'failing_over', cut },
  failed: { kind: 'failed', isScanned: true, reason: 'gone' },
  'failed, no image': { kind: 'failed', isScanned: false, reason: 'gone' },
  completed: { kind: 'completed', failoverTime: AT },
};

const EVENTS: Record<StreamEvent['kind'], StreamEvent> = {
  scanned: { kind: 'scanned' },
  pause_asked: { kind: 'pause_asked', at: AT },
  resume_asked: { kind: 'resume_asked' },
  failover_asked: { kind: 'failover_asked', target },
  cut: { kind: 'cut', cut },
  failed: { kind: 'failed', reason: 'gone' },
  promoted: { kind: 'promoted' },
  drain_asked: { kind: 'drain_asked', drainId: cut.incarnation },
  drain_ended: { kind: 'drain_ended' },
};

const EXPECTED: Record<StateName, Record<StreamEvent['kind'], Outcome>> = {
  initializing: {
    scanned: 'replicating',
    pause_asked: 'paused, no image',
    resume_asked: '–',
    failover_asked: 'pending failover, no image',
    cut: 'refused',
    failed: 'failed, no image',
    promoted: 'refused',
    drain_asked: 'refused',
    drain_ended: '–',
  },
  replicating: {
    scanned: '–',
    pause_asked: 'paused',
    resume_asked: '–',
    failover_asked: 'pending failover',
    cut: 'failing over',
    failed: 'failed',
    promoted: 'refused',
    drain_asked: 'draining',
    drain_ended: '–',
  },
  paused: {
    scanned: '–',
    pause_asked: '–',
    resume_asked: 'replicating',
    failover_asked: 'pending failover',
    cut: 'failing over',
    failed: 'failed',
    promoted: 'refused',
    drain_asked: 'refused',
    drain_ended: '–',
  },
  'paused, no image': {
    scanned: 'paused',
    pause_asked: '–',
    resume_asked: 'initializing',
    failover_asked: 'pending failover, no image',
    cut: 'refused',
    failed: 'failed, no image',
    promoted: 'refused',
    drain_asked: 'refused',
    drain_ended: '–',
  },
  'pending failover': {
    scanned: '–',
    pause_asked: 'refused',
    resume_asked: '–',
    failover_asked: '–',
    cut: 'failing over',
    failed: 'failed',
    promoted: 'refused',
    drain_asked: 'draining',
    drain_ended: '–',
  },
  'pending failover, no image': {
    scanned: 'pending failover',
    pause_asked: 'refused',
    resume_asked: '–',
    failover_asked: '–',
    cut: 'refused',
    failed: 'failed, no image',
    promoted: 'refused',
    drain_asked: 'refused',
    drain_ended: '–',
  },
  draining: {
    scanned: '–',
    pause_asked: 'refused',
    resume_asked: 'replicating',
    failover_asked: 'pending failover',
    cut: 'failing over',
    failed: 'failed',
    promoted: 'refused',
    drain_asked: '–',
    drain_ended: 'replicating',
  },
  'failing over': {
    scanned: '–',
    pause_asked: 'refused',
    resume_asked: '–',
    failover_asked: 'refused',
    cut: '–',
    failed: '–',
    promoted: 'completed',
    drain_asked: 'refused',
    drain_ended: '–',
  },
  failed: {
    scanned: '–',
    pause_asked: 'refused',
    resume_asked: 'replicating',
    failover_asked: 'pending failover',
    cut: 'failing over',
    failed: '–',
    promoted: 'refused',
    drain_asked: 'refused',
    drain_ended: '–',
  },
  'failed, no image': {
    scanned: 'failed',
    pause_asked: 'refused',
    resume_asked: 'initializing',
    failover_asked: 'pending failover, no image',
    cut: 'refused',
    failed: '–',
    promoted: 'refused',
    drain_asked: 'refused',
    drain_ended: '–',
  },
  completed: {
    scanned: '–',
    pause_asked: 'refused',
    resume_asked: 'refused',
    failover_asked: 'refused',
    cut: 'refused',
    failed: '–',
    promoted: '–',
    drain_asked: 'refused',
    drain_ended: '–',
  },
};

function outcomeOf(from: StateName, event: StreamEvent): Outcome {
  const state = STATES[from];
  let next: StreamState;
  try {
    next = nextStreamState(state, event);
  } catch (error) {
    assert.ok(isAppError(error, 'object_state'));
    return 'refused';
  }
  const names = Object.keys(STATES) as StateName[];
  const name = names.find((each) => printStreamState(STATES[each]) === printStreamState(next));
  assert.ok(name !== undefined, `${from}: ${printStreamState(next)} is no state of the table`);
  return name === from ? '–' : name;
}

const names = Object.keys(STATES) as StateName[];
const events = Object.keys(EVENTS) as StreamEvent['kind'][];
const event = fc.constantFrom(...Object.values(EVENTS));

describe('the states of a replication stream', () => {
  it('follow the table', () => {
    for (const name of names) {
      for (const kind of events) {
        assert.equal(outcomeOf(name, EVENTS[kind]), EXPECTED[name][kind], `${name} × ${kind}`);
      }
    }
  });

  it('are described as they are', () => {
    const page = readFileSync(join(import.meta.dirname, '../../docs/replication-states.md'), 'utf8');
    for (const name of names) {
      const cells = events.map((kind) => EXPECTED[name][kind]);
      assert.ok(
        page.includes(`| ${name} | ${cells.join(' | ')} |`),
        `the page differs in the row of ${name}`,
      );
    }
    for (const [kind, text] of Object.entries(STREAM_STATE_TEXTS)) {
      assert.ok(page.includes(`| \`${kind}\` | \`${text}\` |`), `the page does not list ${kind}`);
    }
  });

  it('say the same when asked twice', () => {
    fc.assert(
      fc.property(fc.constantFrom(...names), event, (name, given) => {
        if (outcomeOf(name, given) === 'refused') return;
        const once = nextStreamState(STATES[name], given);
        assert.deepEqual(nextStreamState(once, given), once);
      }),
    );
  });

  it('lose no image, and never lead out of a failover but to its end', () => {
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.array(event, { maxLength: 20 }), (name, given) => {
        let state = STATES[name];
        for (const each of given) {
          const before = state;
          try {
            state = nextStreamState(state, each);
          } catch (error) {
            assert.ok(isAppError(error, 'object_state'));
          }
          assert.ok(isScanned(state) || !isScanned(before));
          if (before.kind === 'failing_over') assert.ok(['failing_over', 'completed'].includes(state.kind));
          if (before.kind === 'completed') assert.deepEqual(state, before);
          if (state.kind === 'failing_over' && before.kind === 'failing_over')
            assert.deepEqual(state.cut, before.cut);
        }
      }),
    );
  });

  it('are read as they were written', () => {
    const point = { incarnation: cut.incarnation, timelineId: 2, lsn: 0x16_b374d848n as Lsn };
    const other: StreamState = { kind: 'failing_over', cut: { ...cut, point } };
    const latest: StreamState = { kind: 'pending_failover', isScanned: true, target: { kind: 'latest' } };
    for (const state of [...Object.values(STATES), other, latest]) {
      assert.deepEqual(parseStreamState(printStreamState(state)), state);
    }
    assert.throws(
      () => parseStreamState('{"kind":"unknown"}'),
      (error) => isAppError(error, 'data_corrupt'),
    );
  });
});
