import assert from 'node:assert/strict';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { scratchDirectory } from '../../../test/harness/scratch.ts';
import { errnoOf } from '../../base/index.ts';
import type { FileTable } from '../format/manifest-tables.ts';
import { FileFinisher } from './file-finisher.ts';

const MIB = 1024 * 1024;

/** Files of these lengths, with so many targets each. */
function filesOf(files: readonly { path: string; bytes: number; targets: number }[]): FileTable {
  return {
    paths: files.map(({ path }) => path),
    lengths: BigUint64Array.from(files, ({ bytes }) => BigInt(bytes)),
    kinds: new Uint8Array(files.length),
    modes: new Uint16Array(files.length),
    firstRuns: new Uint32Array(files.length),
    runCounts: Uint32Array.from(files, ({ targets }) => targets),
  };
}

/** Which files are there with which lengths, once all was finished and was said to be durable. */
async function finish(
  files: readonly { path: string; bytes: number; targets: number }[],
  use: (finisher: FileFinisher, directory: string) => Promise<void>,
) {
  const directory = await scratchDirectory('atoll-finisher-');
  const durable: string[] = [];
  await using finisher = new FileFinisher({
    directory,
    owner: null,
    files: filesOf(files),
    onFinished: async (path) => void durable.push(path),
  });
  await use(finisher, directory);
  await finisher.settle();
  const lengths = await Promise.all(
    files.map(async ({ path }) => {
      const { size, mode } = await stat(join(directory, path));
      return [path, size, mode & 0o7777] as const;
    }),
  );
  return { durable: durable.toSorted(), lengths };
}

const small = Array.from({ length: 40 }, (_, row) => ({
  path: `small-${row}`,
  bytes: row * 100,
  targets: 1,
}));

describe('the finisher of files', () => {
  it('shapes every file and says that it is durable, small or large, empty or full of holes', async () => {
    const files = [
      { path: 'large', bytes: 9 * MIB, targets: 3 },
      { path: 'hole', bytes: 8 * MIB, targets: 2 },
      { path: 'empty', bytes: 0, targets: 0 },
      ...small,
    ];
    const { durable, lengths } = await finish(files, async (finisher, directory) => {
      finisher.addEmptyFiles(() => true);
      // What is longer than it should be is cut.
      await writeFile(join(directory, 'small-3'), Buffer.alloc(5000), { mode: 0o644 });
      await writeFile(join(directory, 'large'), Buffer.alloc(MIB, 1));
      // Of a file that begins with zeroes nothing is there when its first part was "written".
      for (const row of [0, 1, 0]) finisher.wrote(new Map([[row, 1]]));
      await writeFile(join(directory, 'label'), 'x');
      finisher.addOther('label');
      finisher.wrote(new Map([[1, 1], ...small.map((_, row) => [row + 3, 1] as const)]));
      finisher.wrote(new Map([[0, 1]]));
    });
    assert.deepEqual(durable, [...files.map(({ path }) => path), 'label'].toSorted());
    assert.deepEqual(
      lengths,
      files.map(({ path, bytes }) => [path, bytes, 0o600]),
    );
  });

  it('says of no file that it is durable before all of it was written', async () => {
    const directory = await scratchDirectory('atoll-finisher-');
    const durable: string[] = [];
    await using finisher = new FileFinisher({
      directory,
      owner: null,
      files: filesOf([{ path: 'large', bytes: 9 * MIB, targets: 2 }]),
      onFinished: async (path) => void durable.push(path),
    });
    finisher.wrote(new Map([[0, 1]]));
    await finisher.settle();
    assert.deepEqual(durable, []);
  });

  it('tells of the first failure, and that nothing is durable by it', async () => {
    const failing = finish(
      [{ path: 'folder', bytes: 1, targets: 1 }, ...small],
      async (finisher, directory) => {
        await mkdir(join(directory, 'folder'));
        finisher.wrote(new Map([[0, 1]]));
      },
    );
    await assert.rejects(failing, (error) => errnoOf(error) === 'EISDIR');
  });
});
