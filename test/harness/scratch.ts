import { statfsSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';

const MEMORY = '/dev/shm';
const ROOM_BYTES_MIN = 8 * 1024 ** 3;

/**
 * An empty folder for a test's store. In memory where there is plenty, unless TMPDIR says otherwise: tests make and delete many
 * thousands of small files, and some file systems (ext4) are slow to make files for minutes after many were deleted.
 */
export function scratchDirectory(prefix: string): Promise<string> {
  return mkdtemp(join(process.env['TMPDIR'] ?? (hasRoomInMemory() ? MEMORY : tmpdir()), prefix));
}

function hasRoomInMemory(): boolean {
  if (process.platform !== 'linux' || freemem() < ROOM_BYTES_MIN) return false;
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    return bavail * bsize >= ROOM_BYTES_MIN;
  } catch {
    return false; // There is no such folder.
  }
}
