import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '../../../test/harness/manual-clock.ts';
import { Intake } from './intake.ts';

const LOG = { commits: 0, writtenTime: null, durableTime: null, unsyncedBytes: 0 };

describe('figures of log that comes in', () => {
  it('count what is waited for log, not what it takes to write it, and never go back', async () => {
    const clock = new ManualClock();
    const intake = new Intake(clock);
    const waitedMs = () => intake.figures.receiveWaitNanos / 1_000_000;
    clock.advance(30);
    assert.equal(waitedMs(), 30);
    await intake.arriving(LOG, () => {
      clock.advance(500);
      assert.equal(waitedMs(), 30);
      return Promise.resolve();
    });
    assert.equal(waitedMs(), 30);
    clock.advance(7);
    await assert.rejects(
      intake.arriving(LOG, () => Promise.reject(new Error('no room'))),
      /no room/,
    );
    clock.advance(2);
    assert.equal(waitedMs(), 39);
  });

  it('count a flush that had something to do', async () => {
    const clock = new ManualClock();
    const intake = new Intake(clock);
    const sync = () => {
      clock.advance(4);
      return Promise.resolve();
    };
    await intake.flushing(LOG, sync);
    assert.equal(intake.figures.flush.sum, 0);
    await intake.flushing({ ...LOG, unsyncedBytes: 1 }, sync);
    assert.equal(intake.figures.flush.sum, 4_000_000);
  });
});
