import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Clock, Timestamp } from '../base/index.ts';
import { JobIdSource } from './job-id.ts';

function clockAt(times: readonly bigint[]): Clock {
  let index = 0;
  return {
    now: () => times[Math.min(index++, times.length - 1)] as Timestamp,
    monotonicMs: () => 0,
    sleep: () => Promise.resolve(),
  };
}

const TIMES = fc.array(fc.bigInt({ min: 1_500_000_000_000_000n, max: 4_000_000_000_000_000n }), {
  minLength: 1,
  maxLength: 50,
});

describe('job numbers', () => {
  it('rise, fit into 63 bits and differ between nodes, however the clock steps', () => {
    fc.assert(
      fc.property(TIMES, fc.integer({ min: 1, max: 16383 }), (times, nodeId) => {
        const one = new JobIdSource({ clock: clockAt(times), nodeId });
        const other = new JobIdSource({ clock: clockAt(times), nodeId: nodeId + 1 });
        let last = 0n;
        for (const _ of [...times, 0n]) {
          const id = one.next();
          assert.ok(id > last && id < 1n << 63n);
          assert.notEqual(id, other.next());
          last = id;
        }
      }),
    );
  });

  it('continue above a number that was given before a restart', () => {
    const before = new JobIdSource({ clock: clockAt([2_000_000_000_000_000n]), nodeId: 1 }).next();
    const after = new JobIdSource({ clock: clockAt([1_900_000_000_000_000n]), nodeId: 1 });
    after.noteUsed(before);
    assert.ok(after.next() > before);
  });

  it('look like the ones people know', () => {
    const id = new JobIdSource({ clock: clockAt([1_599_756_737_280_821n]), nodeId: 1 }).next();
    assert.equal(id.toString().length, 18);
    assert.ok(id.toString().startsWith('58879'));
  });
});
