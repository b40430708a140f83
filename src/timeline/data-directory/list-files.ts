import { type Dirent, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, errnoOf } from '../../base/index.ts';
import { PAGE_BYTES, parseRelationPath } from '../../pg/index.ts';
import { noOrdinaryFile } from './open-file.ts';
import { CONTROL_FILE_PATH, isDataName, isDataPath } from './rules.ts';

export interface DataFile {
  /** Relative to the data directory. */
  readonly path: string;
  readonly kind: 'pages' | 'bytes';
  /** When it was listed; of a file of pages, whole pages only. */
  readonly bytes: number;
}

/**
 * Lists what belongs into a base, ascending by path, except the control file. Synchronous: a system call for each of very
 * many files takes less time than its detour through a pool of threads. What appears or grows later is in the log.
 * @throws AppError `object_state` when the directory has tablespaces or symbolic links
 */
export function listDataFiles(dataDirectory: string): DataFile[] {
  refuseTablespaces(dataDirectory);
  const files: DataFile[] = [];
  for (const entry of entriesOf(dataDirectory, '')) {
    if (entry.isDirectory()) listFolder({ dataDirectory, folder: entry.name, files });
    else if (isDataPath(entry.name)) {
      if (!entry.isFile()) throw noOrdinaryFile(entry.name);
      addFile({ dataDirectory, path: entry.name, files });
    }
  }
  return files.sort((left, right) => (left.path < right.path ? -1 : 1));
}

function listFolder(options: { dataDirectory: string; folder: string; files: DataFile[] }): void {
  const { dataDirectory, folder, files } = options;
  if (!isDataPath(`${folder}/0`)) return;
  const entries = entriesOf(dataDirectory, folder);
  const unlogged = unloggedFilenodes(folder, entries);
  for (const entry of entries) {
    const path = `${folder}/${entry.name}`;
    if (!isDataName(entry.name) || path === CONTROL_FILE_PATH || isUnloggedContent(path, unlogged)) continue;
    if (entry.isDirectory()) listFolder({ dataDirectory, folder: path, files });
    else if (entry.isFile()) addFile({ dataDirectory, path, files });
    else throw noOrdinaryFile(path);
  }
}

/** Relations that have an init fork: recovery makes them anew from it. */
function unloggedFilenodes(folder: string, entries: readonly Dirent[]): ReadonlySet<number> {
  const inits = entries
    .map(({ name }) => parseRelationPath(`${folder}/${name}`))
    .filter((file) => file?.fork === 'init');
  return new Set(inits.map((file) => file?.filenode ?? 0));
}

function isUnloggedContent(path: string, unlogged: ReadonlySet<number>): boolean {
  const file = parseRelationPath(path);
  return file !== null && file.fork !== 'init' && unlogged.has(file.filenode);
}

function addFile({ dataDirectory, path, files }: { dataDirectory: string; path: string; files: DataFile[] }) {
  const bytes = sizeOf(join(dataDirectory, path));
  if (bytes === null) return; // Dropped since the folder was read.
  const isPages = parseRelationPath(path) !== null;
  files.push({
    path,
    kind: isPages ? 'pages' : 'bytes',
    bytes: isPages ? bytes - (bytes % PAGE_BYTES) : bytes,
  });
}

function refuseTablespaces(dataDirectory: string): void {
  const spaces = entriesOf(dataDirectory, 'pg_tblspc');
  if (spaces.length === 0) return;
  throw new AppError('object_state', 'the virtual cluster has tablespaces, which cannot be backed up', {
    hint: 'move their relations into the default tablespace and drop them',
  });
}

function entriesOf(dataDirectory: string, folder: string): Dirent[] {
  try {
    return readdirSync(join(dataDirectory, folder), { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' && folder !== '') return []; // A database dropped meanwhile.
    throw error;
  }
}

function sizeOf(path: string): number | null {
  try {
    return lstatSync(path).size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}
