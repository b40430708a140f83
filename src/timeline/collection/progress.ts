/**
 * How far a backup has come that is read from what runs: a manifest of what is complete of it, whose packs are closed. A later attempt goes on from
 * the newest, as an incremental backup goes on from an older one: what has changed since is read again.
 */
import { isAppError } from '../../base/index.ts';
import { type BlobKey, type BlobStore, parseBlobKey } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { checkManifest, checkPartialImage } from '../format/check-manifest.ts';
import type { Manifest, ManifestPack } from '../format/manifest.ts';
import { encodeManifest, readManifest } from '../format/manifest-file.ts';
import { tidy } from './attempt.ts';
import { checkpointFolder } from './layout.ts';

/** Digits that names sort by. */
const NUMBER_LENGTH = 8;

/** Rows of databases or tables, or files of a whole virtual cluster. */
export type ProgressForm = 'rows' | 'image';

const CHECKS = { rows: checkManifest, image: checkPartialImage } as const satisfies Record<
  ProgressForm,
  typeof checkManifest
>;

export interface CheckpointPlace {
  readonly form: ProgressForm;
  readonly store: BlobStore;
  readonly subdirectory: string;
  readonly key: ClusterKey;
  readonly signal: AbortSignal;
}

/** Durable when it returns. @param number rises within the attempt */
export async function writeProgress(
  { store, form, subdirectory, key, signal }: CheckpointPlace,
  manifest: Manifest,
  { number }: { readonly number: number },
): Promise<void> {
  const name = [manifest.header.attempt, number].map((part) => String(part).padStart(NUMBER_LENGTH, '0'));
  const path = parseBlobKey(`${checkpointFolder(subdirectory)}/BACKUP-CHECKPOINT-${form}-${name.join('-')}`);
  CHECKS[form](manifest, path);
  const pieces = encodeManifest(manifest, { key });
  const content = (async function* () {
    yield* pieces;
  })();
  await store.put(path, content, { signal });
}

/** The newest of this job that is whole, and whose packs are there; null when there is none: then all is read. */
export async function readProgress(
  place: CheckpointPlace,
  { jobId }: { readonly jobId: string },
): Promise<Manifest | null> {
  for (const name of (await listProgress(place)).toReversed()) {
    try {
      const manifest = await readManifest(place.store.get(name, place), { key: place.key, name });
      CHECKS[place.form](manifest, name);
      if (manifest.header.jobId === jobId && (await isThere(manifest, place))) return manifest;
    } catch (error) {
      if (!isAppError(error, 'data_corrupt', 'backup_untrusted', 'blob_not_found')) throw error;
    }
  }
  return null;
}

/** They have served when there is a manifest; packs that it does not name go, too. */
export async function removeProgress(
  place: CheckpointPlace,
  { kept, named }: { readonly kept: readonly ManifestPack[]; readonly named: readonly ManifestPack[] },
): Promise<void> {
  const { store, signal } = place;
  const isNamed = new Set(named.map(({ path }) => path));
  await tidy(async () => {
    for (const name of await listProgress(place)) await store.delete(name, { signal });
    for (const { path } of kept) if (!isNamed.has(path)) await store.delete(parseBlobKey(path), { signal });
  });
}

/** Those that this backup has written, in whatever attempt. */
export function ownPacks({ packs }: Pick<Manifest, 'packs'>, subdirectory: string): readonly ManifestPack[] {
  return packs.filter(({ path }) => path.startsWith(`${subdirectory}/`));
}

/** In the order in which they were written. */
async function listProgress({
  store,
  form,
  subdirectory,
  signal,
}: CheckpointPlace): Promise<readonly BlobKey[]> {
  const entries = await Array.fromAsync(store.list(checkpointFolder(subdirectory), { deep: true, signal }));
  const ofForm = entries.filter(({ key }) => key.includes(`/BACKUP-CHECKPOINT-${form}-`));
  return ofForm.map(({ key }) => key).toSorted();
}

async function isThere(
  manifest: Manifest,
  { store, subdirectory, signal }: CheckpointPlace,
): Promise<boolean> {
  for (const { path, bytes } of ownPacks(manifest, subdirectory)) {
    if ((await store.size(parseBlobKey(path), { signal })) !== bytes) return false;
  }
  return true;
}
