/** A zip file that is written piece by piece: what is in it need not fit into memory. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { Zip, ZipDeflate } from 'fflate';
import { AppError, errnoOf } from '../../base/index.ts';

export class Archive implements Disposable {
  readonly #path: string;
  readonly #partial: string;
  readonly #fd: number;
  readonly #zip: Zip;
  #failure: Error | undefined;
  #isOpen = true;

  /** Replaces what is at `path` when it is complete. @throws AppError `io` */
  constructor(path: string) {
    this.#path = path;
    this.#partial = `${path}.partial`;
    this.#fd = told(path, () => openSync(this.#partial, 'w', 0o600));
    this.#zip = new Zip((error, bytes) => {
      if (error !== null) this.#failure ??= error;
      if (this.#failure !== undefined) return;
      try {
        for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
      } catch (thrown) {
        this.#failure = thrown as Error; // It must not unwind through the compressor.
      }
    });
  }

  /** @throws AppError `io` */
  add(name: string, text: string): void {
    this.addPieces(name, [Buffer.from(text)]);
  }

  /** @throws AppError `io` */
  addPieces(name: string, pieces: Iterable<Uint8Array>): void {
    const entry = new ZipDeflate(name, { level: 6 });
    this.#zip.add(entry);
    for (const piece of pieces) entry.push(piece);
    entry.push(new Uint8Array(), true);
    this.#requireWritten();
  }

  /** Makes it durable under its name. @throws AppError `io` */
  finish(): void {
    this.#zip.end();
    this.#requireWritten();
    told(this.#path, () => {
      fsyncSync(this.#fd);
      this.#close();
      renameSync(this.#partial, this.#path);
    });
  }

  /** Leaves nothing behind of what was not finished. */
  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#close();
    rmSync(this.#partial, { force: true });
  }

  #requireWritten(): void {
    const failure = this.#failure;
    if (failure === undefined) return;
    told(this.#path, () => {
      throw failure;
    });
  }

  #close(): void {
    this.#isOpen = false;
    closeSync(this.#fd);
  }
}

function told<T>(path: string, write: () => T): T {
  try {
    return write();
  } catch (error) {
    throw new AppError('io', `cannot write ${path}: ${errnoOf(error) ?? String(error)}`, { cause: error });
  }
}
