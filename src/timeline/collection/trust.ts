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
      encryptionInfo: (request) => trustedInfo(collectionReader, request, options),
    },
    bulkWorker: {
      ...bulkWorker,
      materialize: async (request, rest) => {
        const isTrusted = request.isContinuous !== true;
        return bulkWorker.materialize(isTrusted ? await trusting(request, rest) : request, rest);
      },
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

/** Its own signature tells whose it is: with it manifests can be read, which name their key. */
async function trustedInfo(
  reader: CollectionReader,
  request: Parameters<CollectionReader['encryptionInfo']>[0],
  { trustedKeys }: TrustOptions,
): ReturnType<CollectionReader['encryptionInfo']> {
  try {
    return await reader.encryptionInfo(request);
  } catch (error) {
    if (!isAppError(error, 'backup_untrusted')) throw error;
    for (const key of await trustedKeys()) {
      try {
        return await reader.encryptionInfo({ ...request, key });
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
