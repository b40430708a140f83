/**
 * A restore without a cluster: from a collection into a plain data directory that an ordinary PostgreSQL starts. Nothing but the
 * collection and the key that its backups were sealed with is needed.
 */
import { mkdir, readdir, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import {
  AppError,
  type Clock,
  errnoOf,
  InputError,
  Mutex,
  type Rng,
  type Timestamp,
} from '../../base/index.ts';
import { makePlainDirectory } from '../../instance/index.ts';
import type { DataKey } from '../../keys/index.ts';
import type {
  BackupProgress,
  BulkWorker,
  ClusterKey,
  CollectionLocation,
  CollectionReader,
} from '../../timeline/index.ts';
import { CONTINUOUS_CHAIN, normalizeFullFolder } from '../../timeline/index.ts';
import { type BackupKeys, chainFolderOf, unlockChain } from '../backup/backup-keys.ts';
import { type RestorableMoment, layerAt, newestLayer } from '../backup/backup-place.ts';
import { continuousMoment } from '../backup/continuous-restore.ts';
import { type RestoreEstimate, estimateRestore } from './restore-estimate.ts';
import { systemTime } from '../timeline/system-time.ts';

export interface OfflineRestore {
  readonly collection: CollectionLocation;
  /** As SHOW BACKUPS lists it; null for the newest. */
  readonly backup: string | null;
  /** A time as AS OF SYSTEM TIME takes it; null for the end of the newest backup. */
  readonly asOf: string | null;
  /** What the backups were sealed with. */
  readonly key: ClusterKey;
  /** What opens them, when they are encrypted. */
  readonly keys: BackupKeys;
  /** Absent or empty. */
  readonly targetDirectory: string;
  /** Who may log in afterwards. */
  readonly osUser: string;
}

/** What a restore would do. */
export interface OfflinePlan {
  readonly full: string;
  /** With the key of the chain, when that is encrypted. */
  readonly collection: CollectionLocation;
  readonly moment: RestorableMoment;
  readonly asOf: Timestamp;
  readonly estimate: RestoreEstimate;
  /** Room where the directory would be. */
  readonly freeBytes: bigint;
}

export interface OfflineTools {
  readonly bulkWorker: Pick<BulkWorker, 'materialize'>;
  readonly collectionReader: CollectionReader;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly signal: AbortSignal;
}

/**
 * Finds out what would be restored, and that it is all there. Writes nothing.
 * @throws AppError `backup_not_found`, `backup_untrusted`, `data_corrupt` for what is missing; InputError `parameter_invalid`,
 * `object_state` for a target that is not empty
 */
export async function planOfflineRestore(restore: OfflineRestore, tools: OfflineTools): Promise<OfflinePlan> {
  const { key } = restore;
  const { collectionReader, clock, signal } = tools;
  await requireEmptyTarget(restore.targetDirectory);
  const time = restore.asOf === null ? null : momentOf(restore.asOf, clock.now());
  const { full, collection, moment } = await selectMoment(restore, { ...tools, time });
  const { subdirectory } = moment.layer;
  const missing = await collectionReader.missingFiles({ collection, subdirectory, key, signal });
  if (missing.length > 0) {
    throw new AppError(
      'data_corrupt',
      `backup ${subdirectory} lacks ${missing.length} of its files: ${missing[0]}`,
      {
        detail: missing.join('\n'),
      },
    );
  }
  const { bavail, bsize } = await statfs(await presentFolder(restore.targetDirectory), { bigint: true });
  return {
    full,
    collection,
    moment,
    asOf: moment.asOf ?? moment.through ?? moment.layer.endTime,
    estimate: estimateRestore(moment.layer),
    freeBytes: bavail * bsize,
  };
}

/** By the newest backup, or base of a continuous backup; or by the one that is named. */
async function selectMoment(
  { collection, backup, key, keys }: OfflineRestore,
  options: OfflineTools & { time: Timestamp | null },
): Promise<Pick<OfflinePlan, 'full' | 'collection' | 'moment'>> {
  const { time, collectionReader, signal } = options;
  const core = { options: { ...options, cluster: { key } }, derivations: new Mutex() };
  if (backup === null && (await collectionReader.isContinuous(collection, { signal }))) {
    const dataKey = await unlockChain(core, { collection, folder: CONTINUOUS_CHAIN, keys, signal });
    const opened = withDataKey(collection, { folder: CONTINUOUS_CHAIN, dataKey });
    const moment = await continuousMoment(core, { collection: opened, time, signal });
    return { full: moment.layer.subdirectory, collection: opened, moment };
  }
  const full =
    backup === null ? await collectionReader.latest(collection, { signal }) : normalizeFullFolder(backup);
  const folder = await chainFolderOf(core, { collection, folder: full, signal });
  const dataKey = await unlockChain(core, { collection, folder, keys, signal });
  const opened = withDataKey(collection, { folder, dataKey });
  const chain = { collection: opened, full, signal };
  const moment =
    time === null
      ? { layer: await newestLayer(core, chain), asOf: null }
      : await layerAt(core, { ...chain, time });
  return { full, collection: opened, moment };
}

/** No job will look for it again. */
function withDataKey(
  collection: CollectionLocation,
  { folder, dataKey }: { folder: string; dataKey: DataKey | null },
): CollectionLocation {
  if (dataKey === null) return collection;
  const encryption = { folder, dataKey: dataKey.secret, info: null, uri: collection.displayUri };
  return { ...collection, encryption };
}

/**
 * Writes the data directory; its first start recovers it. When it fails, the folder is left empty.
 * @throws as `planOfflineRestore`; AppError `disk_full`
 */
export async function restoreOffline(
  restore: OfflineRestore,
  { onProgress, ...tools }: OfflineTools & { readonly onProgress: (progress: BackupProgress) => void },
): Promise<OfflinePlan> {
  const { key, targetDirectory, osUser } = restore;
  const plan = await planOfflineRestore(restore, tools);
  const { collection } = plan;
  const { layer, asOf, isContinuous = false } = plan.moment;
  await mkdir(targetDirectory, { recursive: true, mode: 0o700 });
  const { summary } = await tools.bulkWorker.materialize(
    { collection, subdirectory: layer.subdirectory, asOf, isContinuous, key, targetDirectory, uid: null },
    { onProgress, signal: tools.signal },
  );
  const { targetLsn: lsn, timelineId, logEndLsn } = summary;
  await makePlainDirectory({
    dataDirectory: targetDirectory,
    recovery: { lsn, timelineId, logEndLsn },
    osUser,
  });
  return plan;
}

function momentOf(text: string, now: Timestamp): Timestamp {
  const moment = systemTime({ kind: 'string', value: text }, { now });
  if (moment.kind === 'time') return moment.time;
  throw new InputError('parameter_invalid', 'a backup is restored as of a time, not of a position');
}

async function requireEmptyTarget(directory: string): Promise<void> {
  const names = await namesIn(directory);
  if (names.length === 0) return;
  throw new InputError('object_state', `${directory} is not empty`, {
    hint: 'name a folder that is absent or empty',
  });
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    if (errnoOf(error) === 'ENOTDIR') throw new InputError('object_state', `${directory} is no folder`);
    throw error;
  }
}

/** The folder itself, or the nearest above it that is there. */
async function presentFolder(directory: string): Promise<string> {
  for (let folder = directory; ; folder = dirname(folder)) {
    try {
      await readdir(folder);
      return folder;
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' || dirname(folder) === folder) throw error;
    }
  }
}
