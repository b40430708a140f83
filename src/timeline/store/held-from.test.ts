import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import type { IncarnationId, Lsn, VirtualClusterId } from '../../base/index.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';
import { heldFrom } from './held-from.ts';
import { openSegmentName, walDirectory } from './layout.ts';
import type { LogStretch } from './lineage.ts';

/** What is assumed of segments that hold too little to tell. */
const SEGMENT_BYTES = 16 * 1024 * 1024;
const [first, second] = ['a', 'b'].map(
  (digit) => `${digit.repeat(8)}-0000-4000-8000-000000000000` as IncarnationId,
) as [IncarnationId, IncarnationId];
const at = (segment: number, bytes = 0) => BigInt(segment * SEGMENT_BYTES + bytes) as Lsn;

let store: TimelineStoreLocation;

beforeEach(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'atoll-held-'));
  store = { virtualClusterId: 3 as VirtualClusterId, directory };
});
afterEach(() => rm(store.directory, { recursive: true }));

/** A stretch of log; each life has a timeline of its own. */
function stretch(incarnation: IncarnationId, beginLsn: Lsn, endLsn: Lsn): LogStretch {
  const timelineId = incarnation === first ? 1 : 2;
  return { incarnation, timelineId, beginLsn, endLsn, systemIdentifier: 1n, engineMajor: 18 };
}

/** So much of a segment is received, as a file with a hole. */
async function receive(incarnation: IncarnationId, segmentNo: number, bytes = SEGMENT_BYTES): Promise<void> {
  const directory = walDirectory(store, incarnation);
  await mkdir(directory, { recursive: true });
  const segment = { timelineId: incarnation === first ? 1 : 2, segmentNo: BigInt(segmentNo) };
  const path = join(directory, openSegmentName({ ...segment, segmentBytes: SEGMENT_BYTES }));
  await writeFile(path, '');
  await truncate(path, bytes);
}

describe('how far back log is held', () => {
  it('is the point itself while nothing is', async () => {
    const stretches = [stretch(first, at(1), at(2, 100))];
    assert.equal(await heldFrom(store, { point: { lsn: at(2, 100) }, stretches }), at(2, 100));
  });

  it('ends at what is missing, and at what of a segment is', async () => {
    const point = { lsn: at(5, 100) };
    const stretches = [stretch(first, at(1), point.lsn)];
    for (const segmentNo of [1, 3, 4]) await receive(first, segmentNo);
    await receive(first, 5, 100);
    assert.equal(await heldFrom(store, { point, stretches }), at(3));
    await receive(first, 2);
    assert.equal(await heldFrom(store, { point, stretches }), at(1));
    await receive(first, 4, SEGMENT_BYTES - 1);
    assert.equal(await heldFrom(store, { point, stretches }), at(5));
    await receive(first, 5, 99);
    assert.equal(await heldFrom(store, { point, stretches }), point.lsn);
  });

  it('goes through the life before, of which the end may never have been received', async () => {
    // The second life begins in segment 3, and has all of that segment.
    const fork = at(3, 500);
    const point = { lsn: at(4, 10) };
    const stretches = [stretch(first, at(1), fork), stretch(second, fork, point.lsn)];
    await receive(first, 1);
    await receive(second, 3);
    await receive(second, 4, 10);
    // Nothing of segment 2 came before the first life was left.
    assert.equal(await heldFrom(store, { point, stretches }), at(3));
    await receive(first, 2, 4096);
    assert.equal(await heldFrom(store, { point, stretches }), at(3));
    await receive(first, 2);
    assert.equal(await heldFrom(store, { point, stretches }), at(1));
    // A version of the segment by the life before does not replace that of the life that went on in it.
    await rm(walDirectory(store, second), { recursive: true });
    await receive(first, 3, 500);
    await receive(second, 4, 10);
    assert.equal(await heldFrom(store, { point, stretches }), at(4));
  });

  it('needs nothing of a life that begins where a segment does from the one after it', async () => {
    const fork = at(3);
    const stretches = [stretch(first, at(2), fork), stretch(second, fork, at(3, 10))];
    await receive(first, 2);
    await receive(second, 3, 10);
    assert.equal(await heldFrom(store, { point: { lsn: at(3, 10) }, stretches }), at(2));
    assert.equal(await heldFrom(store, { point: { lsn: fork }, stretches: stretches.slice(0, 1) }), at(2));
  });

  it('is behind the last segment that lacks a byte, whichever those are', async () => {
    const received = fc.array(fc.constantFrom(0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES), {
      minLength: 1,
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(received, async (bytes) => {
        await rm(join(store.directory, 'wal'), { recursive: true, force: true });
        for (const [segmentNo, each] of bytes.entries()) if (each > 0) await receive(first, segmentNo, each);
        const point = { lsn: at(bytes.length) };
        const isAny = bytes.some((each) => each > 0);
        const missing = isAny ? bytes.findLastIndex((each) => each < SEGMENT_BYTES) : bytes.length - 1;
        const stretches = [stretch(first, at(0), point.lsn)];
        assert.equal(await heldFrom(store, { point, stretches }), at(missing + 1));
      }),
      { numRuns: 50 },
    );
  });
});
