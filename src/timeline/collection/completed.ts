/** The backups of a collection: folders that hold a manifest. */
import { AppError } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import { manifestKey, requireBackupFolder, SUBDIRECTORY_LEVELS } from './layout.ts';

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

/** The same below one folder, whose parts match `levels`. */
export async function* completedBelow(
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
