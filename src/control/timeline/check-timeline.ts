/** ALTER VIRTUAL CLUSTER x CHECK TIMELINE: whether it can really be taken back to a moment, tried out on a copy. */
import { InputError, SYSTEM_VIRTUAL_CLUSTER_ID, type Timestamp, formatLsn } from '../../base/index.ts';
import type { JobRecord, VirtualClusterRecord } from '../../catalog/index.ts';
import { TIMELINE_CHECK_JOB, checkedVirtualCluster, timelineCheckPayload } from '../../jobs/index.ts';
import { type AlterVirtualClusterAction, printStatement } from '../../sql/index.ts';
import { type TimelinePoint, basesLeadingTo } from '../../timeline/index.ts';
import { untilSucceeded } from '../jobs/bulk-statement.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { storeOf } from '../jobs/job-visibility.ts';
import {
  requireReachable,
  requireTimeline,
  resolvePoint,
  resolveTarget,
  storeOfTimeline,
} from './timeline-point.ts';
import { lookupVirtualCluster } from '../virtual-clusters/virtual-cluster-lookup.ts';

type CheckTimeline = Extract<AlterVirtualClusterAction, { kind: 'check_timeline' }>;

/** Begins the job and waits for it. It goes on when the client does not. @throws AppError `data_corrupt` telling what was found */
export async function checkTimeline(
  core: Core,
  { name, action, context }: { name: string; action: CheckTimeline; context: ExecuteContext },
): Promise<void> {
  const { signal, session } = context;
  const record = lookupVirtualCluster(core, name);
  requireTimeline(core);
  if (record.state.kind !== 'ready') {
    throw new InputError('object_state', `virtual cluster "${record.name}" is still being made`);
  }
  await requireNoCheck(core, record, signal);
  const point =
    action.asOf === undefined
      ? await randomPoint(core, record, signal)
      : await resolvePoint(core, { record, asOf: action.asOf, signal });
  const job = await beginTimelineCheck(core, { record, point, user: session.user, signal });
  const reference = { virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID, jobId: job.id };
  await untilSucceeded(core, { job, reference, context });
}

/** @throws InputError `time_outside_window` when no base leads to the point */
export async function beginTimelineCheck(
  core: Core,
  options: { record: VirtualClusterRecord; point: TimelinePoint; user: string; signal: AbortSignal },
): Promise<JobRecord> {
  const { record, point, user, signal } = options;
  await requireReachable(core, { record, point, signal });
  const position = `${point.incarnation}@${formatLsn(point.lsn)}`;
  const job = await core.runner.create(
    SYSTEM_VIRTUAL_CLUSTER_ID,
    {
      type: TIMELINE_CHECK_JOB,
      description: printStatement({
        kind: 'alter_virtual_cluster',
        name: record.name,
        action: { kind: 'check_timeline', asOf: { kind: 'string', value: position } },
      }),
      user,
      payload: timelineCheckPayload({ sourceVirtualClusterId: record.id, point }),
    },
    { signal: core.signal },
  );
  loggerOf(core, record).info(`${TIMELINE_CHECK_JOB} job ${job.id} of ${position} begun by ${user}`);
  return job;
}

/** The unfinished check of a virtual cluster, if there is one. */
export async function unfinishedCheck(
  core: Core,
  { id }: Pick<VirtualClusterRecord, 'id'>,
  wait: { signal: AbortSignal },
): Promise<JobRecord | undefined> {
  const unfinished = await storeOf(core, SYSTEM_VIRTUAL_CLUSTER_ID).readUnfinished(wait);
  return unfinished.find((job) => job.type === TIMELINE_CHECK_JOB && checkedVirtualCluster(job) === id);
}

async function requireNoCheck(core: Core, record: VirtualClusterRecord, signal: AbortSignal): Promise<void> {
  const job = await unfinishedCheck(core, record, { signal });
  if (job === undefined) return;
  throw new InputError(
    'object_in_use',
    `the timeline of virtual cluster "${record.name}" is being checked by job ${job.id}`,
    { hint: `wait for the job, or end it with CANCEL JOB ${job.id}` },
  );
}

/** Any moment of the window, each as likely as the others. @throws InputError `object_state` without a base */
export async function randomPoint(
  core: Core,
  record: VirtualClusterRecord,
  signal: AbortSignal,
): Promise<TimelinePoint> {
  const { reader } = requireTimeline(core);
  const { cluster, rng } = core.options;
  const store = storeOfTimeline(core, record);
  const latest = await resolvePoint(core, { record, asOf: undefined, signal });
  const bases = await reader.bases(store, { key: cluster.key, signal });
  const [oldest] = basesLeadingTo(latest, { bases, incarnations: await reader.incarnations(store) });
  if (oldest === undefined) {
    throw new InputError('object_state', `virtual cluster "${record.name}" has no base yet`, {
      hint: 'SHOW TIMELINE tells when there is one',
    });
  }
  const spanUs = latest.time - oldest.endTime;
  if (spanUs <= 0n) return latest;
  const chance = Buffer.from(rng.bytes(8)).readBigUInt64BE();
  const time = (oldest.endTime + (chance % spanUs)) as Timestamp;
  return resolveTarget(core, { record, target: { kind: 'time', time }, signal });
}
