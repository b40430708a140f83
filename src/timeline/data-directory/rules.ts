/** What of a data directory belongs into a base, and what a restored one must consist of. */
import { isTemporaryRelationName } from '../../pg/index.ts';

/** Longest path inside a data directory that we take, in bytes; Postgres' own are far shorter. */
const PATH_BYTES_MAX = 1024;

/**
 * Folders whose content is data. What lies in others (pg_wal, pg_replslot, pg_subtrans, ...) is made anew by recovery or
 * would be wrong in a copy, and what lies beside them is configuration of the node or a stranger's file.
 */
const DATA_FOLDERS = [
  'base',
  'global',
  'pg_commit_ts',
  'pg_logical',
  'pg_multixact',
  'pg_twophase',
  'pg_xact',
];
const DATA_FILES = ['PG_VERSION'];

/** Folders without which Postgres does not start, parents before children. */
export const DATA_DIRECTORY_FOLDERS: readonly string[] = [
  'base',
  'global',
  'pg_commit_ts',
  'pg_dynshmem',
  'pg_logical',
  'pg_logical/mappings',
  'pg_logical/snapshots',
  'pg_multixact',
  'pg_multixact/members',
  'pg_multixact/offsets',
  'pg_notify',
  'pg_replslot',
  'pg_serial',
  'pg_snapshots',
  'pg_stat',
  'pg_stat_tmp',
  'pg_subtrans',
  'pg_tblspc',
  'pg_twophase',
  'pg_wal',
  'pg_wal/archive_status',
  'pg_wal/summaries',
  'pg_xact',
];

/** Copied after everything else: it tells where replay would begin without a backup label. */
export const CONTROL_FILE_PATH = 'global/pg_control';
export const VERSION_FILE_PATH = 'PG_VERSION';

/**
 * True when the file of this path, relative to the data directory, is part of a base. Says nothing of unlogged
 * relations, for which one must know their neighbours.
 */
export function isDataPath(path: string): boolean {
  if (Buffer.byteLength(path) > PATH_BYTES_MAX || !path.isWellFormed()) return false;
  const parts = path.split('/');
  const [top = ''] = parts;
  if (parts.length === 1) return DATA_FILES.includes(top);
  return DATA_FOLDERS.includes(top) && parts.every(isDataName);
}

/** True when a file or folder of this name is never transient and never somebody's trick. */
export function isDataName(name: string): boolean {
  if (name === '' || name === '.' || name === '..' || /[\p{Cc}\\/]/u.test(name)) return false;
  const isTransient =
    name.startsWith('pg_internal.init') || name.startsWith('pgsql_tmp') || name.endsWith('.tmp');
  return !isTransient && !isTemporaryRelationName(name);
}
