/** The consumer's job, and what it needs of the rest of the control layer. */
import {
  AppError,
  type IncarnationId,
  InputError,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  type Timestamp,
  type VirtualClusterId,
  isAppError,
} from '../../base/index.ts';
import type { JobRecord } from '../../catalog/index.ts';
import type { InternalClient } from '../../instance/index.ts';
import {
  type JobContext,
  type JobType,
  pointPayload,
  prepareRestored,
  resetDataJobType,
  basesToBoth,
} from '../../jobs/index.ts';
import {
  Consumer,
  type ConsumerContext,
  type ConsumerDependencies,
  type Divergence,
  type FailoverCut,
} from '../../replication/index.ts';
import { faultPoint, newestSharedBase, putPin, type TimelinePoint } from '../../timeline/index.ts';
import type { ControlOptions, Core } from '../core.ts';
import { loggerOf } from '../core.ts';
import { newIncarnation } from '../virtual-clusters/new-incarnation.ts';
import { dropReader, tendReader } from './reader.ts';
import { keepReplaced } from '../virtual-clusters/replace-by-copy.ts';
import { pointDependencies, secure, whileStopped } from '../jobs/timeline-jobs.ts';
import {
  requireReachable,
  requireTimeline,
  resolveTarget,
  storeOfTimeline,
  windowUs,
} from '../timeline/timeline-point.ts';
import { damagedBases } from '../timeline/verify-timelines.ts';
import { requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

/** Of pins on what a failback has cut off. */
export const SALVAGE_PREFIX = 'salvage-';

export const INGESTION_JOB = 'REPLICATION STREAM INGESTION';

export function createConsumer(
  options: ControlOptions,
  streams: Core['streams'],
  coreOf: () => Core,
): Consumer {
  return new Consumer({
    streams,
    instanceHost: options.instanceHost,
    receiver: options.receiver,
    clock: options.clock,
    newIncarnation: () => newIncarnation(coreOf()),
    exclusively: (id, use) => coreOf().locks.run(id, use),
    followLog: (id) => coreOf().services.followLog(requireRecord(coreOf(), id)),
    unfollowLog: async (id) => coreOf().options.timeline?.vault.unfollow(id),
    prepare: (client, target) => prepare(coreOf(), client, target),
    noteSubscriptions: (id, names) => noteDisabled(coreOf(), id, names),
    rewindToDivergence: (context, target) => rewindToDivergence(coreOf(), context, target),
    keepReplaced: async (context, id) => {
      const core = coreOf();
      if (options.timeline === undefined) return;
      const end = await keepReplaced(core, context as JobContext, id);
      if (end !== null) await keepSalvage(core, { record: { id }, current: end, divergence: null });
    },
    goBack: (context, target) => goBack(coreOf(), context, target),
    whenKept: async (id, lsn, wait) => coreOf().options.timeline?.vault.whenDurable(id, lsn, wait),
    pointAt: (id, moment) => pointAt(coreOf(), id, moment),
    oldestTime: (id) => oldestTime(coreOf(), id),
    windowUs: (id) => windowUs(coreOf(), id),
    tendReader: (id) => tendReader(coreOf(), id),
    dropReader: (id) => dropReader(coreOf(), id),
    patienceMs: () =>
      Number(
        coreOf().settings.integer(SYSTEM_VIRTUAL_CLUSTER_ID, 'physical_replication.consumer.retry_window') /
          1000n,
      ),
  } satisfies ConsumerDependencies);
}

/** What a failure, or a cancellation, leaves is the follower as far as it came: it can still be failed over to. */
export function ingestionJobType(coreOf: () => Core): JobType {
  return {
    name: INGESTION_JOB,
    attemptsMax: Number.MAX_SAFE_INTEGER,
    onExhausted: 'fail',
    isLasting: true,
    async run(context) {
      await coreOf().consumer.run(idOf(context.job), context);
      return {};
    },
    async revert({ job }) {
      const core = coreOf();
      const id = idOf(job);
      const stream = core.streams.active(id);
      if (stream === undefined || stream.jobId !== job.id) return;
      const reason = `job ${job.id} was ended`;
      await core.streams.apply({ id, event: { kind: 'failed', reason }, signal: core.signal });
    },
  };
}

/** Sees that a job carries the stream on, whatever became of the one before. */
export async function carryOn(core: Core, id: VirtualClusterId, user: string): Promise<JobRecord> {
  const stream = core.streams.active(id);
  if (stream === undefined) throw new InputError('object_state', `virtual cluster ${id} does not replicate`);
  const active = core.runner.active(SYSTEM_VIRTUAL_CLUSTER_ID).find((job) => job.id === stream.jobId);
  if (active?.state.kind === 'running') return active;
  const reference = {
    virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID,
    jobId: stream.jobId ?? (0n as JobRecord['id']),
  };
  if (stream.jobId !== null) {
    try {
      return await core.runner.control(reference, 'resume', { signal: core.signal });
    } catch (error) {
      // One that is over cannot be resumed; another takes its place.
      if (!isAppError(error, 'object_state', 'object_not_found')) throw error;
    }
  }
  const { name } = requireRecord(core, id);
  const job = await core.runner.create(
    SYSTEM_VIRTUAL_CLUSTER_ID,
    {
      type: INGESTION_JOB,
      description: `REPLICATION STREAM INGESTION INTO VIRTUAL CLUSTER ${name} FROM ${stream.sourceName}`,
      user,
      payload: { virtualClusterId: String(id) },
    },
    { signal: core.signal },
  );
  await core.streams.setJob({ id, jobId: job.id, signal: core.signal });
  return job;
}

/** Ends the job's work, whatever it does, and stops the follower. */
export async function endWork(core: Core, id: VirtualClusterId, action: 'pause' | 'cancel'): Promise<void> {
  const stream = core.streams.get(id);
  if (stream?.jobId != null) {
    const reference = { virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID, jobId: stream.jobId };
    try {
      await core.runner.control(reference, action, { signal: core.signal });
      await core.runner.waitFor(reference, {
        until: ({ state }) => state.kind === 'paused' || 'finished' in state || isOver(state.kind),
        signal: core.signal,
      });
    } catch (error) {
      if (!isAppError(error, 'object_state', 'object_not_found')) throw error;
    }
  }
  await core.consumer.halt(id, { signal: core.signal });
}

function isOver(kind: JobRecord['state']['kind']): boolean {
  return ['succeeded', 'failed', 'canceled', 'revert-failed'].includes(kind);
}

/** Takes up, when a daemon starts, streams whose jobs it does not find. */
export async function carryOnStreams(core: Core): Promise<void> {
  for (const { virtualClusterId: id, state } of core.streams.list()) {
    const record = core.catalog.get(id);
    if (state.kind === 'completed' || record?.state.kind !== 'ready') continue;
    if (state.kind === 'paused' || state.kind === 'failed') {
      // Nothing is received, and what there is may still be read.
      await core.locks
        .run(id, () => tendReader(core, id))
        .catch((error: unknown) => loggerOf(core, record).error('its reader could not be started', error));
      continue;
    }
    await carryOn(core, id, 'root').catch((error: unknown) =>
      loggerOf(core, record).error('the replication stream could not be taken up', error),
    );
  }
}

async function prepare(
  core: Core,
  client: InternalClient,
  { id, incarnation }: { id: VirtualClusterId; incarnation: IncarnationId },
): Promise<void> {
  const findings = await prepareRestored(client, { incarnation, now: core.options.clock.now() });
  const record = requireRecord(core, id);
  for (const finding of findings) loggerOf(core, record).warning(`failover: ${finding}`);
}

function noteDisabled(core: Core, id: VirtualClusterId, names: readonly string[]): void {
  const listed = names.map((name) => `"${name}"`).join(', ');
  loggerOf(core, requireRecord(core, id)).warning(`failover: subscription ${listed} is disabled`);
}

async function pointAt(
  core: Core,
  id: VirtualClusterId,
  { time, signal }: { time: Timestamp; signal: AbortSignal },
): Promise<NonNullable<FailoverCut['point']>> {
  const record = requireRecord(core, id);
  const point = await resolveTarget(core, { record, target: { kind: 'time', time }, signal });
  await requireReachable(core, { record, point, signal });
  const { incarnation, timelineId, lsn } = point;
  return { incarnation, timelineId, lsn };
}

/** Since the oldest base of the life that is followed. */
async function oldestTime(core: Core, id: VirtualClusterId): Promise<Timestamp | null> {
  const { timeline, instanceHost, cluster } = core.options;
  const record = core.catalog.get(id);
  const instance = instanceHost.get(id);
  if (timeline === undefined || record === undefined || instance === undefined) return null;
  const store = storeOfTimeline(core, record);
  const bases = await timeline.reader.bases(store, { key: cluster.key, signal: core.signal });
  return bases.find(({ incarnation }) => incarnation === instance.identity.incarnation)?.endTime ?? null;
}

/**
 * Our own data as it was where the source's history left it: in its own place where that can be, else made anew from the timeline. What is
 * cut off stays in the timeline. Begun and not committed when this returns.
 */
async function rewindToDivergence(
  core: Core,
  context: ConsumerContext,
  target: { id: VirtualClusterId; incarnation: IncarnationId; divergence: Divergence },
): Promise<void> {
  const { id, incarnation, divergence } = target;
  const { signal } = context;
  const { instanceHost, cluster } = core.options;
  const { worker, reader } = requireTimeline(core);
  const record = requireRecord(core, id);
  const store = storeOfTimeline(core, record);
  const point: TimelinePoint = await resolveTarget(core, {
    record,
    target: { kind: 'lsn', incarnation: divergence.incarnation, lsn: divergence.lsn },
    signal,
  });
  const current = await secure(core, id, { point, signal });
  await keepSalvage(core, { record, current, divergence });
  faultPoint('failback.secured');
  const begun = { virtualClusterId: id, incarnation };
  const onProgress = ({ fraction, phase }: { fraction: number; phase: string }) =>
    context.report({ fraction: fraction * 0.9, runningStatus: phase });
  const incarnations = await reader.incarnations(store);
  const baseSubdirectory = await settleBase(core, context as JobContext, { id, point, current });
  const apart = baseSubdirectory === null ? null : await instanceHost.beginRewind(begun);
  if (apart !== null && baseSubdirectory !== null) {
    const { dataDirectory: targetDirectory, uid } = apart;
    try {
      await worker.rewind(
        { store, point, current, incarnations, key: cluster.key, baseSubdirectory, targetDirectory, uid },
        { onProgress, signal },
      );
      await instanceHost.endRewind(begun);
      return;
    } catch (error) {
      const isUntouched = await instanceHost.abandonRewind(begun);
      if (!isUntouched || !isAppError(error, 'time_outside_window', 'changes_unknown')) throw error;
      context.logger.info(`not in place, because ${error.message}`);
    }
  }
  const { dataDirectory: targetDirectory, uid } = await instanceHost.beginIncarnation(begun);
  await worker.materializePoint(
    { store, point, incarnations, key: cluster.key, targetDirectory, uid },
    { onProgress, signal },
  );
}

/** The base that is gone back to, the same for all attempts; null when there is none that leads both to the point and to the present. */
async function settleBase(
  core: Core,
  context: JobContext,
  options: { id: VirtualClusterId; point: TimelinePoint; current: TimelinePoint },
): Promise<string | null> {
  const { job, signal } = context;
  const settled = job.progress['rewindBase'];
  if (typeof settled === 'string') return settled;
  const { id, point, current } = options;
  const { reader } = requireTimeline(core);
  const store = storeOfTimeline(core, { id });
  const { key } = core.options.cluster;
  const bases = await basesToBoth(reader, { store, point, current, key, signal });
  const incarnations = await reader.incarnations(store);
  const avoid = await damagedBases(core, { id });
  const base = newestSharedBase({ point, current }, { bases, incarnations, avoid })?.subdirectory ?? null;
  if (base !== null) await context.save({ rewindBase: base });
  return base;
}

/** What was written since the histories parted, or all of it where that is not known, is kept for as long as a reset could be undone. */
async function keepSalvage(
  core: Core,
  options: { record: { id: VirtualClusterId }; current: TimelinePoint; divergence: Divergence | null },
): Promise<void> {
  const { record, current, divergence } = options;
  // After a planned failover the other side has all there is.
  const isShared = divergence?.incarnation === current.incarnation;
  if (isShared && divergence.lsn >= current.lsn) return;
  await putPin(
    storeOfTimeline(core, record),
    {
      id: `${SALVAGE_PREFIX}${current.incarnation}`,
      owner: 'salvage of a failback',
      incarnation: current.incarnation,
      fromLsn: isShared ? divergence.lsn : current.lsn,
      throughLsn: current.lsn,
      expiresAt: (core.options.clock.now() + windowUs(core, record.id)) as Timestamp,
    },
    core.options,
  );
}

/** By the way that RESET DATA goes: in place if that can be, proved, committed, stopped. */
async function goBack(
  core: Core,
  context: ConsumerContext,
  { id, cut }: { id: VirtualClusterId; cut: FailoverCut },
): Promise<void> {
  const { point: place, incarnation, time } = cut;
  if (place === null) throw new AppError('internal', 'there is nothing to go back to');
  const point: TimelinePoint = { ...place, time };
  const type = resetDataJobType({
    ...pointDependencies(core.options, () => core),
    // A follower stands wherever its server was stopped: what it received is in the vault, and that is all there is.
    damagedBases: (virtualClusterId) => damagedBases(core, { id: virtualClusterId }),
    secure: async (_id, { signal }) =>
      resolveTarget(core, { record: requireRecord(core, id), target: { kind: 'latest' }, signal }),
    whileStopped: (virtualClusterId, use) => whileStopped(core, virtualClusterId, use),
  });
  const jobContext = context as JobContext;
  const payload = pointPayload({ sourceVirtualClusterId: id, point, incarnation });
  await type.run({ ...jobContext, job: { ...jobContext.job, payload, targetVirtualClusterId: id } });
}

function idOf(job: JobRecord): VirtualClusterId {
  return Number(job.payload['virtualClusterId']) as VirtualClusterId;
}
