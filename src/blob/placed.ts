import { AppError, isAppError } from '../base/index.ts';
import type { BlobKey } from './blob-key.ts';
import type { BlobEntry, BlobRange, BlobStore, BlobUpload, SignalOptions } from './blob-store.ts';
import { compareKeys } from './memory.ts';

/**
 * One store whose objects lie in several: each new one goes where `placeOf` says. Reading looks there first, then everywhere, so
 * objects may have been moved or put together since.
 */
export function placedBlobStore(options: {
  /** The first gives the name. */
  readonly places: readonly [BlobStore, ...BlobStore[]];
  /** Index of the place of a new object. */
  readonly placeOf: (key: BlobKey) => number;
}): BlobStore {
  return new PlacedBlobStore(options);
}

class PlacedBlobStore implements BlobStore {
  readonly displayUri: string;
  readonly #places: readonly [BlobStore, ...BlobStore[]];
  readonly #placeOf: (key: BlobKey) => number;

  constructor(options: {
    places: readonly [BlobStore, ...BlobStore[]];
    placeOf: (key: BlobKey) => number;
  }) {
    this.#places = options.places;
    this.#placeOf = options.placeOf;
    this.displayUri = options.places[0].displayUri;
  }

  put(key: BlobKey, content: Uint8Array | AsyncIterable<Uint8Array>, options: SignalOptions): Promise<void> {
    return this.#placeFor(key).put(key, content, options);
  }

  beginUpload(key: BlobKey, options: SignalOptions): Promise<BlobUpload> {
    return this.#placeFor(key).beginUpload(key, options);
  }

  async *get(
    key: BlobKey,
    options: SignalOptions & { readonly range?: BlobRange },
  ): AsyncIterable<Uint8Array> {
    const place = await this.#find(key, options);
    if (place === null) {
      const names = this.#places.map(({ displayUri }) => displayUri).join(' and ');
      throw new AppError('blob_not_found', `no object ${key} in ${names}`, {
        hint: 'name all locations that the backup was ever written to, the default first',
      });
    }
    yield* place.get(key, options);
  }

  async size(key: BlobKey, options: SignalOptions): Promise<number | null> {
    const place = await this.#find(key, options);
    return place === null ? null : place.size(key, options);
  }

  /** Objects of one key in two places are one. */
  async *list(
    folder: BlobKey | '',
    options: SignalOptions & { readonly deep: boolean },
  ): AsyncIterable<BlobEntry> {
    const found = new Map<string, BlobEntry>();
    for (const place of this.#places) {
      for await (const entry of place.list(folder, options)) {
        const name = entry.kind === 'folder' ? `${entry.key}/` : entry.key;
        if (!found.has(name)) found.set(name, entry);
      }
    }
    for (const [, entry] of [...found].sort(([left], [right]) => compareKeys(left, right))) yield entry;
  }

  async delete(key: BlobKey, options: SignalOptions): Promise<void> {
    for (const place of this.#places) await place.delete(key, options);
  }

  async discardUploads(folder: BlobKey | '', options: SignalOptions): Promise<void> {
    for (const place of this.#places) await place.discardUploads(folder, options);
  }

  #placeFor(key: BlobKey): BlobStore {
    return this.#places[this.#placeOf(key)] ?? this.#places[0];
  }

  /** Where an object is. A place that cannot be asked matters only when no other has it. */
  async #find(key: BlobKey, { signal }: SignalOptions): Promise<BlobStore | null> {
    const first = this.#placeFor(key);
    let failure: unknown = null;
    for (const place of [first, ...this.#places.filter((each) => each !== first)]) {
      try {
        if ((await place.size(key, { signal })) !== null) return place;
      } catch (error) {
        if (isAppError(error, 'cancelled')) throw error;
        failure ??= error;
      }
    }
    if (failure !== null) throw failure;
    return null;
  }
}
