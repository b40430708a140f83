import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Timestamp, VirtualClusterId } from '../../base/index.ts';
import { afterPass, firstState, planPass } from './plan-pass.ts';

const ID = 3 as VirtualClusterId;
const HOUR_US = 3_600_000_000n;
const at = (us: bigint) => us as Timestamp;

/** Lets passes happen over a store of equally large objects, every `stepUs`, and tells when which object was read. */
function simulate(options: {
  objects: number;
  objectBytes: number;
  stepUs: bigint;
  intervalUs: bigint;
  steps: number;
}) {
  const { objects, objectBytes, stepUs, intervalUs, steps } = options;
  const read: { readonly object: number; readonly now: bigint }[] = [];
  let state = firstState(ID, at(0n));
  let largest = 0;
  for (let step = 1; step <= steps; step++) {
    const now = at(BigInt(step) * stepUs);
    const pass = planPass(state, { now, intervalUs });
    if (pass.kind === 'wait') continue;
    let next = pass.state.after === null ? 0 : Number(pass.state.after) + 1;
    let bytes = 0;
    for (; next < objects && bytes < pass.bytesMax; next++, bytes += objectBytes)
      read.push({ object: next, now });
    largest = Math.max(largest, bytes);
    const last = next >= objects ? null : String(next - 1).padStart(6, '0');
    const check = { objects: 0, bytes, bytesAll: objects * objectBytes, last, damage: [] };
    state = afterPass(pass.state, { check, now });
  }
  return { read, largest };
}

describe('passes over a timeline store', () => {
  it('begin after a part of the interval, not with the daemon', () => {
    const state = firstState(ID, at(0n));
    assert.equal(planPass(state, { now: at(HOUR_US / 201n), intervalUs: HOUR_US }).kind, 'wait');
    assert.equal(planPass(state, { now: at(HOUR_US / 200n), intervalUs: HOUR_US }).kind, 'due');
  });

  it('read every object about once within an interval, evenly, whatever is stored', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 700 }),
        fc.integer({ min: 1, max: 1 << 27 }),
        (objects, objectBytes) => {
          const intervalUs = 168n * HOUR_US;
          const rounds = 4;
          const stepUs = intervalUs / 1000n;
          const { read, largest } = simulate({
            objects,
            objectBytes,
            stepUs,
            intervalUs,
            steps: 1000 * rounds,
          });
          const times = new Map<number, number>();
          for (const { object } of read) times.set(object, (times.get(object) ?? 0) + 1);
          assert.equal(times.size, objects, 'every object was read');
          for (const count of times.values())
            assert.ok(count >= rounds - 1 && count <= rounds + 1, String(count));
          assert.ok(largest <= Math.max(objectBytes, (objects * objectBytes) / 50 + objectBytes), 'no burst');
        },
      ),
    );
  });

  it('go on where they were after a long time without any, and not all at once', () => {
    const state = { ...firstState(ID, at(0n)), after: '000010', readBytes: 10, allBytes: 100_000 };
    const pass = planPass(state, { now: at(1000n * HOUR_US), intervalUs: HOUR_US });
    assert.ok(pass.kind === 'due' && pass.state.after === '000010');
    assert.equal(pass.bytesMax, 2000);
  });

  it('are not held up by a clock that was set back', () => {
    const state = { ...firstState(ID, at(50n * HOUR_US)), isRoundOver: true, allBytes: 10, readBytes: 10 };
    const pass = planPass(state, { now: at(HOUR_US), intervalUs: HOUR_US });
    assert.ok(pass.kind === 'due');
    assert.equal(pass.state.roundStarted, HOUR_US);
  });
});
