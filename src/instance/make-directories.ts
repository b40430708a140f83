/** Makes a folder and those above it. */
import { mkdir, rmdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from '../base/index.ts';

/**
 * Like `mkdir` with `recursive`, which never returns where a folder above exists and yet refuses new ones with ENOENT, as
 * `/proc` does. Gives the folders that were made, the highest first; none when the folder was there.
 * @throws with the errno of what could not be made; what was made before that is taken away again
 */
export async function makeDirectories(path: string, options: { mode?: number } = {}): Promise<string[]> {
  const missing: string[] = [];
  for (let at = path; !(await isDirectory(at)); at = dirname(at)) missing.unshift(at);
  const made: string[] = [];
  try {
    for (const directory of missing) {
      if (await makeOne(directory, options)) made.push(directory);
    }
  } catch (error) {
    await removeEmpty(made);
    throw error;
  }
  return made;
}

/** Takes away folders that `makeDirectories` has made, as far as they are still empty. */
export async function removeEmpty(directories: readonly string[]): Promise<void> {
  for (const directory of directories.toReversed()) {
    try {
      await rmdir(directory);
    } catch {
      return; // Somebody uses it meanwhile, and with it those above.
    }
  }
}

/** False when somebody else made it at the same time. */
async function makeOne(path: string, options: { mode?: number }): Promise<boolean> {
  try {
    await mkdir(path, options);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST' && (await isDirectory(path))) return false;
    throw error;
  }
}

/** @throws with errno `ENOTDIR` when a file is in the way */
async function isDirectory(path: string): Promise<boolean> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) return true;
    throw Object.assign(new Error(`ENOTDIR: not a directory, mkdir '${path}'`), { code: 'ENOTDIR' });
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    return false;
  }
}
