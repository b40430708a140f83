/** One attempt of a job at writing one backup: what surrounds the writing of its packs and log. */
import { AppError, isAppError } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { checkManifest } from '../format/check-manifest.ts';
import type { Manifest } from '../format/manifest.ts';
import {
  encodeManifest,
  type ManifestHead,
  readManifest,
  readManifestHead,
} from '../format/manifest-file.ts';
import { encryptionInfoKey } from './encryption.ts';
import {
  attemptFolders,
  attemptOf,
  checkpointFolder,
  isListedFolder,
  jobIdOfLock,
  latestMarkerKey,
  lockKey,
  manifestKey,
} from './layout.ts';

interface Attempt {
  readonly store: BlobStore;
  readonly subdirectory: string;
  readonly jobId: string;
  readonly attempt: number;
  readonly key: ClusterKey;
  readonly signal: AbortSignal;
}

/** Packs that the next attempt goes on using; none when left out. */
export interface Kept {
  readonly kept?: ReadonlySet<string>;
}

const NOTHING_KEPT: ReadonlySet<string> = new Set();

/**
 * Takes the backup's folder for this job and removes what its earlier attempts left. When an earlier attempt had
 * completed the backup and died before it could say so, returns what that backup is: nothing is left to do but
 * `markLatest`. @throws AppError `object_in_use` when another job has the folder
 */
export async function beginAttempt(
  attempt: Attempt,
  { kept = NOTHING_KEPT }: Kept = {},
): Promise<ManifestHead | null> {
  await refuseOtherJobs(attempt);
  const { store, subdirectory, jobId, key, signal } = attempt;
  const manifest = manifestKey(subdirectory);
  if ((await store.size(manifest, { signal })) !== null) {
    const head = await readManifestHead(store.get(manifest, { signal }), { key, name: manifest });
    if (head.header.jobId === jobId) return head;
    throw new AppError('object_exists', `${subdirectory} in ${store.displayUri} already holds a backup`);
  }
  await putUnlessThere(attempt, lockKey({ subdirectory, jobId }), `${jobId}\n`);
  // Two jobs may have put their locks at the same time; each then sees the other's.
  await refuseOtherJobs(attempt);
  await removeAttempts(attempt, (number, path) => number < attempt.attempt && !kept.has(path));
  return null;
}

/** Writes the manifest, which makes the backup exist, and reads it back. */
export async function publishManifest(attempt: Attempt, manifest: Manifest): Promise<void> {
  const { store, subdirectory, key, signal } = attempt;
  const name = manifestKey(subdirectory);
  checkManifest(manifest, name);
  const pieces = encodeManifest(manifest, { key });
  const content = (async function* () {
    yield* pieces;
  })();
  await store.put(name, content, { signal });
  checkManifest(await readManifest(store.get(name, { signal }), { key, name }), name);
}

/**
 * Points at the completed backup, unless it is one that only its name finds. Harmless when done before; a crash before it only leaves the
 * pointer out.
 */
export async function markLatest(attempt: Attempt): Promise<void> {
  if (!isListedFolder(attempt.subdirectory)) return;
  await putUnlessThere(attempt, latestMarkerKey(attempt.subdirectory), `${attempt.subdirectory}\n`);
}

async function refuseOtherJobs({ store, subdirectory, jobId, signal }: Attempt): Promise<void> {
  for await (const entry of store.list(parseBlobKey(subdirectory), { deep: false, signal })) {
    const holder = entry.kind === 'blob' ? jobIdOfLock(entry.key) : null;
    if (holder === null || holder === jobId) continue;
    throw new AppError('object_in_use', `job ${holder} is writing ${subdirectory} in ${store.displayUri}`, {
      hint: 'try again: the next backup gets a folder of its own',
    });
  }
}

/**
 * Removes what this attempt wrote, after it failed: no space is kept by what is no backup. Nothing is removed when there is a
 * manifest and it is this attempt's.
 */
export async function abandonAttempt(attempt: Attempt, { kept = NOTHING_KEPT }: Kept = {}): Promise<void> {
  const { store, subdirectory, key, signal } = attempt;
  const name = manifestKey(subdirectory);
  if ((await store.size(name, { signal })) !== null) {
    const { header } = await readManifestHead(store.get(name, { signal }), { key, name });
    if (header.attempt === attempt.attempt) return;
  }
  await removeAttempts(attempt, (number, path) => number === attempt.attempt && !kept.has(path));
}

/**
 * Removes all that a job has written of a backup that never came to be: packs, log, checkpoints, its lock. Harmless when there is nothing;
 * a backup that has a manifest, or that another job writes, is left alone.
 */
export async function discardBackup(
  attempt: Pick<Attempt, 'store' | 'subdirectory' | 'jobId' | 'signal'>,
): Promise<void> {
  const { store, subdirectory, jobId, signal } = attempt;
  const lock = lockKey({ subdirectory, jobId });
  const isFinished = (await store.size(manifestKey(subdirectory), { signal })) !== null;
  if (isFinished || (await store.size(lock, { signal })) === null) return;
  await store.discardUploads(parseBlobKey(subdirectory), { signal });
  for (const folder of [...attemptFolders(subdirectory), checkpointFolder(subdirectory)]) {
    const entries = await Array.fromAsync(store.list(folder, { deep: true, signal }));
    for (const { key } of entries) await store.delete(key, { signal });
  }
  await store.delete(encryptionInfoKey({ folder: subdirectory, ordinal: 0 }), { signal });
  await store.delete(lock, { signal });
}

async function removeAttempts(
  { store, subdirectory, signal }: Attempt,
  isRemoved: (number: number, path: string) => boolean,
): Promise<void> {
  await tidy(async () => {
    await store.discardUploads(parseBlobKey(subdirectory), { signal });
    for (const folder of attemptFolders(subdirectory)) {
      const leftOver = await Array.fromAsync(store.list(folder, { deep: true, signal }));
      for (const { key } of leftOver) {
        const of = attemptOf(key);
        if (of !== null && isRemoved(of, key)) await store.delete(key, { signal });
      }
    }
  });
}

/**
 * Does what frees room and what nothing depends on. Backing up needs no right to delete, nor to look for uploads that were given up: where
 * that is refused, things stay, under names that nobody uses again.
 */
export async function tidy(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isAppError(error, 'storage_refused')) throw error;
  }
}

async function putUnlessThere(
  { store, signal }: Attempt,
  key: Parameters<BlobStore['put']>[0],
  text: string,
): Promise<void> {
  try {
    await store.put(key, Buffer.from(text), { signal });
  } catch (error) {
    if (!isAppError(error, 'blob_exists')) throw error;
  }
}
