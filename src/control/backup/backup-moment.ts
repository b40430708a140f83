/** Which moment a BACKUP is of, and whether it is taken from the timeline store or from the running virtual cluster. */
import { InputError, type Timestamp, formatTimestamp } from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import type { BackupJobDependencies, PublishDependencies, PublishedMoment } from '../../jobs/index.ts';
import type { Statement } from '../../sql/index.ts';
import {
  type BackupSummary,
  newestBaseFor,
  putPin,
  removePin,
  type TimelinePoint,
} from '../../timeline/index.ts';
import type { ExecuteContext } from '../contract.ts';
import type { ControlOptions, Core } from '../core.ts';
import { systemTime } from '../timeline/system-time.ts';
import { captureFirstBase, JOB_PINNED_US, pinIdOf } from '../jobs/timeline-jobs.ts';
import {
  hasBase,
  requireReachable,
  requireTimeline,
  resolvePoint,
  resolveTarget,
  storeOfTimeline,
} from '../timeline/timeline-point.ts';
import { isFlagOn } from '../values.ts';
import { damagedBases } from '../timeline/verify-timelines.ts';
import { requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

type Backup = Extract<Statement, { kind: 'backup' }>;

/**
 * With AS OF SYSTEM TIME, the moment that it names; with revision history, which needs the log, the present; else null: the running virtual
 * cluster is captured as it is.
 * @throws InputError `timestamp_malformed`, `parameter_invalid` for a time to come, `time_outside_window` naming the window
 */
export async function backupMoment(
  core: Core,
  statement: Backup,
  { session, signal }: ExecuteContext,
): Promise<PublishedMoment | null> {
  const { asOf, options } = statement;
  const record = requireRecord(core, session.virtualClusterId);
  if (asOf === undefined) {
    if (!isFlagOn(options, 'revision_history')) return null;
    requireTimeline(core);
    if (!(await hasBase(core, record, { signal }))) return 'first_base';
    const point = await resolvePoint(core, { record, asOf, signal });
    return (await leadsOnlyFromEarlierLife(core, { record, point, signal })) ? 'first_base' : point;
  }
  const point =
    (await durablePoint(core, { record, asOf, signal })) ??
    (await resolvePoint(core, { record, asOf, signal }));
  if (!(await leadsOnlyFromEarlierLife(core, { record, point, signal }))) return point;
  throw new InputError(
    'time_outside_window',
    `a backup as of ${formatTimestamp(point.time)} is not possible: no base of the present life of the data comes before it`,
    {
      hint: 'leave AS OF SYSTEM TIME out, or name a moment after the first base, which is captured some seconds after START SERVICE: SHOW TIMELINE lists it',
    },
  );
}

/**
 * The same of databases or tables: they are copied out of the past, or, without AS OF SYSTEM TIME, out of what runs.
 * @throws as `backupMoment`
 */
export async function objectsMoment(
  core: Core,
  { asOf }: Backup,
  { session, signal }: ExecuteContext,
): Promise<TimelinePoint | null> {
  if (asOf === undefined) return null;
  const record = requireRecord(core, session.virtualClusterId);
  const point =
    (await durablePoint(core, { record, asOf, signal })) ??
    (await resolvePoint(core, { record, asOf, signal }));
  await requireReachable(core, { record, point, signal });
  return point;
}

/** After RESET DATA, until the next base: a backup mixes no log of two lives. */
async function leadsOnlyFromEarlierLife(
  core: Core,
  { record, point, signal }: { record: VirtualClusterRecord; point: TimelinePoint; signal: AbortSignal },
): Promise<boolean> {
  const { reader } = requireTimeline(core);
  const store = storeOfTimeline(core, record);
  // The one that it will be made of: a newer one without its log is none.
  const bases = await reader.basesTo(store, { point, key: core.options.cluster.key, signal });
  const base = newestBaseFor(point, { bases, incarnations: await reader.incarnations(store) });
  if (base === undefined) return false;
  return base.incarnation !== point.incarnation || base.timelineId !== point.timelineId;
}

/** A moment whose log is durable already needs nothing of the virtual cluster. */
async function durablePoint(
  core: Core,
  {
    record,
    asOf,
    signal,
  }: { record: VirtualClusterRecord; asOf: NonNullable<Backup['asOf']>; signal: AbortSignal },
): Promise<TimelinePoint | undefined> {
  const target = systemTime(asOf, { now: core.options.clock.now() });
  if (target.kind !== 'time') return undefined;
  const through = requireTimeline(core).vault.status(record.id)?.restorableThrough ?? null;
  if (through === null || through < target.time) return undefined;
  return resolveTarget(core, { record, target, signal });
}

/** @throws InputError `parameter_invalid` for a moment at or before the end of what it is to build on */
export function requireAfter(newest: BackupSummary, moment: PublishedMoment | null): void {
  if (moment === null || moment === 'first_base' || moment.time > newest.endTime) return;
  throw new InputError(
    'parameter_invalid',
    `an incremental backup as of ${formatTimestamp(moment.time)} cannot build on backup ${newest.subdirectory}, which ends at ${formatTimestamp(newest.endTime)}`,
    { hint: 'name a later moment, or take a full backup: BACKUP INTO the collection' },
  );
}

/** What BACKUP jobs need to take backups from timeline stores, and to prove backups; nothing on a node that keeps no timelines. */
export function publishDependencies(
  options: ControlOptions,
  coreOf: () => Core,
): Pick<BackupJobDependencies, 'publish' | 'prove'> {
  const { timeline, clock, instanceHost } = options;
  if (timeline === undefined) return {};
  const storeOf: PublishDependencies['storeOf'] = (id) => storeOfTimeline({ options }, { id });
  const publish: PublishDependencies = {
    reader: timeline.reader,
    storeOf,
    instanceHost,
    worker: {
      async publish(request, rest) {
        const avoid = await damagedBases(coreOf(), { id: request.store.virtualClusterId });
        return timeline.worker.publish({ ...request, avoid }, rest);
      },
      async materializePoint(request, rest) {
        const avoid = await damagedBases(coreOf(), { id: request.store.virtualClusterId });
        return timeline.worker.materializePoint({ ...request, avoid }, rest);
      },
    },
    pin: (job, { virtualClusterId, point, fromLsn }) =>
      putPin(
        storeOf(virtualClusterId),
        {
          id: pinIdOf(job),
          owner: `job ${job.id}`,
          incarnation: point.incarnation,
          fromLsn,
          throughLsn: point.lsn,
          expiresAt: (clock.now() + JOB_PINNED_US) as Timestamp,
        },
        { clock },
      ),
    unpin: (job, { virtualClusterId }) => removePin(storeOf(virtualClusterId), pinIdOf(job)),
    captureFirstBase: (id, rest) => captureFirstBase(coreOf(), { ...rest, id }),
  };
  return { publish, prove: { instanceHost, verifier: timeline.verifier } };
}
