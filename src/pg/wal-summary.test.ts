import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { CorruptError, isAppError, parseLsn } from '../base/index.ts';
import { crc32c } from './crc32c.ts';
import { formatWalSummaryName, parseWalSummaryName, WalSummaryReader } from './wal-summary.ts';

const golden = (name: string) => readFileSync(join(import.meta.dirname, 'golden', name));
/** A summary with a bitmap, an array and limits, its name, and what pg_wal_summary_contents shows of it. */
function goldenSummary(engineMajor: number) {
  const text = zstdDecompressSync(golden(`summary-${engineMajor}.txt.zst`)).toString('utf8');
  const [name = '', ...lines] = text.trimEnd().split('\n');
  return { bytes: golden(`summary-${engineMajor}.bin`), name, lines };
}

const { bytes: goldenBytes, name: goldenName, lines: goldenLines } = goldenSummary(18);

/** A line for each fork: relation and fork, limit, pages. */
function linesOf(bytes: Uint8Array, cutBytes = bytes.length): string[] {
  const lines: { head: string; blocks: number[] }[] = [];
  const reader = new WalSummaryReader({
    name: 'golden',
    visitor: {
      fork({ tablespaceOid, databaseOid, filenode }, fork, limitBlock) {
        const limit = limitBlock === null ? '' : ` limit ${limitBlock}`;
        lines.push({ head: [tablespaceOid, databaseOid, filenode, fork].join('/') + limit, blocks: [] });
      },
      block: (blockNo) => lines.at(-1)?.blocks.push(blockNo),
    },
  });
  for (let at = 0; at < bytes.length; at += cutBytes) reader.push(bytes.subarray(at, at + cutBytes));
  reader.finish();
  return lines.map(({ head, blocks }) => [head, ...blocks.sort((a, b) => a - b)].join(' '));
}

interface Entry {
  readonly fork: number;
  readonly limitBlock: number;
  /** By chunk: offsets in it. */
  readonly chunks: readonly ReadonlySet<number>[];
}

/** A summary as `WriteBlockRefTable` writes it. */
function encode(entries: readonly Entry[]): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.from([0x7b, 0x13, 0x2b, 0x65])];
  for (const [index, { fork, limitBlock, chunks }] of entries.entries()) {
    parts.push(
      new Uint8Array(Uint32Array.from([1663, 5, index + 1, fork, limitBlock, chunks.length]).buffer),
    );
    const encoded = chunks.map((offsets) => (offsets.size < 4096 ? [...offsets] : bitmapOf(offsets)));
    for (const words of [encoded.map(({ length }) => length), ...encoded]) {
      parts.push(new Uint8Array(Uint16Array.from(words).buffer));
    }
  }
  return sealed(Buffer.concat([...parts, new Uint8Array(24)]));
}

function bitmapOf(offsets: ReadonlySet<number>): number[] {
  const words = Array.from({ length: 4096 }, () => 0);
  for (const offset of offsets) words[offset >> 4] = (words[offset >> 4] ?? 0) | (1 << (offset & 15));
  return words;
}

function sealed(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, new Uint8Array(Uint32Array.of(crc32c(bytes)).buffer)]);
}

describe('a summary of the log', () => {
  it('of PostgreSQL 17 and 18 holds what they show themselves', () => {
    for (const { bytes, lines } of [17, 18].map(goldenSummary)) assert.deepEqual(linesOf(bytes), lines);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9000 }), (cutBytes) => {
        assert.deepEqual(linesOf(goldenBytes, cutBytes), goldenLines);
      }),
      { numRuns: 20 },
    );
  });

  it('is refused when a byte differs, is missing or too many', () => {
    const isRefused = (bytes: Uint8Array) => assert.throws(() => linesOf(bytes), CorruptError);
    fc.assert(
      fc.property(fc.nat(goldenBytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const bytes = Uint8Array.from(goldenBytes);
        bytes[at] = (bytes[at] ?? 0) ^ change;
        isRefused(bytes);
        isRefused(goldenBytes.subarray(0, at));
        isRefused(Buffer.concat([goldenBytes, bytes.subarray(0, at + 1)]));
      }),
    );
  });

  it('gives what was written: arrays, bitmaps, empty chunks, limits', () => {
    const chunk = fc.oneof(
      fc.constant<number[]>([]),
      fc.array(fc.nat(65_535), { maxLength: 40 }),
      fc
        .tuple(fc.nat(50_000), fc.integer({ min: 4000, max: 5000 }))
        .map(([begin, length]) =>
          Array.from({ length }, (_, index) => begin + index * 3).filter((offset) => offset < 65_536),
        ),
    );
    const entry = fc.record({
      fork: fc.nat(3),
      limitBlock: fc.oneof(fc.constant(0xffff_ffff), fc.nat(1_000_000)),
      chunks: fc.array(
        chunk.map((offsets) => new Set(offsets.sort((a, b) => a - b))),
        { maxLength: 5 },
      ),
    });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 6 }), (entries) => {
        const expected = entries.map(({ fork, limitBlock, chunks }, index) => {
          const blocks = chunks.flatMap((offsets, chunkNo) =>
            [...offsets].map((offset) => chunkNo * 65_536 + offset),
          );
          const limit = limitBlock === 0xffff_ffff ? [] : [`limit ${limitBlock}`];
          return [`1663/5/${index + 1}/${fork}`, ...limit, ...blocks].join(' ');
        });
        assert.deepEqual(linesOf(encode(entries)), expected);
      }),
    );
  });

  it('of garbage is refused or read, never anything worse', () => {
    const garbage = fc.array(fc.oneof(fc.nat(8), fc.nat(0xffff_ffff)), { maxLength: 60 });
    fc.assert(
      fc.property(garbage, (words) => {
        const body = new Uint8Array(Uint32Array.from([0x652b_137b, ...words, 0, 0, 0, 0, 0, 0]).buffer);
        try {
          linesOf(sealed(body));
        } catch (error) {
          if (!isAppError(error, 'data_corrupt')) throw error;
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('has a name that says what it covers', () => {
    const named = parseWalSummaryName(goldenName);
    assert.deepEqual(named, {
      timelineId: 1,
      startLsn: parseLsn('0/2A835F8'),
      endLsn: parseLsn('0/673CA70'),
    });
    assert.equal(formatWalSummaryName(named), goldenName);
    const far = { timelineId: 0xabc, startLsn: parseLsn('12/89ABCDEF'), endLsn: parseLsn('FF/1') };
    assert.deepEqual(parseWalSummaryName(formatWalSummaryName(far)), far);
    for (const name of ['temp.summary', goldenName.slice(1), `${goldenName}x`, goldenName.toLowerCase()]) {
      assert.throws(() => parseWalSummaryName(name), { code: 'name_invalid' });
    }
    const empty = { ...named, endLsn: named.startLsn };
    assert.throws(() => parseWalSummaryName(formatWalSummaryName(empty)), { code: 'name_invalid' });
  });
});
