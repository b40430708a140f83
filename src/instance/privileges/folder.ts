/**
 * Folders by open descriptors: what is named below one is looked up in the very folder that was opened, one name at a time, and links are
 * never followed. Node.js has no `openat`; `/proc/self/fd/N/NAME` is the same to the kernel. Synchronous throughout.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
} from 'node:fs';
import { readdirSync, type Stats, unlinkSync } from 'node:fs';
import { AppError, errnoOf } from '../../base/index.ts';
import type { Owner } from '../durable-files.ts';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;
/** A pipe or a device that somebody has put there must not stop us. */
const CAREFULLY = O_NOFOLLOW | O_NONBLOCK;
const MODE_BITS = 0o7777;
const NAME = /^(?!\.{1,2}$)[^/\0]{1,255}$/;

/** What is to be true of a file or folder. */
export interface Ownership extends Owner {
  /** Undefined leaves it as it is. */
  readonly mode?: number;
}

export class Folder implements Disposable {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Links above the folder are followed: the path comes from the operator. */
  static open(path: string): Folder {
    return new Folder(openSync(path, O_RDONLY | O_DIRECTORY | CAREFULLY));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  /** @throws with errno: `ENOENT`, `ENOTDIR` also for a link */
  folder(name: string): Folder {
    return Folder.open(this.#path(name));
  }

  /** Null when there is none, or no folder. */
  folderIfAny(name: string): Folder | null {
    try {
      return this.folder(name);
    } catch (error) {
      if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoOf(error) ?? '')) return null;
      throw error;
    }
  }

  names(): string[] {
    return readdirSync(`/proc/self/fd/${this.#fd}`);
  }

  status(): Stats {
    return fstatSync(this.#fd);
  }

  /** Of what has the name, not of what it points to; undefined when there is nothing. */
  look(name: string): Stats | undefined {
    return lstatSync(this.#path(name), { throwIfNoEntry: false });
  }

  /** An ordinary file, or null when there is none or something else; the caller closes it. */
  file(name: string, flags: number = O_RDONLY): number | null {
    let fd: number;
    try {
      fd = openSync(this.#path(name), flags | CAREFULLY);
    } catch (error) {
      if (['ENOENT', 'ELOOP', 'ENXIO', 'EISDIR'].includes(errnoOf(error) ?? '')) return null;
      throw error;
    }
    if (fstatSync(fd).isFile()) return fd;
    closeSync(fd);
    return null;
  }

  /** A file that was not there before, open for writing. @throws with errno `EEXIST` */
  newFile(name: string, flags = 0): number {
    return openSync(this.#path(name), O_WRONLY | O_CREAT | O_EXCL | flags | CAREFULLY, 0o600);
  }

  /** False when there was nothing. */
  remove(name: string): boolean {
    try {
      unlinkSync(this.#path(name));
      return true;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    }
  }

  sync(): void {
    fsyncSync(this.#fd);
  }

  own(ownership: Ownership): void {
    own(this.#fd, ownership);
  }

  /** Leaves alone what is as it should be, what is no ordinary file, and what belongs to somebody else than those. */
  ownFile(
    name: string,
    options: { readonly ownership: Ownership; readonly from: (status: Stats) => boolean },
  ) {
    const { ownership, from } = options;
    const seen = this.look(name);
    if (seen === undefined || !seen.isFile() || isOwned(seen, ownership)) return;
    const fd = this.file(name);
    if (fd === null) return;
    try {
      // What was opened counts, and not what was seen.
      if (from(fstatSync(fd))) own(fd, ownership);
    } finally {
      closeSync(fd);
    }
  }

  #path(name: string): string {
    if (!NAME.test(name)) throw new AppError('internal', `not the name of a file: ${JSON.stringify(name)}`);
    return `/proc/self/fd/${this.#fd}/${name}`;
  }
}

/** The owner first: the kernel takes bits of the mode away from what changes hands. */
export function own(fd: number, ownership: Ownership): void {
  const status = fstatSync(fd);
  if (isOwned(status, ownership)) return;
  const { uid, gid, mode } = ownership;
  if (status.uid !== uid || status.gid !== gid) fchownSync(fd, uid, gid);
  if (mode !== undefined) fchmodSync(fd, mode);
}

export function isOwned(status: Stats, { uid, gid, mode }: Ownership): boolean {
  const isMode = mode === undefined || (status.mode & MODE_BITS) === mode;
  return status.uid === uid && status.gid === gid && isMode;
}
