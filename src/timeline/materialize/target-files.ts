import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Only we create it, and never through a link. */
const FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
const MODE = 0o600;

/** Files being written by one task; neighbours in a pack are mostly of one file, so few are open. */
export class TargetFiles implements Disposable {
  readonly #directory: string;
  readonly #open = new Map<string, number>();
  #present = new Uint8Array(0);
  writtenBytes = 0;

  constructor({ directory }: { readonly directory: string }) {
    this.#directory = directory;
  }

  /** @param options.isPerhapsThere these bytes may stand there already; then they are not written, and the disk has nothing to do */
  write(
    path: string,
    bytes: Uint8Array,
    { position, isPerhapsThere = false }: { readonly position: number; readonly isPerhapsThere?: boolean },
  ): void {
    const fd = this.#open.get(path) ?? this.#openFile(path);
    if (isPerhapsThere && this.#isThere(fd, bytes, position)) return;
    for (let at = 0; at < bytes.length; ) {
      at += writeSync(fd, bytes, at, bytes.length - at, position + at);
    }
    this.writtenBytes += bytes.length;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open.values()) closeSync(fd);
    this.#open.clear();
  }

  #isThere(fd: number, bytes: Uint8Array, position: number): boolean {
    if (this.#present.length < bytes.length) this.#present = new Uint8Array(bytes.length);
    const count = readSync(fd, this.#present, 0, bytes.length, position);
    return count === bytes.length && Buffer.compare(this.#present.subarray(0, count), bytes) === 0;
  }

  #openFile(path: string): number {
    const fd = openSync(join(this.#directory, path), FLAGS, MODE);
    this.#open.set(path, fd);
    return fd;
  }
}
