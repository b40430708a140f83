/**
 * Going back in time within the timeline store of a virtual cluster: into a new one (a branch), or in its own place. What comes to be is a
 * new incarnation beside the one there is; it is recovered, checked and prepared, and takes over in one atomic step. Its number and the
 * position to go back to are part of the job's record: every attempt goes to the same place, and can tell how far an earlier one came.
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
import type { JobRecord, JsonObject } from '../catalog/index.ts';
import type { Instance, InstanceHost, ProvedIncarnation } from '../instance/index.ts';
import type {
  ClusterKey,
  PointResult,
  TimelinePoint,
  TimelineReader,
  TimelineStoreLocation,
  TimelineWorker,
} from '../timeline/index.ts';
import { recordTotals, totalsOf } from './backup-totals.ts';
import type { JobContext, JobType } from './job-type.ts';
import { textField } from './payload.ts';
import { prepareRestored } from './prepare-restored.ts';

/** CREATE VIRTUAL CLUSTER … FROM VIRTUAL CLUSTER … */
export const BRANCH_JOB = 'BRANCH';
/** ALTER VIRTUAL CLUSTER … RESET DATA TO … */
export const RESET_DATA_JOB = 'RESET DATA';

export interface PointPayload {
  /** Whose timeline holds the point. */
  readonly sourceVirtualClusterId: VirtualClusterId;
  /** Null when there is no base yet: one is captured first, and the point is where the source then is. */
  readonly point: TimelinePoint | null;
  /** Of the data directory to be made. */
  readonly incarnation: IncarnationId;
}

export interface PointJobDependencies {
  readonly worker: Pick<TimelineWorker, 'materializePoint' | 'rewind'>;
  readonly reader: TimelineReader;
  readonly instanceHost: InstanceHost;
  readonly clock: Clock;
  readonly key: ClusterKey;
  readonly storeOf: (virtualClusterId: VirtualClusterId) => TimelineStoreLocation;
  /** Keeps what leads to the point from being collected, for as long as the job may take. */
  readonly pin: (
    job: JobRecord,
    options: { virtualClusterId: VirtualClusterId; point: TimelinePoint },
  ) => Promise<void>;
  /** Harmless when nothing is pinned. */
  readonly unpin: (job: JobRecord, options: { virtualClusterId: VirtualClusterId }) => Promise<void>;
  /** Captures a base of a virtual cluster that has none, and gives a point that it leads to. */
  readonly captureFirstBase: (
    virtualClusterId: VirtualClusterId,
    options: { context: JobContext; onProgress: (progress: { fraction: number; phase: string }) => void },
  ) => Promise<TimelinePoint>;
}

export interface BranchJobDependencies extends PointJobDependencies {
  /** Makes the directory of the new virtual cluster unless it is there. */
  readonly makeDirectory: (
    virtualClusterId: VirtualClusterId,
    wait: { signal: AbortSignal },
  ) => Promise<void>;
  /** The new virtual cluster holds what it shall: it is no longer in the making. */
  readonly announce: (virtualClusterId: VirtualClusterId) => Promise<void>;
  /** Takes back all that was made of it. */
  readonly unmake: (virtualClusterId: VirtualClusterId) => Promise<void>;
}

export interface ResetDataJobDependencies extends PointJobDependencies {
  /**
   * Sees that everything that the present life has logged is in the timeline, and pins it for as long as the reset can be undone. Gives
   * where that life ends. @throws AppError `object_state` when some of it is missing
   */
  readonly secure: (
    virtualClusterId: VirtualClusterId,
    options: { point: TimelinePoint; signal: AbortSignal },
  ) => Promise<TimelinePoint>;
  /** Runs what exchanges the data while nobody else changes the virtual cluster, and it is out of service. */
  readonly whileStopped: <T>(virtualClusterId: VirtualClusterId, use: () => Promise<T>) => Promise<T>;
}

/** Shares of the work in what is shown as progress. */
const FRACTION = { captured: 0.4, materialized: 0.8, proved: 0.95 } as const;

export function pointPayload({ sourceVirtualClusterId, point, incarnation }: PointPayload): JsonObject {
  return {
    sourceVirtualClusterId: String(sourceVirtualClusterId),
    incarnation,
    ...(point === null ? {} : { point: recordPoint(point) }),
  };
}

export function branchJobType(dependencies: BranchJobDependencies): JobType {
  return {
    name: BRANCH_JOB,
    attemptsMax: 3,
    onExhausted: 'fail',
    async run(context) {
      const id = targetIdOf(context.job);
      const point = await settlePoint(context, dependencies);
      await dependencies.makeDirectory(id, context);
      const done = await goTo(point, context, {
        dependencies,
        isNewSystem: true,
        fill: () => materialize(point, context, dependencies),
        commit: (commit) => commit(),
      });
      await dependencies.announce(id);
      return done;
    },
    async revert({ job }) {
      await dependencies.unpin(job, { virtualClusterId: sourceIdOf(job) });
      await dependencies.unmake(targetIdOf(job));
    },
  };
}

export function resetDataJobType(dependencies: ResetDataJobDependencies): JobType {
  return {
    name: RESET_DATA_JOB,
    attemptsMax: 3,
    onExhausted: 'fail',
    async run(context) {
      const point = await settlePoint(context, dependencies);
      const virtualClusterId = targetIdOf(context.job);
      return goTo(point, context, {
        dependencies,
        isNewSystem: false,
        fill: () => rewindOrMaterialize(point, context, dependencies),
        commit: (commit) => dependencies.whileStopped(virtualClusterId, commit),
      });
    },
    revert: (context) => putBack(context, dependencies),
  };
}

/** Names of the subscriptions that the copy had enabled, as the job has recorded them. */
export function readDisabledSubscriptions(progress: JsonObject): readonly string[] {
  const { disabledSubscriptions: names } = progress;
  return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
}

/** The point that this job goes to, whatever attempt this is. */
async function settlePoint(context: JobContext, dependencies: PointJobDependencies): Promise<TimelinePoint> {
  const { job } = context;
  const settled = job.payload['point'] ?? job.progress['point'];
  if (settled !== undefined) return readPoint(settled);
  const point = await dependencies.captureFirstBase(sourceIdOf(job), {
    context,
    onProgress: ({ fraction, phase }) =>
      context.report({ fraction: fraction * FRACTION.captured, runningStatus: `first base: ${phase}` }),
  });
  await context.save({ point: recordPoint(point) });
  return point;
}

async function goTo(
  point: TimelinePoint,
  context: JobContext,
  how: {
    dependencies: PointJobDependencies;
    isNewSystem: boolean;
    fill: () => Promise<PointResult>;
    commit: (commit: () => Promise<void>) => Promise<void>;
  },
): Promise<JsonObject> {
  const { dependencies } = how;
  const { job } = context;
  const { virtualClusterId, incarnation, instance } = targetOf(job, dependencies.instanceHost);
  const source = { virtualClusterId: sourceIdOf(job) };
  if (instance.identity.incarnation === incarnation) {
    // Committed by an earlier attempt.
    await dependencies.unpin(job, source);
    return {};
  }
  await dependencies.pin(job, { ...source, point });
  const result = await how.fill();
  context.report({ fraction: FRACTION.materialized, runningStatus: 'recovering' });
  const proved = await prove(result, context, how);
  context.report({ fraction: FRACTION.proved, runningStatus: 'taking over' });
  await how.commit(() =>
    dependencies.instanceHost.commitIncarnation({
      virtualClusterId,
      incarnation,
      parentIncarnation: point.incarnation,
      forkLsn: proved.forkLsn,
      start: 'later',
      signal: context.signal,
    }),
  );
  await dependencies.unpin(job, source);
  return recordTotals({ ...totalsOf(result.base), bytes: result.writtenBytes });
}

async function materialize(
  point: TimelinePoint,
  context: JobContext,
  dependencies: PointJobDependencies,
): Promise<PointResult> {
  const { job, signal } = context;
  const { instanceHost, reader, key } = dependencies;
  const store = dependencies.storeOf(sourceIdOf(job));
  const { dataDirectory, uid } = await instanceHost.beginIncarnation(targetOf(job, instanceHost));
  const incarnations = await reader.incarnations(store);
  return dependencies.worker.materializePoint(
    { store, point, incarnations, key, targetDirectory: dataDirectory, uid },
    {
      onProgress: ({ fraction, phase }) =>
        context.report({ fraction: fraction * FRACTION.materialized, runningStatus: phase }),
      signal,
    },
  );
}

/** In its own place, unless that cannot be, or an earlier attempt got too far for it: then beside, from the timeline alone. */
async function rewindOrMaterialize(
  point: TimelinePoint,
  context: JobContext,
  dependencies: ResetDataJobDependencies,
): Promise<PointResult> {
  const { job, signal } = context;
  const { instanceHost, reader, worker, key, storeOf } = dependencies;
  const target = targetOf(job, instanceHost);
  const { virtualClusterId } = target;
  const current = await settleEnd(point, context, dependencies);
  // What has not served since it was made has written log that nobody has received: nobody can tell what it changed.
  const isReceived = current.incarnation === target.instance.identity.incarnation;
  if (!isReceived) return materialize(point, context, dependencies);
  const apart = await dependencies.whileStopped(virtualClusterId, () => instanceHost.beginRewind(target));
  if (apart === null) return materialize(point, context, dependencies);
  const store = storeOf(virtualClusterId);
  const { dataDirectory: targetDirectory, uid } = apart;
  try {
    const incarnations = await reader.incarnations(store);
    const result = await worker.rewind(
      { store, point, current, incarnations, key, targetDirectory, uid },
      {
        onProgress: ({ fraction, phase }) =>
          context.report({ fraction: fraction * FRACTION.materialized, runningStatus: phase }),
        signal,
      },
    );
    await instanceHost.endRewind(target);
    return result;
  } catch (error) {
    const isUntouched = await instanceHost.abandonRewind(target);
    if (!isUntouched || !isAppError(error, 'time_outside_window', 'changes_unknown')) throw error;
    context.logger.info(`${job.type} job ${job.id}: not in place, because ${error.message}`);
    return materialize(point, context, dependencies);
  }
}

/** Where the life ends that is left, as the first attempt found it. */
async function settleEnd(
  point: TimelinePoint,
  context: JobContext,
  dependencies: ResetDataJobDependencies,
): Promise<TimelinePoint> {
  const { job, signal } = context;
  const settled = job.progress['end'];
  if (settled !== undefined) return readPoint(settled);
  const end = await dependencies.secure(targetIdOf(job), { point, signal });
  await context.save({ end: recordPoint(end) });
  return end;
}

/** The data is what it was when this returns: where it was touched already, it is made anew from the timeline. */
async function putBack(context: JobContext, dependencies: ResetDataJobDependencies): Promise<void> {
  const { job } = context;
  const { instanceHost } = dependencies;
  const virtualClusterId = targetIdOf(job);
  await dependencies.unpin(job, { virtualClusterId: sourceIdOf(job) });
  if (instanceHost.get(virtualClusterId) === undefined) return;
  const target = targetOf(job, instanceHost);
  if (target.instance.identity.incarnation === target.incarnation) return;
  if (await instanceHost.isWhole(virtualClusterId)) return abandon(context, dependencies);
  if (await instanceHost.abandonRewind(target)) return;
  const end = await settleEnd(readPoint(job.payload['point']), context, dependencies);
  await goTo(end, context, {
    dependencies,
    isNewSystem: false,
    fill: () => materialize(end, context, dependencies),
    commit: (commit) => dependencies.whileStopped(virtualClusterId, commit),
  });
}

async function prove(
  { recovery }: PointResult,
  context: JobContext,
  { dependencies, isNewSystem }: { dependencies: PointJobDependencies; isNewSystem: boolean },
): Promise<ProvedIncarnation> {
  const { job, logger, signal } = context;
  const { instanceHost, clock } = dependencies;
  const { virtualClusterId, incarnation } = targetOf(job, instanceHost);
  const disabled: string[] = [];
  const proved = await instanceHost.proveIncarnation({
    virtualClusterId,
    incarnation,
    recovery,
    isNewSystem,
    prepare: async (client) => {
      const findings = await prepareRestored(client, { incarnation, now: clock.now() });
      for (const finding of findings) logger.warning(`${job.type} job ${job.id}: ${finding}`);
    },
    onDisabledSubscriptions: (names) => disabled.push(...names),
    signal,
  });
  await context.save({ disabledSubscriptions: disabled });
  return proved;
}

/** Harmless after a commit, and when the virtual cluster is gone: both leave nothing to abandon. */
async function abandon({ job }: JobContext, { instanceHost }: PointJobDependencies): Promise<void> {
  if (instanceHost.get(targetIdOf(job)) === undefined) return;
  const { instance, virtualClusterId, incarnation } = targetOf(job, instanceHost);
  if (instance.identity.incarnation === incarnation) return;
  await instanceHost.abandonIncarnation({ virtualClusterId, incarnation });
}

function targetIdOf(job: JobRecord): VirtualClusterId {
  if (job.targetVirtualClusterId !== undefined) return job.targetVirtualClusterId;
  throw new CorruptError("the job's record lacks its virtual cluster");
}

function sourceIdOf(job: JobRecord): VirtualClusterId {
  return Number(textField(job.payload, 'sourceVirtualClusterId')) as VirtualClusterId;
}

function targetOf(
  job: JobRecord,
  instanceHost: InstanceHost,
): { virtualClusterId: VirtualClusterId; incarnation: IncarnationId; instance: Instance } {
  const virtualClusterId = targetIdOf(job);
  const incarnation = parseIncarnationId(textField(job.payload, 'incarnation'));
  const instance = instanceHost.get(virtualClusterId);
  if (instance !== undefined) return { virtualClusterId, incarnation, instance };
  throw new AppError('object_not_found', `virtual cluster ${virtualClusterId} is gone`);
}

/** As a job keeps it. */
export function recordPoint({ incarnation, timelineId, lsn, time }: TimelinePoint): JsonObject {
  return { incarnation, timelineId: String(timelineId), lsn: formatLsn(lsn), time: String(time) };
}

/** @throws CorruptError when the record does not hold what this program wrote */
export function readPoint(value: unknown): TimelinePoint {
  if (typeof value !== 'object' || value === null) throw new CorruptError("the job's record lacks its point");
  const point = value as JsonObject;
  return {
    incarnation: parseIncarnationId(textField(point, 'incarnation')),
    timelineId: Number(textField(point, 'timelineId')),
    lsn: parseLsn(textField(point, 'lsn')) satisfies Lsn,
    time: BigInt(textField(point, 'time')) as Timestamp,
  };
}
