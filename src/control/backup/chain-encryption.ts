/** The key of an encrypted chain of backups between a statement and its job: recorded so that only this cluster can open it. */
import { CorruptError, type Rng } from '../../base/index.ts';
import { decodeStorageRecord, encodeStorageRecord, type StorageRecord } from '../../blob/index.ts';
import {
  type ClusterKey,
  type DataKey,
  deriveKey,
  openSeal,
  seal,
  SEAL_NONCE_BYTES,
} from '../../keys/index.ts';
import type { ChainEncryption, CollectionLocation } from '../../timeline/index.ts';

const KEY_BYTES = 32;

/** A chain whose key is known. */
export interface KnownChain {
  /** The folder of the full backup that it begins with. */
  readonly folder: string;
  readonly dataKey: DataKey;
  /** What a new chain gets before anything else; null for one that is there. */
  readonly info: Uint8Array | null;
}

/**
 * The collection with the key of one of its chains. `uri` is what is recorded of the collection without it. Neither passphrase nor KMS URIs
 * are recorded with a job: it needs neither again.
 */
export function withChain(
  collection: CollectionLocation,
  options: {
    readonly chain: KnownChain;
    readonly uri: string;
    readonly key: ClusterKey;
    readonly rng: Rng;
  },
): CollectionLocation {
  const { chain, uri, key, rng } = options;
  const { folder, dataKey, info } = chain;
  const nonce = rng.bytes(SEAL_NONCE_BYTES);
  const sealed = seal(dataKey.secret, { key: jobKey(key), context: folder, nonce });
  const record: StorageRecord = {
    ...decodeStorageRecord(uri),
    encryption: {
      folder,
      sealedKey: Buffer.from(sealed).toString('base64'),
      info: info === null ? null : Buffer.from(info).toString('base64'),
    },
  };
  const encryption: ChainEncryption = {
    folder,
    dataKey: dataKey.secret,
    info,
    uri: encodeStorageRecord(record),
  };
  return { ...collection, encryption };
}

/** The chain that a job's record names; nothing when it names none. @throws CorruptError when another cluster recorded it */
export function readChainEncryption(
  { cluster }: { readonly cluster: { readonly key: ClusterKey } },
  { record, uri }: { readonly record: StorageRecord; readonly uri: string },
): Pick<CollectionLocation, 'encryption'> {
  if (record.encryption === undefined) return {};
  const { folder, sealedKey, info } = record.encryption;
  const dataKey = openSeal(Buffer.from(sealedKey, 'base64'), { key: jobKey(cluster.key), context: folder });
  if (dataKey === null) {
    throw new CorruptError("the job's key of its encrypted backup was not recorded by this cluster");
  }
  return {
    encryption: { folder, dataKey, info: info === null ? null : Buffer.from(info, 'base64'), uri },
  };
}

function jobKey(key: ClusterKey): Uint8Array {
  return deriveKey({ key, purpose: 'job secret', salt: new Uint8Array(0), length: KEY_BYTES });
}
