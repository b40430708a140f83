/** ALTER VIRTUAL CLUSTER … START REPLICATION: what was the primary follows what was its standby. */
import { InputError, type IncarnationId, formatLsn, isAppError, toError } from '../../base/index.ts';
import { type VirtualClusterRecord, serviceModeOf } from '../../catalog/index.ts';
import { type Divergence, type StreamTerms, commonHistory, parseSourceUri } from '../../replication/index.ts';
import type { TimelineTarget } from '../../timeline/index.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { endOfLife, requireReachable, resolveTarget } from '../timeline/timeline-point.ts';
import { receiveRest } from '../virtual-clusters/run-once.ts';
import { requireNoRestore } from '../virtual-clusters/virtual-cluster-lookup.ts';
import { checkStreamOptions } from './begin-stream.ts';
import { refuseToGoBack } from './plain-source.ts';
import { addReader } from './reader.ts';
import { carryOn } from './replication-consumer.ts';
import { lineageOf } from './replication-producer.ts';
import type { ReplicationAction } from './replication-action.ts';
import { requireNoStream } from './require-stream.ts';
import { newStream, orDrop, requireFollowable, sourceUri, withProducer } from './stream-source.ts';

/** A failback: our own data as it was when the other's history left ours, and then what the other has written since. */
export async function startReplication(
  core: Core,
  options: {
    record: VirtualClusterRecord;
    action: Extract<ReplicationAction, { kind: 'start_replication' }>;
    context: ExecuteContext;
  },
): Promise<void> {
  const { record, action, context } = options;
  const { signal } = context;
  requireNoStream(core, record, 'begin another stream');
  if (record.state.kind !== 'ready' || serviceModeOf(record.state) !== 'none') {
    throw new InputError('object_in_use', `the service of virtual cluster "${record.name}" is "shared"`, {
      hint: `stop it first: ALTER VIRTUAL CLUSTER ${record.name} STOP SERVICE`,
    });
  }
  await requireNoRestore(core, record);
  checkStreamOptions(core, { name: record.name, options: action.options });
  const uri = await sourceUri(core, action.uri, context);
  if (parseSourceUri(uri).kind === 'postgres') refuseToGoBack(action.source);
  const end = await endOfOwn(core, { record, signal });
  const terms = await withProducer(uri, context, (connection) =>
    connection.createStream({ name: action.source, after: `${end.incarnation}@${formatLsn(end.lsn)}` }),
  );
  await orDrop({ uri, terms }, core, async () => {
    requireFollowable(core, terms);
    const divergence = await findDivergence(core, { record, end, terms, signal });
    if (divergence === null) {
      context.onNotice({
        severity: 'NOTICE',
        sqlstate: '00000',
        message: `no base of virtual cluster "${record.name}" leads to where the histories part: all data is copied from the source`,
        hint: 'what it holds now is kept: SHOW SALVAGE FOR VIRTUAL CLUSTER',
      });
    }
    await core.streams.add(newStream(record, { source: action, stream: { uri, terms }, divergence }), core);
    if (action.options.readVirtualCluster) await addReader(core, record);
    await carryOn(core, record.id, context.session.user);
  });
}

/** Where our own history ends; without a base, where the directory does. @throws InputError `object_state` */
async function endOfOwn(
  core: Core,
  options: { record: VirtualClusterRecord; signal: AbortSignal },
): Promise<Pick<Divergence, 'incarnation' | 'lsn'>> {
  const { id } = options.record;
  try {
    return await wholeLife(core, options);
  } catch (error) {
    const { instanceHost } = core.options;
    if (!isAppError(error, 'time_outside_window') || !(await instanceHost.isWhole(id))) throw error;
    const { incarnation } = core.services.instanceOf(options.record).identity;
    return { incarnation, lsn: await instanceHost.lastRecordLsn(id) };
  }
}

/** As `endOfLife`, also of one whose server was killed, or whose vault had not got all when it was stopped: whoever fails back need not know. */
async function wholeLife(
  core: Core,
  options: { record: VirtualClusterRecord; signal: AbortSignal },
): Promise<Pick<Divergence, 'incarnation' | 'lsn'>> {
  try {
    return await endOfLife(core, options);
  } catch (error) {
    if (!isAppError(error, 'object_state')) throw error;
    const { message } = toError(error);
    loggerOf(core, options.record).info(
      `its server runs once more, for nobody, before the failback: ${message}`,
    );
    await receiveRest(core, options);
    return endOfLife(core, options);
  }
}

/** Null when our own timeline does not lead there: then everything is copied. @throws InputError `object_state` for a stranger */
async function findDivergence(
  core: Core,
  options: {
    record: VirtualClusterRecord;
    end: { incarnation: IncarnationId; lsn: Divergence['lsn'] };
    terms: StreamTerms;
    signal: AbortSignal;
  },
): Promise<Divergence | null> {
  const { record, end, terms, signal } = options;
  const own = await lineageOf(core, { record, instance: core.services.instanceOf(record) });
  const common = commonHistory(own, { ownEndLsn: end.lsn, theirs: terms.lineage });
  if (common === null) {
    throw new InputError(
      'object_state',
      `virtual cluster "${terms.virtualClusterName}" was not replicated from "${record.name}": they have no history in common`,
      { hint: 'make a follower of its own: CREATE VIRTUAL CLUSTER ... FROM REPLICATION OF ...' },
    );
  }
  const target = { kind: 'lsn', incarnation: common.incarnation, lsn: common.lsn } as const;
  const timelineId = await reachableTimeline(core, { record, target, signal });
  if (timelineId === null) return null;
  if (terms.reservedLsn > common.lsn) {
    throw new InputError('object_state', 'the log from the failover on is no longer kept at the other side', {
      hint: 'make a follower of its own: CREATE VIRTUAL CLUSTER ... FROM REPLICATION OF ...',
    });
  }
  return { incarnation: common.incarnation, timelineId, lsn: common.lsn };
}

/** The timeline of Postgres that a position lies on; null when no base leads there. */
async function reachableTimeline(
  core: Core,
  options: { record: VirtualClusterRecord; target: TimelineTarget; signal: AbortSignal },
): Promise<number | null> {
  try {
    const point = await resolveTarget(core, options);
    await requireReachable(core, { ...options, point });
    return point.timelineId;
  } catch (error) {
    if (isAppError(error, 'time_outside_window')) return null;
    throw error;
  }
}
