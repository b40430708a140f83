import { isAppError, type Rng } from '../../base/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { completed, openManifest } from '../collection/completed.ts';
import { baseSummaryOf } from '../collection/summary.ts';
import { readManifestOutline } from '../format/manifest-file.ts';
import type { BaseSummary, TimelineReader, TimelineStoreLocation } from '../store-contract.ts';
import { openBases } from './bases.ts';

/** Bases that are remembered, of all virtual clusters together. */
const REMEMBERED_MAX = 256;

/** What a manifest says without its tables. */
export interface IndexedBase {
  readonly base: BaseSummary;
  /** Paths in the collection of the packs and log objects that it needs. */
  readonly objects: readonly string[];
}

/**
 * Lists the bases of timeline stores. A manifest never changes, so each is read and checked once for as long as it is remembered; that
 * it is still there is looked up every time.
 */
export class BaseIndex implements Pick<TimelineReader, 'bases'> {
  readonly #rng: Rng;
  readonly #remembered = new Map<string, IndexedBase>();

  constructor({ rng }: { readonly rng: Rng }) {
    this.#rng = rng;
  }

  /**
   * Complete bases, oldest first. One whose manifest is damaged is none: others lead to the same moments. Whoever deletes must not
   * look away like this: see `list`.
   */
  async bases(
    store: TimelineStoreLocation,
    options: { key: ClusterKey; signal: AbortSignal },
  ): Promise<readonly BaseSummary[]> {
    const isPassedOver = (error: unknown) => isAppError(error, 'data_corrupt');
    return (await this.#list(store, { ...options, isPassedOver })).map(({ base }) => base);
  }

  /** Complete bases, oldest first. @throws CorruptError, AppError `format_unsupported`, `backup_untrusted` */
  list(
    store: TimelineStoreLocation,
    options: { readonly key: ClusterKey; readonly signal: AbortSignal },
  ): Promise<readonly IndexedBase[]> {
    return this.#list(store, { ...options, isPassedOver: () => false });
  }

  async #list(
    store: TimelineStoreLocation,
    options: { key: ClusterKey; signal: AbortSignal; isPassedOver: (error: unknown) => boolean },
  ): Promise<readonly IndexedBase[]> {
    const { key, signal, isPassedOver } = options;
    const blobs = openBases(store, { rng: this.#rng });
    const bases: IndexedBase[] = [];
    for await (const subdirectory of completed(blobs, { order: 'ascending', signal })) {
      const name = `${store.directory}\n${subdirectory}`;
      try {
        const known = this.#remembered.get(name) ?? (await this.#read(store, { subdirectory, key, signal }));
        this.#remember(name, known);
        bases.push(known);
      } catch (error) {
        if (!isPassedOver(error)) throw error;
      }
    }
    return bases;
  }

  async #read(
    store: TimelineStoreLocation,
    options: { subdirectory: string; key: ClusterKey; signal: AbortSignal },
  ): Promise<IndexedBase> {
    const { chunks, name } = await openManifest(openBases(store, { rng: this.#rng }), options);
    const outline = await readManifestOutline(chunks, { key: options.key, name });
    return {
      base: baseSummaryOf(outline),
      objects: [...outline.packs, ...outline.wal].map(({ path }) => path),
    };
  }

  /** The one not asked for longest goes. */
  #remember(name: string, base: IndexedBase): void {
    this.#remembered.delete(name);
    this.#remembered.set(name, base);
    if (this.#remembered.size <= REMEMBERED_MAX) return;
    for (const oldest of this.#remembered.keys()) {
      this.#remembered.delete(oldest);
      return;
    }
  }
}
