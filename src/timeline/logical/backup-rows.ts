/** Reads the rows of a copy back out of a collection. Every frame is checked before a byte of it is believed. */
import { CorruptError, required } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { CopyRows, CopyTable } from '../../logical-copy/index.ts';
import { largeObjectPath, rowsPath } from '../format/copy-paths.ts';
import { decodeFrame } from '../format/frame.ts';
import type { Manifest } from '../format/manifest.ts';
import { FRAME_TAG_BYTES, packTagKey } from '../format/pack.ts';
import { checkExpectedFrame } from '../objects/expected-frame.ts';
import { ObjectReader } from '../objects/object-reader.ts';

export interface BackupRowsOptions {
  readonly manifest: Manifest;
  /** Number of the copy in the manifest. */
  readonly copy: number;
  readonly store: BlobStore;
  readonly key: ClusterKey;
  readonly signal: AbortSignal;
}

export function backupRows(options: BackupRowsOptions): CopyRows {
  const { manifest, copy } = options;
  const rowOf = new Map(manifest.files.paths.map((path, row) => [path, row]));
  const read = (path: string) => readFile(required(rowOf.get(path), `file ${path}`), options);
  const tables = new Map(manifest.copies?.[copy]?.tables.map((table) => [table.entry, table]));
  return {
    async *rowsOf({ entry }: CopyTable) {
      for (const [from] of required(tables.get(entry), 'table of the copy').ranges) {
        yield read(rowsPath({ copy, entry, from }));
      }
    },
    largeObject: (oid) => read(largeObjectPath({ copy, oid })),
  };
}

async function* readFile(row: number, options: BackupRowsOptions): AsyncGenerator<Uint8Array> {
  const { files, runs } = options.manifest;
  const first = files.firstRuns[row] ?? 0;
  for (let run = first; run < first + (files.runCounts[row] ?? 0); run += 1) {
    const bytes = await readFrame(runs.frames[run] ?? 0, options);
    if (bytes.length !== runs.counts[run])
      throw new CorruptError('a frame has another length than the manifest says');
    yield bytes;
  }
}

async function readFrame(
  frame: number,
  { manifest, store, key, signal }: BackupRowsOptions,
): Promise<Uint8Array> {
  const { frames, packs } = manifest;
  const pack = required(packs[frames.packs[frame] ?? 0], 'pack of a frame');
  const offset = frames.offsets[frame] ?? 0;
  const length = frames.lengths[frame] ?? 0;
  await using reader = new ObjectReader(store, parseBlobKey(pack.path), {
    range: { offset, length },
    signal,
  });
  const stored = await reader.take(length);
  const tagKey = packTagKey({ key, id: Buffer.from(pack.id, 'hex') });
  const tag = frames.tags.subarray(frame * FRAME_TAG_BYTES, (frame + 1) * FRAME_TAG_BYTES);
  checkExpectedFrame(stored, { offset, crc: frames.crcs[frame] ?? 0, tag }, { name: pack.path, tagKey });
  const content = decodeFrame(stored, pack.path);
  if (content.kind !== 'bytes') throw new CorruptError(`a frame of ${pack.path} is of pages, not of rows`);
  return content.bytes;
}
