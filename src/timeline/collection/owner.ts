import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { AppError, CorruptError, isAppError } from '../../base/index.ts';
import { type BlobStore, readBlob } from '../../blob/index.ts';
import { OWNER_KEY } from './layout.ts';

const RECORD_BYTES_MAX = 4096;

/** Whose backups a collection holds. Names may change; the two ids do not, and they decide. */
export interface CollectionOwner {
  readonly clusterId: string;
  readonly virtualClusterId: number;
  readonly virtualClusterName: string;
}

const ownerSchema = z.strictObject({
  clusterId: z.string(),
  virtualClusterId: z.int().positive(),
  virtualClusterName: z.string(),
});

/**
 * Makes the collection belong to this virtual cluster, or checks that it does. The claim is one object, written once: of
 * two who claim an empty collection at the same time one wins, and a crash leaves it claimed or not. It stays also when the
 * first backup fails. @throws AppError `object_state` when it belongs to another
 */
export async function claimCollection(
  store: BlobStore,
  options: { readonly owner: CollectionOwner; readonly signal: AbortSignal },
): Promise<void> {
  const { owner, signal } = options;
  if ((await store.size(OWNER_KEY, { signal })) === null) {
    try {
      await store.put(OWNER_KEY, encodeOwner(owner), { signal });
      return;
    } catch (error) {
      if (!isAppError(error, 'blob_exists')) throw error;
    }
  }
  const present = decodeOwner(await readBlob(store, OWNER_KEY, { bytesMax: RECORD_BYTES_MAX, signal }));
  if (present.clusterId === owner.clusterId && present.virtualClusterId === owner.virtualClusterId) return;
  throw belongsToAnother(store, { present, claimant: owner });
}

/** Names alone would not tell apart what was restored under the name of what it replaces: then the ids are named. */
function belongsToAnother(
  store: BlobStore,
  { present, claimant }: { readonly present: CollectionOwner; readonly claimant: CollectionOwner },
): AppError<'object_state'> {
  const isOurs = present.clusterId === claimant.clusterId;
  const areNamesakes = isOurs && present.virtualClusterName === claimant.virtualClusterName;
  const [theirs, own] = [present, claimant].map(
    ({ virtualClusterName: name, virtualClusterId: id }) =>
      `"${name}"${areNamesakes ? ` with id ${id}` : ''}`,
  );
  const where = isOurs ? '' : ' of another physical cluster';
  return new AppError(
    'object_state',
    `${store.displayUri} holds backups of virtual cluster ${theirs}${where}, not of ${own}`,
    {
      hint: `give each virtual cluster a collection URI of its own${areNamesakes ? ', also one that was made anew or restored under the same name' : ''}`,
    },
  );
}

export function encodeOwner(owner: CollectionOwner): Uint8Array {
  const line = `atoll-collection-owner 1 ${JSON.stringify(owner)}\n`;
  return Buffer.from(`${line}${checksumOf(line)}\n`);
}

/** @throws CorruptError, AppError `format_unsupported` */
export function decodeOwner(bytes: Uint8Array): CollectionOwner {
  const match = /^(atoll-collection-owner (\d+) (.*)\n)([0-9a-f]{8})\n$/.exec(
    Buffer.from(bytes).toString('utf8'),
  );
  const [, line = '', version, json = '', checksum] = match ?? [];
  if (checksum === undefined || checksumOf(line) !== checksum)
    throw new CorruptError(`${OWNER_KEY} is damaged`);
  if (version !== '1') {
    throw new AppError('format_unsupported', `${OWNER_KEY} is of format version ${version}, supported is 1`);
  }
  try {
    return ownerSchema.parse(JSON.parse(json));
  } catch (error) {
    throw new CorruptError(`${OWNER_KEY} is damaged`, { cause: error });
  }
}

function checksumOf(line: string): string {
  return crc32(line).toString(16).padStart(8, '0');
}
