import assert from 'node:assert/strict';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { NEVER } from '../../../test/harness/instance-store.ts';
import { scratchDirectory } from '../../../test/harness/scratch.ts';
import type { IncarnationId, Lsn, Timestamp, VirtualClusterId } from '../../base/index.ts';
import { encodeTimeIndexEntry, encodeTimeIndexHeader, type TimeIndexEntry } from '../format/time-index.ts';
import { timeIndexName, walDirectory } from './layout.ts';
import { isAmbiguous, type LogOfLife } from './resolve.ts';
import { contiguousRun, type SegmentFile, type WalFolder } from './wal-folder.ts';

const incarnation = '0b1c2d3e-4f50-4162-8374-95a6b7c8d9e0' as IncarnationId;
const NOON = 1_795_262_400_000_000n;
const SECOND = 1_000_000n;

let log: LogOfLife;

before(async () => {
  const directory = await scratchDirectory('atoll-resolve-');
  const store = { virtualClusterId: 3 as VirtualClusterId, directory };
  const record = {
    incarnation,
    parentIncarnation: null,
    forkLsn: null,
    systemIdentifier: 7n,
    engineMajor: 18,
    timelines: [{ timelineId: 1, beginLsn: 0n as Lsn }],
  };
  log = { store, record, endLsn: null, signal: NEVER };
  await mkdir(walDirectory(store, incarnation), { recursive: true });
});

after(async () => {
  await rm(log.store.directory, { recursive: true, force: true });
});

/** Writes files of the index, each of these entries: position, running maximum and own time in seconds from noon. */
async function writeIndexes(
  files: readonly (readonly [TimeIndexEntry['kind'], number, number, number?][])[],
): Promise<void> {
  for (const file of files) {
    const entries = file.map(([kind, lsn, time, ownTime = time]) => ({
      kind,
      timelineId: 1,
      lsn: BigInt(lsn) as Lsn,
      time: (NOON + BigInt(time) * SECOND) as Timestamp,
      ownTime: (NOON + BigInt(ownTime) * SECOND) as Timestamp,
    }));
    const beginLsn = entries[0]?.lsn ?? (0n as Lsn);
    const bytes = [
      encodeTimeIndexHeader({ incarnation, systemIdentifier: 7n, beginLsn }),
      ...entries.map(encodeTimeIndexEntry),
    ];
    await writeFile(
      join(walDirectory(log.store, incarnation), timeIndexName(beginLsn)),
      Buffer.concat(bytes),
    );
  }
}

describe('a moment that was lived through twice', () => {
  it('is marked, and those before and after are not', async () => {
    await writeIndexes([
      [
        ['commit', 100, 0],
        ['commit', 200, 10],
      ],
      [
        ['commit', 300, 20],
        ['clock_step', 400, 20, 5],
        ['commit', 500, 21],
        ['commit', 600, 40],
      ],
      [['commit', 700, 50]],
    ]);
    const at = (seconds: number) => isAmbiguous(log, (NOON + BigInt(seconds) * SECOND) as Timestamp);
    assert.deepEqual(await Promise.all([0, 4, 5, 12, 19, 20, 21, 45, 60].map(at)), [
      false,
      false,
      true,
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
  });

  it('is none when the lineage leaves the log before the clock was set back', async () => {
    const left = { ...log, endLsn: 350n as Lsn };
    assert.equal(await isAmbiguous(left, (NOON + 12n * SECOND) as Timestamp), false);
  });
});

describe('segments without a gap', () => {
  const segment = (timelineId: number, segmentNo: bigint): SegmentFile => ({
    name: `${timelineId}-${segmentNo}`,
    timelineId,
    segmentNo,
    isClosed: true,
  });
  const folderOf = (...segments: SegmentFile[]): WalFolder => ({
    directory: '/nowhere',
    segmentBytes: 16,
    segments,
    superseded: [],
    timeIndexes: [],
    historyTimelines: [],
  });
  const names = (files: readonly SegmentFile[]) => files.map(({ name }) => name);
  const first = { timelineId: 1, beginLsn: 0n as Lsn };

  it('end with the newest, and begin behind the last that is missing', () => {
    const folder = folderOf(segment(1, 3n), segment(1, 5n), segment(1, 6n));
    assert.deepEqual(names(contiguousRun(folder, [first])), ['1-5', '1-6']);
    assert.deepEqual(contiguousRun(folderOf(), [first]), []);
  });

  it('go over to the timeline before where theirs begins, in the midst of a segment or between two', () => {
    const folder = folderOf(segment(1, 4n), segment(1, 5n), segment(2, 5n), segment(2, 6n));
    const inside = [first, { timelineId: 2, beginLsn: 85n as Lsn }];
    assert.deepEqual(names(contiguousRun(folder, inside)), ['1-4', '2-5', '2-6']);
    const between = [first, { timelineId: 2, beginLsn: 96n as Lsn }];
    assert.deepEqual(names(contiguousRun(folder, between)), ['1-4', '1-5', '2-6']);
  });
});
