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
  toError,
} from '../base/index.ts';
import type { JobRecord, JsonObject } from '../catalog/index.ts';
import type { Instance, InstanceHost, ProvedIncarnation } from '../instance/index.ts';
import type {
  BaseSummary,
  ClusterKey,
  PointResult,
  TimelinePoint,
  TimelineReader,
  TimelineStoreLocation,
  TimelineWorker,
} from '../timeline/index.ts';
import { faultPoint, newestSharedBase } from '../timeline/index.ts';
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
  /** Folders of bases that are known to be damaged. */
  readonly damagedBases: (virtualClusterId: VirtualClusterId) => Promise<readonly string[]>;
  /** Runs what exchanges the data while nobody else changes the virtual cluster, and it is out of service. */
  readonly whileStopped: <T>(virtualClusterId: VirtualClusterId, use: () => Promise<T>) => Promise<T>;
}

/** While a RESET DATA waits to be tried again nobody can use the virtual cluster. */
const RESET_RETRY_US_MAX = 1_000_000n;

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
        onUnproved: 'nothing was made; the log of the node says why: try another moment, or CHECK TIMELINE',
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
    retryDelayUsMax: RESET_RETRY_US_MAX,
    async run(context) {
      const point = await settlePoint(context, dependencies);
      const virtualClusterId = targetIdOf(context.job);
      return goTo(point, context, {
        dependencies,
        isNewSystem: false,
        onUnproved:
          'its data is what it was before; the log of the node says why: try another moment, or CHECK TIMELINE',
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

interface WayThere {
  readonly dependencies: PointJobDependencies;
  readonly isNewSystem: boolean;
  /** What to say to who asked for it when the data cannot be proved, which no repetition changes. Null on the way back: that has to succeed. */
  readonly onUnproved: string | null;
  readonly fill: () => Promise<PointResult>;
  readonly commit: (commit: () => Promise<void>) => Promise<void>;
}

async function goTo(point: TimelinePoint, context: JobContext, how: WayThere): Promise<JsonObject> {
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
  const isBack = how.onUnproved === null;
  const result = await how.fill();
  faultPoint(isBack ? 'reset.back_filled' : 'reset.filled');
  context.report({ fraction: FRACTION.materialized, runningStatus: 'recovering' });
  const proved = await prove(result, context, how);
  faultPoint(isBack ? 'reset.back_proved' : 'reset.proved');
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
  faultPoint(isBack ? 'reset.back_committed' : 'reset.committed');
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
  const { job } = context;
  const { instance } = targetOf(job, dependencies.instanceHost);
  const current = await settleEnd(point, context, dependencies);
  // What has not served since it was made has written log that nobody has received: nobody can tell what it changed.
  const isReceived = current.incarnation === instance.identity.incarnation;
  const base = isReceived ? await settleBase({ point, current }, context, dependencies) : null;
  return base === null
    ? materialize(point, context, dependencies)
    : rewind({ point, current, base }, context, dependencies);
}

async function rewind(
  { point, current, base }: { point: TimelinePoint; current: TimelinePoint; base: string },
  context: JobContext,
  dependencies: ResetDataJobDependencies,
): Promise<PointResult> {
  const { job, signal } = context;
  const { instanceHost, reader, worker, key, storeOf } = dependencies;
  const target = targetOf(job, instanceHost);
  const { virtualClusterId } = target;
  const apart = await dependencies.whileStopped(virtualClusterId, () => instanceHost.beginRewind(target));
  if (apart === null) return materialize(point, context, dependencies);
  const store = storeOf(virtualClusterId);
  const { dataDirectory: targetDirectory, uid } = apart;
  try {
    const incarnations = await reader.incarnations(store);
    const result = await worker.rewind(
      { store, point, current, incarnations, key, baseSubdirectory: base, targetDirectory, uid },
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
    if (!isAppError(error, 'time_outside_window', 'changes_unknown')) throw error;
    context.logger.info(`${job.type} job ${job.id}: not in place, because ${error.message}`);
    // What was changed in vain is of no use any more, and goes as the left-over of an attempt does: its room is needed.
    if (!isUntouched) await instanceHost.endRewind(target);
    return materialize(point, context, dependencies);
  }
}

/**
 * The base that a rewind goes back to, chosen before anything is changed and the same ever after: what an attempt may have touched is
 * what has changed since then, and a later choice (a base found damaged, or collected) could be one that knows less. Null for none.
 */
async function settleBase(
  ends: { point: TimelinePoint; current: TimelinePoint },
  context: JobContext,
  { reader, key, storeOf, damagedBases }: ResetDataJobDependencies,
): Promise<string | null> {
  const { job, signal } = context;
  const settled = job.progress['base'];
  if (settled !== undefined) return settled === null ? null : textField(job.progress, 'base');
  const store = storeOf(targetIdOf(job));
  const bases = await basesToBoth(reader, { ...ends, store, key, signal });
  const incarnations = await reader.incarnations(store);
  const avoid = await damagedBases(targetIdOf(job));
  const base = newestSharedBase(ends, { bases, incarnations, avoid })?.subdirectory ?? null;
  await context.save({ base });
  return base;
}

/** The bases that both ends of a rewind can be had from: all log from there to either is in the timeline. */
export async function basesToBoth(
  reader: Pick<TimelineReader, 'basesTo'>,
  options: {
    readonly store: TimelineStoreLocation;
    readonly point: TimelinePoint;
    readonly current: TimelinePoint;
    readonly key: ClusterKey;
    readonly signal: AbortSignal;
  },
): Promise<readonly BaseSummary[]> {
  const { store, point, current, ...each } = options;
  const toPoint = await reader.basesTo(store, { point, ...each });
  const toCurrent = await reader.basesTo(store, { point: current, ...each });
  return toPoint.filter((base) => toCurrent.some(({ subdirectory }) => subdirectory === base.subdirectory));
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

/**
 * The data is what it was when this returns. Where it was touched already it is put back in its own place, and where more than a rewind has
 * written there, made anew from the timeline. Tried until it succeeds or five attempts have failed; a later RESET DATA can take over.
 */
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
  faultPoint('reset.back_begun');
  const end = await settleEnd(readPoint(job.payload['point']), context, dependencies);
  try {
    await goTo(end, context, {
      dependencies,
      isNewSystem: false,
      onUnproved: null,
      fill: () => fillBack(end, context, dependencies),
      commit: (commit) => dependencies.whileStopped(virtualClusterId, commit),
    });
  } catch (error) {
    throw isAppError(error, 'cancelled') ? error : withoutData(error, { end, target });
  }
}

/**
 * What a rewind has touched is what has changed since its base, which is what going back by the same base puts right: tried once. After
 * that everything is made anew, when what is left in place has given up its room.
 */
async function fillBack(
  end: TimelinePoint,
  context: JobContext,
  dependencies: ResetDataJobDependencies,
): Promise<PointResult> {
  const { base, isBackInPlaceTried } = context.job.progress;
  if (typeof base === 'string' && isBackInPlaceTried !== true) {
    await context.save({ isBackInPlaceTried: true });
    return rewind({ point: end, current: end, base }, context, dependencies);
  }
  const { instanceHost } = dependencies;
  const target = targetOf(context.job, instanceHost);
  if ((await instanceHost.beginRewind(target)) !== null) await instanceHost.endRewind(target);
  return materialize(end, context, dependencies);
}

/** Worth another attempt whatever it was: until one succeeds there is nothing that can be served. */
function withoutData(
  error: unknown,
  { end, target }: { end: TimelinePoint; target: { instance: Instance } },
): AppError {
  const { virtualClusterName: name } = target.instance.identity;
  const position = `${end.incarnation}@${formatLsn(end.lsn)}`;
  return new AppError(
    'instance_failed',
    `the data of virtual cluster "${name}" could not be put back: ${toError(error).message}`,
    {
      cause: error,
      hint: `ALTER VIRTUAL CLUSTER ${name} RESET DATA TO VIRTUAL CLUSTER ${name} AS OF SYSTEM TIME '${position}' makes it anew from its timeline`,
    },
  );
}

async function prove(
  { recovery }: PointResult,
  context: JobContext,
  { dependencies, isNewSystem, onUnproved }: WayThere,
): Promise<ProvedIncarnation> {
  const { job, logger, signal } = context;
  const { instanceHost, clock } = dependencies;
  const { virtualClusterId, incarnation } = targetOf(job, instanceHost);
  const disabled: string[] = [];
  const proving = instanceHost.proveIncarnation({
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
  const proved = await proving.catch((error: unknown) => {
    if (onUnproved === null || !isAppError(error, 'instance_failed')) throw error;
    throw unproved(error, { lsn: recovery.lsn, hint: onUnproved });
  });
  await context.save({ disabledSubscriptions: disabled });
  return proved;
}

/** Recovery of the same bytes to the same position ends the same way: final, unlike other failures of an instance. */
function unproved(error: AppError, { lsn, hint }: { lsn: Lsn; hint: string }): AppError {
  const [why = error.message] = (error.detail ?? '').split('\n').filter((line) => line !== '');
  const { detail } = error;
  return new AppError('proof_failed', `the data at ${formatLsn(lsn)} could not be recovered: ${why}`, {
    cause: error,
    hint,
    ...(detail === undefined ? {} : { detail }),
  });
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
