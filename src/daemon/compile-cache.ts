/** Keeps what Node.js has compiled from growing for ever: each place where Atoll was ever installed leaves its own behind. */
import { type Dirent, lstatSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../base/index.ts';

/** Of some 7 KiB each. One installation has about 3,000; ten that are used in turn must not clear each other's. */
const FILES_MAX = 30_000;
/** As Node.js names its folders, one for each version and user, and what it puts there. */
const FOLDER = /^v\d+\.\d+\.\d+-\w+-[0-9a-f]{8}-\d+$/;
const FILE = /^[0-9a-f]{8}$/;

/** The cache that `bin/atoll` chooses; null when somebody has chosen another, which is not ours to clear. */
export function ownCompileCache(environment: NodeJS.ProcessEnv): string | null {
  const { NODE_COMPILE_CACHE: chosen, XDG_CACHE_HOME: caches, HOME: home } = environment;
  const folder = caches === undefined || caches === '' ? `${home ?? ''}/.cache` : caches;
  return chosen === `${folder}/atoll` ? chosen : null;
}

/**
 * When there are too many files, removes those that were written longest ago until half as many are left; what was still of use is compiled
 * once more. Synchronous, since names alone are looked at as long as they are few. Whatever cannot be removed stays.
 */
export function boundCompileCache(
  directory: string,
  { filesMax = FILES_MAX }: { filesMax?: number } = {},
): void {
  const paths = entriesOf(directory)
    .filter((folder) => folder.isDirectory() && FOLDER.test(folder.name))
    .flatMap((folder) =>
      entriesOf(join(directory, folder.name))
        .filter((file) => file.isFile() && FILE.test(file.name))
        .map((file) => join(directory, folder.name, file.name)),
    );
  if (paths.length <= filesMax) return;
  const files = paths.map((path) => ({ path, writtenMs: writtenMsOf(path) }));
  files.sort((left, right) => left.writtenMs - right.writtenMs);
  for (const { path } of files.slice(0, files.length - Math.trunc(filesMax / 2))) {
    ignoringRefusal(() => unlinkSync(path), undefined);
  }
}

function entriesOf(directory: string): readonly Dirent[] {
  return ignoringRefusal(() => readdirSync(directory, { withFileTypes: true }), []);
}

function writtenMsOf(path: string): number {
  return ignoringRefusal(() => lstatSync(path).mtimeMs, 0);
}

/** Others clear it, too, and parts of it may be another user's. */
function ignoringRefusal<T>(use: () => T, otherwise: T): T {
  try {
    return use();
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return otherwise;
  }
}
