/** CREATE VIRTUAL CLUSTER … FROM VIRTUAL CLUSTER …: a virtual cluster that begins as another one is, or was. */
import { SYSTEM_VIRTUAL_CLUSTER_ID, InputError } from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import { BRANCH_JOB, pointPayload, readDisabledSubscriptions } from '../../jobs/index.ts';
import { type Statement, printStatement } from '../../sql/index.ts';
import type { TimelinePoint } from '../../timeline/index.ts';
import { untilSucceeded } from '../jobs/bulk-statement.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { newIncarnation } from './new-incarnation.ts';
import { isSystem } from '../privileges/privileges.ts';
import { hasBase, requireReachable, resolvePoint } from '../timeline/timeline-point.ts';
import { notAvailable } from '../values.ts';
import { requireNoReader } from '../replication/reader.ts';
import { lookupVirtualCluster, requireNoRestore } from './virtual-cluster-lookup.ts';

type CreateVirtualCluster = Extract<Statement, { kind: 'create_virtual_cluster' }>;

export interface BranchStart {
  readonly statement: CreateVirtualCluster;
  readonly source: VirtualClusterRecord;
  /** Null when the job has to capture a base first. */
  readonly point: TimelinePoint | null;
}

/**
 * Where a branch begins. @throws InputError `object_not_found`, `object_in_use`, `time_outside_window`, and what AS OF may be refused for
 */
export async function findBranchStart(
  core: Core,
  statement: CreateVirtualCluster,
  { signal }: ExecuteContext,
): Promise<BranchStart | undefined> {
  if (statement.from === undefined) return undefined;
  const { source: name, asOf } = statement.from;
  const source = lookupVirtualCluster(core, name);
  if (isSystem(source.id))
    throw notAvailable('a branch of the system virtual cluster', 'branch an app virtual cluster');
  requireNoReader(source, 'be branched');
  if (source.state.kind !== 'ready') {
    throw new InputError('object_state', `virtual cluster "${source.name}" is still being made`);
  }
  await requireNoRestore(core, source);
  if (asOf === undefined && !(await hasBase(core, source, { signal }))) {
    if (core.services.instanceOf(source).state.kind === 'running') return { statement, source, point: null };
    throw new InputError(
      'object_state',
      `virtual cluster "${source.name}" has no base yet, and does not run`,
      {
        hint: 'start its service: a base is captured then',
      },
    );
  }
  const point = await resolvePoint(core, { record: source, asOf, signal });
  await requireReachable(core, { record: source, point, signal });
  return { statement, source, point };
}

/** Begins the job and waits for it. It goes on when the client does not; when it fails, nothing of the new virtual cluster is left. */
export async function makeBranch(
  core: Core,
  options: { record: VirtualClusterRecord; start: BranchStart; context: ExecuteContext },
): Promise<void> {
  const { record, start, context } = options;
  const { statement, source, point } = start;
  const job = await core.runner.create(
    SYSTEM_VIRTUAL_CLUSTER_ID,
    {
      type: BRANCH_JOB,
      description: printStatement(statement),
      user: context.session.user,
      payload: pointPayload({ sourceVirtualClusterId: source.id, point, incarnation: newIncarnation(core) }),
      targetVirtualClusterId: record.id,
    },
    { signal: core.signal },
  );
  loggerOf(core, record).info(
    `${BRANCH_JOB} job ${job.id} of "${source.name}" begun by ${context.session.user}`,
  );
  const reference = { virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID, jobId: job.id };
  const ended = await untilSucceeded(core, { job, reference, context });
  noteSubscriptions(readDisabledSubscriptions(ended.progress), { record, context });
}

/** A copy must never consume what the original's subscriptions are to receive. */
export function noteSubscriptions(
  names: readonly string[],
  { record, context }: { record: VirtualClusterRecord; context: ExecuteContext },
): void {
  if (names.length === 0) return;
  const listed = names.map((name) => `"${name}"`).join(', ');
  context.onNotice({
    severity: 'NOTICE',
    sqlstate: '00000',
    message: `disabled in virtual cluster "${record.name}": subscription ${listed}`,
    hint: 'ALTER SUBSCRIPTION ... ENABLE, once it has a replication slot of its own at the publisher',
  });
}
