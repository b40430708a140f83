/** The objects of one encrypted chain of backups, encrypted when they are written and opened when they are read. */
import { AppError, CorruptError, type Rng } from '../../base/index.ts';
import {
  type BlobEntry,
  type BlobKey,
  type BlobRange,
  type BlobStore,
  type BlobUpload,
  readBlob,
  type SignalOptions,
} from '../../blob/index.ts';
import type { DataKey } from '../../keys/index.ts';
import {
  CHUNK_BYTES,
  chunkCount,
  chunkOffset,
  ObjectOpener,
  ObjectSealer,
  openedBytes,
  SEALED_HEADER_BYTES,
  SEALED_SALT_BYTES,
  sealedBytes,
  STORED_CHUNK_BYTES,
} from '../format/sealed-object.ts';
import { ObjectReader } from '../objects/object-reader.ts';

/** Encrypted chunks travel to storage in pieces of so many. */
const CHUNKS_TOGETHER = 16;
/** Objects whose size and key are remembered: packs are read in many ranges. */
const OPENERS_MAX = 256;

/**
 * A store of which some objects are encrypted. Sizes, ranges and listings are those of the open content. Memory of an upload is 1 MiB and a
 * chunk, of a read a piece, whatever the object's size.
 */
export function sealedBlobStore(options: {
  readonly inner: BlobStore;
  readonly dataKey: DataKey;
  readonly isSealed: (key: BlobKey) => boolean;
  /** Done before the first object is encrypted: without what it writes nobody would ever open one. */
  readonly beforeSealing?: (options: SignalOptions) => Promise<void>;
  readonly rng: Rng;
}): BlobStore {
  return new SealedBlobStore(options);
}

interface OpenObject {
  readonly storedBytes: number;
  readonly plainBytes: number;
  readonly opener: ObjectOpener;
}

class SealedBlobStore implements BlobStore {
  readonly displayUri: string;
  readonly #inner: BlobStore;
  readonly #dataKey: DataKey;
  readonly #isSealed: (key: BlobKey) => boolean;
  readonly #beforeSealing: (options: SignalOptions) => Promise<void>;
  #isReady = false;
  readonly #rng: Rng;
  /** Written once, an object never changes; the one used last is at the end. */
  readonly #open = new Map<BlobKey, OpenObject>();

  constructor(options: Parameters<typeof sealedBlobStore>[0]) {
    this.displayUri = options.inner.displayUri;
    this.#inner = options.inner;
    this.#dataKey = options.dataKey;
    this.#isSealed = options.isSealed;
    this.#beforeSealing = options.beforeSealing ?? (() => Promise.resolve());
    this.#rng = options.rng;
  }

  async put(
    key: BlobKey,
    content: Uint8Array | AsyncIterable<Uint8Array>,
    options: SignalOptions,
  ): Promise<void> {
    if (!this.#isSealed(key)) return this.#inner.put(key, content, options);
    const sealing = new ChunkStream(await this.#sealer(key, options));
    if (!(content instanceof Uint8Array)) return this.#inner.put(key, sealing.all(content), options);
    return this.#inner.put(key, sealing.whole(content), options);
  }

  async beginUpload(key: BlobKey, options: SignalOptions): Promise<BlobUpload> {
    if (!this.#isSealed(key)) return this.#inner.beginUpload(key, options);
    const sealer = await this.#sealer(key, options);
    return new SealedUpload(await this.#inner.beginUpload(key, options), sealer);
  }

  async *get(
    key: BlobKey,
    options: SignalOptions & { readonly range?: BlobRange },
  ): AsyncIterable<Uint8Array> {
    if (!this.#isSealed(key)) return yield* this.#inner.get(key, options);
    const object = await this.#opened(key, options);
    if (object === null) throw new AppError('blob_not_found', `no object ${key} in ${this.displayUri}`);
    const { offset, length } = options.range ?? { offset: 0, length: object.plainBytes };
    if (offset + length > object.plainBytes) {
      throw new CorruptError(`${key} in ${this.displayUri} is damaged: it ends too early`);
    }
    // Also of an empty object its one chunk is opened: it says that nothing was cut off.
    if (length > 0 || options.range === undefined)
      yield* this.#chunks(key, { object, offset, length, ...options });
  }

  async size(key: BlobKey, options: SignalOptions): Promise<number | null> {
    const storedBytes = await this.#inner.size(key, options);
    return storedBytes === null || !this.#isSealed(key) ? storedBytes : requiredBytes(storedBytes, key);
  }

  async *list(
    folder: BlobKey | '',
    options: SignalOptions & { readonly deep: boolean },
  ): AsyncIterable<BlobEntry> {
    for await (const entry of this.#inner.list(folder, options)) {
      // A damaged object is listed all the same: who reads it is told.
      const isSealed = entry.kind === 'blob' && this.#isSealed(entry.key);
      yield isSealed ? { ...entry, sizeBytes: openedBytes(entry.sizeBytes) ?? entry.sizeBytes } : entry;
    }
  }

  delete(key: BlobKey, options: SignalOptions): Promise<void> {
    this.#open.delete(key);
    return this.#inner.delete(key, options);
  }

  discardUploads(folder: BlobKey | '', options: SignalOptions): Promise<void> {
    return this.#inner.discardUploads(folder, options);
  }

  async #sealer(key: BlobKey, options: SignalOptions): Promise<ObjectSealer> {
    if (!this.#isReady) await this.#beforeSealing(options);
    this.#isReady = true;
    return new ObjectSealer({ dataKey: this.#dataKey, path: key, salt: this.#rng.bytes(SEALED_SALT_BYTES) });
  }

  async #opened(key: BlobKey, { signal }: SignalOptions): Promise<OpenObject | null> {
    const known = this.#open.get(key);
    if (known !== undefined) {
      this.#open.delete(key);
      this.#open.set(key, known);
      return known;
    }
    const storedBytes = await this.#inner.size(key, { signal });
    if (storedBytes === null) return null;
    const plainBytes = requiredBytes(storedBytes, key);
    const range = { offset: 0, length: SEALED_HEADER_BYTES };
    const header = await readBlob(this.#inner, key, { bytesMax: SEALED_HEADER_BYTES, range, signal });
    const opener = new ObjectOpener(header, { dataKey: this.#dataKey, path: key });
    const object = { storedBytes, plainBytes, opener };
    this.#open.set(key, object);
    const [oldest] = this.#open.keys();
    if (this.#open.size > OPENERS_MAX && oldest !== undefined) this.#open.delete(oldest);
    return object;
  }

  /** Content from `offset` on, for which the chunks that hold it are read in one go. */
  async *#chunks(
    key: BlobKey,
    options: SignalOptions & BlobRange & { readonly object: OpenObject },
  ): AsyncIterable<Uint8Array> {
    const { object, offset, length, signal } = options;
    const { storedBytes, opener } = object;
    const lastIndex = chunkCount(storedBytes) - 1;
    const firstWanted = Math.floor(offset / CHUNK_BYTES);
    const lastWanted = Math.floor((offset + Math.max(length, 1) - 1) / CHUNK_BYTES);
    const begin = chunkOffset(firstWanted);
    const end = Math.min(chunkOffset(lastWanted + 1), storedBytes);
    await using reader = new ObjectReader(this.#inner, key, {
      range: { offset: begin, length: end - begin },
      signal,
    });
    for (let index = firstWanted; index <= lastWanted; index++) {
      const storedLength = Math.min(STORED_CHUNK_BYTES, storedBytes - chunkOffset(index));
      const plain = opener.openChunk(await reader.take(storedLength), { index, isLast: index === lastIndex });
      const from = Math.max(offset - index * CHUNK_BYTES, 0);
      const to = Math.min(offset + length - index * CHUNK_BYTES, plain.length);
      if (to > from) yield plain.subarray(from, to);
    }
  }
}

/** @throws CorruptError when no encrypted object has this length */
function requiredBytes(storedBytes: number, key: BlobKey): number {
  const plainBytes = openedBytes(storedBytes);
  if (plainBytes !== null) return plainBytes;
  throw new CorruptError(`${key} is damaged: no encrypted object ends after ${storedBytes} bytes`);
}

/** Cuts content into chunks and gives them encrypted, in pieces that are good until the next is asked for. */
class ChunkStream {
  readonly #sealer: ObjectSealer;
  /** Held back until it is known whether it is the last. */
  readonly #chunk = new Uint8Array(CHUNK_BYTES);
  readonly #piece = new Uint8Array(SEALED_HEADER_BYTES + CHUNKS_TOGETHER * STORED_CHUNK_BYTES);
  #held = 0;
  #filled = 0;
  #index = 0;

  constructor(sealer: ObjectSealer) {
    this.#sealer = sealer;
    this.#piece.set(sealer.header);
    this.#filled = SEALED_HEADER_BYTES;
  }

  *add(content: Uint8Array): Iterable<Uint8Array> {
    for (let at = 0; at < content.length; ) {
      if (this.#held === CHUNK_BYTES) {
        this.#seal({ isLast: false });
        if (this.#filled + STORED_CHUNK_BYTES > this.#piece.length) yield this.#takePiece();
      }
      const taken = Math.min(content.length - at, CHUNK_BYTES - this.#held);
      this.#chunk.set(content.subarray(at, at + taken), this.#held);
      this.#held += taken;
      at += taken;
    }
  }

  *end(): Iterable<Uint8Array> {
    this.#seal({ isLast: true });
    yield this.#takePiece();
  }

  /** All of an object that is in memory, in one buffer of just its length. */
  whole(content: Uint8Array): Uint8Array {
    const stored = new Uint8Array(sealedBytes(content.length));
    let filled = 0;
    for (const pieces of [this.add(content), this.end()]) {
      for (const piece of pieces) {
        stored.set(piece, filled);
        filled += piece.length;
      }
    }
    return stored;
  }

  async *all(content: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    for await (const part of content) for (const piece of this.add(part)) yield piece.slice();
    for (const piece of this.end()) yield piece.slice();
  }

  #seal({ isLast }: { isLast: boolean }): void {
    const plain = this.#chunk.subarray(0, this.#held);
    const place = { index: this.#index, isLast, into: this.#piece, at: this.#filled };
    this.#filled += this.#sealer.sealChunk(plain, place);
    this.#index += 1;
    this.#held = 0;
  }

  #takePiece(): Uint8Array {
    const piece = this.#piece.subarray(0, this.#filled);
    this.#filled = 0;
    return piece;
  }
}

class SealedUpload implements BlobUpload {
  readonly #upload: BlobUpload;
  readonly #sealing: ChunkStream;

  constructor(upload: BlobUpload, sealer: ObjectSealer) {
    this.#upload = upload;
    this.#sealing = new ChunkStream(sealer);
  }

  async append(chunk: Uint8Array): Promise<void> {
    for (const piece of this.#sealing.add(chunk)) await this.#upload.append(piece);
  }

  async commit(): Promise<void> {
    for (const piece of this.#sealing.end()) await this.#upload.append(piece);
    await this.#upload.commit();
  }

  abort(): Promise<void> {
    return this.#upload.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#upload[Symbol.asyncDispose]();
  }
}
