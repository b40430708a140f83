/** The log as it lies in a data directory. */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../base/index.ts';
import { throwIfAborted } from '../../blob/index.ts';
import { formatWalSegmentName } from '../../pg/index.ts';
import type { LogSource } from './log-changes.ts';

const PIECE_BYTES = 1024 * 1024;

/** Segments of a `pg_wal`, or of any folder that keeps them under their own names. */
export function walDirectory(directory: string): LogSource {
  return {
    async segment(segment, { signal }) {
      throwIfAborted(signal);
      const path = join(directory, formatWalSegmentName(segment));
      const file = await openIfThere(path);
      await file?.close();
      return file === null ? null : piecesOf(path, signal);
    },
  };
}

/**
 * All pieces share one buffer. A segment that Postgres takes away meanwhile ends early, one that it takes for other log
 * has the headers of other pages: neither is taken for what was asked.
 */
async function* piecesOf(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  await using file = await openIfThere(path);
  const buffer = new Uint8Array(PIECE_BYTES);
  while (file !== null) {
    throwIfAborted(signal);
    const { bytesRead } = await file.read(buffer);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}
