/** Copies a base of the timeline store into the collection, object by object, as it is stored. */
import { CorruptError, isAppError } from '../../base/index.ts';
import { type BlobKey, type BlobStore, parseBlobKey } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { manifestKey } from '../collection/layout.ts';
import { checkPackAlone, checkSegmentAlone } from '../verify/check-objects.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { createRestCell } from '../worker/limiter.ts';
import { type HeldBase, readHeldBase } from './held-bases.ts';

export interface CopyBaseOptions {
  readonly from: BlobStore;
  readonly into: BlobStore;
  readonly key: ClusterKey;
  /** Paths of objects that were read again since they arrived; grows. */
  readonly checked: Set<string>;
  readonly onCopied: (bytes: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Packs and log first, those of older bases too that the collection does not hold; the manifest last: with it there is a base. What an attempt
 * has copied the next one finds. Objects keep their names, for no two of a timeline have the same. What has arrived is read again and checked,
 * also when it arrived by an attempt that came to no end; what is damaged is removed, so that the next attempt sends it anew.
 * @throws CorruptError when an object of the store is damaged, or arrived so; then the collection has nothing of it. AppError
 * `format_unsupported`, `backup_untrusted` in the same way
 */
export async function copyBase(base: HeldBase, options: CopyBaseOptions): Promise<void> {
  const { from, into, key: clusterKey, checked, signal } = options;
  for (const { path, bytes } of base.files) {
    const key = parseBlobKey(path);
    const isKnown = await isThere(into, { key, bytes, signal });
    if (isKnown && checked.has(path)) continue;
    if (!isKnown) await copyObject(key, { ...options, bytes });
    await orRemoved(key, { into, signal, check: () => checkArrived(key, { into, bytes, signal }) });
    checked.add(path);
    faultPoint('continuous.after_object');
  }
  const { subdirectory } = base;
  const manifest = manifestKey(subdirectory);
  faultPoint('continuous.before_manifest');
  await copyObject(manifest, { ...options, bytes: await from.size(manifest, { signal }) });
  const readAgain = () => readHeldBase(into, { subdirectory, key: clusterKey, signal });
  await orRemoved(manifest, { into, signal, check: readAgain });
  faultPoint('continuous.after_manifest');
}

async function copyObject(
  key: BlobKey,
  { from, into, onCopied, bytes, signal }: CopyBaseOptions & { readonly bytes: number | null },
): Promise<void> {
  const read = async function* () {
    for await (const chunk of from.get(key, { signal })) {
      yield chunk;
      onCopied(chunk.length);
    }
  };
  try {
    await into.put(key, read(), { signal });
  } catch (error) {
    // By a process that was cut off and whose last words came late.
    if (!isAppError(error, 'blob_exists')) throw error;
  }
  const arrived = await into.size(key, { signal });
  if (arrived === bytes) return;
  throw new CorruptError(
    `${key} has ${arrived ?? 'no'} bytes in ${into.displayUri}, ${bytes} in the timeline`,
  );
}

/** By the checksums that it carries. */
async function checkArrived(
  key: BlobKey,
  { into, bytes, signal }: { into: BlobStore; bytes: number; signal: AbortSignal },
): Promise<void> {
  const tools = { blobs: into, restCell: createRestCell(), signal };
  if (key.endsWith('.pack')) await checkPackAlone(key, { ...tools, bytes });
  else await checkSegmentAlone(key, tools);
}

/** What was damaged, here or on its way, must not stand in the way of a sound one. Encrypted, it may say that it is another's or of another version. */
async function orRemoved(
  key: BlobKey,
  { into, check, signal }: { into: BlobStore; check: () => Promise<unknown>; signal: AbortSignal },
): Promise<void> {
  try {
    await check();
  } catch (error) {
    if (isAppError(error, 'data_corrupt', 'format_unsupported', 'backup_untrusted'))
      await into.delete(key, { signal });
    throw error;
  }
}

/** @throws CorruptError when an object of this name is another one */
async function isThere(
  into: BlobStore,
  { key, bytes, signal }: { key: BlobKey; bytes: number; signal: AbortSignal },
): Promise<boolean> {
  const size = await into.size(key, { signal });
  if (size === null || size === bytes) return size !== null;
  throw new CorruptError(`${key} has ${size} bytes in ${into.displayUri}, ${bytes} in the timeline`);
}
