/** Which point of a timeline a statement means, and making sure that it can be gone to. */
import {
  AppError,
  type IncarnationId,
  InputError,
  type Lsn,
  type VirtualClusterId,
  formatLsn,
  formatTimestamp,
  parseLsn,
} from '../../base/index.ts';
import type { VirtualClusterRecord } from '../../catalog/index.ts';
import type { Instance } from '../../instance/index.ts';
import type { Value } from '../../sql/index.ts';
import {
  type TimelineTarget,
  type TimelinePoint,
  type TimelineStoreLocation,
  timelineStoreLocation,
} from '../../timeline/index.ts';
import type { Core, TimelineParts } from '../core.ts';
import { systemTime } from './system-time.ts';
import { notAvailable } from '../values.ts';

/** What the newest log may take to become durable before a client is told that it does not. */
const DURABLE_MS_MAX = 30_000;
const WINDOW_SETTING = 'gc.ttlseconds';

/** @throws InputError `feature_not_supported` on a node that keeps no timelines */
export function requireTimeline(core: Pick<Core, 'options'>): TimelineParts {
  const { timeline } = core.options;
  if (timeline !== undefined) return timeline;
  throw notAvailable('the time machine', 'this node keeps no timelines: use BACKUP and RESTORE');
}

export function storeOfTimeline(
  core: Pick<Core, 'options'>,
  { id }: Pick<VirtualClusterRecord, 'id'>,
): TimelineStoreLocation {
  const { storeDirectory } = core.options.instanceHost;
  return timelineStoreLocation({ storeDirectory, virtualClusterId: id });
}

/**
 * How far back a timeline reaches, and how long what was dropped or left behind can be had back, in microseconds. Of one that is out of
 * service what it was when it served last.
 */
export function windowUs(core: Core, virtualClusterId: VirtualClusterId): bigint {
  const { settings, catalog } = core;
  const isOverridden = catalog.get(virtualClusterId)?.settingOverrides.has(WINDOW_SETTING) === true;
  const remembered = catalog.fact(`window_seconds/${virtualClusterId}`);
  const isKnown = isOverridden || settings.isLoaded(virtualClusterId) || remembered === undefined;
  const seconds = isKnown ? settings.integer(virtualClusterId, WINDOW_SETTING) : BigInt(remembered);
  return seconds * 1_000_000n;
}

/** What its own window is, is recorded before it is asked no more. */
export async function rememberWindow(core: Core, virtualClusterId: VirtualClusterId): Promise<void> {
  const { settings, catalog, signal } = core;
  if (!settings.isLoaded(virtualClusterId)) return;
  const own = settings.ownValues(virtualClusterId).get(WINDOW_SETTING);
  const name = `window_seconds/${virtualClusterId}` as const;
  const value = own ?? String(settings.integer(virtualClusterId, WINDOW_SETTING));
  if (catalog.fact(name) !== value) await catalog.setFact({ name, value, signal });
}

/**
 * The position that AS OF SYSTEM TIME means; without it, where the virtual cluster is now. What is named lies in the past, and its log is
 * durable in the timeline when this returns.
 * @throws InputError `timestamp_malformed`, `parameter_invalid`, `time_outside_window`
 */
export async function resolvePoint(
  core: Core,
  options: { record: VirtualClusterRecord; asOf: Value | undefined; signal: AbortSignal },
): Promise<TimelinePoint> {
  const { record, asOf, signal } = options;
  requireTimeline(core);
  const instance = core.services.instanceOf(record);
  // The moment is that of the statement, not that when its log has become durable.
  const target = asOf === undefined ? undefined : systemTime(asOf, { now: core.options.clock.now() });
  // What a follower has received is all there is; nothing of its own is written behind it.
  if (instance.following !== null) {
    return resolveTarget(core, { record, target: target ?? { kind: 'latest' }, signal });
  }
  const nowLsn = await catchUp(core, { record, instance, signal });
  if (nowLsn === null) return resolveStopped(core, { record, target, signal });
  const { incarnation } = instance.identity;
  const now: TimelineTarget = { kind: 'lsn', incarnation, lsn: nowLsn };
  return resolveTarget(core, { record, target: target ?? now, signal });
}

/**
 * Waits until the vault has what the virtual cluster has written so far: a base that is captured from then on has all of its log there. One captured
 * before the vault has its slot may lead nowhere.
 * @throws AppError `cannot_connect_now`
 */
export async function untilReceived(
  core: Core,
  { record, signal }: { record: VirtualClusterRecord; signal: AbortSignal },
): Promise<void> {
  const instance = core.services.instanceOf(record);
  if (instance.following === null) await catchUp(core, { record, instance, signal });
}

/** Since a virtual cluster was stopped nothing has happened: whatever moment since then is as its end. */
async function resolveStopped(
  core: Core,
  options: { record: VirtualClusterRecord; target: TimelineTarget | undefined; signal: AbortSignal },
): Promise<TimelinePoint> {
  const { record, target, signal } = options;
  if (target === undefined) return endOfLife(core, options);
  if (target.kind !== 'time') return resolveTarget(core, { record, target, signal });
  const latest = await resolveTarget(core, { record, target: { kind: 'latest' }, signal });
  if (target.time <= latest.time) return resolveTarget(core, { record, target, signal });
  return { ...(await endOfLife(core, options)), time: target.time };
}

/** The position of a target that is durable already. @throws InputError `time_outside_window` */
export async function resolveTarget(
  core: Core,
  options: { record: VirtualClusterRecord; target: TimelineTarget; signal: AbortSignal },
): Promise<TimelinePoint> {
  const { record, target, signal } = options;
  const { reader } = requireTimeline(core);
  const store = storeOfTimeline(core, record);
  const { key } = core.options.cluster;
  // A life that was left behind is not on the way to the present one; it has a way of its own.
  if (target.kind === 'lsn')
    return reader.resolve(store, { target, current: target.incarnation, key, signal });
  const life = await presentLife(core, record);
  const point = await reader.resolve(store, { target, current: life.incarnation, key, signal });
  const isBeyond = life.endLsn !== null && point.incarnation === life.incarnation && point.lsn > life.endLsn;
  return isBeyond && life.endLsn !== null ? { ...point, lsn: life.endLsn } : point;
}

/** Where the present life ends, all of whose log must be in the timeline before another one takes its place. */
export async function endOfLife(
  core: Core,
  { record, signal }: { record: VirtualClusterRecord; signal: AbortSignal },
): Promise<TimelinePoint> {
  const { instanceHost } = core.options;
  // Of a directory that was lost on the way only the timeline can tell.
  const lastRecordLsn = (await instanceHost.isWhole(record.id))
    ? await instanceHost.lastRecordLsn(record.id)
    : null;
  const latest = await resolveTarget(core, { record, target: { kind: 'latest' }, signal });
  // What has not served since it left its parent holds nothing of anybody's.
  const isOwn = latest.incarnation === core.services.instanceOf(record).identity.incarnation;
  if (!isOwn || lastRecordLsn === null || latest.lsn > lastRecordLsn) return latest;
  throw new InputError(
    'object_state',
    `the timeline of virtual cluster "${record.name}" lacks the end of its log: it has up to ${formatLsn(latest.lsn)}`,
    { hint: 'start its service, wait until SHOW TIMELINE says "receiving", and stop it again' },
  );
}

/**
 * Whose log leads to the present. A life that has not served yet has none of its own: it is as its parent was where it left it.
 */
async function presentLife(
  core: Core,
  record: VirtualClusterRecord,
): Promise<{ readonly incarnation: IncarnationId; readonly endLsn: Lsn | null }> {
  const { identity } = core.services.instanceOf(record);
  const { incarnation, parentIncarnation, forkLsn } = identity;
  const known = await requireTimeline(core).reader.incarnations(storeOfTimeline(core, record));
  const isKnown = (id: IncarnationId | null) => known.some((life) => life.incarnation === id);
  if (!isKnown(incarnation) && parentIncarnation !== null && isKnown(parentIncarnation)) {
    return { incarnation: parentIncarnation, endLsn: forkLsn };
  }
  return { incarnation, endLsn: null };
}

/**
 * The position that a running instance has come to, once the vault has all before it and a record that follows it: then recovery finds an
 * end there. Null when it does not run.
 */
async function catchUp(
  core: Core,
  { record, instance, signal }: { record: VirtualClusterRecord; instance: Instance; signal: AbortSignal },
): Promise<Lsn | null> {
  if (instance.state.kind !== 'running') return null;
  const { vault } = requireTimeline(core);
  const [row] = await instance.withSystemClient(
    (client) =>
      client.query(
        `select pg_catalog.pg_current_wal_insert_lsn()::text as now_lsn,
                pg_catalog.pg_logical_emit_message(true, 'atoll', 'point', true)::text as next_lsn`,
      ),
    { signal },
  );
  const [flushed] = await instance.withSystemClient(
    (client) => client.query('select pg_catalog.pg_current_wal_flush_lsn()::text as lsn'),
    { signal },
  );
  const nowLsn = parseLsn(row?.['now_lsn'] ?? '');
  const patience = new AbortController();
  const waiting = AbortSignal.any([signal, patience.signal]);
  const timer = core.options.clock.sleep(DURABLE_MS_MAX, { signal: waiting }).then(
    () => patience.abort(),
    () => undefined,
  );
  try {
    await vault.whenDurable(record.id, parseLsn(flushed?.['lsn'] ?? ''), { signal: waiting });
  } catch (error) {
    if (signal.aborted || !patience.signal.aborted) throw error;
    throw new AppError('cannot_connect_now', `the log of virtual cluster "${record.name}" is not received`, {
      cause: error,
      hint: 'SHOW TIMELINE tells why; try again',
    });
  } finally {
    patience.abort();
    await timer;
  }
  return nowLsn;
}

/** Whether there is a base at all. Which of them leads to a point is found out by the work itself. */
export async function hasBase(
  core: Core,
  record: VirtualClusterRecord,
  wait: { signal: AbortSignal },
): Promise<boolean> {
  const { reader } = requireTimeline(core);
  const { key } = core.options.cluster;
  return (await reader.bases(storeOfTimeline(core, record), { key, ...wait })).length > 0;
}

/** @throws InputError `time_outside_window` saying since when there are bases, for a point that none leads to */
export async function requireReachable(
  core: Core,
  options: { record: VirtualClusterRecord; point: TimelinePoint; signal: AbortSignal },
): Promise<void> {
  const { record, point, signal } = options;
  const { reader } = requireTimeline(core);
  const store = storeOfTimeline(core, record);
  const { key } = core.options.cluster;
  const { length } = await reader.basesTo(store, { point, key, signal });
  if (length > 0) return;
  const [oldest] = await reader.bases(store, { key, signal });
  const since =
    oldest === undefined
      ? 'it has no base yet'
      : `its oldest base is consistent from ${formatTimestamp(oldest.endTime)} on`;
  throw new InputError(
    'time_outside_window',
    `virtual cluster "${record.name}" cannot be taken back to ${formatTimestamp(point.time)}: ${since}`,
    { hint: `SHOW TIMELINE FOR VIRTUAL CLUSTER ${record.name} tells what can be restored` },
  );
}
