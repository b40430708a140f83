/** The folder that a base is written into, and what makes it last. */
import { constants } from 'node:fs';
import { chmod, chown, lstat, mkdir, open, readdir, rm, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError } from '../../base/index.ts';
import { DATA_DIRECTORY_FOLDERS } from '../data-directory/rules.ts';

const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
const MODE_BITS = 0o7777;

/** Who shall own what is written, or null to leave it to us. */
export type Owner = { readonly uid: number; readonly gid: number } | null;

export interface Lasting {
  /** Nothing of it need outlive a crash of the machine: it is looked at and thrown away. */
  readonly isFleeting?: boolean | undefined;
}

/**
 * Empties the folder and keeps everybody else out of it until `handOver`: while we write with more rights than its owner, the
 * owner must not be able to put links in our way. @throws AppError `object_state` when it is no folder
 */
export async function takeOver(directory: string, { uid }: { readonly uid: number | null }): Promise<Owner> {
  const status = await lstat(directory);
  if (!status.isDirectory()) throw new AppError('object_state', `${directory} is no folder`);
  if (uid !== null) await chown(directory, process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
  await chmod(directory, FOLDER_MODE);
  await emptyDirectory(directory);
  return uid === null ? null : { uid, gid: status.gid };
}

/** Keeps everybody else out, as `takeOver` does, of a folder whose content is to be used. Harmless when done before. */
export async function takeOverInPlace(
  directory: string,
  { uid }: { readonly uid: number | null },
): Promise<Owner> {
  const status = await lstat(directory);
  if (!status.isDirectory()) throw new AppError('object_state', `${directory} is no folder`);
  if (uid !== null) await chown(directory, process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
  await chmod(directory, FOLDER_MODE);
  return uid === null ? null : { uid, gid: status.gid };
}

export async function emptyDirectory(directory: string): Promise<void> {
  for (const name of await readdir(directory)) await rm(join(directory, name), { recursive: true });
}

/** @throws AppError `disk_full` when the base cannot fit, before a byte of it was written */
export async function requireRoom(directory: string, { bytes }: { readonly bytes: bigint }): Promise<void> {
  const { bavail, bsize } = await statfs(directory, { bigint: true });
  const available = bavail * bsize;
  if (available >= bytes) return;
  throw new AppError('disk_full', `${directory} has room for ${available} bytes, ${bytes} are needed`, {
    hint: 'free space in the store and try again',
  });
}

/** Folders of these files and those that Postgres wants in any case, parents first. */
export function foldersOf(paths: readonly string[]): readonly string[] {
  const folders = new Set(DATA_DIRECTORY_FOLDERS);
  for (const path of paths) {
    for (let at = dirname(path); at !== '.'; at = dirname(at)) folders.add(at);
  }
  return [...folders].sort();
}

export async function makeFolders(
  directory: string,
  { folders, owner, isInPlace = false }: { folders: readonly string[]; owner: Owner; isInPlace?: boolean },
) {
  for (const folder of folders) {
    const path = join(directory, folder);
    // In place most are there.
    await mkdir(path, { mode: FOLDER_MODE, recursive: isInPlace });
    if (owner !== null) await chown(path, owner.uid, owner.gid);
  }
}

/**
 * Gives a file its length, owner and mode, and makes it durable unless it is fleeting. It is created when nothing was written to it.
 */
export async function finishFile(
  path: string,
  { length, owner, isFleeting }: { readonly length: number | null; readonly owner: Owner } & Lasting,
): Promise<void> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  await using file = await open(path, flags, FILE_MODE);
  const status = await file.stat();
  // A file to which nothing is done costs the disk nothing; each of these would make it write the file's inode.
  if (length !== null && status.size !== length) await file.truncate(length);
  if ((status.mode & MODE_BITS) !== FILE_MODE) await file.chmod(FILE_MODE);
  const isOwned = owner === null || (status.uid === owner.uid && status.gid === owner.gid);
  if (!isOwned) await file.chown(owner.uid, owner.gid);
  // Also of one that is as it should be: an attempt that was cut off may have left it so, and not durable.
  if (isFleeting !== true) await file.sync();
}

/** Has the disk write what a file has so far. It is not whole yet. */
export async function writeOut(path: string): Promise<void> {
  // Of one that begins with zeroes nothing may have been written yet.
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  await using file = await open(path, flags, FILE_MODE);
  await file.datasync();
}

/** Makes the folders durable unless they are fleeting, children first, and gives the directory to its owner. */
export async function handOver(
  directory: string,
  { folders, owner, isFleeting }: { readonly folders: readonly string[]; readonly owner: Owner } & Lasting,
): Promise<void> {
  if (isFleeting === true) {
    if (owner !== null) await chown(directory, owner.uid, owner.gid);
    return;
  }
  for (const folder of [...folders].reverse()) await syncFolder(join(directory, folder));
  if (owner !== null) await chown(directory, owner.uid, owner.gid);
  await syncFolder(directory);
  await syncFolder(dirname(directory));
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r');
  await folder.sync();
}
