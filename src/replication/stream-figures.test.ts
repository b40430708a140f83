import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Lsn, VirtualClusterId } from '../base/index.ts';
import { StreamMeter } from './stream-figures.ts';

const ID = 3 as VirtualClusterId;

describe('figures of streams', () => {
  it('count all bytes of images, also of those that came to nothing', () => {
    const meter = new StreamMeter();
    for (const attempt of [
      [10, 40],
      [50, 60],
      [5, 30],
    ]) {
      meter.noteScanBegun(ID);
      for (const receivedBytes of attempt) meter.noteScan(ID, { receivedBytes, totalBytes: 100 });
    }
    assert.equal(meter.get(ID).scannedBytes, 130);
    meter.noteScanBegun(ID);
    meter.noteScan(ID, { receivedBytes: 60, totalBytes: 100 });
    assert.equal(meter.get(ID).scanBytesLeft, 40);
    meter.noteScanEnded(ID);
    assert.deepEqual([meter.get(ID).scannedBytes, meter.get(ID).scanBytesLeft], [190, 0]);
  });

  it('tell how far a follower is behind, which is never less than nothing', () => {
    const meter = new StreamMeter();
    meter.noteEnd(ID, { sourceLsn: 100n as Lsn, replayedLsn: 60n as Lsn });
    assert.equal(meter.get(ID).behindBytes, 40);
    meter.noteEnd(ID, { sourceLsn: 100n as Lsn, replayedLsn: null });
    assert.equal(meter.get(ID).behindBytes, 40);
    meter.noteEnd(ID, { sourceLsn: 100n as Lsn, replayedLsn: 120n as Lsn });
    assert.equal(meter.get(ID).behindBytes, 0);
  });

  it('tell what is left of the way back, and how often the work was begun again', () => {
    const meter = new StreamMeter();
    for (const [done, left] of [
      [0, 1],
      [0.25, 0.75],
      [1, 0],
      [1.5, 0],
    ] as const) {
      meter.noteWayBack(ID, done);
      assert.equal(meter.get(ID).wayBackLeft, left);
    }
    meter.noteRestart(ID);
    meter.noteRestart(ID);
    assert.equal(meter.get(ID).restartCount, 2);
  });

  it('of a stream that is forgotten begin at nothing', () => {
    const meter = new StreamMeter();
    meter.noteResolved(ID);
    assert.equal(meter.get(ID).resolvedCount, 1);
    meter.forget(ID);
    assert.equal(meter.get(ID).resolvedCount, 0);
  });
});
