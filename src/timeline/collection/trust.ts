/**
 * Backups that another physical cluster has sealed, where its key was imported. Everybody below asks with our own key; here it is replaced by that
 * of the manifest when that is trusted. Writing is never done with a key that is not ours.
 */
import { isAppError, type Rng } from '../../base/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { BulkWorker, CollectionLocation, CollectionReader } from '../contract.ts';
import { readManifestKeyId } from '../format/manifest-file.ts';
import type { LogicalWorker } from '../logical/contract.ts';
import type { VerifyWorker } from '../verify/contract.ts';
import { openManifest } from './completed.ts';
import { openCollection } from './open.ts';

export interface TrustOptions {
  readonly rng: Rng;
  /** Asked each time: somebody may have imported one meanwhile. */
  readonly trustedKeys: () => Promise<readonly ClusterKey[]>;
}

interface SealedBackup {
  readonly collection: CollectionLocation;
  readonly subdirectory: string;
  readonly key: ClusterKey;
}

/** What reads backups, reading those of trusted clusters too. */
export function withTrust<
  T extends {
    readonly collectionReader: CollectionReader;
    readonly bulkWorker: BulkWorker;
    readonly logicalWorker: LogicalWorker;
    readonly verifier: VerifyWorker;
  },
>(parts: T, options: TrustOptions): T {
  const { collectionReader, bulkWorker, logicalWorker, verifier } = parts;
  const trusting = async <R extends SealedBackup>(request: R, { signal }: { signal: AbortSignal }) => ({
    ...request,
    key: await signerOf(request, { ...options, signal }),
  });
  return {
    ...parts,
    collectionReader: {
      ...collectionReader,
      summary: async (request) => collectionReader.summary(await trusting(request, request)),
      databases: async (request) => collectionReader.databases(await trusting(request, request)),
      missingFiles: async (request) => collectionReader.missingFiles(await trusting(request, request)),
      encryptionInfo: (request) =>
        asTrusted(request, options, (trusted) => collectionReader.encryptionInfo(trusted)),
      // All of a continuous backup is sealed with one key.
      continuousWindow: (collection, request) =>
        asTrusted(request, options, (trusted) => collectionReader.continuousWindow(collection, trusted)),
    },
    bulkWorker: {
      ...bulkWorker,
      materialize: async (request, rest) => bulkWorker.materialize(await trusting(request, rest), rest),
    },
    logicalWorker: {
      ...logicalWorker,
      restoreObjects: async (request, rest) => {
        const { origin } = request;
        if (origin.kind !== 'backup') return logicalWorker.restoreObjects(request, rest);
        return logicalWorker.restoreObjects({ ...request, origin: await trusting(origin, rest) }, rest);
      },
    },
    verifier: {
      ...verifier,
      listFiles: async (request, rest) => verifier.listFiles(await trusting(request, rest), rest),
    },
  };
}

/** What names no key: its own signature tells, by our key or by one that is trusted. @throws AppError `backup_untrusted` */
async function asTrusted<R extends { readonly key: ClusterKey }, T>(
  request: R,
  { trustedKeys }: TrustOptions,
  read: (request: R) => Promise<T>,
): Promise<T> {
  try {
    return await read(request);
  } catch (error) {
    if (!isAppError(error, 'backup_untrusted')) throw error;
    for (const key of await trustedKeys()) {
      try {
        return await read({ ...request, key });
      } catch (other) {
        if (!isAppError(other, 'backup_untrusted')) throw other;
      }
    }
    throw error;
  }
}

/** The key that a backup names, when it is trusted; ours otherwise, with which it is read or refused. */
async function signerOf(
  { collection, subdirectory, key }: SealedBackup,
  { rng, trustedKeys, signal }: TrustOptions & { signal: AbortSignal },
): Promise<ClusterKey> {
  const trusted = await trustedKeys();
  if (trusted.length === 0) return key;
  const { chunks, name } = await openManifest(openCollection(collection, { rng }), { subdirectory, signal });
  const id = await readManifestKeyId(chunks, { name });
  return trusted.find((each) => each.id === id) ?? key;
}
