/** Which files of a data directory are whole already, so that an attempt goes on where the one before it ended. */
import { createHash } from 'node:crypto';
import { type FileHandle, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, RESTORE_PROGRESS_FILE } from '../../base/index.ts';
import { CONTROL_FILE_PATH } from '../data-directory/rules.ts';
import type { Manifest } from '../format/manifest.ts';

const COMPLETE = '*';

/**
 * The first line says what is written, each other one names a file that is whole and durable. A line that a crash cut off says nothing. The
 * control file is never named: it is written last, whatever was there.
 */
export class RestoreProgress implements AsyncDisposable {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** What an attempt at writing just this has left, or null when there is nothing to go on with. */
  static async find(
    directory: string,
    manifest: Manifest,
  ): Promise<{ readonly isComplete: boolean; readonly wholeRows: ReadonlySet<number> } | null> {
    const text = await readIfThere(join(directory, RESTORE_PROGRESS_FILE));
    const [identity, ...lines] = text.split('\n').slice(0, -1);
    if (identity !== identityOf(manifest)) return null;
    const names = new Set(lines);
    const wholeRows = new Set<number>();
    for (const [row, path] of manifest.files.paths.entries()) {
      const isWhole =
        names.has(path) && (await hasLength(join(directory, path), manifest.files.lengths[row]));
      if (isWhole) wholeRows.add(row);
    }
    return { isComplete: names.has(COMPLETE), wholeRows };
  }

  /** Into a folder that holds nothing, or the files that `find` has told of. */
  static async begin(
    directory: string,
    options: { readonly manifest: Manifest; readonly wholeRows: ReadonlySet<number> },
  ): Promise<RestoreProgress> {
    const { manifest, wholeRows } = options;
    const paths = Array.from(wholeRows, (row) => manifest.files.paths[row] ?? '');
    await removeOthers(directory, new Set(paths));
    const file = await open(join(directory, RESTORE_PROGRESS_FILE), 'wx', 0o600);
    await file.appendFile([identityOf(manifest), ...paths, ''].join('\n'));
    return new RestoreProgress(file);
  }

  /** The file of this path is whole and durable. */
  async add(path: string): Promise<void> {
    if (path !== CONTROL_FILE_PATH) await this.#file.appendFile(`${path}\n`);
  }

  /** Everything is written, and belongs to its owner. */
  async complete(): Promise<void> {
    await this.#file.appendFile(`${COMPLETE}\n`);
    await this.#file.sync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

/** Backups are written once; the moment may be one of several. */
function identityOf({ header, files }: Manifest): string {
  const { clusterId, virtualClusterId, subdirectory, jobId, attempt, startLsn, targetLsn, endTime } = header;
  const what = [clusterId, virtualClusterId, subdirectory, jobId, attempt, startLsn, targetLsn, endTime];
  return createHash('sha256')
    .update([...what, files.paths.length].join('\n'))
    .digest('hex');
}

/** What is not known to be whole may hold anything. Folders stay. */
async function removeOthers(directory: string, whole: ReadonlySet<string>): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isDirectory() && !whole.has(path.slice(directory.length + 1))) await rm(path);
  }
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}

async function hasLength(path: string, length: bigint | undefined): Promise<boolean> {
  try {
    const { size } = await stat(path, { bigint: true });
    return size === length;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
