import type { BlobKey } from './blob-key.ts';

/** No chunk that a store hands out is longer. */
export const BLOB_CHUNK_BYTES_MAX = 1024 * 1024;

export interface SignalOptions {
  readonly signal: AbortSignal;
}

/** Bytes `offset` to `offset + length` of an object. */
export interface BlobRange {
  readonly offset: number;
  readonly length: number;
}

export type BlobEntry =
  | { readonly kind: 'blob'; readonly key: BlobKey; readonly sizeBytes: number }
  | { readonly kind: 'folder'; readonly key: BlobKey };

/**
 * Object storage, as little of it as we need.
 *
 * An object is written once, whole, and never changed: it appears under its key in the moment its upload commits, with
 * all its bytes durable, or it does not appear. Two writers of one key: exactly one commits, the other gets
 * `blob_exists`. What was committed can be read, sized and listed at once by everybody (all the services we know are
 * strongly consistent today). Folders do not exist as such: a folder is what the keys below it have in common.
 *
 * Every call may fail with `blob_unavailable` (trying again can help), `io` or `disk_full` (it cannot), or `cancelled`
 * when its signal aborts. Every error names the object. A store holds no state that a crash could lose.
 */
export interface BlobStore {
  /** Where it is, secrets redacted; for messages. */
  readonly displayUri: string;

  /** Writes an object whole. @throws AppError `blob_exists` when there is one under this key, which stays as it is */
  put(key: BlobKey, content: Uint8Array | AsyncIterable<Uint8Array>, options: SignalOptions): Promise<void>;

  /** Begins an object of unknown size. Nothing is visible under the key before `commit`. */
  beginUpload(key: BlobKey, options: SignalOptions): Promise<BlobUpload>;

  /**
   * Reads an object or a range of it, in chunks of at most `BLOB_CHUNK_BYTES_MAX` bytes; each chunk belongs to the
   * caller. Either every byte asked for is yielded or the iteration throws.
   * @throws AppError `blob_not_found`, or `data_corrupt` when the object ends before the range does
   */
  get(key: BlobKey, options: SignalOptions & { readonly range?: BlobRange }): AsyncIterable<Uint8Array>;

  /** Size of an object in bytes, or null when there is none. */
  size(key: BlobKey, options: SignalOptions): Promise<number | null>;

  /**
   * What lies below a folder (`''` is the root), ascending by the bytes of the key. `deep` yields every object at any
   * depth and no folders; otherwise the objects directly inside, and each folder once. An absent folder is empty.
   */
  list(folder: BlobKey | '', options: SignalOptions & { readonly deep: boolean }): AsyncIterable<BlobEntry>;

  /** Removes an object. Harmless when there is none. */
  delete(key: BlobKey, options: SignalOptions): Promise<void>;

  /** Frees what uploads below a folder left that were neither committed nor aborted because their process died. */
  discardUploads(folder: BlobKey | '', options: SignalOptions): Promise<void>;
}

/** An object under way. Left without `commit`, it is as if it had never begun. */
export interface BlobUpload extends AsyncDisposable {
  /** Adds bytes; when it resolves, the chunk may be reused. Waits for room, so memory stays bounded. One at a time. */
  append(chunk: Uint8Array): Promise<void>;
  /** Makes the object durable and visible. @throws AppError `blob_exists` */
  commit(): Promise<void>;
  /** Gives it up and frees its space. Harmless after `commit` and when called twice. */
  abort(): Promise<void>;
}
