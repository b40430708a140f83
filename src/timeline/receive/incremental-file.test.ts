import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../../base/index.ts';
import { PAGE_BYTES } from '../../pg/index.ts';
import { applyIncremental, incrementalTarget, readIncrementalHeader } from './incremental-file.ts';

/** A page that says which one it is, and of which of two files. */
function page(no: number, generation: number): Buffer {
  const bytes = Buffer.alloc(PAGE_BYTES, generation);
  bytes.writeUInt32LE(no, 0);
  return bytes;
}

function incrementalFile(options: { pages: readonly number[]; truncationPages: number }): Buffer {
  const { pages, truncationPages } = options;
  const numbers = [0xd3ae1f0d, pages.length, truncationPages, ...pages];
  const unpadded = numbers.length * 4;
  const header = Buffer.alloc(pages.length === 0 ? unpadded : Math.ceil(unpadded / PAGE_BYTES) * PAGE_BYTES);
  for (const [at, number] of numbers.entries()) header.writeUInt32LE(number, at * 4);
  return Buffer.concat([header, ...pages.map((no) => page(no, 2))]);
}

describe('files of an incremental base backup', () => {
  const folder = mkdtempSync(join(tmpdir(), 'atoll-incremental-'));
  const [changes, target] = [join(folder, 'changes'), join(folder, 'target')];
  after(() => rmSync(folder, { recursive: true }));

  it('make of a file what it was when they were taken, also when it is done twice', () => {
    const pages = fc
      .uniqueArray(fc.integer({ min: 0, max: 150 }), { maxLength: 100 })
      .map((numbers) => numbers.toSorted((a, b) => a - b));
    const length = fc.integer({ min: 0, max: 150 });
    fc.assert(
      fc.property(
        pages,
        length,
        length,
        fc.integer({ min: 0, max: 2 }),
        (numbers, before, truncation, times) => {
          writeFileSync(target, Buffer.concat(Array.from({ length: before }, (_, no) => page(no, 1))));
          writeFileSync(changes, incrementalFile({ pages: numbers, truncationPages: truncation }));
          for (let time = 0; time <= times; time++) applyIncremental(changes, { target });
          const expected = Array.from(
            { length: Math.max(truncation, (numbers.at(-1) ?? -1) + 1) },
            (_, no) => {
              if (numbers.includes(no)) return page(no, 2);
              return no < truncation && no < before ? page(no, 1) : Buffer.alloc(PAGE_BYTES);
            },
          );
          assert.ok(readFileSync(target).equals(Buffer.concat(expected)));
        },
      ),
      { numRuns: 50 },
    );
  });

  it('are refused when they are damaged', () => {
    const sound = incrementalFile({ pages: [1, 5], truncationPages: 6 });
    const damages: readonly ((bytes: Buffer) => Buffer)[] = [
      (bytes) => bytes.subarray(0, 8),
      (bytes) => bytes.subarray(0, -1),
      (bytes) => Buffer.concat([bytes, Buffer.alloc(1)]),
      (bytes) => (bytes.writeUInt32LE(7, 0), bytes),
      (bytes) => (bytes.writeUInt32LE(3, 4), bytes),
      (bytes) => (bytes.writeUInt32LE(200_000, 8), bytes),
      (bytes) => (bytes.writeUInt32LE(5, 12), bytes),
      (bytes) => (bytes.writeUInt32LE(131_072, 16), bytes),
    ];
    for (const damage of damages) {
      writeFileSync(changes, damage(Buffer.from(sound)));
      const descriptor = openSync(changes, 'r');
      assert.throws(
        () => readIncrementalHeader(descriptor, 'changes'),
        (error) => isAppError(error, 'data_corrupt'),
      );
      closeSync(descriptor);
    }
  });

  it('are known by their names', () => {
    assert.equal(incrementalTarget('base/5/INCREMENTAL.16384.1'), 'base/5/16384.1');
    assert.equal(incrementalTarget('global/INCREMENTAL.1262'), 'global/1262');
    for (const path of [
      'base/5/16384',
      'base/5/INCREMENTAL.notes',
      'INCREMENTAL.16384',
      'base/INCREMENTAL.5/1',
    ]) {
      assert.equal(incrementalTarget(path), null, path);
    }
  });
});
