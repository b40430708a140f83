import { AppError, CorruptError, type Rng } from '../../base/index.ts';
import { type BlobKey, parseBlobKey } from '../blob-key.ts';
import type { BlobEntry, BlobRange, BlobStore, BlobUpload, SignalOptions } from '../blob-store.ts';
import { compareKeys } from '../memory.ts';
import { chunksOf, throwIfAborted } from '../read.ts';
import type { ListPage, ObjectService } from './object-service.ts';
import { readInParallel } from './parallel-read.ts';
import { PartWriter } from './part-writer.ts';
import { type Patience, withPatience } from './patience.ts';

const TOKEN_BYTES = 16;

/** Objects below a prefix of a service's bucket. Closing it ends the connections. */
export function serviceBlobStore(options: {
  readonly service: ObjectService;
  /** Empty, or a folder without slashes at its ends. */
  readonly folder: string;
  readonly patience: Patience;
}): BlobStore {
  return new ServiceBlobStore(options);
}

class ServiceBlobStore implements BlobStore {
  readonly displayUri: string;
  readonly #service: ObjectService;
  readonly #prefix: string;
  readonly #patience: Patience;

  constructor(options: { service: ObjectService; folder: string; patience: Patience }) {
    this.displayUri = options.service.displayUri;
    this.#service = options.service;
    this.#prefix = options.folder === '' ? '' : `${options.folder}/`;
    this.#patience = options.patience;
  }

  async put(
    key: BlobKey,
    content: Uint8Array | AsyncIterable<Uint8Array>,
    options: SignalOptions,
  ): Promise<void> {
    await using upload = await this.beginUpload(key, options);
    for await (const chunk of chunksOf(content)) await upload.append(chunk);
    await upload.commit();
  }

  async beginUpload(key: BlobKey, { signal }: SignalOptions): Promise<BlobUpload> {
    throwIfAborted(signal);
    const object = { name: this.#nameOf(key), token: newToken(this.#patience.rng) };
    return new PartWriter({ service: this.#service, patience: this.#patience, key, object, signal });
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
    const stored = await withPatience(this.#patience, options, (each) => this.#service.describe(name, each));
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
      const page: ListPage = await withPatience(this.#patience, { signal }, (options) =>
        this.#service.listPage(request, options),
      );
      yield* this.#entriesOf(page);
      pageToken = page.nextPageToken;
    } while (pageToken !== null);
  }

  async delete(key: BlobKey, options: SignalOptions): Promise<void> {
    const name = this.#nameOf(key);
    await withPatience(this.#patience, options, (each) => this.#service.remove(name, each));
  }

  async discardUploads(folder: BlobKey | '', options: SignalOptions): Promise<void> {
    const prefix = folder === '' ? this.#prefix : `${this.#nameOf(folder)}/`;
    await withPatience(this.#patience, options, (each) => this.#service.discardParts(prefix, each));
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
  async #fetch(key: BlobKey, range: BlobRange, options: SignalOptions): Promise<Uint8Array> {
    const name = this.#nameOf(key);
    return withPatience(this.#patience, options, async (each) => {
      const bytes = await this.#service.read({ name, range }, each);
      if (bytes.length === range.length) return bytes;
      const end = range.offset + range.length;
      const size = (await this.#service.describe(name, each))?.sizeBytes ?? 0;
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
