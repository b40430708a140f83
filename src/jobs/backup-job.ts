/** BACKUP of a whole virtual cluster into a subdirectory that was chosen and recorded before the first byte. */
import type { Lsn, VirtualClusterId } from '../base/index.ts';
import { AppError, formatLsn, isAppError, toError } from '../base/index.ts';
import { storageDisplayUri } from '../blob/index.ts';
import type { JsonObject } from '../catalog/index.ts';
import type {
  BackupSummary,
  BulkWorker,
  CaptureSource,
  ClusterKey,
  CollectionHeir,
  CollectionLocation,
  CollectionReader,
  LogicalBackupRequest,
  LogicalSelection,
} from '../timeline/index.ts';
import {
  backupObjects,
  backupObjectsOfMoment,
  dropReader,
  publishObjects,
  type ObjectsDependencies,
  selectionOf,
} from './backup-objects.ts';
import { recordTotals, totalsOf } from './backup-totals.ts';
import type { JobContext, JobType } from './job-type.ts';
import { optionalTextField, textField } from './payload.ts';
import { type ProveDependencies, proveBackup } from './prove-backup.ts';
import { dropTrials, proveObjects } from './prove-objects.ts';
import {
  isPublished,
  type PublishDependencies,
  type PublishedMoment,
  publishBackup,
  recordMoment,
} from './publish-backup.ts';

export const BACKUP_JOB = 'BACKUP';

export interface BackupPayload {
  /** What leads to the collection again; the URI of a service holds secrets, so it is never shown as it is. */
  readonly collectionUri: string;
  readonly subdirectory: string;
  /** The backup that an incremental one builds on; null for a full one. */
  readonly onto: string | null;
  /** The position at which that one ends. */
  readonly ontoLsn: Lsn | null;
  /** Null for a backup that is taken from the running virtual cluster; else it is made of what its timeline store holds. */
  readonly moment: PublishedMoment | null;
  readonly hasRevisionHistory: boolean;
  /** A trial restore decides whether it has succeeded. */
  readonly isProved: boolean;
  /** Databases or tables; the whole virtual cluster when null. */
  readonly selection: LogicalSelection | null;
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
  /** What decides whether the virtual cluster may go on with a collection that was another's. */
  readonly heirOf: (virtualClusterId: VirtualClusterId) => Promise<CollectionHeir>;
  /** @throws AppError `cannot_connect_now` when the virtual cluster does not run */
  readonly sourceOf: (virtualClusterId: VirtualClusterId) => CaptureSource;
  readonly packBytesMax: (virtualClusterId: VirtualClusterId) => number;
  /** Left out on a node that keeps no timelines. */
  readonly publish?: PublishDependencies;
  readonly objects: ObjectsDependencies;
  /** What checks copies; left out on a node that keeps no timelines. */
  readonly prove?: Omit<ProveDependencies, 'bulkWorker' | 'key'>;
}

export function backupPayload({ ontoLsn, moment, selection, ...payload }: BackupPayload): JsonObject {
  return {
    ...payload,
    ontoLsn: ontoLsn === null ? null : formatLsn(ontoLsn),
    moment: recordMoment(moment),
    selection: selection === null ? null : JSON.stringify(selection),
  };
}

export function backupJobType(dependencies: BackupJobDependencies): JobType {
  return {
    name: BACKUP_JOB,
    attemptsMax: 6,
    onExhausted: 'fail',
    run: (context) => runBackup(context, dependencies),
    revert: (context) => discard(context, dependencies),
  };
}

/** Without a manifest it is no backup, so this frees room and nothing depends on it. */
async function discard(context: JobContext, dependencies: BackupJobDependencies): Promise<void> {
  const { job, domain, signal } = context;
  const { virtualClusterId } = domain;
  if (isPublished(job)) await dependencies.publish?.unpin(job, { virtualClusterId });
  if (selectionOf(job) !== null) {
    const instance = dependencies.objects.instanceOf(virtualClusterId);
    await dropReader(context, instance);
    if (job.payload['isProved'] === true) await dropTrials(context, instance);
  }
  const subdirectory = textField(job.payload, 'subdirectory');
  const uri = textField(job.payload, 'collectionUri');
  try {
    const collection = await dependencies.resolveCollection(virtualClusterId, uri);
    const jobId = String(job.id);
    await dependencies.collectionReader.discardUnfinished({ collection, subdirectory, jobId, signal });
  } catch (error) {
    if (isAppError(error, 'cancelled')) throw error;
    // Storage that is gone, or that may not be deleted from, keeps no job from being over.
    context.logger.warning(
      `BACKUP job ${job.id} could not tidy ${subdirectory} in ${storageDisplayUri(uri)}`,
      toError(error),
    );
  }
}

/** Share of the work that is not the proof, in what is shown as progress. */
const WRITTEN_FRACTION = 0.6;

async function runBackup(context: JobContext, dependencies: BackupJobDependencies): Promise<JsonObject> {
  const { job, domain } = context;
  const subdirectory = textField(job.payload, 'subdirectory');
  const uri = textField(job.payload, 'collectionUri');
  const collection = await dependencies.resolveCollection(domain.virtualClusterId, uri);
  const isProved = job.payload['isProved'] === true;
  const scale = isProved ? WRITTEN_FRACTION : 1;
  const report = ({ fraction, phase }: { fraction: number; phase: string }) =>
    context.report({ fraction: fraction * scale, runningStatus: phase });
  const place = { context, dependencies, collection, subdirectory, report };
  const summary = (await finishedBefore(place)) ?? (await writeBackup(place));
  if (isProved) await prove(place, summary);
  return recordTotals(totalsOf(summary));
}

async function prove(place: BackupPlace, summary: BackupSummary): Promise<void> {
  const { context, dependencies, collection, subdirectory } = place;
  const report = ({ fraction, runningStatus }: { fraction: number; runningStatus: string }) =>
    context.report({ fraction: WRITTEN_FRACTION + fraction * (1 - WRITTEN_FRACTION), runningStatus });
  const selection = selectionOf(context.job);
  if (selection === null) {
    return proveBackup(context, requireProve(dependencies), {
      collection,
      subdirectory,
      onProgress: ({ fraction, phase: runningStatus }) => report({ fraction, runningStatus }),
    });
  }
  const { objects, key, bulkWorker, collectionReader, publish } = dependencies;
  const host = publish === undefined ? {} : { instanceHost: publish.instanceHost };
  const proving = { ...objects, ...host, key, bulkWorker, collectionReader };
  return proveObjects({ ...context, report }, proving, { collection, selection, summary });
}

interface BackupPlace {
  readonly context: JobContext;
  readonly dependencies: BackupJobDependencies;
  readonly collection: CollectionLocation;
  readonly subdirectory: string;
  readonly report: (progress: { fraction: number; phase: string }) => void;
}

async function writeBackup(place: BackupPlace): Promise<BackupSummary> {
  const { context, dependencies, collection, subdirectory, report } = place;
  const { job, domain, signal } = context;
  context.pauseAt('backup.before.flow');
  await inherit(place);
  const common = {
    collection,
    subdirectory,
    clusterId: dependencies.clusterId,
    key: dependencies.key,
    packBytesMax: dependencies.packBytesMax(domain.virtualClusterId),
    release: dependencies.release,
  };
  const selection = selectionOf(job);
  const reporting: JobContext = {
    ...context,
    report: ({ fraction, runningStatus }) => report({ fraction, phase: runningStatus }),
  };
  if (isPublished(job) && selection === null) {
    return (await publishBackup(context, requirePublish(dependencies), { ...common, onProgress: report }))
      .summary;
  }
  if (selection !== null && job.payload['hasRevisionHistory'] === true) {
    const publishing = { publish: requirePublish(dependencies), key: dependencies.key };
    return publishObjects(reporting, publishing, { ...common, selection, onProgress: report });
  }
  const request = {
    ...common,
    source: dependencies.sourceOf(domain.virtualClusterId),
    onto: optionalTextField(job.payload, 'onto'),
    jobId: String(job.id),
    attempt: job.attempt,
  };
  if (selection !== null && isPublished(job)) {
    const { objects, key } = dependencies;
    const moment = { ...objects, key, publish: requirePublish(dependencies) };
    return backupObjectsOfMoment(reporting, moment, { ...request, selection });
  }
  if (selection !== null) {
    const timeline = await timelineOf(domain.virtualClusterId, dependencies);
    return backupObjects(reporting, dependencies.objects, { ...request, ...timeline, selection });
  }
  const { summary, fullReason } = await dependencies.bulkWorker.backup(request, {
    onProgress: report,
    signal,
  });
  if (fullReason !== null) context.logger.info(`BACKUP job ${job.id} read everything: ${fullReason}`);
  return summary;
}

/** Postgres takes away log that it has summarised; the timeline has it still. */
async function timelineOf(
  virtualClusterId: VirtualClusterId,
  { publish }: BackupJobDependencies,
): Promise<Pick<LogicalBackupRequest, 'timeline'>> {
  if (publish === undefined) return {};
  const store = publish.storeOf(virtualClusterId);
  return { timeline: { store, incarnations: await publish.reader.incarnations(store) } };
}

/** What was restored from the collection of one that is gone goes on there; of all others the claim is refused. */
async function inherit({ context, dependencies, collection }: BackupPlace): Promise<void> {
  const { job, domain, logger, signal } = context;
  const heir = await dependencies.heirOf(domain.virtualClusterId);
  const { collectionReader, key } = dependencies;
  const before = await collectionReader.inherit({ collection, heir, key, signal });
  if (before === null) return;
  logger.info(
    `BACKUP job ${job.id} takes over ${collection.displayUri} from virtual cluster "${before.virtualClusterName}" (id ${before.virtualClusterId}), which is gone`,
  );
}

function requireProve({ prove, bulkWorker, key }: BackupJobDependencies): ProveDependencies {
  if (prove !== undefined) return { ...prove, bulkWorker, key };
  throw new AppError('feature_not_supported', 'this node keeps no timelines, and checks no copies');
}

function requirePublish({ publish }: BackupJobDependencies): PublishDependencies {
  if (publish !== undefined) return publish;
  throw new AppError('feature_not_supported', 'this node keeps no timelines to take backups from');
}

/** The full backup whose chain a job adds to, or begins. */
export function chainOf(job: { readonly payload: JsonObject }): { collectionUri: string; full: string } {
  const subdirectory = textField(job.payload, 'subdirectory');
  const full = /^incrementals\/(.+)\/\d{8}\/[^/]+$/.exec(subdirectory)?.[1] ?? subdirectory;
  return { collectionUri: storageDisplayUri(textField(job.payload, 'collectionUri')), full };
}

/** An earlier attempt may have written its manifest and died before saying so. */
async function finishedBefore(options: BackupPlace): Promise<BackupSummary | undefined> {
  const { context, dependencies, collection, subdirectory } = options;
  try {
    const summary = await dependencies.collectionReader.summary({
      collection,
      subdirectory,
      key: dependencies.key,
      signal: context.signal,
    });
    const isOurs = isPublished(context.job) || summary.incarnation === context.domain.incarnation;
    if (isOurs && context.job.attempt > 1) return summary;
    throw new AppError(
      'object_exists',
      `there is a backup in ${collection.displayUri}/${subdirectory} already`,
    );
  } catch (error) {
    if (isAppError(error, 'backup_not_found')) return undefined;
    throw error;
  }
}
