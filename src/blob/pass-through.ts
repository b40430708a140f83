import type { BlobKey } from './blob-key.ts';
import type { BlobEntry, BlobRange, BlobStore, BlobUpload, SignalOptions } from './blob-store.ts';

/** The same objects. Who extends it says what is different. */
export abstract class PassThroughBlobStore implements BlobStore {
  readonly displayUri: string;
  protected readonly inner: BlobStore;

  constructor(inner: BlobStore) {
    this.displayUri = inner.displayUri;
    this.inner = inner;
  }

  put(key: BlobKey, content: Uint8Array | AsyncIterable<Uint8Array>, options: SignalOptions): Promise<void> {
    return this.inner.put(key, content, options);
  }

  beginUpload(key: BlobKey, options: SignalOptions): Promise<BlobUpload> {
    return this.inner.beginUpload(key, options);
  }

  get(key: BlobKey, options: SignalOptions & { readonly range?: BlobRange }): AsyncIterable<Uint8Array> {
    return this.inner.get(key, options);
  }

  size(key: BlobKey, options: SignalOptions): Promise<number | null> {
    return this.inner.size(key, options);
  }

  list(folder: BlobKey | '', options: SignalOptions & { readonly deep: boolean }): AsyncIterable<BlobEntry> {
    return this.inner.list(folder, options);
  }

  delete(key: BlobKey, options: SignalOptions): Promise<void> {
    return this.inner.delete(key, options);
  }

  discardUploads(folder: BlobKey | '', options: SignalOptions): Promise<void> {
    return this.inner.discardUploads(folder, options);
  }
}
