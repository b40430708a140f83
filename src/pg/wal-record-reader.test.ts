import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { CorruptError, formatLsn, isAppError, type Lsn, parseLsn, parseTimestamp } from '../base/index.ts';
import { crc32c } from './crc32c.ts';
import {
  commitTimeOf,
  decodePreparedTransaction,
  decodeRunningTransactions,
  decodeStorageEvent,
  decodeTransactionEnd,
  decodeVisibilitySet,
  decodeXlogEvent,
  RMGR,
  type WalRecord,
  WalRecordReader,
  type WalRecordReaderOptions,
} from './index.ts';
import { XLOG_INFO } from './wal-engine.ts';
import { type FixtureRecord, mainDataBody, writeFixtureWal } from './wal-fixtures.ts';

const SEGMENT_BYTES = 1024 * 1024;
const GOLDEN_LSN = parseLsn('0/900000');
const golden = (name: string) => readFileSync(join(import.meta.dirname, 'golden', name));
/** The beginning of a segment that PostgreSQL 18 wrote, and what its pg_walinspect says of it. */
const goldenWal = zstdDecompressSync(golden('wal-18.zst'));

/** Names of pg_walinspect. */
const MANAGER_NAMES = new Map<number, string>([
  [RMGR.xlog, 'XLOG'],
  [RMGR.transaction, 'Transaction'],
  [RMGR.storage, 'Storage'],
  [RMGR.standby, 'Standby'],
  [RMGR.heap2, 'Heap2'],
  [RMGR.heap, 'Heap'],
  [RMGR.btree, 'Btree'],
  [RMGR.logicalMessage, 'LogicalMessage'],
]);

function readerOf(
  onRecord: (record: WalRecord) => void,
  options: Partial<WalRecordReaderOptions> = {},
): WalRecordReader {
  const common = { beginLsn: GOLDEN_LSN, segmentBytes: SEGMENT_BYTES, engineMajor: 18, timelineId: 1 };
  return new WalRecordReader({ ...common, onRecord, ...options });
}

/** The line of pg_walinspect for a record, the name of its kind left out: that is not the reader's business. */
function lineOf(record: WalRecord): string {
  const { xid, rmid, totalBytes, mainData, blocks } = record;
  const lsns = [record.lsn, record.endLsn, record.prevLsn].map(formatLsn);
  const line = [...lsns, xid, MANAGER_NAMES.get(rmid), totalBytes, mainData.length].join(' ');
  if (blocks.length === 0) return line;
  const references = blocks.map((block) =>
    [
      [block.tablespaceOid, block.databaseOid, block.filenode, block.fork, block.blockNo],
      [block.dataBytes, block.imageBytes],
    ]
      .flat()
      .join('/'),
  );
  return `${line} | ${references.join(' ')}`;
}

function goldenLinesOf(engineMajor: number): string[] {
  const lines = golden(`wal-${engineMajor}.txt`).toString('utf8').trimEnd().split('\n');
  return lines.map((line) => line.replace(/^((?:\S+ ){5})\S+ /, '$1'));
}

const goldenLines = goldenLinesOf(18);

/** Lines of all records that these bytes give before the reader refuses more; errors other than CorruptError pass through. */
function linesOf(bytes: Uint8Array): { lines: string[]; refusal: CorruptError | null } {
  const lines: string[] = [];
  try {
    readerOf((record) => lines.push(lineOf(record))).push(bytes);
    return { lines, refusal: null };
  } catch (error) {
    if (!isAppError(error, 'data_corrupt')) throw error;
    return { lines, refusal: error };
  }
}

/** True for the bytes that hold a record's length, with which it begins. */
function isInLengthOf(line: string | undefined, at: number): boolean {
  const begin = Number(parseLsn(line?.split(' ')[0] ?? '') - GOLDEN_LSN);
  return at >= begin && at < begin + 4;
}

function decodeAll(record: WalRecord): void {
  const decoders = [
    () => record.blocks,
    () => record.mainData,
    () => commitTimeOf(record),
    () => decodeTransactionEnd(record),
    () => decodePreparedTransaction(record),
    () => decodeStorageEvent(record),
    () => decodeXlogEvent(record),
    () => decodeVisibilitySet(record),
    () => decodeRunningTransactions(record),
  ];
  for (const decode of decoders) {
    try {
      decode();
    } catch (error) {
      if (!isAppError(error, 'data_corrupt')) throw error;
      assert.ok(error.message.includes(formatLsn(record.lsn)), error.message);
    }
  }
}

describe('the golden log of PostgreSQL 18', () => {
  it('has the records that pg_walinspect lists', () => {
    const { lines, refusal } = linesOf(goldenWal);
    assert.equal(refusal, null);
    assert.deepEqual(lines, goldenLines);
  });

  it('is read like the one of PostgreSQL 17', () => {
    const lines: string[] = [];
    const gids: (string | null | undefined)[] = [];
    const reader = readerOf(
      (record) => {
        lines.push(lineOf(record));
        gids.push(decodeTransactionEnd(record)?.gid);
      },
      { engineMajor: 17 },
    );
    reader.push(zstdDecompressSync(golden('wal-17.zst')));
    assert.deepEqual(lines, goldenLinesOf(17));
    // The name follows statistics that were dropped, whose size differs between the two.
    assert.equal(gids.filter((gid) => gid === 'golden').length, 1);
  });

  it('gives every record with its last byte, and none before', () => {
    const ends: number[] = [];
    readerOf((record) => ends.push(Number(record.endLsn - GOLDEN_LSN))).push(goldenWal);
    fc.assert(
      fc.property(fc.nat(goldenWal.length), (length) => {
        const { lines, refusal } = linesOf(goldenWal.subarray(0, length));
        assert.equal(refusal, null);
        // The padding after a record is not its own.
        const complete = ends.filter((end) => end - 7 <= length).length;
        const certain = ends.filter((end) => end <= length).length;
        assert.ok(lines.length >= certain && lines.length <= complete);
        assert.deepEqual(lines, goldenLines.slice(0, lines.length));
      }),
    );
  });

  it('is the same in pieces of any size', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1 }), (cuts) => {
        const lines: string[] = [];
        const reader = readerOf((record) => lines.push(lineOf(record)));
        for (let at = 0, turn = 0; at < goldenWal.length; turn++) {
          const end = at + (cuts[turn % cuts.length] ?? 1);
          // A buffer that is used again must not matter.
          const piece = Uint8Array.from(goldenWal.subarray(at, end));
          reader.push(piece);
          piece.fill(0xaa);
          at = end;
        }
        assert.deepEqual(lines, goldenLines);
        assert.equal(reader.receivedLsn, GOLDEN_LSN + BigInt(goldenWal.length));
        assert.equal(reader.completeLsn, reader.receivedLsn);
      }),
      { numRuns: 30 },
    );
  });

  it('never passes a damaged record off as a good one', () => {
    fc.assert(
      fc.property(fc.nat(goldenWal.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const bytes = Uint8Array.from(goldenWal);
        bytes[at] = (bytes[at] ?? 0) ^ change;
        const { lines, refusal } = linesOf(bytes);
        assert.deepEqual(lines, goldenLines.slice(0, lines.length));
        if (refusal !== null) assert.match(refusal.message, /^the log at 0\/9/);
        // A length that grew beyond the end is a record whose rest is still awaited, as after a torn write.
        else if (lines.length < goldenLines.length) assert.ok(isInLengthOf(goldenLines[lines.length], at));
        // Else it was padding.
      }),
      { numRuns: 500 },
    );
  });

  it('awaits the rest of a record whose length was damaged, and shows nothing of it', () => {
    const last = goldenLines.at(-1);
    const bytes = Uint8Array.from(goldenWal);
    const begin = Number(parseLsn(last?.split(' ')[0] ?? '') - GOLDEN_LSN);
    bytes[begin + 2] = 1; // 64 KiB more than there are.
    const { lines, refusal } = linesOf(bytes);
    assert.equal(refusal, null);
    assert.deepEqual(lines, goldenLines.slice(0, -1));
  });

  it('is refused from the place on where something is left out', () => {
    fc.assert(
      fc.property(fc.nat(goldenWal.length - 5000), fc.integer({ min: 1, max: 4000 }), (at, length) => {
        const { lines } = linesOf(
          Buffer.concat([goldenWal.subarray(0, at), goldenWal.subarray(at + length)]),
        );
        assert.deepEqual(lines, goldenLines.slice(0, lines.length));
        assert.ok(lines.length < goldenLines.length);
      }),
    );
  });

  it('of another system, size, version or timeline is refused', () => {
    const cases: Partial<WalRecordReaderOptions>[] = [
      { systemIdentifier: 1n },
      { segmentBytes: 2 * SEGMENT_BYTES, beginLsn: parseLsn('0/800000') },
      { engineMajor: 17 },
      { beginLsn: parseLsn('0/A00000') },
    ];
    for (const options of cases) {
      const reader = readerOf(() => assert.fail('a record'), options);
      assert.throws(() => reader.push(goldenWal), CorruptError);
      assert.throws(() => reader.push(goldenWal), CorruptError, 'and once more');
    }
    readerOf(() => undefined, { timelineId: 2 }).push(goldenWal);
    const second = Uint8Array.from(goldenWal);
    new DataView(second.buffer).setUint32(4, 2, true);
    assert.throws(() => readerOf(() => undefined).push(second), /a page of timeline 2/);
  });

  it('ends where a crash cut it off, when that is asked', () => {
    const last = parseLsn(goldenLines.at(-2)?.split(' ')[1] ?? '');
    const bytes = new Uint8Array(SEGMENT_BYTES);
    bytes.set(goldenWal.subarray(0, Number(last - GOLDEN_LSN)));
    const lines: string[] = [];
    const reader = readerOf((record) => lines.push(lineOf(record)), { atDamage: 'end' });
    reader.push(bytes);
    reader.push(bytes);
    assert.deepEqual(lines, goldenLines.slice(0, -1));
    assert.deepEqual(reader.end, {
      lsn: last,
      reason: `the log at ${formatLsn(last)} has zeroes instead of a record`,
    });
  });

  it('ends where a segment still holds what it held before it was used again', () => {
    const pages = 9;
    const bytes = Buffer.concat([goldenWal.subarray(0, pages * 8192), goldenWal.subarray(8192, 5 * 8192)]);
    const lines: string[] = [];
    const reader = readerOf((record) => lines.push(lineOf(record)), { atDamage: 'end' });
    reader.push(bytes);
    assert.deepEqual(lines, goldenLines.slice(0, lines.length));
    assert.equal(formatLsn(reader.completeLsn), goldenLines[lines.length]?.split(' ')[0]);
    assert.match(reader.end?.reason ?? '', /0\/912000 has the header of another page/);
    assert.ok(reader.completeLsn <= GOLDEN_LSN + BigInt(pages * 8192));
  });

  it('is not read on after the callback has thrown', () => {
    const reader = readerOf(() => {
      throw new Error('mine');
    });
    assert.throws(() => reader.push(goldenWal), /mine/);
    assert.throws(() => reader.push(goldenWal), /after its callback has thrown/);
  });
});

const MANAGERS = Object.values(RMGR);
const record = (body: fc.Arbitrary<Uint8Array>): fc.Arbitrary<FixtureRecord> =>
  fc.record({
    rmid: fc.oneof(fc.constantFrom(...MANAGERS), fc.integer({ min: 128, max: 255 })),
    info: fc.nat(255),
    xid: fc.nat(0xffff_ffff),
    body,
  });
const mainData = fc
  .oneof(
    { weight: 8, arbitrary: fc.nat(300) },
    { weight: 2, arbitrary: fc.nat(20_000) },
    { weight: 1, arbitrary: fc.nat(3_000_000) },
  )
  .map((length) => mainDataBody(new Uint8Array(length).fill(length % 251)));

describe('any log', () => {
  it('gives the records that were written, over pages, segments and the ends of 32 bits', () => {
    const begins = ['0/100000', '0/102000', 'FF/FFF00000', '1/FFFFE000', '12345678/9AB00000'].map(parseLsn);
    fc.assert(
      fc.property(
        fc.constantFrom(...begins),
        fc.array(record(mainData), { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 1, max: 100_000 }),
        fc.constantFrom(17, 18),
        (beginLsn, records, cutBytes, engineMajor) => {
          const common = { beginLsn, segmentBytes: SEGMENT_BYTES, timelineId: 3, engineMajor };
          const wal = writeFixtureWal({ ...common, systemIdentifier: 42n, records });
          const seen: object[] = [];
          const onRecord = ({ lsn, endLsn, rmid, info, xid, mainData: data }: WalRecord) =>
            seen.push({ lsn, endLsn, rmid, info, xid, body: Uint8Array.from(mainDataBody(data)) });
          const reader = new WalRecordReader({ ...common, systemIdentifier: 42n, onRecord });
          for (let at = 0; at < wal.bytes.length; at += cutBytes)
            reader.push(wal.bytes.subarray(at, at + cutBytes));
          assert.deepEqual(
            seen,
            records.map((written, index) => ({ ...wal.places[index], ...written })),
          );
          assert.equal(reader.completeLsn, wal.places.at(-1)?.endLsn);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('with bodies of garbage gives records whose parts are refused, never anything worse', () => {
    const garbage = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.uint8Array({ maxLength: 120 }).map(mainDataBody),
      // Looks like references to pages.
      fc
        .array(fc.tuple(fc.nat(34), fc.nat(255), fc.uint8Array({ minLength: 1, maxLength: 30 })))
        .map((parts) => Uint8Array.from(parts.flatMap(([id, flags, rest]) => [id, flags, ...rest]))),
    );
    fc.assert(
      fc.property(fc.array(record(garbage), { minLength: 1, maxLength: 20 }), (records) => {
        const common = { beginLsn: GOLDEN_LSN, segmentBytes: SEGMENT_BYTES, timelineId: 1, engineMajor: 18 };
        const isSwitch = ({ rmid, info }: FixtureRecord) =>
          rmid === RMGR.xlog && (info & 0xf0) === XLOG_INFO.switch;
        const wal = writeFixtureWal({
          ...common,
          systemIdentifier: 42n,
          records: records.filter((one) => !isSwitch(one)),
        });
        let count = 0;
        readerOf((one) => {
          count++;
          decodeAll(one);
        }).push(wal.bytes);
        assert.equal(count, wal.places.length);
      }),
      { numRuns: 2000 },
    );
  });

  it('of either engine tells all of a commit, whose parts differ in size', () => {
    for (const [engineMajor, statisticsItemBytes] of [
      [17, 12],
      [18, 16],
    ] as const) {
      const main = Buffer.alloc(200);
      let at = main.writeBigInt64LE(1_000_000n, 0);
      for (const word of [0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x80 | 0x100, 5, 1663])
        at = main.writeUInt32LE(word, at);
      for (const word of [2, 101, 102, 1, 1663, 5, 16_400, 3]) at = main.writeUInt32LE(word, at);
      at = main.writeUInt32LE(1, at + 3 * statisticsItemBytes) + 16;
      at = main.writeUInt32LE(100, at);
      at += main.write('name\0', at);
      at = main.writeBigInt64LE(2_000_000n, main.writeBigUInt64LE(77n, at));
      const commit = { rmid: RMGR.transaction, info: 0xb0, xid: 9, body: mainDataBody(main.subarray(0, at)) };
      const common = { beginLsn: GOLDEN_LSN, segmentBytes: SEGMENT_BYTES, timelineId: 1, engineMajor };
      const { bytes } = writeFixtureWal({ ...common, systemIdentifier: 42n, records: [commit] });
      const ends: unknown[] = [];
      readerOf((one) => ends.push(decodeTransactionEnd(one)), { engineMajor }).push(bytes);
      assert.deepEqual(ends, [
        {
          kind: 'commit',
          time: parseTimestamp('2000-01-01 00:00:01+00'),
          xid: 100,
          isPrepared: true,
          gid: 'name',
          databaseOid: 5,
          subtransactionIds: [101, 102],
          droppedRelations: [{ tablespaceOid: 1663, databaseOid: 5, filenode: 16_400 }],
          origin: { lsn: 77n, time: parseTimestamp('2000-01-01 00:00:02+00') },
        },
      ]);
    }
  });

  it('of garbage is refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 40, maxLength: 30_000 }), (bytes) => {
        assert.throws(() => readerOf(() => assert.fail('a record')).push(bytes), CorruptError);
      }),
    );
  });

  describe('with checksums that are right', () => {
    const common = { segmentBytes: SEGMENT_BYTES, timelineId: 2, engineMajor: 18, systemIdentifier: 42n };
    const records = [0, 1, 2].map((xid) => ({
      rmid: RMGR.heap,
      info: 0,
      xid,
      body: mainDataBody(new Uint8Array(xid === 0 ? 8192 - 40 - 24 - 5 - 3 : 100)),
    }));
    const wal = writeFixtureWal({ ...common, beginLsn: GOLDEN_LSN, records });
    const secondPage = 8192;
    const placeOf = (index: number) => Number((wal.places[index]?.lsn ?? GOLDEN_LSN) - GOLDEN_LSN);
    /** The records that are shown before the bytes that `change` altered are refused for `reason`. */
    const assertRefused = (change: (view: DataView) => void, shown: number, reason: RegExp) => {
      const bytes = Uint8Array.from(wal.bytes);
      change(new DataView(bytes.buffer));
      let count = 0;
      const reader = readerOf(() => count++, { timelineId: 2, systemIdentifier: 42n });
      assert.throws(() => reader.push(bytes), reason);
      assert.equal(count, shown);
    };
    /** Alters the header of a record and makes its checksum fit. */
    const inRecord = (index: number, alter: (view: DataView, at: number) => void) => (view: DataView) => {
      const at = placeOf(index);
      const totalBytes = view.getUint32(at, true);
      alter(view, at);
      const bytes = new Uint8Array(view.buffer);
      const body = crc32c(bytes.subarray(at + 24, at + totalBytes));
      view.setUint32(at + 20, crc32c(bytes.subarray(at, at + 20), body), true);
    };

    it('is read to begin with', () => {
      assert.equal(placeOf(1), secondPage + 24, 'the second page begins with a record');
      let count = 0;
      readerOf(() => count++, { timelineId: 2, systemIdentifier: 42n }).push(wal.bytes);
      assert.equal(count, 3);
    });

    it('refuses records that are not what should follow', () => {
      const isOther = /does not follow the one before it/;
      assertRefused(
        inRecord(2, (view, at) => view.setUint32(at + 8, 0x90_0000, true)),
        2,
        isOther,
      );
      assertRefused(
        inRecord(2, (view, at) => view.setUint32(at + 12, 1, true)),
        2,
        isOther,
      );
      assertRefused(
        inRecord(0, (view, at) => view.setUint32(at + 8, 0x90_0028, true)),
        0,
        isOther,
      );
      assertRefused(
        inRecord(1, (view, at) => view.setUint8(at + 17, 22)),
        1,
        /unknown resource manager 22/,
      );
      assertRefused(
        inRecord(1, (view, at) => view.setUint8(at + 17, 127)),
        1,
        /unknown resource manager 127/,
      );
      for (const length of [1, 23, 0xff00_0000]) {
        const reason = new RegExp(`impossible length ${length}`);
        assertRefused((view) => view.setUint32(placeOf(1), length, true), 1, reason);
      }
    });

    it('refuses pages that are not what should follow', () => {
      const onPage = (at: number, value: number) => (view: DataView) => view.setUint16(at, value, true);
      assertRefused(onPage(secondPage + 2, 1), 1, /the rest of a record that did not begin/);
      assertRefused(onPage(2, 3), 0, /the rest of a record that did not begin/);
      assertRefused(onPage(secondPage + 2, 2), 1, /impossible flags 2/);
      assertRefused(onPage(2, 0), 0, /impossible flags 0/);
      assertRefused(onPage(secondPage + 2, 16), 1, /impossible flags 10/);
      assertRefused(onPage(secondPage + 4, 1), 1, /a page of timeline 1/);
      assertRefused(onPage(4, 0), 0, /a page of timeline 0/);
      assertRefused(onPage(secondPage + 10, 7), 1, /the header of another page/);
      assertRefused(onPage(secondPage + 12, 7), 1, /the header of another page/);
      assertRefused((view) => view.setUint32(32, 2 * SEGMENT_BYTES, true), 0, /of another size/);
      assertRefused((view) => view.setUint32(36, 4096, true), 0, /of another size/);
      assertRefused((view) => view.setUint32(24, 43, true), 0, /the log of system 43, not of 42/);
    });

    it('goes on after a switch of segments, wherever that stands', () => {
      const change = { rmid: RMGR.xlog, info: XLOG_INFO.switch, xid: 0, body: new Uint8Array() };
      // Pages of 8168 bytes for records, the first one of 8152; a record and the switch, which has 24 bytes.
      const roomBytes = SEGMENT_BYTES - 40 - (SEGMENT_BYTES / 8192 - 1) * 24;
      for (const leftBytes of [24, 32, 48, 8000, 20_000]) {
        const body = mainDataBody(new Uint8Array(roomBytes - leftBytes - 24 - 5));
        const filler = { rmid: RMGR.heap, info: 0, xid: 0, body };
        const { bytes, places } = writeFixtureWal({
          ...common,
          beginLsn: GOLDEN_LSN,
          records: [filler, change, ...records],
        });
        assert.equal(places[1]?.endLsn, GOLDEN_LSN + BigInt(SEGMENT_BYTES));
        for (const cutBytes of [bytes.length, 8192, 1000]) {
          const lsns: Lsn[] = [];
          const reader = readerOf((one) => lsns.push(one.lsn, one.endLsn), { timelineId: 2 });
          for (let at = 0; at < bytes.length; at += cutBytes) reader.push(bytes.subarray(at, at + cutBytes));
          assert.deepEqual(
            lsns,
            places.flatMap(({ lsn, endLsn }) => [lsn, endLsn]),
          );
        }
      }
    });
  });

  it('with a length that is too great takes no more room than was pushed', () => {
    const records = [
      { rmid: RMGR.heap, info: 0, xid: 1, body: mainDataBody(new Uint8Array(9000)) },
      { rmid: RMGR.heap, info: 0, xid: 1, body: mainDataBody(new Uint8Array(9000)) },
    ];
    const common = { beginLsn: GOLDEN_LSN, segmentBytes: SEGMENT_BYTES, timelineId: 1, engineMajor: 18 };
    const { bytes } = writeFixtureWal({ ...common, systemIdentifier: 42n, records });
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(40, 1_000_000_000, true);
    assert.throws(() => readerOf(() => undefined).push(bytes), /0\/902000 has no continuation/);
  });

  it('passes over a record that was never completed, and demands word of it', () => {
    const long = { rmid: RMGR.heap, info: 0, xid: 1, body: mainDataBody(new Uint8Array(9000)) };
    const short = { rmid: RMGR.heap, info: 0, xid: 2, body: mainDataBody(new Uint8Array(8)) };
    const common = { segmentBytes: SEGMENT_BYTES, timelineId: 1, engineMajor: 18, systemIdentifier: 42n };
    const before = writeFixtureWal({ ...common, beginLsn: GOLDEN_LSN, records: [short, long] });
    const lostLsn = before.places[1]?.lsn ?? (0n as Lsn);
    const overwrite = (lsn: bigint): FixtureRecord => {
      const main = new Uint8Array(16);
      new DataView(main.buffer).setBigUint64(0, lsn, true);
      return { rmid: RMGR.xlog, info: XLOG_INFO.overwriteContrecord, xid: 0, body: mainDataBody(main) };
    };
    const follow = (records: readonly FixtureRecord[]) => {
      const lsn = (GOLDEN_LSN + 8192n) as Lsn;
      const after = writeFixtureWal({ ...common, beginLsn: lsn, records, prevLsn: before.places[0]?.lsn });
      new DataView(after.bytes.buffer, after.bytes.byteOffset).setUint16(2, 0x08, true);
      return Buffer.concat([before.bytes.subarray(0, 8192), after.bytes]);
    };
    const seen: number[] = [];
    readerOf(({ xid }) => seen.push(xid)).push(follow([overwrite(lostLsn), short]));
    assert.deepEqual(seen, [2, 0, 2]);
    for (const records of [[short], [overwrite(lostLsn + 8n)]]) {
      assert.throws(
        () => readerOf(() => undefined).push(follow(records)),
        /no word of the incomplete record/,
      );
    }
  });
});

describe('the head of a long record', () => {
  const time = (at: bigint, bytes: number) => {
    const main = new Uint8Array(bytes).fill(7);
    new DataView(main.buffer).setBigInt64(0, at, true);
    return main;
  };
  const commit = (at: bigint, bytes: number) => ({
    rmid: RMGR.transaction,
    info: 0,
    xid: 3,
    body: mainDataBody(time(at, bytes)),
  });
  const wal = writeFixtureWal({
    beginLsn: GOLDEN_LSN,
    segmentBytes: SEGMENT_BYTES,
    timelineId: 1,
    systemIdentifier: 1n,
    engineMajor: 18,
    records: [commit(10n, 8), commit(20n, 700_000), commit(30n, 3000), commit(40n, 8)],
  });

  function seen(headBytesMax: number | undefined, chunkBytes: number, bytes = wal.bytes) {
    const records: unknown[] = [];
    const reader = readerOf(
      (record) =>
        records.push([record.lsn, record.endLsn, record.totalBytes, commitTimeOf(record), record.xid]),
      headBytesMax === undefined ? {} : { headBytesMax },
    );
    for (let at = 0; at < bytes.length; at += chunkBytes) reader.push(bytes.subarray(at, at + chunkBytes));
    return records;
  }

  it('tells as much as the whole of what stands at its beginning, however the bytes are cut', () => {
    const whole = seen(undefined, wal.bytes.length);
    assert.equal(whole.length, 4);
    for (const chunkBytes of [wal.bytes.length, 8192, 65_536, 1001]) {
      assert.deepEqual(seen(2048, chunkBytes), whole, `${chunkBytes}`);
    }
  });

  it('shows no more than that', () => {
    const lengths: number[] = [];
    readerOf((record) => lengths.push(record.mainData.length), { headBytesMax: 2048 }).push(wal.bytes);
    assert.deepEqual(lengths, [8, 2048 - 24 - 5, 2048 - 24 - 5, 8]);
  });

  it('stands for a record all of which is checked', () => {
    const damaged = Uint8Array.from(wal.bytes);
    damaged[400_000] = (damaged[400_000] ?? 0) ^ 1;
    assert.throws(
      () => seen(2048, 8192, damaged),
      (error) => isAppError(error, 'data_corrupt'),
    );
  });
});
