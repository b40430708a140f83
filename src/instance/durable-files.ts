/**
 * Writing that survives a power cut: content is synced before its name appears, and a name's folder after it.
 */
import { constants } from 'node:fs';
import {
  chown,
  copyFile,
  lchown,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  symlink,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError, errnoOf, syncFileSystemOf } from '../base/index.ts';
import { throwIfCancelled } from './waiting.ts';

/** File operations under way at once: more than libuv's four threads only queue there. */
const CONCURRENT_FILES = 8;

/** Who a file belongs to; null leaves it with the daemon's user. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Replaces `path` at once and for good: readers see the old content or the new, whole. */
export async function writeFileDurably(options: {
  path: string;
  content: string | Uint8Array;
  mode: number;
  owner?: Owner | null;
}): Promise<void> {
  const temporary = `${options.path}.tmp`;
  const file = await open(temporary, 'w', options.mode);
  try {
    await file.writeFile(options.content);
    await file.chmod(options.mode);
    if (options.owner) await file.chown(options.owner.uid, options.owner.gid);
    await file.sync();
  } finally {
    await file.close();
  }
  await renameDurably({ from: temporary, to: options.path });
}

/** Like `writeFileDurably`, and nothing at all when the content is there already. */
export async function updateFileDurably(options: {
  path: string;
  content: string;
  mode: number;
  owner?: Owner | null;
}): Promise<void> {
  const present = await readFile(options.path, 'utf8').catch((error: unknown) => {
    // Secrets of an instance are its own; writing them anew does no harm.
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'EACCES') return undefined;
    throw error;
  });
  if (present !== options.content) await writeFileDurably(options);
}

/** Renames inside one file system and makes it last. */
export async function renameDurably(options: { from: string; to: string }): Promise<void> {
  await rename(options.from, options.to);
  await syncDirectory(dirname(options.to));
  if (dirname(options.from) !== dirname(options.to)) await syncDirectory(dirname(options.from));
}

/** Makes the names in a folder last. */
export async function syncDirectory(path: string): Promise<void> {
  await syncPath(path);
}

async function syncPath(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Creates a folder with exactly this mode and owner. @throws with errno `EEXIST` */
export async function makeDirectory(options: {
  path: string;
  mode: number;
  owner?: Owner | null;
}): Promise<void> {
  await mkdir(options.path, { mode: options.mode });
  const handle = await open(options.path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    await handle.chmod(options.mode);
    if (options.owner) await handle.chown(options.owner.uid, options.owner.gid);
  } finally {
    await handle.close();
  }
}

export interface TreeEntry {
  /** Path below the tree's root; `.` for the root itself. */
  readonly path: string;
  readonly kind: 'directory' | 'file' | 'symlink';
}

/** Everything below `root`, folders before what they hold, the root first. */
export async function listTree(root: string): Promise<TreeEntry[]> {
  const entries: TreeEntry[] = [{ path: '.', kind: 'directory' }];
  for (let index = 0; index < entries.length; index++) {
    const parent = entries[index];
    if (parent?.kind !== 'directory') continue;
    for (const child of await readdir(join(root, parent.path), { withFileTypes: true })) {
      const path = join(parent.path, child.name);
      if (child.isDirectory()) entries.push({ path, kind: 'directory' });
      else if (child.isSymbolicLink()) entries.push({ path, kind: 'symlink' });
      else if (child.isFile()) entries.push({ path, kind: 'file' });
    }
  }
  return entries;
}

/**
 * Copies a tree to a place that does not exist yet, as copy-on-write clones where the file system can, gives it to
 * `owner` and makes it last, but for the name of the tree itself in its parent. Files keep their modes, folders are
 * their owner's alone.
 */
export async function copyTreeDurably(options: {
  from: string;
  to: string;
  owner: Owner | null;
  signal: AbortSignal;
}): Promise<void> {
  const entries = await listTree(options.from);
  const of = (kind: TreeEntry['kind']) => entries.filter((entry) => entry.kind === kind);
  for (const { path } of of('directory')) await mkdir(join(options.to, path), { mode: 0o700 });
  for (const { path } of of('symlink')) {
    await symlink(await readlink(join(options.from, path)), join(options.to, path));
    if (options.owner) await lchown(join(options.to, path), options.owner.uid, options.owner.gid);
  }
  const { owner, signal } = options;
  await forEachConcurrently(of('file'), async ({ path }) => {
    throwIfCancelled(signal);
    const target = join(options.to, path);
    await copyFile(join(options.from, path), target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    if (owner) await chown(target, owner.uid, owner.gid);
  });
  for (const { path } of of('directory')) {
    if (owner) await chown(join(options.to, path), owner.uid, owner.gid);
  }
  throwIfCancelled(signal);
  await syncTree(options.to);
}

/** Gives everything below `root` to `owner`. */
export async function ownTree(options: { root: string; owner: Owner }): Promise<void> {
  await forEachConcurrently(await listTree(options.root), async ({ path }) => {
    await lchown(join(options.root, path), options.owner.uid, options.owner.gid);
  });
}

/** Makes everything below `root` last, but for the root's own name: in one sync, which takes half the time of making a virtual cluster. */
export async function syncTree(root: string): Promise<void> {
  if (!(await syncFileSystemOf(root))) await syncEach(root);
}

async function syncEach(root: string): Promise<void> {
  const entries = (await listTree(root)).filter((entry) => entry.kind !== 'symlink');
  await forEachConcurrently(entries, async ({ path }) => syncPath(join(root, path)));
}

/** Runs `task` for every item, a bounded number at a time. The first failure is thrown once nothing runs any more. */
export async function forEachConcurrently<T>(
  items: readonly T[],
  task: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const failures: unknown[] = [];
  const lane = async () => {
    for (const item of queue) {
      if (failures.length > 0) return;
      await task(item).catch((error: unknown) => failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT_FILES }, lane));
  if (failures.length > 0) throw failures[0];
}

/** Names the disk when it is full, with everything else left as it was thrown. */
export function withDiskFullNamed(error: unknown, what: string): unknown {
  const errno = errnoOf(error);
  if (errno !== 'ENOSPC' && errno !== 'EDQUOT') return error;
  return new AppError('disk_full', `no space left on the device while ${what}`, {
    cause: error,
    hint: 'free space on the file system of the store, or give it a larger one',
  });
}
