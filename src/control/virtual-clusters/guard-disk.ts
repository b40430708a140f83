/** Keeps virtual clusters of this node from filling the disk that they share. */
import { join } from 'node:path';
import { SYSTEM_VIRTUAL_CLUSTER_ID, type VirtualClusterId } from '../../base/index.ts';
import { type VirtualClusterRecord, serviceModeOf } from '../../catalog/index.ts';
import { Ballast } from '../../instance/index.ts';
import { DiskGuard, type GuardedCluster, PRESSURE_LEVELS } from '../../jobs/index.ts';
import type { ControlOptions, Core } from '../core.ts';
import { inTime } from '../in-time.ts';
import { roomOf } from '../timeline/keep-timelines.ts';
import { isSystem } from '../privileges/privileges.ts';
import type { MetricFamily } from '../status.ts';
import { asleepOf } from './suspender.ts';
import { requireRecord } from './virtual-cluster-lookup.ts';

const BALLAST_NAME = 'ballast';
/** A slot that keeps less is not what fills a disk. */
const SLOT_BYTES_MIN = 64n * 1024n * 1024n;

const USED = `select (
    (select coalesce(sum(pg_catalog.pg_database_size(oid)), 0) from pg_catalog.pg_database)
    + (select coalesce(sum(size), 0) from pg_catalog.pg_ls_waldir())
    + (select coalesce(sum(size), 0) from pg_catalog.pg_ls_tmpdir())
  )::int8::text as bytes`;

/** Whoever reads from one is sent away first: a slot that is used cannot be dropped. */
const HELD_SLOTS = `select slot_name::text as name, active_pid::text as pid from pg_catalog.pg_replication_slots
  where not temporary and slot_name !~ '^atoll_'
    and pg_catalog.pg_wal_lsn_diff(
      case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_lsn() end,
      restart_lsn) >= $1::numeric`;

export function createDiskGuard(options: ControlOptions, coreOf: () => Core): DiskGuard {
  const { clock, rng, logger, instanceHost } = options;
  const ballast = new Ballast({ path: join(instanceHost.storeDirectory, BALLAST_NAME), rng });
  return new DiskGuard({
    clock,
    logger,
    ballast,
    room: () => roomOf(coreOf()),
    guarded: () => {
      const core = coreOf();
      return core.catalog.list().flatMap((record) => guardedCluster(core, record));
    },
    usedBytes: (id, wait) => usedBytes(coreOf(), id, wait),
    giveUpSlots: (id, wait) => giveUpSlots(coreOf(), id, wait),
    setReadOnly: (id, change) => setReadOnly(coreOf(), id, change),
    ballastBytes: () => coreOf().settings.integer(SYSTEM_VIRTUAL_CLUSTER_ID, 'timeline.disk.ballast'),
  });
}

export async function diskFamilies(core: Core): Promise<readonly MetricFamily[]> {
  const { diskGuard } = core;
  const { freeBytes } = await roomOf(core);
  const guarded = core.catalog.list().flatMap((record) => guardedCluster(core, record));
  return [
    {
      name: 'store_free_bytes',
      help: 'Bytes that are free on the disk of the store',
      type: 'gauge',
      samples: [{ labels: {}, value: Number(freeBytes) }],
    },
    {
      name: 'store_pressure_level',
      help: `Want of room on the disk of the store: ${PRESSURE_LEVELS.map((level, index) => `${index} ${level}`).join(', ')}`,
      type: 'gauge',
      samples: [{ labels: {}, value: PRESSURE_LEVELS.indexOf(diskGuard.level) }],
    },
    {
      name: 'virtual_cluster_read_only',
      help: '1 while it can only be read, for want of room on the disk of the store',
      type: 'gauge',
      samples: guarded.map(({ name, isReadOnly }) => ({
        labels: { tenant: name },
        value: Number(isReadOnly),
      })),
    },
    {
      name: 'virtual_cluster_slots_given_up_count',
      help: 'Replication slots given up for want of room since the daemon started',
      type: 'counter',
      samples: guarded.map(({ name, virtualClusterId }) => ({
        labels: { tenant: name },
        value: diskGuard.slotsGivenUp(virtualClusterId),
      })),
    },
  ];
}

/** None that is out of service, asleep or a follower: they write nothing of their own. */
function guardedCluster(core: Core, record: VirtualClusterRecord): readonly GuardedCluster[] {
  const { id, name, state } = record;
  if (isSystem(id) || serviceModeOf(state) !== 'shared' || asleepOf(record) !== undefined) return [];
  const instance = core.options.instanceHost.get(id);
  if (instance === undefined || core.streams.active(id) !== undefined) return [];
  return [{ virtualClusterId: id, name, isReadOnly: instance.isReadOnly }];
}

/** Undefined for one that does not run or answer: it grows no more, or too fast to be asked. */
async function usedBytes(
  core: Core,
  id: VirtualClusterId,
  wait: { signal: AbortSignal },
): Promise<bigint | undefined> {
  const instance = core.options.instanceHost.get(id);
  if (instance?.state.kind !== 'running') return undefined;
  return inTime(core, wait, async (limited) => {
    const [row] = await instance.withSystemClient((client) => client.query(USED), limited);
    const stored = core.options.timeline?.vault.status(id)?.storedBytes ?? 0n;
    return BigInt(row?.['bytes'] ?? 0) + stored;
  });
}

async function giveUpSlots(
  core: Core,
  id: VirtualClusterId,
  { signal }: { signal: AbortSignal },
): Promise<readonly string[]> {
  const instance = core.options.instanceHost.get(id);
  if (instance?.state.kind !== 'running') return [];
  return instance.withSystemClient(
    async (client) => {
      const slots = await client.query(HELD_SLOTS, [String(SLOT_BYTES_MIN)]);
      const names: string[] = [];
      for (const { name = null, pid = null } of slots) {
        if (pid !== null) await client.query('select pg_catalog.pg_terminate_backend($1::int4, 5000)', [pid]);
        await client.query('select pg_catalog.pg_drop_replication_slot($1::name)', [name]);
        if (name !== null) names.push(name);
      }
      // What it kept goes with the next checkpoint.
      if (names.length > 0) await client.query('checkpoint');
      return names;
    },
    { signal },
  );
}

async function setReadOnly(
  core: Core,
  id: VirtualClusterId,
  { isReadOnly, signal }: { isReadOnly: boolean; signal: AbortSignal },
): Promise<void> {
  await core.locks.run(id, async () => {
    const record = requireRecord(core, id);
    if (guardedCluster(core, record).length === 0) return;
    await core.services.setReadOnly(record, { isReadOnly, signal });
  });
}
