/**
 * Going back in time within the timeline store of a virtual cluster: into a new one (a branch), or in its own place. What comes to be is a
 * new incarnation beside the one there is; it is recovered, checked and prepared, and takes over in one atomic step. Its number and the
 * position to go back to are part of the job's record: every attempt goes to the same place, and can tell how far an earlier one came.
 */
import type { Clock, IncarnationId, Lsn, Timestamp, VirtualClusterId } from '../base/index.ts';
import { AppError, CorruptError, formatLsn, parseIncarnationId, parseLsn } from '../base/index.ts';
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
  readonly worker: Pick<TimelineWorker, 'materializePoint'>;
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
   * Runs `commit` while nobody else changes the virtual cluster and it is out of service, once everything that its present life has
   * logged is in the timeline, pinned for as long as it can be undone.
   */
  readonly takeOver: (options: {
    virtualClusterId: VirtualClusterId;
    point: TimelinePoint;
    commit: () => Promise<void>;
    signal: AbortSignal;
  }) => Promise<void>;
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
      const { signal } = context;
      return goTo(point, context, {
        dependencies,
        isNewSystem: false,
        commit: (commit) => dependencies.takeOver({ virtualClusterId, point, commit, signal }),
      });
    },
    async revert(context) {
      await dependencies.unpin(context.job, { virtualClusterId: sourceIdOf(context.job) });
      await abandon(context, dependencies);
    },
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
  const result = await materialize(point, context, dependencies);
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

function recordPoint({ incarnation, timelineId, lsn, time }: TimelinePoint): JsonObject {
  return { incarnation, timelineId: String(timelineId), lsn: formatLsn(lsn), time: String(time) };
}

/** @throws CorruptError when the record does not hold what this program wrote */
function readPoint(value: unknown): TimelinePoint {
  if (typeof value !== 'object' || value === null) throw new CorruptError("the job's record lacks its point");
  const point = value as JsonObject;
  return {
    incarnation: parseIncarnationId(textField(point, 'incarnation')),
    timelineId: Number(textField(point, 'timelineId')),
    lsn: parseLsn(textField(point, 'lsn')) satisfies Lsn,
    time: BigInt(textField(point, 'time')) as Timestamp,
  };
}
