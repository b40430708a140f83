/** ALTER VIRTUAL CLUSTER x RESET DATA TO VIRTUAL CLUSTER x AS OF SYSTEM TIME t: its data as it was, in its own place. */
import { InputError, SYSTEM_VIRTUAL_CLUSTER_ID, formatLsn, formatTimestamp } from '../../base/index.ts';
import { type VirtualClusterRecord, serviceModeOf } from '../../catalog/index.ts';
import { RESET_DATA_JOB, pointPayload, readDisabledSubscriptions } from '../../jobs/index.ts';
import { type AlterVirtualClusterAction, printStatement } from '../../sql/index.ts';
import type { TimelinePoint } from '../../timeline/index.ts';
import { noteSubscriptions } from './branch.ts';
import { untilSucceeded } from '../jobs/bulk-statement.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { newIncarnation } from './new-incarnation.ts';
import { endOfLife, requireReachable, resolvePoint, windowUs } from '../timeline/timeline-point.ts';
import { notAvailable } from '../values.ts';
import { requireNoRestore, withVirtualCluster } from './virtual-cluster-lookup.ts';

type ResetData = Extract<AlterVirtualClusterAction, { kind: 'reset_data' }>;

/** Begins the job and waits for it. It goes on when the client does not; when it fails, the data is what it was. */
export async function resetData(
  core: Core,
  options: { name: string; action: ResetData; context: ExecuteContext },
): Promise<void> {
  const { name, action, context } = options;
  const { record, job, undo } = await withVirtualCluster(core, name, async (found) => {
    requireResettable(core, { record: found, action });
    await requireNoRestore(core, found);
    const { signal } = context;
    const point = await resolvePoint(core, { record: found, asOf: action.asOf, signal });
    await requireReachable(core, { record: found, point, signal });
    const before = await endOfLife(core, { record: found, signal });
    const begun = await beginJob(core, { ...options, record: found, point });
    return { record: found, job: begun, undo: `${before.incarnation}@${formatLsn(before.lsn)}` };
  });
  const reference = { virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID, jobId: job.id };
  const ended = await untilSucceeded(core, { job, reference, context });
  noteSubscriptions(readDisabledSubscriptions(ended.progress), { record, context });
  const { clock } = core.options;
  const until = formatTimestamp((clock.now() + windowUs(core, record.id)) as ReturnType<typeof clock.now>);
  context.onNotice({
    severity: 'NOTICE',
    sqlstate: '00000',
    message: `what virtual cluster "${record.name}" held before can be had back until ${until}`,
    hint: `RESET DATA or CREATE VIRTUAL CLUSTER ... FROM with AS OF SYSTEM TIME '${undo}'`,
  });
}

async function beginJob(
  core: Core,
  options: {
    record: VirtualClusterRecord;
    point: TimelinePoint;
    action: ResetData;
    context: ExecuteContext;
  },
) {
  const { record, point, action, context } = options;
  const job = await core.runner.create(
    SYSTEM_VIRTUAL_CLUSTER_ID,
    {
      type: RESET_DATA_JOB,
      description: printStatement({ kind: 'alter_virtual_cluster', name: record.name, action }),
      user: context.session.user,
      payload: pointPayload({ sourceVirtualClusterId: record.id, point, incarnation: newIncarnation(core) }),
      targetVirtualClusterId: record.id,
    },
    { signal: core.signal },
  );
  loggerOf(core, record).info(
    `${RESET_DATA_JOB} job ${job.id} to ${formatLsn(point.lsn)} of ${point.incarnation} begun by ${context.session.user}`,
  );
  return job;
}

/** @throws InputError `object_in_use` while it serves, `feature_not_supported` for data of another one */
function requireResettable(
  core: Core,
  { record, action }: { record: VirtualClusterRecord; action: ResetData },
): void {
  if (core.catalog.find(action.source)?.id !== record.id) {
    throw notAvailable(
      `RESET DATA to another virtual cluster ("${action.source}")`,
      `name "${record.name}" itself, or make a branch: CREATE VIRTUAL CLUSTER ... FROM VIRTUAL CLUSTER ${action.source}`,
    );
  }
  if (serviceModeOf(record.state) === 'none') return;
  throw new InputError('object_in_use', `the service of virtual cluster "${record.name}" is "shared"`, {
    hint: `stop it first: ALTER VIRTUAL CLUSTER ${record.name} STOP SERVICE`,
  });
}
