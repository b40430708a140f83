import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type IncarnationId, isAppError, type Lsn, type Timestamp } from '../../base/index.ts';
import { memoryBlobStore, parseBlobKey } from '../../blob/index.ts';
import { clusterKeyOf } from '../../keys/index.ts';
import { FIXTURE_KEY } from '../format/fixtures.ts';
import { FIXTURE_INCARNATION_RECORD } from '../format/vault-fixtures.ts';
import type { LogStretch } from '../store/lineage.ts';
import type { HeldBase } from './held-bases.ts';
import { HeldLog, linesFrom, logBytesOf, wantedPieces } from './held-log.ts';
import { parsePieceKey, pieceKey, type PieceName } from './layout.ts';
import { decodePiece, encodePiece } from './piece.ts';
import { planPrune, prune } from './prune.ts';

const NEVER = new AbortController().signal;
const { incarnation } = FIXTURE_INCARNATION_RECORD;
const SEGMENT_BYTES = 1024 * 1024;

const lsn = (value: number | bigint) => BigInt(value) as Lsn;
const time = (value: number | bigint) => BigInt(value) as Timestamp;

function pieceOf(begin: number, end: number, through: number | null = null): PieceName {
  return {
    incarnation,
    timelineId: 1,
    beginLsn: lsn(begin),
    endLsn: lsn(end),
    through: through === null ? null : time(through),
  };
}

function heldOf(pieces: readonly PieceName[]): HeldLog {
  const held = new HeldLog();
  for (const piece of pieces) held.add(piece);
  return held;
}

describe('a piece of log', () => {
  const bytes = Buffer.from('log '.repeat(1000));
  const name = { ...pieceOf(4096, 4096 + bytes.length, 77), timelineId: 3 };
  const object = encodePiece({ name, record: FIXTURE_INCARNATION_RECORD, bytes }, { key: FIXTURE_KEY });

  it('is read as it was written, also when it is empty or of several frames', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3 * 1024 * 1024 }),
        fc.bigInt({ min: 0n, max: 1n << 60n }),
        (length, begin) => {
          const content = Buffer.alloc(length, 'some log of a virtual cluster');
          const of: PieceName = { ...name, beginLsn: lsn(begin), endLsn: lsn(begin + BigInt(length)) };
          const encoded = encodePiece(
            { name: of, record: FIXTURE_INCARNATION_RECORD, bytes: content },
            { key: FIXTURE_KEY },
          );
          const read = decodePiece(encoded, { name: of, key: FIXTURE_KEY });
          assert.ok(content.equals(read.bytes));
          assert.deepEqual(read.record, FIXTURE_INCARNATION_RECORD);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('is refused when one bit differs, when it has another name, and when another key has sealed it', () => {
    const isRefused = (error: unknown) =>
      isAppError(error, 'backup_untrusted', 'data_corrupt', 'format_unsupported');
    fc.assert(
      fc.property(fc.nat({ max: object.length * 8 - 1 }), (bit) => {
        const changed = Buffer.from(object);
        changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        assert.throws(() => decodePiece(changed, { name, key: FIXTURE_KEY }), isRefused);
      }),
    );
    for (const length of [0, 15, object.length - 1]) {
      assert.throws(() => decodePiece(object.subarray(0, length), { name, key: FIXTURE_KEY }), isRefused);
    }
    const later = { ...name, through: time(78) };
    assert.throws(() => decodePiece(object, { name: later, key: FIXTURE_KEY }), isRefused);
    const key = clusterKeyOf(new Uint8Array(32).fill(9));
    assert.throws(
      () => decodePiece(object, { name, key }),
      (error) => isAppError(error, 'backup_untrusted'),
    );
  });

  it('that release 26.2 wrote is read', () => {
    const golden = readFileSync(join(import.meta.dirname, '../golden/log-piece-1.bin'));
    const read = decodePiece(golden, { name, key: FIXTURE_KEY });
    assert.ok(bytes.equals(read.bytes));
    assert.deepEqual(read.record, FIXTURE_INCARNATION_RECORD);
    assert.equal(
      pieceKey(name),
      `log/${incarnation}/00000003-0000000000001000-0000000000001fa0-000000000000004d`,
    );
  });

  it('has a name that says where it is and what is known', () => {
    const uint64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 0xffff_ffff }),
        uint64,
        uint64,
        fc.option(uint64),
        (timelineId, one, other, through) => {
          const [beginLsn, endLsn] = one < other ? [lsn(one), lsn(other)] : [lsn(other), lsn(one)];
          const of: PieceName = {
            incarnation,
            timelineId,
            beginLsn,
            endLsn,
            through: through === 0n || through === null ? null : time(through),
          };
          assert.deepEqual(parsePieceKey(pieceKey(of)), of);
        },
      ),
    );
    for (const foreign of [
      'log/x',
      `log/${incarnation}/1-2-3-4`,
      'metadata/continuous',
      pieceKey(name).toUpperCase(),
    ]) {
      assert.equal(parsePieceKey(foreign), null, foreign);
    }
  });
});

describe('the log that is held', () => {
  it('reaches as far as pieces follow each other, however they overlap', () => {
    const range = fc.tuple(fc.nat({ max: 40 }), fc.nat({ max: 12 }));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 20 }), fc.nat({ max: 40 }), (ranges, from) => {
        const pieces = ranges.map(([begin, length]) => pieceOf(begin, begin + length));
        const run = heldOf(pieces).run({ incarnation, timelineId: 1, beginLsn: lsn(from) });
        let end = from;
        while (ranges.some(([begin, length]) => begin <= end && end < begin + length)) end++;
        assert.equal(run.at(-1)?.endLsn ?? lsn(from), lsn(end));
        let at = lsn(from);
        for (const piece of run) {
          assert.ok(
            piece.beginLsn <= at && piece.endLsn > at,
            'each piece adds something, and leaves no gap',
          );
          at = piece.endLsn;
        }
      }),
      { numRuns: 500 },
    );
  });

  it('knows the newest time of what it reaches, and nothing of other timelines', () => {
    const held = heldOf([pieceOf(0, 10, 5), pieceOf(10, 20), pieceOf(10, 10, 8), pieceOf(30, 40, 99)]);
    const at = (end: number) => held.timeAt({ incarnation, timelineId: 1, lsn: lsn(end) });
    assert.deepEqual([at(5), at(10), at(20)], [null, time(8), time(8)]);
    assert.equal(held.timeAt({ incarnation, timelineId: 2, lsn: lsn(40) }), null);
    assert.equal(held.newest(incarnation)?.endLsn, lsn(40));
  });
});

/** One life, all on one timeline. */
const STRETCH: LogStretch = {
  incarnation,
  systemIdentifier: 1n,
  engineMajor: 18,
  timelineId: 1,
  beginLsn: lsn(0),
  endLsn: lsn(1n << 40n),
};

describe('the log that a restore replays', () => {
  const later = '00000000-0000-4000-8000-000000000009' as IncarnationId;
  const held = heldOf([
    pieceOf(0, 10, 1),
    pieceOf(10, 20, 2),
    pieceOf(20, 30, 3),
    { ...pieceOf(25, 40, 4), incarnation: later },
    { ...pieceOf(40, 50, 5), incarnation: later },
  ]);
  const parent = { ...STRETCH, endLsn: lsn(25) };
  const lines = [parent, { ...STRETCH, incarnation: later, beginLsn: lsn(25), endLsn: lsn(50) }];
  const bytes = (moment: number | null, fromLsn: number) =>
    logBytesOf(wantedPieces(lines, { held, time: moment === null ? null : time(moment) }), {
      fromLsn: lsn(fromLsn),
    });

  it('is all from the base on, through the lives that lead to the end', () => {
    assert.equal(bytes(null, 3), 47n);
    assert.equal(bytes(null, 50), 0n);
  });

  it('ends with the piece that is known to hold the moment', () => {
    assert.equal(bytes(4, 3), 37n);
    assert.equal(bytes(5, 3), 47n);
  });
});

function baseOf(
  index: number,
  options: { endTime: number; files?: readonly string[]; incarnation?: IncarnationId },
): HeldBase {
  const startLsn = lsn(index * 3 * SEGMENT_BYTES + 100);
  const { endTime, files = [], ...rest } = options;
  const base = {
    subdirectory: `2026/01/0${index + 1}-000000.00`,
    incarnation,
    timelineId: 1,
    startLsn,
    stopLsn: lsn(startLsn + 50n),
    endTime: time(endTime),
    segmentBytes: SEGMENT_BYTES,
    files: files.map((path) => ({ path, bytes: 1 })),
    ...rest,
  };
  return base as unknown as HeldBase; // The rest of a summary decides nothing here.
}

describe('what is pruned', () => {
  it('leaves every moment since the horizon restorable, and the newest base whatever its age', () => {
    const times = fc.uniqueArray(fc.nat({ max: 100 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(times, fc.nat({ max: 120 }), (ends, horizon) => {
        const bases = ends
          .toSorted((left, right) => left - right)
          .map((endTime, index) => baseOf(index, { endTime }));
        const last = (bases.length + 1) * 3 * SEGMENT_BYTES;
        const pieces: PieceName[] = [];
        for (let at = 0; at < last; at += SEGMENT_BYTES / 2) pieces.push(pieceOf(at, at + SEGMENT_BYTES / 2));
        const plan = planPrune({ bases, pieces, stretches: [STRETCH] }, time(horizon));
        const [first] = plan.kept;
        assert.ok(first !== undefined);
        const isCovered = first === bases[0] || first.endTime <= horizon;
        assert.ok(isCovered, 'the oldest base that stays is at or before the horizon');
        assert.ok(
          plan.kept.slice(1).every(({ endTime }) => endTime > horizon),
          'and no other is',
        );
        const held = heldOf(pieces.filter((piece) => !plan.pieces.includes(piece)));
        const [line] = linesFrom(first, { stretches: [STRETCH], segmentBytes: SEGMENT_BYTES });
        assert.ok(line !== undefined && held.reach(line) === lsn(last), 'log from its segment on to the end');
        assert.ok(
          held.all().every(({ endLsn }) => endLsn > line.beginLsn),
          'and nothing before',
        );
      }),
    );
  });

  it('keeps what lies on no way to the present until it is old, and all log while there is no base', () => {
    const other = '2b1c2d3e-4f50-4162-8374-95a6b7c8d9e2' as IncarnationId;
    const left = { ...pieceOf(0, 10, 50), incarnation: other };
    const bases = [baseOf(0, { endTime: 10 }), baseOf(1, { endTime: 50, incarnation: other })];
    const planned = (horizon: number) =>
      planPrune({ bases, pieces: [left], stretches: [STRETCH] }, time(horizon));
    assert.deepEqual([planned(49).surplus, planned(49).pieces], [[], []]);
    assert.deepEqual([planned(50).surplus, planned(50).pieces], [[bases[1]], [left]]);
    const none = planPrune({ bases: [], pieces: [left, pieceOf(0, 9, 1)], stretches: [STRETCH] }, time(100));
    assert.deepEqual(none.pieces, []);
  });

  it('goes in an order that never leaves a base without its files', async () => {
    const blobs = memoryBlobStore({ displayUri: 'nodelocal://1/c' });
    const put = (path: string) => blobs.put(parseBlobKey(path), Buffer.from('x'), { signal: NEVER });
    const shared = '2026/01/01-000000.00/data/1-1.pack';
    const old = baseOf(0, { endTime: 1, files: [shared, '2026/01/01-000000.00/data/1-2.pack'] });
    const young = baseOf(1, { endTime: 2, files: [shared, '2026/01/02-000000.00/data/1-1.pack'] });
    const unseen = '2026/01/09-000000.00';
    for (const { files } of [old, young])
      for (const { path } of files) await put(path).catch(() => undefined);
    for (const folder of [old.subdirectory, young.subdirectory, unseen])
      await put(`${folder}/BACKUP_MANIFEST`);
    await put(`${unseen}/data/1-1.pack`);
    await put('2026/01/03-000000.00/data/7-1.pack');
    await put('metadata/continuous');
    const piece = pieceOf(0, 10);
    await put(pieceKey(piece));
    const plan = planPrune({ bases: [old, young], pieces: [piece], stretches: [STRETCH] }, time(5));
    assert.equal(await prune(blobs, plan, { signal: NEVER }), true);
    const names = await Array.fromAsync(blobs.list('', { deep: true, signal: NEVER }), ({ key }) =>
      String(key),
    );
    assert.deepEqual(names.toSorted(), [
      shared,
      '2026/01/02-000000.00/BACKUP_MANIFEST',
      '2026/01/02-000000.00/data/1-1.pack',
      `${unseen}/BACKUP_MANIFEST`,
      `${unseen}/data/1-1.pack`,
      'metadata/continuous',
    ]);
  });
});
