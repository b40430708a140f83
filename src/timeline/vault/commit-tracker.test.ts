import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Lsn, Timestamp } from '../../base/index.ts';
import { RMGR, type WalRecord } from '../../pg/index.ts';
import { isInOrder, type TimeIndexEntry } from '../format/time-index.ts';
import { CLOCK_STEP_US_MIN, type ClockStep, CommitTracker } from './commit-tracker.ts';

/** Postgres counts from 2000-01-01. */
const EPOCH_US = 946_684_800_000_000n;
const SECOND = 1_000_000n;
const BEGIN_US = EPOCH_US + 1_000n * SECOND;

/** A commit record as `commitTimeOf` reads it. */
function commit(lsn: bigint, time: bigint): WalRecord {
  const data = Buffer.alloc(8);
  data.writeBigInt64LE(time - EPOCH_US);
  const mainView = new DataView(data.buffer, data.byteOffset, data.length);
  return {
    lsn: lsn as Lsn,
    endLsn: (lsn + 40n) as Lsn,
    prevLsn: 0n as Lsn,
    timelineId: 1,
    engineMajor: 18,
    xid: 1,
    rmid: RMGR.transaction,
    info: 0,
    totalBytes: 34,
    blocks: [],
    mainData: data,
    mainView,
  };
}

function track(last: TimeIndexEntry | null = null): { tracker: CommitTracker; steps: ClockStep[] } {
  const steps: ClockStep[] = [];
  return { tracker: new CommitTracker({ last, onClockStep: (step) => steps.push(step) }), steps };
}

/** Commits at rising positions, most of them soon after each other, some with the clock set back. */
const history = fc
  .array(
    fc.record({
      distance: fc.bigInt({ min: 40n, max: 700_000n }),
      later: fc.oneof(
        { weight: 8, arbitrary: fc.bigInt({ min: -400n, max: 90_000n }) },
        { weight: 1, arbitrary: fc.bigInt({ min: -5n * SECOND, max: 5n * SECOND }) },
      ),
    }),
    { minLength: 1, maxLength: 80 },
  )
  .map((steps) => {
    let lsn = 0x100_0000n;
    let time = BEGIN_US;
    return steps.map(({ distance, later }) => {
      lsn += distance;
      time += later;
      return { lsn, time };
    });
  });

describe('the tracker of commits', () => {
  it('makes entries in order, whose times are the running maximum at their place', () => {
    fc.assert(
      fc.property(history, (commits) => {
        const { tracker } = track();
        for (const { lsn, time } of commits) tracker.take(commit(lsn, time));
        const entries = tracker.drain();
        for (const [index, entry] of entries.entries()) {
          const upTo = commits.filter(({ lsn }) => lsn <= entry.lsn).map(({ time }) => time);
          const max = upTo.reduce((left, right) => (left > right ? left : right));
          assert.equal(entry.time, max);
          const before = entries[index - 1];
          assert.ok(before === undefined || isInOrder(before, entry));
        }
        const all = commits.map(({ time }) => time).reduce((left, right) => (left > right ? left : right));
        assert.equal(tracker.maxTime, all);
      }),
    );
  });

  it('never leaves a time further than 100 ms or 1 MiB from its entry', () => {
    fc.assert(
      fc.property(history, (commits) => {
        const { tracker } = track();
        const entries: TimeIndexEntry[] = [];
        for (const { lsn, time } of commits) {
          tracker.take(commit(lsn, time));
          entries.push(...tracker.drain());
          const last = entries.at(-1);
          assert.ok(last !== undefined && tracker.maxTime !== null);
          assert.ok(tracker.maxTime < last.time + 100_000n);
          assert.ok(lsn < last.lsn + 1024n * 1024n || time <= last.time - CLOCK_STEP_US_MIN);
        }
      }),
    );
  });

  it('comes to the same when it is begun anew from any entry', () => {
    fc.assert(
      fc.property(history, fc.nat(), (commits, choice) => {
        const whole = track();
        for (const { lsn, time } of commits) whole.tracker.take(commit(lsn, time));
        const entries = whole.tracker.drain();
        const from = entries[choice % entries.length];
        assert.ok(from !== undefined);
        const again = track(from);
        for (const { lsn, time } of commits.filter((each) => each.lsn >= from.lsn)) {
          again.tracker.take(commit(lsn, time));
        }
        assert.equal(again.tracker.maxTime, whole.tracker.maxTime);
      }),
    );
  });

  it('tells when the clock was set back, once, and not of commits that only overtook each other', () => {
    const { tracker, steps } = track();
    tracker.take(commit(100n, BEGIN_US));
    tracker.take(commit(200n, BEGIN_US - 400n));
    assert.equal(steps.length, 0);
    const back = BEGIN_US - 10n * SECOND;
    for (let n = 0n; n < 9n; n++) tracker.take(commit(300n + n * 40n, back + n * SECOND));
    assert.deepEqual(steps, [{ lsn: 300n, from: back, to: BEGIN_US }]);
    tracker.take(commit(900n, BEGIN_US + SECOND));
    tracker.take(commit(1000n, back));
    assert.equal(steps.length, 2);
    const kinds = tracker.drain().map(({ kind }) => kind);
    assert.deepEqual(kinds, ['commit', 'clock_step', 'commit', 'clock_step']);
  });

  it('keeps what is known of idleness before the commit that ends it, be that stamped earlier', () => {
    const { tracker } = track();
    tracker.take(commit(100n, BEGIN_US));
    tracker.noteIdle({ lsn: 140n as Lsn, time: (BEGIN_US + SECOND) as Timestamp, timelineId: 1 });
    assert.equal(tracker.idleThrough, BEGIN_US + SECOND);
    tracker.noteIdle({ lsn: 140n as Lsn, time: (BEGIN_US + 2n * SECOND) as Timestamp, timelineId: 1 });
    tracker.take(commit(140n, BEGIN_US + SECOND + 500_000n));
    tracker.take(commit(180n, BEGIN_US + 3n * SECOND));
    assert.deepEqual(
      tracker.drain().map(({ kind, lsn, time }) => [kind, lsn, time - BEGIN_US]),
      [
        ['commit', 100n, 0n],
        ['idle', 140n, 2n * SECOND],
        ['commit', 180n, 3n * SECOND],
      ],
    );
    assert.equal(tracker.idleThrough, null);
  });

  it('takes no word of idleness for a time that commits have passed', () => {
    const { tracker } = track();
    tracker.take(commit(100n, BEGIN_US));
    tracker.noteIdle({ lsn: 140n as Lsn, time: (BEGIN_US - 1n) as Timestamp, timelineId: 1 });
    assert.equal(tracker.idleThrough, null);
    tracker.settleIdle();
    assert.equal(tracker.drain().length, 1);
  });

  it('marks the end of a segment as a place to begin at', () => {
    const { tracker } = track();
    tracker.endSegment({ lsn: 50n as Lsn, timelineId: 1 });
    assert.deepEqual(tracker.drain(), []);
    tracker.take(commit(100n, BEGIN_US));
    tracker.endSegment({ lsn: 140n as Lsn, timelineId: 1 });
    assert.deepEqual(
      tracker.drain().map(({ kind, lsn }) => [kind, lsn]),
      [
        ['commit', 100n],
        ['segment_end', 140n],
      ],
    );
  });
});
