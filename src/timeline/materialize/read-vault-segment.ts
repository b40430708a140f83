/** Reads a segment of the vault, which may be received, closed or collected by another process meanwhile. */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { CorruptError, errnoOf, type Rng } from '../../base/index.ts';
import { parseBlobKey } from '../../blob/index.ts';
import { openCollection } from '../collection/open.ts';
import { FRAME_BYTES_MAX } from '../format/frame.ts';
import { readWalSegment } from '../objects/wal-reader.ts';
import { closedSegmentName, openSegmentName } from '../store/layout.ts';
import type { VaultTask } from './tasks.ts';

interface ReadOptions {
  readonly rng: Rng;
  readonly write: (bytes: Uint8Array, offset: number) => void;
  readonly signal: AbortSignal;
}

/** How many bytes of the segment, from its beginning, were handed to `write`. @throws CorruptError when it is not there */
export async function readVaultSegment(task: VaultTask, options: ReadOptions): Promise<number> {
  // A segment that is closed between two looks is found by the third.
  for (const read of [readClosed, readOpen, readClosed]) {
    const bytes = await read(task, options);
    if (bytes !== null) return bytes;
  }
  throw new CorruptError(
    `the log segment ${closedSegmentName(task.segment)} is missing in ${task.directory}`,
  );
}

async function readClosed({ directory, segment }: VaultTask, options: ReadOptions): Promise<number | null> {
  const store = openCollection({ displayUri: directory, directory }, options);
  const key = parseBlobKey(closedSegmentName(segment));
  if ((await store.size(key, options)) === null) return null;
  await readWalSegment(store, { key, header: segment }, options);
  return segment.segmentBytes;
}

async function readOpen({ directory, segment }: VaultTask, { write }: ReadOptions): Promise<number | null> {
  await using file = await openIfThere(join(directory, openSegmentName(segment)));
  if (file === null) return null;
  const buffer = new Uint8Array(FRAME_BYTES_MAX);
  for (let offset = 0; offset < segment.segmentBytes; ) {
    const length = Math.min(buffer.length, segment.segmentBytes - offset);
    const { bytesRead } = await file.read(buffer, 0, length, offset);
    if (bytesRead === 0) return offset;
    write(buffer.subarray(0, bytesRead), offset);
    offset += bytesRead;
  }
  return segment.segmentBytes;
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}
