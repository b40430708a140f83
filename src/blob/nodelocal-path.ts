import { type FileHandle, lstat, mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, CancelledError, errnoOf, InputError } from '../base/index.ts';
import type { BlobKey } from './blob-key.ts';

const FOLDER_MODE = 0o700;

/**
 * Path of a key below `directory`. Every existing part is looked at, and a symbolic link is refused whatever it points
 * at: a folder of backups is shared with whoever may write to it, and a link would let them choose what we overwrite.
 * @throws InputError `name_invalid`
 */
export async function pathInside(directory: string, key: BlobKey | ''): Promise<string> {
  let path = directory;
  for (const part of key === '' ? [] : key.split('/')) {
    path = join(path, part);
    const status = await lstat(path).catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return null;
      throw error;
    });
    if (status?.isSymbolicLink() === true) {
      throw new InputError('name_invalid', `${key} leads through the symbolic link ${path}`);
    }
  }
  return path;
}

/** Makes a folder and its parents, each made durable in its own parent. Harmless when it is there. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: FOLDER_MODE });
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return;
    if (errnoOf(error) !== 'ENOENT' || dirname(path) === path) throw error;
    await makeFolder(dirname(path));
    return makeFolder(path);
  }
  await syncFolder(dirname(path));
}

/** Makes what was created, renamed or removed in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  await using folder: FileHandle = await open(path, 'r');
  await folder.sync();
}

/** Translates a failed system call on an object; errors of ours pass unchanged. */
export function asBlobError(error: unknown, options: { key: string; displayUri: string }): Error {
  if (error instanceof AppError) return error;
  const { key, displayUri } = options;
  if (error instanceof Error && error.name === 'AbortError') {
    return new CancelledError('cancelled', { cause: error });
  }
  switch (errnoOf(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'EISDIR':
      return new AppError('blob_not_found', `no object ${key} in ${displayUri}`, { cause: error });
    case 'EEXIST':
      return new AppError('blob_exists', `object ${key} already exists in ${displayUri}`, { cause: error });
    case 'ELOOP':
      return new InputError('name_invalid', `${key} in ${displayUri} is a symbolic link`, { cause: error });
    case 'ENOSPC':
    case 'EDQUOT':
      return new AppError('disk_full', `no space left for ${key} in ${displayUri}`, {
        cause: error,
        hint: 'free space in the external directory, or name a destination with more room',
      });
    case 'EROFS':
      return new AppError('io', `cannot write ${key} in ${displayUri}: its disk is read-only`, {
        cause: error,
        hint: 'mount it for writing, or name another destination',
      });
    case 'EACCES':
    case 'EPERM':
      return new AppError('io', `cannot access ${key} in ${displayUri}: permission denied`, {
        cause: error,
        hint: 'the folder must belong to the user that the node runs as',
      });
    case 'EMFILE':
    case 'ENFILE':
    case 'EAGAIN':
      return new AppError('blob_unavailable', `cannot open ${key} in ${displayUri} now`, { cause: error });
    default:
      return new AppError('io', `cannot access ${key} in ${displayUri}: ${String(error)}`, { cause: error });
  }
}
