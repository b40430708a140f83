import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { formatLsn } from '../base/index.ts';
import { PAGE_BYTES, PageBuffer } from './page.ts';
import { CHECKSUM_BASES, CHECKSUM_PRIME } from './page-checksum-code.ts';
import { countPageEntries } from './page-entries.ts';

/** Pages written by PostgreSQL 18: one heap, two B-tree leaves, a hash index, a GiST root, a visibility map. */
const golden = zstdDecompressSync(readFileSync(join(import.meta.dirname, 'golden', 'pages-18.zst')));
/** Block number of each golden page, and what it holds. */
const GOLDEN_PAGES = [
  { block: 0, heapTuples: 53, indexEntries: 0 },
  { block: 1, heapTuples: 0, indexEntries: 61 },
  { block: 1, heapTuples: 0, indexEntries: 61 },
  ...[0, 1, 2, 3, 4, 5].map((block) => ({ block, heapTuples: 0, indexEntries: -1 })),
  { block: 0, heapTuples: 0, indexEntries: 50 },
  { block: 1, heapTuples: 0, indexEntries: 0 },
];
const pageOf = (index: number) => golden.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES);

/** The algorithm as its definition reads, one sum after the other. */
function referenceChecksum(page: Uint8Array, block: number): number {
  const words = new Uint32Array(Uint8Array.from(page).buffer);
  words[2] = (words[2] ?? 0) & 0xffff_0000;
  let result = 0;
  for (const [column, base] of CHECKSUM_BASES.entries()) {
    let sum = base | 0;
    for (let row = 0; row < 66; row++) {
      const mixed = sum ^ (row < 64 ? (words[row * 32 + column] ?? 0) : 0);
      sum = Math.imul(mixed, CHECKSUM_PRIME) ^ (mixed >>> 17);
    }
    result ^= sum;
  }
  return (((result ^ block) >>> 0) % 65535) + 1;
}

describe('page checksums', () => {
  it('agree with PostgreSQL on its own pages', () => {
    const buffer = new PageBuffer({ pagesMax: 1 });
    for (const [index, { block }] of GOLDEN_PAGES.entries()) {
      buffer.bytes.set(pageOf(index));
      assert.equal(buffer.firstBadPage({ count: 1, firstBlock: block }), -1, `page ${index}`);
      assert.equal(
        buffer.firstBadPage({ count: 1, firstBlock: block + 1 }),
        0,
        `page ${index} in a wrong place`,
      );
    }
  });

  it('agree with the definition on any bytes', () => {
    const buffer = new PageBuffer({ pagesMax: 3 });
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 0xffff_fff0 }),
        fc.infiniteStream(fc.nat(0xffff_ffff)),
        (block, words) => {
          const view = new Uint32Array(buffer.bytes.buffer, 0, (3 * PAGE_BYTES) / 4);
          for (const at of view.keys()) view[at] = words.next().value;
          for (const page of [0, 1, 2]) {
            const bytes = buffer.bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
            bytes[14] = 1;
            buffer.view.setUint16(page * PAGE_BYTES + 8, referenceChecksum(bytes, block + page), true);
          }
          assert.equal(buffer.firstBadPage({ count: 3, firstBlock: block }), -1);
        },
      ),
      { numRuns: 20 },
    );
  });

  it('notice any single flipped bit', () => {
    const buffer = new PageBuffer({ pagesMax: 2 });
    buffer.bytes.set(pageOf(0));
    buffer.bytes.set(pageOf(1), PAGE_BYTES);
    fc.assert(
      fc.property(fc.nat(PAGE_BYTES - 1), fc.nat(7), (at, bit) => {
        const flip = () =>
          (buffer.bytes[PAGE_BYTES + at] = (buffer.bytes[PAGE_BYTES + at] ?? 0) ^ (1 << bit));
        flip();
        assert.equal(buffer.firstBadPage({ count: 2, firstBlock: 0 }), 1);
        flip();
      }),
    );
  });

  it('are not asked of pages that were never initialised', () => {
    const buffer = new PageBuffer({ pagesMax: 1 });
    assert.equal(buffer.firstBadPage({ count: 1, firstBlock: 9 }), -1);
    assert.ok(buffer.isZero(0));
    buffer.bytes[PAGE_BYTES - 1] = 1;
    assert.ok(!buffer.isZero(0));
  });

  it('stand beside the position of the last change', () => {
    const buffer = new PageBuffer({ pagesMax: 1 });
    buffer.view.setUint32(0, 0x16, true);
    buffer.view.setUint32(4, 0xb374d848, true);
    assert.equal(formatLsn(buffer.lsn(0)), '16/B374D848');
  });
});

describe('entries of a page', () => {
  it('are counted as PostgreSQL counts them', () => {
    const view = new DataView(golden.buffer, golden.byteOffset, golden.length);
    let hashEntries = 0;
    for (const [index, expected] of GOLDEN_PAGES.entries()) {
      const counts = { heapTuples: 0, indexEntries: 0 };
      countPageEntries(view, index * PAGE_BYTES, counts);
      assert.equal(counts.heapTuples, expected.heapTuples, `page ${index}`);
      if (expected.indexEntries === -1) hashEntries += counts.indexEntries;
      else assert.equal(counts.indexEntries, expected.indexEntries, `page ${index}`);
    }
    assert.equal(hashEntries, 53);
  });

  it('of garbage are some number, never an error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 64, maxLength: 64 }), fc.nat(PAGE_BYTES - 64), (bytes, at) => {
        const page = Uint8Array.from(pageOf(1));
        page.set(bytes, 0);
        page.set(bytes, at);
        const counts = { heapTuples: 0, indexEntries: 0 };
        countPageEntries(new DataView(page.buffer), 0, counts);
        assert.ok(counts.heapTuples >= 0 && counts.indexEntries >= 0);
      }),
    );
  });
});
