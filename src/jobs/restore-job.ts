/**
 * RESTORE of a whole virtual cluster. The backup becomes a new incarnation beside the one that serves, is recovered, checked and prepared
 * there, and takes over in one atomic step: whenever the daemon dies, either the old state serves or the new one. The number of the new
 * incarnation is part of the job's record, so a later attempt can tell how far an earlier one came.
 */
import type { Clock, IncarnationId, Lsn, Timestamp, VirtualClusterId } from '../base/index.ts';
import {
  AppError,
  CorruptError,
  formatLsn,
  isAppError,
  parseIncarnationId,
  parseLsn,
} from '../base/index.ts';
import {
  type JobRecord,
  type JsonObject,
  insertJob,
  readDatabaseRegions,
  type SqlClient,
  writeDatabaseRegions,
} from '../catalog/index.ts';
import type { Instance, InstanceHost } from '../instance/index.ts';
import type { BulkWorker, ClusterKey, CollectionLocation, MaterializeResult } from '../timeline/index.ts';
import { type BackupTotals, recordTotals, totalsOf } from './backup-totals.ts';
import type { JobContext, JobType } from './job-type.ts';
import {
  isImageRestore,
  isSystemTablesRestore,
  isUsersRestore,
  restoreObjectsOfImage,
  restoreSystemTablesOfImage,
  restoreUsersOfImage,
} from './part/part-job.ts';
import { optionalTextField, textField } from './payload.ts';
import { adoptSchedules, prepareRestored } from './prepare-restored.ts';
import {
  abandonObjects,
  isObjectsRestore,
  restoreObjects,
  type RestoreObjectsDependencies,
} from './restore-objects.ts';
import { readRegionTerms, type RegionTerms, regionTermsPayload, requireRegions } from './restored-regions.ts';

export const RESTORE_JOB = 'RESTORE';

export interface RestorePayload {
  readonly collectionUri: string;
  readonly subdirectory: string;
  /** A moment of the backup's revision history; null for its end. */
  readonly asOf: Timestamp | null;
  /** The backup is a base of a continuous backup, whose log leads on to the moment, or to its end. */
  readonly isContinuous: boolean;
  /** Everything is restored, and emptied before it serves. */
  readonly schemaOnly: boolean;
  /** Of the data directory to be made. */
  readonly incarnation: IncarnationId;
  readonly regions: RegionTerms;
}

export interface RestoreJobDependencies {
  readonly bulkWorker: BulkWorker;
  readonly clusterId: string;
  /** Whether there is no such virtual cluster in this physical cluster any more. */
  readonly isGone: (virtualClusterId: VirtualClusterId) => boolean;
  readonly instanceHost: InstanceHost;
  readonly clock: Clock;
  readonly key: ClusterKey;
  readonly objects: RestoreObjectsDependencies;
  readonly resolveCollection: (
    virtualClusterId: VirtualClusterId,
    uri: string,
  ) => Promise<CollectionLocation>;
  /**
   * Sees that nobody works in the virtual cluster and that it is still empty, runs `commit`, and serves again.
   * @throws AppError `object_state` when it is not empty any more; then `commit` has not run
   */
  readonly takeOver: (options: {
    virtualClusterId: VirtualClusterId;
    commit: () => Promise<void>;
    signal: AbortSignal;
  }) => Promise<void>;
}

/** Shares of the work in what is shown as progress. */
const MATERIALIZED_FRACTION = 0.8;
const PROVED_FRACTION = 0.95;

export function restorePayload({ asOf, regions, ...payload }: RestorePayload): JsonObject {
  return { ...payload, ...regionTermsPayload(regions), asOf: asOf === null ? null : String(asOf) };
}

export function restoreJobType(dependencies: RestoreJobDependencies): JobType {
  return {
    name: RESTORE_JOB,
    attemptsMax: 3,
    onExhausted: 'pause',
    pausePointOfFailure: 'restore.after_restore_failure',
    run(context) {
      const { job } = context;
      if (isUsersRestore(job)) return restoreUsersOfImage(context, dependencies);
      if (isSystemTablesRestore(job)) return restoreSystemTablesOfImage(context, dependencies);
      if (isImageRestore(job)) return restoreObjectsOfImage(context, dependencies);
      if (isObjectsRestore(job)) return restoreObjects(context, dependencies.objects);
      return runRestore(context, dependencies);
    },
    async revert(context) {
      // These come all at once, or not at all.
      if (isUsersRestore(context.job) || isSystemTablesRestore(context.job)) return;
      if (isObjectsRestore(context.job)) return abandonObjects(context, dependencies.objects);
      return abandon(context, dependencies);
    },
  };
}

async function runRestore(context: JobContext, dependencies: RestoreJobDependencies): Promise<JsonObject> {
  const target = targetOf(context.job, dependencies.instanceHost);
  if (target.instance.identity.incarnation === target.incarnation) return {}; // Committed by an earlier attempt.
  if (await commitProved(context, dependencies)) return {};
  context.pauseAt('restore.before_flow');
  const materialized = await materialize(context, dependencies);
  const totals = totalsWanted(context.job, materialized.summary);
  await context.save(recordTotals(totals));
  context.report({ fraction: MATERIALIZED_FRACTION, runningStatus: 'recovering' });
  await prove(context, dependencies, materialized);
  const { incarnation: parentIncarnation, targetLsn: forkLsn } = materialized.summary;
  await context.save({ proved: { parentIncarnation, forkLsn: formatLsn(forkLsn) } });
  context.pauseAt('restore.before_publishing_descriptors');
  context.report({ fraction: PROVED_FRACTION, runningStatus: 'taking over' });
  await commit(context, dependencies, { parentIncarnation, forkLsn });
  return recordTotals(totals);
}

function isSchemaOnly({ payload }: JobRecord): boolean {
  return payload['schemaOnly'] === true;
}

function totalsWanted(job: JobRecord, summary: MaterializeResult['summary']): BackupTotals {
  if (isSchemaOnly(job)) return { rows: 0n, indexEntries: 0n, bytes: 0n, uncounted: [] };
  return totalsOf(summary);
}

/** What an earlier attempt has recovered and prepared needs nothing of the collection any more. False when there is no such thing. */
async function commitProved(context: JobContext, dependencies: RestoreJobDependencies): Promise<boolean> {
  const { proved } = context.job.progress;
  if (typeof proved !== 'object' || proved === null) return false;
  const record = proved as JsonObject;
  try {
    await commit(context, dependencies, {
      parentIncarnation: parseIncarnationId(textField(record, 'parentIncarnation')),
      forkLsn: parseLsn(textField(record, 'forkLsn')),
    });
    return true;
  } catch (error) {
    // Its directory is gone: it is made anew.
    if (isAppError(error, 'object_not_found')) return false;
    throw error;
  }
}

async function materialize(
  context: JobContext,
  dependencies: RestoreJobDependencies,
): Promise<MaterializeResult> {
  const { job, signal } = context;
  const { instanceHost, bulkWorker, key } = dependencies;
  const target = targetOf(job, instanceHost);
  const collection = await dependencies.resolveCollection(
    target.virtualClusterId,
    textField(job.payload, 'collectionUri'),
  );
  const { dataDirectory, uid } = await instanceHost.beginIncarnation(target);
  return bulkWorker.materialize(
    {
      collection,
      subdirectory: textField(job.payload, 'subdirectory'),
      asOf: momentOf(job),
      isContinuous: job.payload['isContinuous'] === true,
      key,
      targetDirectory: dataDirectory,
      uid,
      isResumable: true,
    },
    {
      onProgress: ({ fraction, phase }) =>
        context.report({ fraction: fraction * MATERIALIZED_FRACTION, runningStatus: phase }),
      signal,
    },
  );
}

function momentOf({ payload }: JobRecord): Timestamp | null {
  const text = optionalTextField(payload, 'asOf');
  return text === null ? null : (BigInt(text) as Timestamp);
}

async function prove(
  context: JobContext,
  dependencies: RestoreJobDependencies,
  { summary }: MaterializeResult,
): Promise<void> {
  const { job, logger, signal } = context;
  const { instanceHost, clock, clusterId, isGone } = dependencies;
  const { virtualClusterId, incarnation } = targetOf(job, instanceHost);
  const removed: string[] = [];
  await instanceHost.proveIncarnation({
    virtualClusterId,
    incarnation,
    recovery: { lsn: summary.targetLsn, timelineId: summary.timelineId, logEndLsn: summary.logEndLsn },
    prepare: async (client) => {
      await settleRegions(client, readRegionTerms(job.payload));
      const findings = await prepareRestored(client, { incarnation, now: clock.now(), jobs: 'forget' });
      for (const finding of findings) logger.warning(`RESTORE job ${job.id}: ${finding}`);
      const isInPlaceOfIt = summary.virtualClusterId === virtualClusterId || isGone(summary.virtualClusterId);
      // What is empty takes nobody's place.
      if (summary.clusterId === clusterId && isInPlaceOfIt && !isSchemaOnly(job)) {
        await adoptSchedules(client, { from: summary.incarnation, to: incarnation });
      }
      await insertJob(client, finishedRecord({ job, incarnation, summary, now: clock.now() }));
    },
    onForeignCode: (findings) => removed.push(...findings),
    isOfOtherCluster: summary.clusterId !== clusterId,
    onNotEmptied: (findings) => removed.push(...findings),
    isSchemaOnly: isSchemaOnly(job),
    signal,
  });
  await context.save({ removed });
}

/** The settings came with everything: the regions that databases are given are those that they have. @throws InputError `object_state` */
async function settleRegions(client: SqlClient, terms: RegionTerms): Promise<void> {
  for (const [database, regions] of await readDatabaseRegions(client)) {
    requireRegions(regions, terms);
    if (terms.policy === 'remove') await writeDatabaseRegions(client, { database, regions: [] });
  }
}

/** What was changed of the data before it served, a sentence each. */
export function readRemoved({ removed }: JsonObject): readonly string[] {
  return Array.isArray(removed) ? removed.filter((each) => typeof each === 'string') : [];
}

async function commit(
  context: JobContext,
  dependencies: RestoreJobDependencies,
  fork: { readonly parentIncarnation: IncarnationId; readonly forkLsn: Lsn },
): Promise<void> {
  const { job, signal } = context;
  const { instanceHost, takeOver } = dependencies;
  const { virtualClusterId, incarnation } = targetOf(job, instanceHost);
  await takeOver({
    virtualClusterId,
    commit: () =>
      instanceHost.commitIncarnation({
        virtualClusterId,
        incarnation,
        ...fork,
        signal,
      }),
    signal,
  });
}

/** Harmless after a commit, and when the virtual cluster is gone: both leave nothing to abandon. */
async function abandon(context: JobContext, dependencies: RestoreJobDependencies): Promise<void> {
  const { job } = context;
  const { targetVirtualClusterId: id } = job;
  if (id !== undefined && dependencies.instanceHost.get(id) === undefined) return;
  const { instance, virtualClusterId, incarnation } = targetOf(job, dependencies.instanceHost);
  if (instance.identity.incarnation === incarnation) return;
  await dependencies.instanceHost.abandonIncarnation({ virtualClusterId, incarnation });
}

/** The job as the restored virtual cluster will remember it. */
function finishedRecord(options: {
  job: JobRecord;
  incarnation: IncarnationId;
  summary: MaterializeResult['summary'];
  now: JobRecord['modified'];
}): JobRecord {
  const { targetVirtualClusterId: _kept, ...job } = options.job;
  return {
    ...job,
    state: { kind: 'succeeded' },
    runningStatus: null,
    finished: options.now,
    modified: options.now,
    fractionCompleted: 1,
    progress: recordTotals(totalsWanted(options.job, options.summary)),
    incarnation: options.incarnation,
  };
}

function targetOf(
  job: JobRecord,
  instanceHost: InstanceHost,
): { virtualClusterId: VirtualClusterId; incarnation: IncarnationId; instance: Instance } {
  const virtualClusterId = job.targetVirtualClusterId;
  if (virtualClusterId === undefined) throw new CorruptError("the job's record lacks its virtual cluster");
  const incarnation = parseIncarnationId(textField(job.payload, 'incarnation'));
  const instance = instanceHost.get(virtualClusterId);
  if (instance === undefined) {
    throw new AppError('object_not_found', `virtual cluster ${virtualClusterId} is gone`);
  }
  return { virtualClusterId, incarnation, instance };
}
