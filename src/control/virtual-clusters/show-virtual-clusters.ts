/** SHOW VIRTUAL CLUSTER(S) [WITH CAPABILITIES | REPLICATION STATUS], and SHOW virtual_cluster_name. */
import {
  ALL_CAPABILITIES,
  CAPABILITIES,
  type VirtualClusterRecord,
  dataStateText,
  printInterval,
  serviceModeOf,
} from '../../catalog/index.ts';
import type { Statement } from '../../sql/index.ts';
import { STREAM_STATE_TEXTS, type StreamState, displaySourceUri } from '../../replication/index.ts';
import type { Cell, Column } from '../contract.ts';
import type { Core } from '../core.ts';
import { hlcText } from '../replication/failover-time.ts';
import { isSystem } from '../privileges/privileges.ts';
import { asleepOf } from './suspender.ts';
import { type UseCase, columnsOf, rowsResult, timestampCell } from '../use-case.ts';
import { lookupVirtualCluster, requireManager } from './virtual-cluster-lookup.ts';

type ShowVirtualClusters = Extract<Statement, { kind: 'show_virtual_clusters' }>;
type ShowVirtualClusterName = Extract<Statement, { kind: 'show_virtual_cluster_name' }>;

const PLAIN = columnsOf({ id: 'int8', name: 'text', data_state: 'text', service_mode: 'text' });
const REPLICATION = columnsOf({
  id: 'int8',
  name: 'text',
  source_tenant_name: 'text',
  source_cluster_uri: 'text',
  retained_time: 'timestamptz',
  replicated_time: 'timestamptz',
  replication_lag: 'interval',
  failover_time: 'numeric',
  status: 'text',
});
const DROPPED = columnsOf({ dropped: 'timestamptz', kept_until: 'timestamptz' });
const SUSPENSION = columnsOf({
  suspend_after: 'interval',
  suspended_since: 'timestamptz',
  wakes_at: 'timestamptz',
});
const CAPABILITY = columnsOf({ capability_name: 'text', capability_value: 'text' });

export const showVirtualClusters: UseCase<ShowVirtualClusters> = {
  columns: columnsOfShow,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    await requireManager(core, context);
    const records = recordsOf(core, statement);
    return rowsResult(
      columnsOfShow(statement),
      records.flatMap((record) => rowsOf(core, record, statement)),
    );
  },
};

export const showVirtualClusterName: UseCase<ShowVirtualClusterName> = {
  columns: () => columnsOf({ virtual_cluster_name: 'text' }),
  refusedInTransaction: undefined,
  run: (core, _statement, { session }) => {
    // A virtual cluster may have been renamed since the session began.
    const name = core.catalog.get(session.virtualClusterId)?.name ?? session.virtualClusterName;
    return Promise.resolve(rowsResult(columnsOf({ virtual_cluster_name: 'text' }), [[name]], 'SHOW'));
  },
};

/** @throws InputError `object_not_found` */
function recordsOf(core: Core, { name, withDropped }: ShowVirtualClusters): readonly VirtualClusterRecord[] {
  const isShown = ({ state }: VirtualClusterRecord) =>
    state.kind === 'adding' || state.kind === 'ready' || (withDropped && state.kind === 'dropped');
  if (name === undefined) return core.catalog.listAll().filter(isShown);
  if (!withDropped) return [lookupVirtualCluster(core, name)];
  const named = core.catalog.listAll().filter((record) => isShown(record) && record.name === name);
  return named.length > 0 ? named : [lookupVirtualCluster(core, name)];
}

function columnsOfShow(statement: ShowVirtualClusters): readonly Column[] {
  return [
    ...(statement.withReplicationStatus ? REPLICATION : PLAIN),
    ...(statement.withDropped ? DROPPED : []),
    ...(statement.withSuspension ? SUSPENSION : []),
    ...(statement.withCapabilities ? CAPABILITY : []),
  ];
}

function rowsOf(
  core: Core,
  record: VirtualClusterRecord,
  statement: ShowVirtualClusters,
): (readonly Cell[])[] {
  const own = statement.withReplicationStatus ? replicationCells(core, record) : plainCells(core, record);
  const first = [
    ...own,
    ...(statement.withDropped ? droppedCells(record) : []),
    ...(statement.withSuspension ? suspensionCells(record) : []),
  ];
  if (!statement.withCapabilities) return [first];
  const held = isSystem(record.id) ? ALL_CAPABILITIES : record.capabilities;
  return CAPABILITIES.map((capability) => [...first, capability, String(held.has(capability))]);
}

function droppedCells({ state }: VirtualClusterRecord): readonly Cell[] {
  if (state.kind !== 'dropped') return [null, null];
  return [timestampCell(state.dropped), timestampCell(state.removeAfter)];
}

function suspensionCells(record: VirtualClusterRecord): readonly Cell[] {
  const { suspension } = record;
  const asleep = asleepOf(record);
  return [
    suspension === null ? null : printInterval(suspension.afterUs),
    timestampCell(asleep?.since ?? null),
    timestampCell(asleep?.wakeAt ?? null),
  ];
}

/** The service of one that is suspended is shared, and would be started for who comes; of one that is read-only it is, for readers. */
function serviceCell(core: Core, record: VirtualClusterRecord): Cell {
  if (asleepOf(record) !== undefined) return 'suspended';
  const mode = serviceModeOf(record.state);
  const isReadOnly = core.options.instanceHost.get(record.id)?.isReadOnly === true;
  return mode === 'shared' && isReadOnly ? 'read-only' : mode;
}

function stateCell(core: Core, { id, state }: VirtualClusterRecord): Cell {
  const stream = core.streams.active(id);
  if (stream !== undefined && (state.kind === 'ready' || state.kind === 'adding')) {
    return STREAM_STATE_TEXTS[stream.state.kind];
  }
  return state.kind === 'dropped' ? 'dropped' : (dataStateText(state) ?? null);
}

function plainCells(core: Core, record: VirtualClusterRecord): readonly Cell[] {
  return [String(record.id), record.name, stateCell(core, record), serviceCell(core, record)];
}

/** Without a stream there is nothing to tell but the state. */
function replicationCells(core: Core, record: VirtualClusterRecord): readonly Cell[] {
  const stream = core.streams.get(record.id);
  if (stream === undefined) {
    const nothing: Cell[] = Array.from({ length: 6 }, () => null);
    return [String(record.id), record.name, ...nothing, stateCell(core, record)];
  }
  const { replicatedTime, retainedTime, state } = stream;
  const isOver = state.kind === 'completed';
  const lagUs = isOver || replicatedTime === null ? null : core.options.clock.now() - replicatedTime;
  return [
    String(record.id),
    record.name,
    stream.sourceName,
    displaySourceUri(stream.sourceUri),
    timestampCell(isOver ? null : retainedTime),
    timestampCell(replicatedTime),
    lagUs === null ? null : intervalText(lagUs),
    failoverTimeText(state),
    stateCell(core, record),
  ];
}

/** When a failover is, or was, to begin. */
function failoverTimeText(state: StreamState): Cell {
  if (state.kind === 'completed') return hlcText(state.failoverTime);
  if (state.kind === 'failing_over') return hlcText(state.cut.time);
  if (state.kind !== 'pending_failover' || state.target.kind === 'latest') return null;
  return hlcText(state.target.time);
}

/** `00:00:19.602682`; clocks of two machines may differ, but nothing is replicated before it was written. */
function intervalText(us: bigint): string {
  const lag = us > 0n ? us : 0n;
  const two = (value: bigint) => String(value).padStart(2, '0');
  const [hours, minutes, seconds] = [
    lag / 3_600_000_000n,
    (lag / 60_000_000n) % 60n,
    (lag / 1_000_000n) % 60n,
  ];
  return `${two(hours)}:${two(minutes)}:${two(seconds)}.${String(lag % 1_000_000n).padStart(6, '0')}`;
}
