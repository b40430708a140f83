/** Virtual clusters as rows of the control plane's tables. */
import type { Timestamp, VirtualClusterId, VirtualClusterName } from '../base/index.ts';
import {
  AppError,
  FIRST_APP_VIRTUAL_CLUSTER_ID,
  formatTimestamp,
  parseVirtualClusterName,
} from '../base/index.ts';
import { CAPABILITIES, type Capability, type CapabilitySet } from './capabilities.ts';
import { type Row, type SqlClient, microsecondsOf, textOf } from './database.ts';
import { type ServiceMode, type VirtualClusterState, serviceModeOf } from './virtual-cluster-state.ts';

/** That its instance is stopped while nobody needs it, and whether it is now. */
export interface Suspension {
  /** Idle time after which it is, in microseconds. */
  readonly afterUs: bigint;
  /** Null while it is awake. */
  readonly asleep: {
    readonly since: Timestamp;
    /** When a schedule needs it; null when only a client may. */
    readonly wakeAt: Timestamp | null;
  } | null;
}

export interface VirtualClusterRecord {
  readonly id: VirtualClusterId;
  readonly name: VirtualClusterName;
  readonly state: VirtualClusterState;
  readonly created: Timestamp;
  readonly capabilities: CapabilitySet;
  /** Cluster settings that the operator has fixed for this virtual cluster, in stored form. */
  readonly settingOverrides: ReadonlyMap<string, string>;
  /** Null when it is never suspended. */
  readonly suspension: Suspension | null;
  /** Of a reader: the one that replicates and that it shows, whose instance it is served by. Null for any other. */
  readonly readerOf: VirtualClusterId | null;
}

/** All of them, hidden ones included, ordered by number. */
export async function readRecords(client: SqlClient): Promise<readonly VirtualClusterRecord[]> {
  const rows = await client.query(
    `select id, name, state, service_mode, reader_of, ${microsecondsOf('created')} as created_us,
        ${microsecondsOf('dropped')} as dropped_us, ${microsecondsOf('remove_after')} as remove_after_us
      from public.virtual_clusters order by id`,
  );
  const capabilities = await client.query(
    'select virtual_cluster_id, name from public.virtual_cluster_capabilities',
  );
  const overrides = await client.query(
    'select virtual_cluster_id, name, value from public.virtual_cluster_settings order by name',
  );
  const suspensions = await client.query(
    `select virtual_cluster_id, after_us::text, ${microsecondsOf('suspended')} as suspended_us,
        ${microsecondsOf('wake_at')} as wake_at_us from public.virtual_cluster_suspension`,
  );
  return rows.map((row) => recordOf(row, { capabilities, overrides, suspensions }));
}

/** A new one, whose directory is about to be made. */
export async function insertRecord(
  client: SqlClient,
  record: Pick<VirtualClusterRecord, 'id' | 'name' | 'created' | 'readerOf'>,
): Promise<void> {
  const { id, name, created, readerOf } = record;
  await client.query(
    `insert into public.virtual_clusters (id, name, state, service_mode, created, reader_of)
      values ($1, $2, 'adding', 'none', $3::timestamptz, $4)`,
    [String(id), name, formatTimestamp(created), readerOf === null ? null : String(readerOf)],
  );
}

/** Numbers are never used twice, also not after a removal: backups and logs name them. */
export async function nextId(
  client: SqlClient,
  records: readonly VirtualClusterRecord[],
): Promise<VirtualClusterId> {
  const free = Math.max(FIRST_APP_VIRTUAL_CLUSTER_ID, ...records.map((record) => record.id + 1));
  const rows = await client.query(
    `insert into public.control_plane values ('next_virtual_cluster_id', $1::int8 + 1)
      on conflict (name) do update
        set value = greatest(control_plane.value::int8, $1::int8) + 1
      returning (value::int8 - 1)::text as id`,
    [String(free)],
  );
  return Number(rows[0]?.['id']) as VirtualClusterId;
}

export async function writeState(
  client: SqlClient,
  id: VirtualClusterId,
  state: VirtualClusterState,
): Promise<void> {
  const isDropped = state.kind === 'dropped';
  await client.query(
    `update public.virtual_clusters set state = $2, service_mode = $3, dropped = $4::timestamptz,
        remove_after = $5::timestamptz where id = $1`,
    [
      String(id),
      state.kind,
      serviceModeOf(state),
      isDropped ? formatTimestamp(state.dropped) : null,
      isDropped ? formatTimestamp(state.removeAfter) : null,
    ],
  );
}

export async function writeCapabilities(
  client: SqlClient,
  id: VirtualClusterId,
  capabilities: CapabilitySet,
): Promise<void> {
  for (const capability of capabilities) {
    await client.query('insert into public.virtual_cluster_capabilities values ($1, $2)', [
      String(id),
      capability,
    ]);
  }
}

export async function writeOverride(
  client: SqlClient,
  override: { id: VirtualClusterId; name: string; value: string },
): Promise<void> {
  await client.query(
    `insert into public.virtual_cluster_settings values ($1, $2, $3)
      on conflict (virtual_cluster_id, name) do update set value = excluded.value`,
    [String(override.id), override.name, override.value],
  );
}

/** Null takes it away. */
export async function writeSuspension(
  client: SqlClient,
  id: VirtualClusterId,
  suspension: Suspension | null,
): Promise<void> {
  if (suspension === null) {
    await client.query('delete from public.virtual_cluster_suspension where virtual_cluster_id = $1', [
      String(id),
    ]);
    return;
  }
  const { afterUs, asleep } = suspension;
  await client.query(
    `insert into public.virtual_cluster_suspension values ($1, $2, $3::timestamptz, $4::timestamptz)
      on conflict (virtual_cluster_id) do update
        set after_us = excluded.after_us, suspended = excluded.suspended, wake_at = excluded.wake_at`,
    [
      String(id),
      String(afterUs),
      asleep === null ? null : formatTimestamp(asleep.since),
      asleep === null || asleep.wakeAt === null ? null : formatTimestamp(asleep.wakeAt),
    ],
  );
}

function recordOf(
  row: Row,
  parts: { capabilities: readonly Row[]; overrides: readonly Row[]; suspensions: readonly Row[] },
): VirtualClusterRecord {
  const id = textOf(row, 'id');
  const belongs = (other: Row) => other['virtual_cluster_id'] === id;
  const { reader_of: readerOf = null } = row;
  const granted = new Set(parts.capabilities.filter(belongs).map((other) => textOf(other, 'name')));
  return {
    id: Number(id) as VirtualClusterId,
    name: parseVirtualClusterName(textOf(row, 'name')),
    state: stateOf(row),
    created: BigInt(textOf(row, 'created_us')) as Timestamp,
    capabilities: new Set<Capability>(CAPABILITIES.filter((capability) => granted.has(capability))),
    settingOverrides: new Map(
      parts.overrides.filter(belongs).map((other) => [textOf(other, 'name'), textOf(other, 'value')]),
    ),
    suspension: suspensionOf(parts.suspensions.find(belongs)),
    readerOf: readerOf === null ? null : (Number(readerOf) as VirtualClusterId),
  };
}

function suspensionOf(row: Row | undefined): Suspension | null {
  if (row === undefined) return null;
  const timeOf = (name: string) => {
    const text = row[name] ?? null;
    return text === null ? null : (BigInt(text) as Timestamp);
  };
  const since = timeOf('suspended_us');
  const asleep = since === null ? null : { since, wakeAt: timeOf('wake_at_us') };
  return { afterUs: BigInt(textOf(row, 'after_us')), asleep };
}

function stateOf(row: Row): VirtualClusterState {
  const kind = textOf(row, 'state');
  switch (kind) {
    case 'adding':
    case 'removing':
      return { kind };
    case 'ready':
      return { kind, serviceMode: textOf(row, 'service_mode') as ServiceMode };
    case 'dropped':
      return {
        kind,
        dropped: BigInt(textOf(row, 'dropped_us')) as Timestamp,
        removeAfter: BigInt(textOf(row, 'remove_after_us')) as Timestamp,
      };
    default:
      throw new AppError(
        'format_unsupported',
        `virtual cluster state "${kind}" is not known to this program`,
      );
  }
}
