import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';

/** Pieces of a result are written together up to about this length. */
const GATHERED_LENGTH_MAX = 32 * 1024;

/** Where results go: standard output, or the file of `\o`. */
export class Output {
  readonly #standard: Writable;
  #current: Writable;
  #gathered = '';

  constructor(standard: Writable) {
    this.#standard = standard;
    this.#current = standard;
  }

  /** Takes text; small pieces are gathered until `flush`. */
  write(text: string): void {
    this.#gathered += text;
    if (this.#gathered.length >= GATHERED_LENGTH_MAX) this.flush();
  }

  writeBytes(bytes: Uint8Array): void {
    this.flush();
    this.#current.write(bytes);
  }

  /** Passes on what was gathered. To be called before anything else is shown to the same person. */
  flush(): void {
    if (this.#gathered === '') return;
    const text = this.#gathered;
    this.#gathered = '';
    this.#current.write(text);
  }

  /** Resolves when more is welcome, undefined when it is now. */
  whenReady(): Promise<void> | undefined {
    const stream = this.#current;
    if (!stream.writableNeedDrain) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    const settle = () => {
      stream.off('drain', settle);
      stream.off('close', settle);
      resolve();
    };
    stream.on('drain', settle);
    stream.on('close', settle);
    return promise;
  }

  /** Results go to a file from now on, or with undefined to standard output again. Rejects when it cannot be opened. */
  async redirect(path: string | undefined): Promise<void> {
    const stream = path === undefined ? this.#standard : createWriteStream(path);
    if (path !== undefined) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      stream.once('open', () => resolve());
      stream.once('error', reject);
      await promise;
    }
    await this.close();
    this.#current = stream;
  }

  /** Ends the file, if there is one. */
  async close(): Promise<void> {
    this.flush();
    const stream = this.#current;
    this.#current = this.#standard;
    if (stream === this.#standard) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    stream.end(resolve);
    await promise;
  }
}
