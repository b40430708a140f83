import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../base/index.ts';

/** Bytes of all files below a folder; 0 when there is none. What goes meanwhile does not count. */
export async function storedBytesBelow(directory: string): Promise<bigint> {
  let bytes = 0n;
  try {
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) bytes += await storedBytesBelow(path);
      else if (entry.isFile()) bytes += await sizeOf(path);
    }
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
  return bytes;
}

async function sizeOf(path: string): Promise<bigint> {
  try {
    return BigInt((await stat(path)).size);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0n;
    throw error;
  }
}
