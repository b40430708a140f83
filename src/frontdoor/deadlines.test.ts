import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ManualClock } from '../../test/harness/manual-clock.ts';
import { Deadlines, type Expiring } from './deadlines.ts';

/** Lets what has been woken do its part. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

function named(name: string, expired: string[]): Expiring {
  return { expire: () => expired.push(name) };
}

test('each expires once its own time is up, and one timer serves all', async () => {
  const clock = new ManualClock();
  const deadlines = new Deadlines({ clock });
  const expired: string[] = [];
  const [late, early, done] = [named('late', expired), named('early', expired), named('done', expired)];
  deadlines.set(late, { withinMs: 5_000 });
  deadlines.set(early, { withinMs: 1_000 });
  deadlines.set(done, { withinMs: 2_000 });
  await turns();
  assert.equal(clock.sleeperCount, 1);
  clock.advance(999);
  await turns();
  assert.deepEqual(expired, []);
  clock.advance(1);
  await turns();
  assert.deepEqual(expired, ['early']);
  deadlines.clear(done);
  deadlines.clear(done);
  clock.advance(10_000);
  await turns();
  assert.deepEqual(expired, ['early', 'late']);
  assert.equal(deadlines.size, 0);
  assert.equal(clock.sleeperCount, 0);
});

test('a new deadline takes the place of the former one, be it earlier or later', async () => {
  const clock = new ManualClock();
  const deadlines = new Deadlines({ clock });
  const expired: string[] = [];
  const one = named('one', expired);
  deadlines.set(one, { withinMs: 1_000 });
  deadlines.set(one, { withinMs: 3_000 });
  clock.advance(1_500);
  await turns();
  assert.deepEqual(expired, []);
  deadlines.set(one, { withinMs: 100 });
  clock.advance(100);
  await turns();
  assert.deepEqual(expired, ['one']);
});

test('nobody expires after it is closed, and nothing sleeps', async () => {
  const clock = new ManualClock();
  const deadlines = new Deadlines({ clock });
  const expired: string[] = [];
  deadlines.set(named('before', expired), { withinMs: 10 });
  deadlines.close();
  deadlines.set(named('after', expired), { withinMs: 10 });
  await turns();
  assert.equal(clock.sleeperCount, 0);
  clock.advance(1_000);
  await turns();
  assert.deepEqual(expired, []);
});

test('whatever is set and cleared: none early, none later than a tick', async () => {
  const step = fc.record({
    who: fc.integer({ min: 0, max: 5 }),
    withinMs: fc.option(fc.integer({ min: 0, max: 300 }), { nil: undefined }),
    thenMs: fc.integer({ min: 0, max: 60 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const clock = new ManualClock();
      const deadlines = new Deadlines({ clock });
      const dueMs = new Map<number, number>();
      const parties = Array.from({ length: 6 }, (_, who) => ({
        expire: () => {
          const due = dueMs.get(who);
          assert.ok(due !== undefined && clock.monotonicMs() >= due, `${who} expired early`);
          dueMs.delete(who);
        },
      }));
      const pass = async (ms: number) => {
        for (let passed = 0; passed < ms; passed += 5) {
          clock.advance(5);
          await turns();
          for (const due of dueMs.values()) assert.ok(clock.monotonicMs() <= due + 25, 'expired late');
        }
      };
      for (const { who, withinMs, thenMs } of steps) {
        const party = parties[who];
        assert.ok(party !== undefined);
        if (withinMs === undefined) {
          deadlines.clear(party);
          dueMs.delete(who);
        } else {
          deadlines.set(party, { withinMs });
          dueMs.set(who, clock.monotonicMs() + withinMs);
        }
        await turns();
        await pass(thenMs);
      }
      await pass(330);
      assert.equal(dueMs.size, 0);
      deadlines.close();
    }),
    { numRuns: 20 },
  );
});
