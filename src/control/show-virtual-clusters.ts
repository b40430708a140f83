/** SHOW VIRTUAL CLUSTER(S) [WITH CAPABILITIES | REPLICATION STATUS], and SHOW virtual_cluster_name. */
import {
  ALL_CAPABILITIES,
  CAPABILITIES,
  type VirtualClusterRecord,
  dataStateText,
  serviceModeOf,
} from '../catalog/index.ts';
import type { Statement } from '../sql/index.ts';
import type { Cell, Column } from './contract.ts';
import type { Core } from './core.ts';
import { isSystem } from './privileges.ts';
import { type UseCase, columnsOf, rowsResult, timestampCell } from './use-case.ts';
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
const CAPABILITY = columnsOf({ capability_name: 'text', capability_value: 'text' });

export const showVirtualClusters: UseCase<ShowVirtualClusters> = {
  columns: columnsOfShow,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    await requireManager(core, context);
    const records = recordsOf(core, statement);
    return rowsResult(
      columnsOfShow(statement),
      records.flatMap((record) => rowsOf(record, statement)),
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
    ...(statement.withCapabilities ? CAPABILITY : []),
  ];
}

function rowsOf(record: VirtualClusterRecord, statement: ShowVirtualClusters): (readonly Cell[])[] {
  const own = statement.withReplicationStatus ? replicationCells(record) : plainCells(record);
  const first = statement.withDropped ? [...own, ...droppedCells(record)] : own;
  if (!statement.withCapabilities) return [first];
  const held = isSystem(record.id) ? ALL_CAPABILITIES : record.capabilities;
  return CAPABILITIES.map((capability) => [...first, capability, String(held.has(capability))]);
}

function droppedCells({ state }: VirtualClusterRecord): readonly Cell[] {
  if (state.kind !== 'dropped') return [null, null];
  return [timestampCell(state.dropped), timestampCell(state.removeAfter)];
}

function stateCell({ state }: VirtualClusterRecord): Cell {
  return state.kind === 'dropped' ? 'dropped' : (dataStateText(state) ?? null);
}

function plainCells(record: VirtualClusterRecord): readonly Cell[] {
  return [String(record.id), record.name, stateCell(record), serviceModeOf(record.state)];
}

/** Without a stream there is nothing to tell but the state. */
function replicationCells(record: VirtualClusterRecord): readonly Cell[] {
  const nothing: Cell[] = Array.from({ length: 6 }, () => null);
  return [String(record.id), record.name, ...nothing, stateCell(record)];
}
