/** BACKUP of a whole virtual cluster into a subdirectory that was chosen and recorded before the first byte. */
import type { VirtualClusterId } from '../base/index.ts';
import { AppError, isAppError } from '../base/index.ts';
import type { JsonObject } from '../catalog/index.ts';
import type {
  BackupSummary,
  BulkWorker,
  CaptureSource,
  ClusterKey,
  CollectionLocation,
  CollectionReader,
} from '../timeline/index.ts';
import { recordTotals, totalsOf } from './backup-totals.ts';
import type { JobContext, JobType } from './job-type.ts';
import { optionalTextField, textField } from './payload.ts';

export const BACKUP_JOB = 'BACKUP';

export interface BackupPayload {
  /** Without secrets: what a URI needs beyond its text is looked up when the job runs. */
  readonly collectionUri: string;
  readonly subdirectory: string;
  /** The backup that an incremental one builds on; null for a full one. */
  readonly onto: string | null;
}

export interface BackupJobDependencies {
  readonly bulkWorker: BulkWorker;
  readonly collectionReader: CollectionReader;
  readonly clusterId: string;
  readonly key: ClusterKey;
  readonly release: string;
  readonly resolveCollection: (
    virtualClusterId: VirtualClusterId,
    uri: string,
  ) => Promise<CollectionLocation>;
  /** @throws AppError `cannot_connect_now` when the virtual cluster does not run */
  readonly sourceOf: (virtualClusterId: VirtualClusterId) => CaptureSource;
  readonly packBytesMax: (virtualClusterId: VirtualClusterId) => number;
}

export function backupPayload(payload: BackupPayload): JsonObject {
  return { ...payload };
}

export function backupJobType(dependencies: BackupJobDependencies): JobType {
  return {
    name: BACKUP_JOB,
    attemptsMax: 6,
    onExhausted: 'fail',
    run: (context) => runBackup(context, dependencies),
    // What an unfinished attempt has written has no manifest: it is no backup, and no later attempt uses its names.
    revert: () => Promise.resolve(),
  };
}

async function runBackup(context: JobContext, dependencies: BackupJobDependencies): Promise<JsonObject> {
  const { job, domain, signal } = context;
  const subdirectory = textField(job.payload, 'subdirectory');
  const collection = await dependencies.resolveCollection(
    domain.virtualClusterId,
    textField(job.payload, 'collectionUri'),
  );
  const finished = await finishedBefore({ context, dependencies, collection, subdirectory });
  if (finished !== undefined) return recordTotals(totalsOf(finished));
  const { summary, fullReason } = await dependencies.bulkWorker.backup(
    {
      source: dependencies.sourceOf(domain.virtualClusterId),
      collection,
      subdirectory,
      onto: optionalTextField(job.payload, 'onto'),
      clusterId: dependencies.clusterId,
      key: dependencies.key,
      jobId: String(job.id),
      attempt: job.attempt,
      packBytesMax: dependencies.packBytesMax(domain.virtualClusterId),
      release: dependencies.release,
    },
    {
      onProgress: ({ fraction, phase }) => context.report({ fraction, runningStatus: phase }),
      signal,
    },
  );
  if (fullReason !== null) context.logger.info(`BACKUP job ${job.id} read everything: ${fullReason}`);
  return recordTotals(totalsOf(summary));
}

/** The full backup whose chain a job adds to, or begins. */
export function chainOf(job: { readonly payload: JsonObject }): { collectionUri: string; full: string } {
  const subdirectory = textField(job.payload, 'subdirectory');
  const full = /^incrementals\/(.+)\/\d{8}\/[^/]+$/.exec(subdirectory)?.[1] ?? subdirectory;
  return { collectionUri: textField(job.payload, 'collectionUri'), full };
}

/** An earlier attempt may have written its manifest and died before saying so. */
async function finishedBefore(options: {
  context: JobContext;
  dependencies: BackupJobDependencies;
  collection: CollectionLocation;
  subdirectory: string;
}): Promise<BackupSummary | undefined> {
  const { context, dependencies, collection, subdirectory } = options;
  try {
    const summary = await dependencies.collectionReader.summary({
      collection,
      subdirectory,
      key: dependencies.key,
      signal: context.signal,
    });
    if (summary.incarnation === context.domain.incarnation && context.job.attempt > 1) return summary;
    throw new AppError(
      'object_exists',
      `there is a backup in ${collection.displayUri}/${subdirectory} already`,
    );
  } catch (error) {
    if (isAppError(error, 'backup_not_found')) return undefined;
    throw error;
  }
}
