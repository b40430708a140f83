import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError, type Lsn, type Timestamp } from '../../base/index.ts';
import { fixtureManifest } from '../format/fixtures.ts';
import type { Manifest } from '../format/manifest.ts';
import type { TimelinePoint } from '../store-contract.ts';
import { placeOf, planPublish, type PlanRequest } from './plan-publish.ts';

const SEGMENT = 1024 * 1024;
const at = (segment: number, offset = 40) => BigInt(segment * SEGMENT + offset) as Lsn;
const time = (value: number) => BigInt(value) as Timestamp;

/** An image of which replay begins at `start`, of the moment `target`. */
function image(start: Lsn, target: Lsn, of: number): Manifest {
  const manifest = fixtureManifest();
  const header = {
    ...manifest.header,
    startLsn: start,
    stopLsn: start,
    targetLsn: target,
    walEndLsn: target,
  };
  return { ...manifest, header: { ...header, endTime: time(of) } };
}

/** A backup that was made of a base: every frame of it says so. */
function madeOf(base: Manifest, older: Manifest): Manifest {
  const { frames } = base;
  return {
    ...older,
    sources: {
      packIds: base.packs.map(({ id }) => id),
      packs: Uint32Array.from(frames.packs),
      offsets: Uint32Array.from(frames.offsets),
    },
  };
}

function plan(request: Partial<PlanRequest> & Pick<PlanRequest, 'base'>) {
  const point: TimelinePoint = {
    incarnation: request.base.header.incarnation,
    timelineId: request.base.header.timelineId,
    lsn: at(20),
    time: time(2000),
  };
  return planPublish({ point, older: null, hasRevisionHistory: false, hasLogFrom: () => true, ...request });
}

const base = image(at(10), at(10, 80), 1000);
const allRows = Array.from(base.frames.packs.keys());
const copiedBytes = base.frames.lengths.reduce((sum, length) => sum + length, 0);

describe('what a published backup copies', () => {
  it('is all of the base and its log, for a full one', () => {
    const planned = plan({ base });
    assert.equal(planned.image, base);
    assert.deepEqual(
      [...planned.copied].toSorted((a, b) => a - b),
      allRows,
    );
    assert.deepEqual([planned.firstSegmentNo, planned.history], [10n, null]);
  });

  it('is log alone where no base is newer, or where that is less', () => {
    const older = image(at(10), at(12), 1100);
    assert.equal(plan({ base, older }).image, older);
    const near = image((base.header.startLsn - BigInt(1)) as Lsn, at(11), 1100);
    const short: TimelinePoint = {
      ...pointOf(base),
      lsn: (near.header.startLsn + BigInt(copiedBytes - 1)) as Lsn,
    };
    const planned = plan({ base, older: near, point: short });
    assert.equal(planned.image, near);
    assert.deepEqual(planned.copied, []);
    assert.equal(planned.reused.size, near.frames.packs.length);
  });

  it('is what the chain lacks of a newer base, known by where it came from', () => {
    const older = image(at(2), at(3), 500);
    assert.deepEqual(
      plan({ base, older }).copied.length,
      allRows.length,
      'nothing is known of an older one that was captured',
    );
    const shared = plan({ base, older: madeOf(base, older) });
    assert.deepEqual([shared.image, shared.copied.length], [base, 0]);
    const elsewhere = { ...base, packs: base.packs.map((pack) => ({ ...pack, id: 'ff'.repeat(16) })) };
    assert.equal(plan({ base: elsewhere, older: madeOf(base, older) }).copied.length, allRows.length);
    assert.match(placeOf(base, 0), /^[0-9a-f]{32}\/\d+$/);
  });

  it('is the base where the log of the older one is gone, unless its history is asked for', () => {
    const older = image(at(10, 100), at(12), 1100);
    const hasLogFrom = (segmentNo: bigint) => segmentNo >= 15n;
    const newer = image(at(16), at(16, 80), 1500);
    const planned = plan({ base: newer, older, hasLogFrom });
    assert.deepEqual([planned.image, planned.firstSegmentNo], [newer, 16n]);
    assert.throws(
      () => plan({ base: newer, older, hasLogFrom, hasRevisionHistory: true }),
      (error) =>
        isAppError(error, 'time_outside_window') &&
        error.message.startsWith('protected ts verification error'),
    );
  });

  it('reaches, with revision history, back to the end of the backup before, or to the base of a full one', () => {
    const full = plan({ base, hasRevisionHistory: true });
    assert.deepEqual(full.history, {
      beginTime: base.header.endTime,
      beginLsn: base.header.targetLsn,
      segmentNos: { begin: 10n, end: 10n },
    });
    const older = image(at(2), at(3), 500);
    const incremental = plan({ base, older, hasRevisionHistory: true });
    assert.deepEqual(incremental.history, {
      beginTime: time(500),
      beginLsn: at(3),
      segmentNos: { begin: 3n, end: 10n },
    });
    const late = image(at(10), at(30), 3000);
    const planned = plan({ base: late, hasRevisionHistory: true });
    assert.deepEqual([planned.history?.beginLsn, planned.history?.beginTime], [at(20), time(2000)]);
  });
});

function pointOf({ header }: Manifest): TimelinePoint {
  return { incarnation: header.incarnation, timelineId: header.timelineId, lsn: at(20), time: time(2000) };
}
