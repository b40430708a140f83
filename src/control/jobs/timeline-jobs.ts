/** The jobs of the time machine, put together with what of the control layer they need. */
import {
  InputError,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  type Timestamp,
  type VirtualClusterId,
  isAppError,
} from '../../base/index.ts';
import {
  CURRENT_RELEASE,
  type JobRecord,
  type JsonObject,
  serviceModeOf,
  writeTimelineCheck,
} from '../../catalog/index.ts';
import {
  type JobType,
  type PointJobDependencies,
  type ResetDataJobDependencies,
  branchJobType,
  resetDataJobType,
  timelineCheckJobType,
} from '../../jobs/index.ts';
import {
  type BaseSummary,
  type TimelinePoint,
  formatBackupSubdirectory,
  putPin,
  removePin,
} from '../../timeline/index.ts';
import { captureSource } from '../backup/capture-source.ts';
import type { ControlOptions, Core } from '../core.ts';
import {
  endOfLife,
  requireTimeline,
  resolvePoint,
  storeOfTimeline,
  untilReceived,
  windowUs,
} from '../timeline/timeline-point.ts';
import { unmake } from '../virtual-clusters/unmake.ts';
import { avoidingDamage, damagedBases } from '../timeline/verify-timelines.ts';
import { requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

/** Longest a job may hold what it needs, should nobody ever end it. */
export const JOB_PINNED_US = 24n * 3_600n * 1_000_000n;

/** Nothing on a node that keeps no timelines. */
export function timelineJobTypes(options: ControlOptions, coreOf: () => Core): readonly JobType[] {
  const { timeline } = options;
  if (timeline === undefined) return [];
  const dependencies = pointDependencies(options, coreOf);
  return [
    branchJobType({
      ...dependencies,
      makeDirectory: (id, { signal }) => makeDirectory(coreOf(), { id, signal }),
      announce: async (id) => {
        const core = coreOf();
        await core.catalog.apply({ id, event: { kind: 'directory_made' }, signal: core.signal });
      },
      unmake: async (id) => {
        const core = coreOf();
        if (core.catalog.get(id) !== undefined) await unmake(core, { id });
      },
    }),
    timelineCheckJobType({
      ...dependencies,
      worker: { ...dependencies.worker, ...timeline.verifier },
      async record(check) {
        const core = coreOf();
        const system = core.services.instanceOf(requireRecord(core, SYSTEM_VIRTUAL_CLUSTER_ID));
        await system.withSystemClient((client) => writeTimelineCheck(client, check), core);
      },
    }),
    resetDataJobType({
      ...dependencies,
      damagedBases: (id) => damagedBases(coreOf(), { id }),
      secure: (id, rest) => secure(coreOf(), id, rest),
      whileStopped: (id, use) => whileStopped(coreOf(), id, use),
    }),
  ];
}

/** What every job needs that goes to a point of a timeline. @throws InputError `feature_not_supported` on a node that keeps none */
export function pointDependencies(options: ControlOptions, coreOf: () => Core): PointJobDependencies {
  const timeline = requireTimeline({ options });
  const { instanceHost, clock, cluster } = options;
  const storeOf = (id: VirtualClusterId) => storeOfTimeline({ options }, { id });
  return {
    worker: avoidingDamage(coreOf, timeline.worker),
    reader: timeline.reader,
    instanceHost,
    clock,
    key: cluster.key,
    storeOf,
    pin: (job, { virtualClusterId, point }) =>
      putPin(
        storeOf(virtualClusterId),
        {
          id: pinIdOf(job),
          owner: `job ${job.id}`,
          incarnation: point.incarnation,
          fromLsn: point.lsn,
          throughLsn: point.lsn,
          expiresAt: (clock.now() + JOB_PINNED_US) as Timestamp,
        },
        { clock },
      ),
    unpin: (job, { virtualClusterId }) => removePin(storeOf(virtualClusterId), pinIdOf(job)),
    captureFirstBase: (id, rest) => captureFirstBase(coreOf(), { ...rest, id }),
  };
}

/** Of the pin that a job holds on a timeline. */
export function pinIdOf(job: JobRecord): string {
  return `job-${job.id}`;
}

async function makeDirectory(
  core: Core,
  { id, signal }: { id: VirtualClusterId; signal: AbortSignal },
): Promise<void> {
  const { instanceHost } = core.options;
  if (instanceHost.get(id) !== undefined) return;
  const { name } = requireRecord(core, id);
  const settings = core.services.instanceSettings(id);
  await instanceHost.create({ virtualClusterId: id, name, settings, signal });
}

type FirstBase = Parameters<PointJobDependencies['captureFirstBase']>[1] & { readonly id: VirtualClusterId };

/** Captures a base of a virtual cluster of whose present life there is none, and gives a point that it leads to. */
export async function captureFirstBase(core: Core, options: FirstBase): Promise<TimelinePoint> {
  const { id, context } = options;
  const { signal } = context;
  const capture = async () => {
    // Another may have made it while this waited.
    return (await presentIfHad(core, { id, signal })) ?? (await captureBase(core, options));
  };
  return core.captureTurns.run(id, capture, { signal });
}

/** The present, when there is a base of the present life that leads there. */
async function presentIfHad(
  core: Core,
  { id, signal }: { id: VirtualClusterId; signal: AbortSignal },
): Promise<TimelinePoint | null> {
  const record = requireRecord(core, id);
  const store = storeOfTimeline(core, record);
  const { reader } = requireTimeline(core);
  const wait = { key: core.options.cluster.key, signal };
  const { incarnation } = core.services.instanceOf(record).identity;
  const isOwn = (base: BaseSummary) => base.incarnation === incarnation;
  if (!(await reader.bases(store, wait)).some(isOwn)) return null;
  try {
    const point = await resolvePoint(core, { record, asOf: undefined, signal });
    const { timelineId } = point;
    const bases = await reader.basesTo(store, { point, ...wait });
    return bases.some((base) => isOwn(base) && base.timelineId === timelineId) ? point : null;
  } catch (error) {
    if (isAppError(error, 'time_outside_window')) return null;
    throw error;
  }
}

async function captureBase(core: Core, { id, context, onProgress }: FirstBase): Promise<TimelinePoint> {
  const { job, signal } = context;
  const { worker, reader } = requireTimeline(core);
  const { cluster, clock } = core.options;
  const record = requireRecord(core, id);
  const store = storeOfTimeline(core, record);
  const subdirectory = textOf(job.progress, 'baseSubdirectory') ?? formatBackupSubdirectory(clock.now());
  // Chosen and recorded before the first byte is written.
  await context.save({ baseSubdirectory: subdirectory });
  await untilReceived(core, { record, signal });
  await worker.captureBase(
    {
      source: captureSource(core.options, record),
      store,
      subdirectory,
      clusterId: cluster.id,
      key: cluster.key,
      jobId: String(job.id),
      attempt: job.attempt,
      packBytesMax: Number(core.settings.integer(id, 'bulkio.backup.file_size')),
      release: CURRENT_RELEASE,
      onto: null,
      incarnations: await reader.incarnations(store),
    },
    { onProgress, signal },
  );
  return resolvePoint(core, { record, asOf: undefined, signal });
}

function textOf(progress: JsonObject, name: string): string | undefined {
  const value = progress[name];
  return typeof value === 'string' ? value : undefined;
}

/** What the present life wrote is pinned before another takes its place: that is how a RESET DATA is undone. */
export async function secure(
  core: Core,
  id: VirtualClusterId,
  { point, signal }: Parameters<ResetDataJobDependencies['secure']>[1],
): Promise<TimelinePoint> {
  const record = requireRecord(core, id);
  const { identity } = core.services.instanceOf(record);
  const end = await endOfLife(core, { record, signal });
  const isOwn = point.incarnation === end.incarnation;
  await putPin(
    storeOfTimeline(core, record),
    {
      id: `undo-${end.incarnation}`,
      owner: 'undo of RESET DATA',
      incarnation: end.incarnation,
      fromLsn: isOwn && point.lsn < end.lsn ? point.lsn : (identity.forkLsn ?? end.lsn),
      throughLsn: end.lsn,
      expiresAt: (core.options.clock.now() + windowUs(core, id)) as Timestamp,
    },
    core.options,
  );
  return end;
}

export async function whileStopped<T>(core: Core, id: VirtualClusterId, use: () => Promise<T>): Promise<T> {
  return core.locks.run(id, async () => {
    const { state, name } = requireRecord(core, id);
    if (state.kind === 'ready' && serviceModeOf(state) === 'none') return use();
    throw new InputError('object_in_use', `virtual cluster "${name}" is not out of service any more`);
  });
}
