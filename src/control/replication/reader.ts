/**
 * Reader virtual clusters: what replicates, read under a name of its own. A reader has no instance: its clients are led to that of the follower,
 * which recovers for ever and where Postgres refuses every write. docs/decisions/0072-reader-virtual-clusters.md
 */
import {
  AppError,
  InputError,
  type VirtualClusterId,
  type VirtualClusterName,
  parseVirtualClusterName,
} from '../../base/index.ts';
import { type VirtualClusterRecord, serviceModeOf } from '../../catalog/index.ts';
import type { Instance, InternalClient } from '../../instance/index.ts';
import { isScanned, sampleFollower } from '../../replication/index.ts';
import { type Core, loggerOf } from '../core.ts';
import { notAvailable } from '../values.ts';

/** How long one session may take to end. */
const END_MS_MAX = 5000;
/** Nobody comes anew: a few rounds find those who were just coming. */
const END_ROUNDS_MAX = 10;
const REPLAY_MS_MAX = 30_000;
const REPLAY_POLL_MS = 20;

/** The reader of a virtual cluster, if it has one. */
export function findReader(
  { catalog }: Pick<Core, 'catalog'>,
  id: VirtualClusterId,
): VirtualClusterRecord | undefined {
  return catalog.list().find(({ readerOf }) => readerOf === id);
}

/** @throws InputError `virtual_cluster_name_invalid` when it becomes too long */
export function readerName(name: string): VirtualClusterName {
  return parseVirtualClusterName(`${name}-readonly`);
}

/** @throws InputError `object_exists` when its name is another's, `virtual_cluster_name_invalid` */
export function requireReaderName({ catalog }: Pick<Core, 'catalog'>, name: string): VirtualClusterName {
  const wanted = readerName(name);
  if (catalog.find(wanted) === undefined) return wanted;
  throw new InputError('object_exists', `virtual cluster "${wanted}" already exists`, {
    hint: `READ VIRTUAL CLUSTER makes one of that name to read "${name}"`,
  });
}

/** What a reader is not: a virtual cluster with data of its own. @throws InputError `object_state` */
export function requireNoReader(record: VirtualClusterRecord, what: string): void {
  if (record.readerOf === null) return;
  throw new InputError('object_state', `virtual cluster "${record.name}" is a reader, it cannot ${what}`, {
    hint: 'name the virtual cluster that it reads',
  });
}

/** Who comes to a reader reads, and while it serves. @throws InputError `feature_not_supported`, AppError `service_unavailable` */
export function requireReadable(
  { catalog, gates }: Pick<Core, 'catalog' | 'gates'>,
  options: { virtualClusterId: VirtualClusterId; isReplication?: boolean },
): void {
  const record = catalog.get(options.virtualClusterId);
  if (record === undefined || record.readerOf === null) return;
  if (options.isReplication === true) {
    throw notAvailable(
      `replication from reader "${record.name}"`,
      'follow the virtual cluster at its primary',
    );
  }
  // It may have been dropped since this client was led here, and its instance may be about to become writable.
  if (!gates.isOpen(record.id)) {
    throw new AppError(
      'service_unavailable',
      `service unavailable for target virtual cluster (${record.name})`,
    );
  }
}

/** Recorded, and `add` until there is something to be read. Under the lock of the virtual cluster that is read, as all here. */
export async function addReader(core: Core, record: VirtualClusterRecord): Promise<void> {
  const name = requireReaderName(core, record.name);
  const { id: readerOf, capabilities } = record;
  await core.catalog.add({ name, capabilities, readerOf, signal: core.signal });
}

/** Brings about what is recorded: lets clients in when the reader is to serve and its follower is consistent. May run any number of times. */
export async function tendReader(core: Core, id: VirtualClusterId): Promise<void> {
  const { catalog, signal } = core;
  let reader = findReader(core, id);
  const state = core.streams.active(id)?.state;
  if (reader === undefined || state === undefined || state.kind === 'failing_over' || !isScanned(state))
    return;
  if (reader.state.kind === 'adding') {
    await catalog.apply({ id: reader.id, event: { kind: 'directory_made' }, signal });
    reader = await catalog.apply({ id: reader.id, event: { kind: 'service_started' }, signal });
  }
  if (!isShared(reader)) return;
  const instance = core.services.instanceOf(reader);
  if (state.kind === 'paused') await standStill(core, { id, instance });
  await instance.start({ signal });
  await core.settings.load(reader.id, { database: instance, signal });
  if (core.gates.isOpen(reader.id)) return;
  await whenReplayed(core, { id, instance });
  core.gates.open(reader.id);
  loggerOf(core, reader).info(`virtual cluster "${catalog.get(id)?.name ?? id}" can be read`);
}

/** A server that was started anew replays once more what it showed before: nobody shall see time go back. Bounded: late is better than never. */
async function whenReplayed(
  core: Core,
  { id, instance }: { id: VirtualClusterId; instance: Instance },
): Promise<void> {
  const { signal } = core;
  const { clock } = core.options;
  const deadlineMs = clock.monotonicMs() + REPLAY_MS_MAX;
  while (clock.monotonicMs() < deadlineMs) {
    const { isWaiting, time } = await sampleFollower(instance, { signal });
    const shown = core.streams.get(id)?.replicatedTime ?? null;
    if (isWaiting || (time !== null && (shown === null || time >= shown))) return;
    await clock.sleep(REPLAY_POLL_MS, { signal });
  }
}

/** Who comes waits until it serves again. Harmless when there is none. */
export function closeReader(core: Core, id: VirtualClusterId): void {
  const reader = findReader(core, id);
  if (reader !== undefined) core.gates.close(reader.id);
}

/** That replication is paused does not take away what there is to be read; it just receives nothing more. */
async function standStill(
  core: Core,
  { id, instance }: { id: VirtualClusterId; instance: Instance },
): Promise<void> {
  const { following } = instance;
  if (following === null || following.phase !== 'following') return;
  await core.options.instanceHost.setFollowing({
    virtualClusterId: id,
    following: { ...following, phase: 'cut_off' },
  });
}

export async function startReader(core: Core, reader: VirtualClusterRecord): Promise<void> {
  if (reader.readerOf === null) return;
  if (reader.state.kind === 'adding') {
    throw new InputError('object_state', `virtual cluster "${reader.name}" has nothing to read yet`, {
      hint: 'it is started by itself when the initial scan has ended',
    });
  }
  await core.catalog.apply({ id: reader.id, event: { kind: 'service_started' }, signal: core.signal });
  await tendReader(core, reader.readerOf);
}

/** Ends its sessions; the follower goes on, unless it runs for the reader alone. */
export async function stopReader(core: Core, reader: VirtualClusterRecord): Promise<void> {
  const { readerOf } = reader;
  if (readerOf === null || reader.state.kind === 'adding') return;
  await core.catalog.apply({ id: reader.id, event: { kind: 'service_stopped' }, signal: core.signal });
  await sendReadersAway(core, reader);
  if (core.streams.active(readerOf)?.state.kind === 'paused') {
    await core.consumer.halt(readerOf, { signal: core.signal });
  }
}

/** Sees from time to time that what is recorded of the reader of a virtual cluster is so. */
export async function keepReader(core: Core, id: VirtualClusterId): Promise<void> {
  const isAmiss = () => {
    const reader = anyReader(core, id);
    if (reader === undefined) return false;
    return reader.state.kind === 'removing' || (isShared(reader) && !core.gates.isOpen(reader.id));
  };
  if (!isAmiss()) return;
  await core.locks.run(id, async () => {
    if (!isAmiss()) return;
    await (anyReader(core, id)?.state.kind === 'removing' ? dropReader(core, id) : tendReader(core, id));
  });
}

function isShared({ state }: VirtualClusterRecord): boolean {
  return serviceModeOf(state) === 'shared';
}

/** Also one that is being removed. */
function anyReader(
  { catalog }: Pick<Core, 'catalog'>,
  id: VirtualClusterId,
): VirtualClusterRecord | undefined {
  return catalog.listAll().find(({ readerOf }) => readerOf === id);
}

/** Nothing of it is left. Harmless when there is none. */
export async function dropReader(core: Core, id: VirtualClusterId): Promise<void> {
  const reader = anyReader(core, id);
  if (reader === undefined) return;
  const { catalog, signal } = core;
  if (reader.state.kind === 'ready') {
    await catalog.apply({ id: reader.id, event: { kind: 'service_stopped' }, signal });
  }
  await catalog.apply({ id: reader.id, event: { kind: 'removal_begun' }, signal });
  await sendReadersAway(core, reader);
  await catalog.forget({ id: reader.id, signal });
  loggerOf(core, reader).info('the reader is dropped');
}

async function sendReadersAway(core: Core, reader: VirtualClusterRecord): Promise<void> {
  core.gates.close(reader.id);
  core.settings.unload(reader.id);
  // Of a virtual cluster that was never made there is nothing to be read.
  const instance = core.options.instanceHost.get(reader.readerOf ?? reader.id);
  if (instance?.state.kind !== 'running') return;
  await instance.withSystemClient(endSessions, { signal: core.signal });
}

/** @throws InputError `object_in_use` when one does not end */
async function endSessions(client: InternalClient): Promise<void> {
  for (let round = 0; round < END_ROUNDS_MAX; round += 1) {
    const ended = await client.query(
      `select pg_catalog.pg_terminate_backend(pid, ${END_MS_MAX}) from pg_catalog.pg_stat_activity
        where backend_type = 'client backend' and usename is distinct from 'atoll'`,
    );
    if (ended.length === 0) return;
  }
  throw new InputError('object_in_use', 'a session of the reader does not end');
}
