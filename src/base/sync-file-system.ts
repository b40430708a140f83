/** One sync for all that was written to a file system. */
import { promisify } from 'node:util';
import { AppError, errnoOf } from './errors.ts';

/** Always there on Linux, and nothing in it is ever dirty. */
const NOTHING_TO_SYNC = '/proc';

/**
 * Makes all durable that was written to the file system that holds `path`: one commit of its journal instead of one for each file. Node.js
 * has no call for it (syncfs), but the system has a program. What others have written there is waited for, too.
 * @returns false when there is no such program; then nothing was synced
 * @throws AppError `io` when something could not be written, also when that happened before
 */
export async function syncFileSystemOf(path: string): Promise<boolean> {
  // Elsewhere a program of that name returns before all is written.
  if (process.platform !== 'linux') return false;
  // Loaded where it is needed: threads of bulk work, which start nothing, would pay for it, too.
  const { execFile } = await import('node:child_process');
  try {
    await promisify(execFile)('sync', ['-f', path], { env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' } });
    return true;
  } catch (error) {
    const stderr = error instanceof Error && 'stderr' in error ? String(error.stderr) : '';
    if (errnoOf(error) === 'ENOENT' || /option|usage/i.test(stderr)) return false;
    throw new AppError('io', `the file system that holds ${path} cannot be synced`, {
      cause: error,
      detail: stderr.trim(),
    });
  }
}

/** Whether `syncFileSystemOf` will do what it is asked for. */
export async function canSyncFileSystems(): Promise<boolean> {
  return await syncFileSystemOf(NOTHING_TO_SYNC).catch(() => false);
}
