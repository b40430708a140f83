/** Where an encrypted chain of backups keeps what its data key is got at with, and what of it is encrypted. */
import { CorruptError, isAppError, type Rng } from '../../base/index.ts';
import { type BlobKey, type BlobStore, parseBlobKey, readBlob } from '../../blob/index.ts';
import { type ClusterKey, dataKeyOf, decodeEncryptionInfo, type EncryptionInfo } from '../../keys/index.ts';
import type { ChainEncryption } from '../contract.ts';
import { sealedBlobStore } from './sealed-store.ts';

/** Stands for the folder of a chain where a whole collection is one: that of a continuous backup. No backup has this name. */
export const CONTINUOUS_CHAIN = 'metadata';

const INFO_NAME = 'ENCRYPTION-INFO';
const INFO_PATTERN = /\/ENCRYPTION-INFO(?:-([1-9]\d{0,5}))?$/;
const LOCK_PATTERN = /\/BACKUP-LOCK-[^/]+$/;
/** Far more keys than anybody has. */
const INFO_BYTES_MAX = 4 * 1024 * 1024;

/** The record that was written first has the ordinal 0; each later one holds all of the one before and more. */
export function encryptionInfoKey({ folder, ordinal }: { folder: string; ordinal: number }): BlobKey {
  return parseBlobKey(`${folder}/${ordinal === 0 ? INFO_NAME : `${INFO_NAME}-${ordinal}`}`);
}

export interface FoundEncryptionInfo {
  readonly ordinal: number;
  readonly info: EncryptionInfo;
}

/**
 * The newest record of the chain that begins in `folder`; null when there is none: then it is not encrypted.
 * @throws CorruptError; AppError `backup_untrusted`, `format_unsupported`
 */
export async function readEncryptionInfo(
  store: BlobStore,
  options: { readonly folder: string; readonly key: ClusterKey; readonly signal: AbortSignal },
): Promise<FoundEncryptionInfo | null> {
  const { folder, key, signal } = options;
  let newest = -1;
  for await (const entry of store.list(parseBlobKey(folder), { deep: false, signal })) {
    const match = entry.kind === 'blob' ? INFO_PATTERN.exec(entry.key) : null;
    if (match !== null) newest = Math.max(newest, Number(match[1] ?? 0));
  }
  if (newest === -1) return null;
  const name = encryptionInfoKey({ folder, ordinal: newest });
  const bytes = await readBlob(store, name, { bytesMax: INFO_BYTES_MAX, signal });
  return { ordinal: newest, info: decodeEncryptionInfo(bytes, { key, folder, name }) };
}

/** Writes a record whose ordinal nobody has taken; false when somebody has. */
export async function putEncryptionInfo(
  store: BlobStore,
  options: {
    readonly folder: string;
    readonly ordinal: number;
    readonly record: Uint8Array;
    readonly signal: AbortSignal;
  },
): Promise<boolean> {
  const { record, signal } = options;
  try {
    await store.put(encryptionInfoKey(options), record, { signal });
    return true;
  } catch (error) {
    if (isAppError(error, 'blob_exists')) return false;
    throw error;
  }
}

/** The collection as who has the key of one of its chains sees it. */
export function openChain(
  store: BlobStore,
  { encryption, rng }: { readonly encryption: ChainEncryption; readonly rng: Rng },
): BlobStore {
  const { folder, dataKey, info } = encryption;
  return sealedBlobStore({
    inner: store,
    dataKey: dataKeyOf(dataKey),
    isSealed: (key) => isSealedObject(key, folder),
    beforeSealing: async (options) => {
      if (info !== null) await ensureEncryptionInfo(store, { folder, record: info, ...options });
    },
    rng,
  });
}

/** The first record of a chain. An earlier attempt, or another thread, may have written the same. @throws CorruptError when it is not the same */
export async function ensureEncryptionInfo(
  store: BlobStore,
  options: { readonly folder: string; readonly record: Uint8Array; readonly signal: AbortSignal },
): Promise<void> {
  const { folder, record, signal } = options;
  const name = encryptionInfoKey({ folder, ordinal: 0 });
  const isThere = (await store.size(name, { signal })) !== null;
  if (!isThere && (await putEncryptionInfo(store, { ...options, ordinal: 0 }))) return;
  const found = await readBlob(store, name, { bytesMax: INFO_BYTES_MAX, signal });
  if (Buffer.compare(found, record) !== 0) throw new CorruptError(`${name} is not the one that was written`);
}

/** Everything that tells of data: locks name a job, and the record of the key is what opens the rest. */
export function isSealedObject(key: BlobKey, folder: string): boolean {
  if (folder === CONTINUOUS_CHAIN) return !key.startsWith(`${CONTINUOUS_CHAIN}/`);
  const isOfChain = key.startsWith(`${folder}/`) || key.startsWith(`incrementals/${folder}/`);
  return isOfChain && !INFO_PATTERN.test(key) && !LOCK_PATTERN.test(key);
}
