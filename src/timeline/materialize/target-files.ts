import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Only we create it, and never through a link. */
const FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW;
const MODE = 0o600;

/** Files being written by one task; neighbours in a pack are mostly of one file, so few are open. */
export class TargetFiles implements Disposable {
  readonly #directory: string;
  readonly #open = new Map<string, number>();
  writtenBytes = 0;

  constructor({ directory }: { readonly directory: string }) {
    this.#directory = directory;
  }

  write(path: string, bytes: Uint8Array, { position }: { readonly position: number }): void {
    const fd = this.#open.get(path) ?? this.#openFile(path);
    for (let at = 0; at < bytes.length; ) {
      at += writeSync(fd, bytes, at, bytes.length - at, position + at);
    }
    this.writtenBytes += bytes.length;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open.values()) closeSync(fd);
    this.#open.clear();
  }

  #openFile(path: string): number {
    const fd = openSync(join(this.#directory, path), FLAGS, MODE);
    this.#open.set(path, fd);
    return fd;
  }
}
