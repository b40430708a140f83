/** How much the files of a virtual cluster's users may take together in userfile storage. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, errnoOf } from '../base/index.ts';
import type { TakeRate } from './rate/limited-store.ts';

/** Plain data that can be handed to another process. */
export interface UserfileQuota {
  /** Of the files of all users of the virtual cluster. */
  readonly directory: string;
  readonly bytesMax: number;
}

/** After so much has been written it is looked again what others have. */
const LOOK_AGAIN_BYTES = 16 * 1024 * 1024;

/**
 * Refuses what would not fit. What is being written counts, whoever writes it; those who write at the same moment see each other late, and can
 * exceed the limit by 16 MiB each. @throws AppError `limit_exceeded`
 */
export function takeWithin({ directory, bytesMax }: UserfileQuota): TakeRate {
  let grantedBytes = 0;
  return async (direction, bytes) => {
    if (direction === 'read') return;
    if (bytes > grantedBytes) {
      const freeBytes = bytesMax - (await bytesBelow(directory));
      if (bytes > freeBytes) {
        throw new AppError('limit_exceeded', 'the userfile storage of this virtual cluster is full', {
          detail: `its files may take ${bytesMax} bytes together: cloudstorage.userfile.total_max`,
          hint: 'delete files that nobody needs (atoll userfile delete), or raise the limit',
        });
      }
      grantedBytes = Math.min(freeBytes, Math.max(bytes, LOOK_AGAIN_BYTES));
    }
    grantedBytes -= bytes;
  };
}

/** What goes meanwhile counts for nothing. */
async function bytesBelow(directory: string): Promise<number> {
  let total = 0;
  for (const entry of await orNone(readdir(directory, { withFileTypes: true }), [])) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) total += await bytesBelow(path);
    else total += await orNone(sizeOf(path), 0);
  }
  return total;
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path)).size;
}

async function orNone<T>(asked: Promise<T>, none: T): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return none;
    throw error;
  }
}
