import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { AppError, CorruptError, isAppError } from '../../base/index.ts';
import { type BlobStore, readBlob } from '../../blob/index.ts';
import { ownerKey } from './layout.ts';

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
  const present =
    (await newestOwner(store, { signal })) ??
    // Lost to another who claimed it meanwhile.
    ((await putOwner(store, { owner, ordinal: 1, signal })) ? null : await newestOwner(store, { signal }));
  if (present === null || isSameOwner(present.owner, owner)) return;
  throw belongsToAnother(store, { present: present.owner, claimant: owner });
}

/** Whose the collection is, and how many have owned it; null when nobody has. @throws CorruptError, AppError `format_unsupported` */
export async function newestOwner(
  store: BlobStore,
  { signal }: { readonly signal: AbortSignal },
): Promise<{ readonly owner: CollectionOwner; readonly ordinal: number } | null> {
  let ordinal = 0;
  while ((await store.size(ownerKey(ordinal + 1), { signal })) !== null) ordinal++;
  if (ordinal === 0) return null;
  const key = ownerKey(ordinal);
  const bytes = await readBlob(store, key, { bytesMax: RECORD_BYTES_MAX, signal });
  return { owner: decodeOwner(bytes, key), ordinal };
}

/** False when the record with this ordinal is another's. */
export async function putOwner(
  store: BlobStore,
  { owner, ordinal, signal }: { owner: CollectionOwner; ordinal: number; signal: AbortSignal },
): Promise<boolean> {
  try {
    await store.put(ownerKey(ordinal), encodeOwner(owner), { signal });
    return true;
  } catch (error) {
    if (isAppError(error, 'blob_exists')) return false;
    throw error;
  }
}

export function isSameOwner(left: CollectionOwner, right: CollectionOwner): boolean {
  return left.clusterId === right.clusterId && left.virtualClusterId === right.virtualClusterId;
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
      hint: `give each virtual cluster a collection URI of its own${areNamesakes ? ', also one that was made anew under the same name; what was restored from here goes on here once the other is dropped' : ''}`,
    },
  );
}

export function encodeOwner(owner: CollectionOwner): Uint8Array {
  const line = `atoll-collection-owner 1 ${JSON.stringify(owner)}\n`;
  return Buffer.from(`${line}${checksumOf(line)}\n`);
}

/** @throws CorruptError, AppError `format_unsupported` */
export function decodeOwner(bytes: Uint8Array, name: string): CollectionOwner {
  const match = /^(atoll-collection-owner (\d+) (.*)\n)([0-9a-f]{8})\n$/.exec(
    Buffer.from(bytes).toString('utf8'),
  );
  const [, line = '', version, json = '', checksum] = match ?? [];
  if (checksum === undefined || checksumOf(line) !== checksum) throw new CorruptError(`${name} is damaged`);
  if (version !== '1') {
    throw new AppError('format_unsupported', `${name} is of format version ${version}, supported is 1`);
  }
  try {
    return ownerSchema.parse(JSON.parse(json));
  } catch (error) {
    throw new CorruptError(`${name} is damaged`, { cause: error });
  }
}

function checksumOf(line: string): string {
  return crc32(line).toString(16).padStart(8, '0');
}
