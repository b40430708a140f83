/** The log as it lies in a data directory. */
import { open } from 'node:fs/promises';
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
      const path = join(directory, formatWalSegmentName(segment));
      throwIfAborted(signal);
      try {
        await (await open(path)).close();
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return null;
        throw error;
      }
      return piecesOf(path, signal);
    },
  };
}

/** All pieces share one buffer. */
async function* piecesOf(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  await using file = await open(path);
  const buffer = new Uint8Array(PIECE_BYTES);
  for (;;) {
    throwIfAborted(signal);
    const { bytesRead } = await file.read(buffer);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}
