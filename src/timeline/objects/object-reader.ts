import { AppError, CorruptError } from '../../base/index.ts';
import type { BlobKey, BlobStore } from '../../blob/index.ts';

/**
 * Reads an object from its beginning in pieces of asked-for length. An object that should exist and does not is damage of
 * the backup, and is reported so, by its name.
 */
export class ObjectReader implements AsyncDisposable {
  readonly name: string;
  readonly #iterator: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(
    store: BlobStore,
    key: BlobKey,
    options: {
      readonly range?: { readonly offset: number; readonly length: number };
      readonly signal: AbortSignal;
    },
  ) {
    this.name = key;
    this.#iterator = store.get(key, options)[Symbol.asyncIterator]();
  }

  /** The next `length` bytes. @throws CorruptError when there are not so many */
  async take(length: number): Promise<Uint8Array> {
    if (this.#rest.length >= length) return this.#cut(length);
    const pieces = [this.#rest];
    let missing = length - this.#rest.length;
    while (missing > 0) {
      const chunk = await this.#next();
      if (chunk === null) throw new CorruptError(`${this.name} is damaged: it ends too early`);
      this.#rest = chunk;
      pieces.push(this.#cut(Math.min(missing, chunk.length)));
      missing -= pieces.at(-1)?.length ?? 0;
    }
    return Buffer.concat(pieces, length);
  }

  /** @throws CorruptError when there are bytes left */
  async end(): Promise<void> {
    if (this.#rest.length > 0 || (await this.#next()) !== null) {
      throw new CorruptError(`${this.name} is damaged: it is too long`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#iterator.return?.();
  }

  #cut(length: number): Uint8Array {
    const piece = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return piece;
  }

  async #next(): Promise<Uint8Array | null> {
    try {
      const next = await this.#iterator.next();
      return next.done === true ? null : next.value;
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'blob_not_found') throw error;
      throw new CorruptError(`${this.name} is missing`, { cause: error });
    }
  }
}
