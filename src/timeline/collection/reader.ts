import { AppError, type Rng } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { BackedUpDatabase, BackupSummary, CollectionLocation, CollectionReader } from '../contract.ts';
import { claimForContinuous, continuousForm, isContinuous } from '../continuous/session.ts';
import { readWindow } from '../continuous/window.ts';
import { readManifestHead, readManifestCopies, readManifestObjectList } from '../format/manifest-file.ts';
import { discardBackup } from './attempt.ts';
import { completed, completedBelow, openManifest } from './completed.ts';
import { readEncryptionInfo } from './encryption.ts';
import { inheritCollection } from './inherit.ts';
import { INCREMENTAL_LEVELS, incrementalsFolder, requireBackupFolder } from './layout.ts';
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
    inherit: ({ collection, ...options }) => inheritCollection(storeOf(collection), options),
    encryptionInfo: async ({ collection, ...options }) =>
      (await readEncryptionInfo(storeOf(collection), options))?.info ?? null,
    discardUnfinished: (options) => discardBackup({ ...options, store: storeOf(options.collection) }),
    isContinuous: (collection, options) => isContinuous(storeOf(collection), options),
    continuousWindow: (collection, options) => readWindow(storeOf(collection), options),
    continuousForm: (collection, options) => continuousForm(storeOf(collection), options),
    claimForContinuous: (collection, claim) => claimForContinuous(storeOf(collection), claim),
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
