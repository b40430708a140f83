import { AppError, type Rng } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { BackedUpDatabase, BackupSummary, CollectionLocation, CollectionReader } from '../contract.ts';
import { readManifestHead, readManifestCopies, readManifestObjectList } from '../format/manifest-file.ts';
import { discardBackup } from './attempt.ts';
import {
  INCREMENTAL_LEVELS,
  incrementalsFolder,
  manifestKey,
  requireBackupFolder,
  SUBDIRECTORY_LEVELS,
} from './layout.ts';
import { openCollection } from './open.ts';
import { summaryOf } from './summary.ts';

/** Reads collections on this node. */
export function createCollectionReader({ rng }: { readonly rng: Rng }): CollectionReader {
  const storeOf = (collection: CollectionLocation) => openCollection(collection, { rng });
  return {
    list: async (collection, options) =>
      Array.fromAsync(completed(storeOf(collection), { ...options, order: 'ascending' })),
    chain: (options) => readChain(storeOf(options.collection), options),
    latest: (collection, options) => findLatest(storeOf(collection), options),
    summary: (options) => readSummary(storeOf(options.collection), options),
    databases: ({ collection, ...backup }) => readDatabases(storeOf(collection), backup),
    discardUnfinished: (options) => discardBackup({ ...options, store: storeOf(options.collection) }),
    missingFiles: (options) => findMissing(storeOf(options.collection), options),
  };
}

/** @throws AppError `backup_not_found` */
export async function findLatest(
  store: BlobStore,
  { signal }: { readonly signal: AbortSignal },
): Promise<string> {
  for await (const subdirectory of completed(store, { order: 'descending', signal })) return subdirectory;
  throw new AppError('backup_not_found', 'path does not contain a completed latest backup', {
    detail: `searched ${store.displayUri}`,
    hint: 'take a full backup first: BACKUP INTO this collection',
  });
}

/**
 * Folders that hold a manifest. The listing is the truth: a marker may be missing after a crash. Only as much is listed as
 * is consumed.
 */
export async function* completed(
  store: BlobStore,
  options: { readonly order: 'ascending' | 'descending'; readonly signal: AbortSignal },
): AsyncIterable<string> {
  yield* completedBelow(store, { ...options, folder: '', levels: SUBDIRECTORY_LEVELS });
}

/** The full backup, then the incremental ones on it, in the order in which they were begun. */
async function readChain(
  store: BlobStore,
  { subdirectory, signal }: { readonly subdirectory: string; readonly signal: AbortSignal },
): Promise<readonly string[]> {
  await openManifest(store, { subdirectory, signal });
  const folder = incrementalsFolder(subdirectory);
  const below = completedBelow(store, { order: 'ascending', signal, folder, levels: INCREMENTAL_LEVELS });
  return [requireBackupFolder(subdirectory), ...(await Array.fromAsync(below))];
}

async function* completedBelow(
  store: BlobStore,
  options: {
    order: 'ascending' | 'descending';
    signal: AbortSignal;
    folder: string;
    levels: readonly RegExp[];
  },
): AsyncIterable<string> {
  const { order, signal, folder, levels } = options;
  const [pattern, ...deeper] = levels;
  if (pattern === undefined) {
    if ((await store.size(manifestKey(folder), { signal })) !== null) yield folder;
    return;
  }
  const parent = folder === '' ? '' : parseBlobKey(folder);
  const entries = await Array.fromAsync(store.list(parent, { deep: false, signal }));
  const children = entries
    .filter(({ kind, key }) => kind === 'folder' && pattern.test(key.slice(key.lastIndexOf('/') + 1)))
    .map(({ key }) => key);
  for (const child of order === 'ascending' ? children : children.toReversed()) {
    yield* completedBelow(store, { ...options, folder: child, levels: deeper });
  }
}

interface BackupName {
  readonly subdirectory: string;
  readonly key: ClusterKey;
  readonly signal: AbortSignal;
}

async function readSummary(store: BlobStore, options: BackupName): Promise<BackupSummary> {
  const { chunks, name } = await openManifest(store, options);
  return summaryOf(await readManifestHead(chunks, { key: options.key, name }));
}

async function readDatabases(store: BlobStore, options: BackupName): Promise<readonly BackedUpDatabase[]> {
  const { chunks, name } = await openManifest(store, options);
  const copies = await readManifestCopies(chunks, { key: options.key, name });
  return copies.map(({ database, isWholeDatabase }) => ({ database, isWhole: isWholeDatabase }));
}

async function findMissing(store: BlobStore, options: BackupName): Promise<readonly string[]> {
  const { chunks, name } = await openManifest(store, options);
  const missing: string[] = [];
  for (const { path } of await readManifestObjectList(chunks, { key: options.key, name })) {
    if ((await store.size(parseBlobKey(path), options)) === null) missing.push(path);
  }
  return missing;
}

/** The manifest of a completed backup, to be read. @throws AppError `backup_not_found` */
export async function openManifest(
  store: BlobStore,
  options: { readonly subdirectory: string; readonly signal: AbortSignal },
): Promise<{ readonly chunks: AsyncIterable<Uint8Array>; readonly name: string }> {
  const { signal } = options;
  const subdirectory = requireBackupFolder(options.subdirectory);
  const name = manifestKey(subdirectory);
  if ((await store.size(name, { signal })) === null) {
    throw new AppError('backup_not_found', `no completed backup in ${subdirectory} of ${store.displayUri}`, {
      hint: 'SHOW BACKUPS IN the collection lists those that are completed',
    });
  }
  return { chunks: store.get(name, { signal }), name };
}
