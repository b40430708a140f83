import { AppError, assert, CorruptError } from '../base/index.ts';
import { type BlobKey, parseBlobKey } from './blob-key.ts';
import {
  BLOB_CHUNK_BYTES_MAX,
  type BlobEntry,
  type BlobRange,
  type BlobStore,
  type BlobUpload,
  type SignalOptions,
} from './blob-store.ts';
import { putWhole, throwIfAborted } from './read.ts';

/** A store that lives as long as the process: for tests, and the model the other drivers are compared with. */
export function memoryBlobStore(options: { readonly displayUri: string }): BlobStore {
  return new MemoryBlobStore(options.displayUri);
}

class MemoryBlobStore implements BlobStore {
  readonly displayUri: string;
  readonly #blobs = new Map<BlobKey, Uint8Array>();

  constructor(displayUri: string) {
    this.displayUri = displayUri;
  }

  put(key: BlobKey, content: Uint8Array | AsyncIterable<Uint8Array>, options: SignalOptions): Promise<void> {
    return putWhole(this, key, { content, ...options });
  }

  async beginUpload(key: BlobKey, { signal }: SignalOptions): Promise<BlobUpload> {
    throwIfAborted(signal);
    this.#refuseExisting(key);
    return new MemoryUpload(signal, (bytes) => {
      this.#refuseExisting(key);
      this.#blobs.set(key, bytes);
    });
  }

  async *get(
    key: BlobKey,
    { range, signal }: SignalOptions & { readonly range?: BlobRange },
  ): AsyncIterable<Uint8Array> {
    throwIfAborted(signal);
    const bytes = this.#blobs.get(key);
    if (bytes === undefined) throw new AppError('blob_not_found', `no object ${key} in ${this.displayUri}`);
    const begin = range?.offset ?? 0;
    const end = begin + (range?.length ?? bytes.length);
    if (end > bytes.length) {
      throw new CorruptError(
        `${key} in ${this.displayUri} ends at byte ${bytes.length}, expected at least ${end}`,
      );
    }
    for (let at = begin; at < end; at += BLOB_CHUNK_BYTES_MAX) {
      throwIfAborted(signal);
      yield new Uint8Array(bytes.subarray(at, Math.min(at + BLOB_CHUNK_BYTES_MAX, end)));
    }
  }

  async size(key: BlobKey, { signal }: SignalOptions): Promise<number | null> {
    throwIfAborted(signal);
    return this.#blobs.get(key)?.length ?? null;
  }

  async *list(
    folder: BlobKey | '',
    { deep, signal }: SignalOptions & { readonly deep: boolean },
  ): AsyncIterable<BlobEntry> {
    const prefix = folder === '' ? '' : `${folder}/`;
    let lastFolder: string | null = null;
    for (const key of [...this.#blobs.keys()].sort(compareKeys)) {
      throwIfAborted(signal);
      const bytes = this.#blobs.get(key);
      if (bytes === undefined || !key.startsWith(prefix)) continue;
      const slash = deep ? -1 : key.indexOf('/', prefix.length);
      if (slash === -1) {
        yield { kind: 'blob', key, sizeBytes: bytes.length };
      } else if (key.slice(0, slash) !== lastFolder) {
        lastFolder = key.slice(0, slash);
        yield { kind: 'folder', key: parseBlobKey(lastFolder) };
      }
    }
  }

  async delete(key: BlobKey, { signal }: SignalOptions): Promise<void> {
    throwIfAborted(signal);
    this.#blobs.delete(key);
  }

  async discardUploads(_folder: BlobKey | '', { signal }: SignalOptions): Promise<void> {
    throwIfAborted(signal);
  }

  #refuseExisting(key: BlobKey): void {
    if (!this.#blobs.has(key)) return;
    throw new AppError('blob_exists', `object ${key} already exists in ${this.displayUri}`);
  }
}

class MemoryUpload implements BlobUpload {
  readonly #signal: AbortSignal;
  readonly #publish: (bytes: Uint8Array) => void;
  readonly #chunks: Uint8Array[] = [];
  #ended = false;

  constructor(signal: AbortSignal, publish: (bytes: Uint8Array) => void) {
    this.#signal = signal;
    this.#publish = publish;
  }

  async append(chunk: Uint8Array): Promise<void> {
    throwIfAborted(this.#signal);
    assert(!this.#ended, 'append to an ended upload');
    this.#chunks.push(new Uint8Array(chunk)); // A copy; `slice` of a Buffer would be none.
  }

  async commit(): Promise<void> {
    throwIfAborted(this.#signal);
    assert(!this.#ended, 'commit of an ended upload');
    this.#ended = true;
    this.#publish(Buffer.concat(this.#chunks));
  }

  async abort(): Promise<void> {
    this.#ended = true;
    this.#chunks.length = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort();
  }
}

/** Order of `list`: by the bytes of UTF-8, which JavaScript's own order of strings is not. */
export function compareKeys(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}
