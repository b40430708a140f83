/** Names of the objects of a collection. See docs/formats/collection.md. */
import { assert, InputError, type Timestamp, timestampToMs } from '../../base/index.ts';
import { type BlobKey, parseBlobKey } from '../../blob/index.ts';

export const MANIFEST_NAME = 'BACKUP_MANIFEST';
const OWNER_NAME = 'metadata/collection-owner';
const LOCK_PREFIX = 'BACKUP-LOCK-';
/** Markers are named by how far their backup lies before this, so that a listing begins with the newest. */
const LATEST_BASE = 10n ** 17n;

/** The record of the owner with this ordinal: 1 wrote the collection first, each later one took over from the one before. */
export function ownerKey(ordinal: number): BlobKey {
  assert(Number.isSafeInteger(ordinal) && ordinal >= 1, 'owners are counted from 1');
  return parseBlobKey(ordinal === 1 ? OWNER_NAME : `${OWNER_NAME}-${ordinal}`);
}

/** `2024/04/18-100745.00`: the folder of a backup begun at this time, in UTC, in hundredths of a second. */
export function formatBackupSubdirectory(time: Timestamp): string {
  const [date = '', clock = ''] = new Date(timestampToMs(time)).toISOString().split('T');
  const [year, month, day] = date.split('-');
  return `${year}/${month}/${day}-${clock.slice(0, 8).replaceAll(':', '')}.${clock.slice(9, 11)}`;
}

/**
 * The folder of a backup as people write it, with or without slashes around it, in its one form.
 * @throws InputError `parameter_invalid`
 */
export function normalizeSubdirectory(text: string): string {
  const path = text.replace(/^\/+|\/+$/g, '');
  const match = /^(\d{4})\/(\d\d)\/(\d\d)-(\d\d)(\d\d)(\d\d)\.\d\d$/.exec(path);
  const [, year, month, day, hour, minute, second] = match ?? [];
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const ms = Date.parse(iso);
  if (Number.isNaN(ms) || new Date(ms).toISOString() !== iso) {
    throw new InputError('parameter_invalid', `not the path of a backup: ${JSON.stringify(text)}`, {
      hint: 'write it as SHOW BACKUPS lists it, for example 2024/04/18-100745.00',
    });
  }
  return path;
}

/** Folders of a collection that hold no backups themselves, and years, below which only backups named after their time lie. */
const NO_NAME_OF_BACKUP = /^(?:metadata|incrementals|\d{4})(?:\/|$)/;
const NAMED_FOLDER = /^[A-Za-z0-9_][A-Za-z0-9_.-]*(?:\/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,7}$/;
const NAMED_FOLDER_CHARACTERS_MAX = 200;

/**
 * The folder of a full backup as people write it: named after its time, or by a name of theirs, as old versions allowed. Those are
 * found only by who knows their name. @throws InputError `parameter_invalid`
 */
export function normalizeFullFolder(text: string): string {
  const path = text.replace(/^\/+|\/+$/g, '');
  const isNamed = NAMED_FOLDER.test(path) && !NO_NAME_OF_BACKUP.test(path);
  if (isNamed && path.length <= NAMED_FOLDER_CHARACTERS_MAX) return path;
  return normalizeSubdirectory(text);
}

/** Whether it is named after its time, and so listed among the backups of its collection. */
export function isListedFolder(fullFolder: string): boolean {
  return NO_NAME_OF_BACKUP.test(fullFolder);
}

/** Parts of a subdirectory, by which a collection is searched. */
export const SUBDIRECTORY_LEVELS: readonly RegExp[] = [/^\d{4}$/, /^\d\d$/, /^\d\d-\d{6}\.\d\d$/];

/** Parts of the path of an incremental backup below `incrementalsFolder`. */
export const INCREMENTAL_LEVELS: readonly RegExp[] = [/^\d{8}$/, /^\d{6}\.\d\d$/];

/** Where the incremental backups on a full one are. */
export function incrementalsFolder(fullSubdirectory: string): string {
  return `incrementals/${normalizeFullFolder(fullSubdirectory)}`;
}

/** True for what belongs to an incremental backup. */
export function isIncremental(key: BlobKey): boolean {
  return key.startsWith('incrementals/');
}

/** `incrementals/2024/04/18-100745.00/20240419/031500.00`: the folder of an incremental backup begun at this time. */
export function formatIncrementalSubdirectory(time: Timestamp, options: { full: string }): string {
  const [year, month, rest = ''] = formatBackupSubdirectory(time).split('/');
  const [day, clock] = rest.split('-');
  return `${incrementalsFolder(options.full)}/${year}${month}${day}/${clock}`;
}

/** The folder of any backup, as we write it ourselves. @throws InputError `parameter_invalid` */
export function requireBackupFolder(path: string): string {
  const [, full, day = '', clock = ''] = /^incrementals\/(.+)\/(\d{8})\/(\d{6}\.\d\d)$/.exec(path) ?? [];
  if (full === undefined) return normalizeFullFolder(path);
  // The same digits as in the name of a full backup, cut elsewhere.
  normalizeSubdirectory(`${day.slice(0, 4)}/${day.slice(4, 6)}/${day.slice(6)}-${clock}`);
  return `${incrementalsFolder(full)}/${day}/${clock}`;
}

export function manifestKey(subdirectory: string): BlobKey {
  return parseBlobKey(`${subdirectory}/${MANIFEST_NAME}`);
}

/** Keys of different attempts differ, so that no attempt meets another's objects. */
export function packKey(options: {
  readonly subdirectory: string;
  readonly attempt: number;
  readonly number: number;
}): BlobKey {
  return parseBlobKey(`${options.subdirectory}/data/${options.attempt}-${options.number}.pack`);
}

export function walKey(options: {
  readonly subdirectory: string;
  readonly attempt: number;
  readonly segmentName: string;
}): BlobKey {
  return parseBlobKey(`${options.subdirectory}/wal/${options.attempt}-${options.segmentName}.wal`);
}

/** Tells of packs that are complete while a backup is under way. */
export function checkpointFolder(subdirectory: string): BlobKey {
  return parseBlobKey(`${subdirectory}/progress`);
}

/** The checkpoint of one pack. */
export function checkpointKey(options: {
  readonly subdirectory: string;
  readonly packPath: string;
}): BlobKey {
  const name = options.packPath.slice(options.packPath.lastIndexOf('/') + 1).replace(/\.pack$/, '');
  return parseBlobKey(`${checkpointFolder(options.subdirectory)}/BACKUP-CHECKPOINT-${name}`);
}

/** Folders of a backup that hold objects of attempts. */
export function attemptFolders(subdirectory: string): readonly BlobKey[] {
  return [parseBlobKey(`${subdirectory}/data`), parseBlobKey(`${subdirectory}/wal`)];
}

/** The attempt that a pack or log object belongs to, or null when it is neither. */
export function attemptOf(key: BlobKey): number | null {
  const match = /\/(?:data|wal)\/(\d+)-[^/]+$/.exec(key);
  return match === null ? null : Number(match[1]);
}

export function lockKey(options: { readonly subdirectory: string; readonly jobId: string }): BlobKey {
  assert(/^[A-Za-z0-9-]{1,64}$/.test(options.jobId), 'a job id is a word');
  return parseBlobKey(`${options.subdirectory}/${LOCK_PREFIX}${options.jobId}`);
}

/** The job whose lock this is, or null. */
export function jobIdOfLock(key: BlobKey): string | null {
  const name = key.slice(key.lastIndexOf('/') + 1);
  return name.startsWith(LOCK_PREFIX) ? name.slice(LOCK_PREFIX.length) : null;
}

/** The marker that points at a completed backup; the newest backup's is listed first. */
export function latestMarkerKey(subdirectory: string): BlobKey {
  const digits = BigInt(normalizeSubdirectory(subdirectory).replaceAll(/\D/g, ''));
  return parseBlobKey(`metadata/latest/LATEST-${(LATEST_BASE - digits).toString().padStart(17, '0')}`);
}
