import { closeSync, constants, openSync, readlinkSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, errnoOf } from '../../base/index.ts';

/**
 * Opens a file of a data directory to be read; null when it is gone. The directory is a virtual cluster's and whoever reads it may be root: a link
 * that leads out of it would put what nobody there may see into a backup. Links may be made at any time, so it is the opened file that counts.
 * @throws AppError `object_state` when it is a link, or lies elsewhere
 */
export function openDataFile(dataDirectory: string, path: string): number | null {
  let fd: number;
  try {
    fd = openSync(join(dataDirectory, path), constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    if (errnoOf(error) === 'ELOOP') throw noOrdinaryFile(path, error);
    throw error;
  }
  if (isInside(dataDirectory, fd)) return fd;
  closeSync(fd);
  throw noOrdinaryFile(path);
}

export function noOrdinaryFile(path: string, cause?: unknown): AppError {
  return new AppError('object_state', `${path} in the data directory is no ordinary file`, { cause });
}

/** Linux says where an open file lies, also when it was renamed or removed since. */
function isInside(dataDirectory: string, fd: number): boolean {
  if (process.platform !== 'linux') return true;
  return readlinkSync(`/proc/self/fd/${fd}`).startsWith(`${realpathSync(dataDirectory)}/`);
}
