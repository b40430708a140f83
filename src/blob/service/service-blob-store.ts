import { AppError, CorruptError, isAppError, type Rng } from '../../base/index.ts';
import { type BlobKey, parseBlobKey } from '../blob-key.ts';
import type { BlobEntry, BlobRange, BlobStore, BlobUpload, SignalOptions } from '../blob-store.ts';
import { compareKeys } from '../memory.ts';
import { putWhole, throwIfAborted } from '../read.ts';
import type { ListPage, ObjectService } from './object-service.ts';
import { readInParallel } from './parallel-read.ts';
import { PartWriter } from './part-writer.ts';
import { type Patience, withPatience } from './patience.ts';
import { faultWithoutRights, serviceError } from './service-error.ts';

const TOKEN_BYTES = 16;

export interface ServiceBlobStoreOptions {
  /** Where it is, secrets left out. */
  readonly displayUri: string;
  /** Empty, or a folder without slashes at its ends. */
  readonly folder: string;
  readonly patience: Patience;
  /** Called at the first use: client libraries are large. */
  readonly open: () => Promise<ObjectService>;
}

/** Objects below a prefix of a service's bucket. */
export function serviceBlobStore(options: ServiceBlobStoreOptions): BlobStore {
  return new ServiceBlobStore(options);
}

class ServiceBlobStore implements BlobStore {
  readonly displayUri: string;
  readonly #open: () => Promise<ObjectService>;
  readonly #prefix: string;
  readonly #patience: Patience;
  #service: Promise<ObjectService> | null = null;

  constructor(options: ServiceBlobStoreOptions) {
    this.displayUri = options.displayUri;
    this.#open = options.open;
    this.#prefix = options.folder === '' ? '' : `${options.folder}/`;
    this.#patience = options.patience;
  }

  put(key: BlobKey, content: Uint8Array | AsyncIterable<Uint8Array>, options: SignalOptions): Promise<void> {
    return putWhole(this, key, { content, ...options });
  }

  async beginUpload(key: BlobKey, { signal }: SignalOptions): Promise<BlobUpload> {
    throwIfAborted(signal);
    const object = { name: this.#nameOf(key), token: newToken(this.#patience.rng) };
    const service = await this.#opened();
    return new PartWriter({ service, patience: this.#patience, key, object, signal });
  }

  async *get(
    key: BlobKey,
    { range, signal }: SignalOptions & { readonly range?: BlobRange },
  ): AsyncIterable<Uint8Array> {
    throwIfAborted(signal);
    const wanted = range ?? { offset: 0, length: await this.#requireSize(key, { signal }) };
    yield* readInParallel(wanted, { signal, fetch: (part, options) => this.#fetch(key, part, options) });
  }

  async size(key: BlobKey, options: SignalOptions): Promise<number | null> {
    const name = this.#nameOf(key);
    const stored = await this.#patiently(options, (service, each) => service.describe(name, each));
    return stored?.sizeBytes ?? null;
  }

  async *list(
    folder: BlobKey | '',
    { deep, signal }: SignalOptions & { readonly deep: boolean },
  ): AsyncIterable<BlobEntry> {
    const prefix = folder === '' ? this.#prefix : `${this.#nameOf(folder)}/`;
    let pageToken: string | null = null;
    do {
      const request = { prefix, shallow: !deep, pageToken };
      const page: ListPage = await this.#patiently({ signal }, (service, options) =>
        service.listPage(request, options),
      );
      yield* this.#entriesOf(page);
      pageToken = page.nextPageToken;
    } while (pageToken !== null);
  }

  async delete(key: BlobKey, options: SignalOptions): Promise<void> {
    const name = this.#nameOf(key);
    await this.#patiently(options, (service, each) => service.remove(name, each));
  }

  async discardUploads(folder: BlobKey | '', options: SignalOptions): Promise<void> {
    const prefix = folder === '' ? this.#prefix : `${this.#nameOf(folder)}/`;
    await this.#patiently(options, (service, each) => service.discardParts(prefix, each));
  }

  async #patiently<T>(
    options: SignalOptions & { readonly contentBytes?: number },
    work: (service: ObjectService, options: SignalOptions) => Promise<T>,
  ): Promise<T> {
    throwIfAborted(options.signal);
    return withPatience(this.#patience, options, async (each) => work(await this.#opened(), each));
  }

  /** Credentials that could not be found may be there the next time. */
  #opened(): Promise<ObjectService> {
    this.#service ??= this.#open().catch((error: unknown) => {
      this.#service = null;
      throw isAppError(error) ? error : serviceError(faultWithoutRights(error), this.displayUri);
    });
    return this.#service;
  }

  #nameOf(key: BlobKey): string {
    return `${this.#prefix}${key}`;
  }

  async #requireSize(key: BlobKey, options: SignalOptions): Promise<number> {
    const size = await this.size(key, options);
    if (size === null) throw new AppError('blob_not_found', `no object ${key} in ${this.displayUri}`);
    return size;
  }

  /** All of a range. A body that was cut on its way is asked for again; an object that is too short is damaged. */
  async #fetch(key: BlobKey, range: BlobRange, options: SignalOptions): Promise<readonly Uint8Array[]> {
    const name = this.#nameOf(key);
    return this.#patiently({ ...options, contentBytes: range.length }, async (service, each) => {
      const { chunks, contentRange } = await service.read({ name, range }, each);
      const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
      if (length === range.length) {
        if (beginOf(contentRange) === range.offset) return chunks;
        throw new AppError(
          'blob_unavailable',
          `a read of ${key} in ${this.displayUri} gave another part of it`,
        );
      }
      const end = range.offset + range.length;
      const size = (await service.describe(name, each))?.sizeBytes ?? 0;
      if (size < end) {
        throw new CorruptError(`${key} in ${this.displayUri} ends at byte ${size}, expected at least ${end}`);
      }
      throw new AppError('blob_unavailable', `a read of ${key} in ${this.displayUri} ended early`);
    });
  }

  /** Keys that are not ours to read (a folder's placeholder, a name with control characters) are passed over. */
  *#entriesOf(page: ListPage): Iterable<BlobEntry> {
    const entries = [
      ...page.objects.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
      ...page.folders.map((name) => ({ name, sizeBytes: null })),
    ].sort((left, right) => compareKeys(left.name, right.name));
    for (const { name, sizeBytes } of entries) {
      const key = keyOf(name.slice(this.#prefix.length, sizeBytes === null ? -1 : undefined));
      if (key === null) continue;
      yield sizeBytes === null ? { kind: 'folder', key } : { kind: 'blob', key, sizeBytes };
    }
  }
}

/** Where the bytes of an answer begin in their object. */
function beginOf(contentRange: string | null): number {
  return contentRange === null ? 0 : Number(/^bytes (\d+)-/.exec(contentRange)?.[1]);
}

function keyOf(text: string): BlobKey | null {
  try {
    return parseBlobKey(text);
  } catch {
    return null;
  }
}

function newToken(rng: Rng): string {
  return Buffer.from(rng.bytes(TOKEN_BYTES)).toString('hex');
}
