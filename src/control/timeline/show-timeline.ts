/** SHOW TIMELINE FOR VIRTUAL CLUSTER x: what it can be taken back to, and from what. */
import { type Lsn, type Timestamp, assertNever, formatLsn, isAppError } from '../../base/index.ts';
import type { DamageRecord, VirtualClusterRecord } from '../../catalog/index.ts';
import type { Statement } from '../../sql/index.ts';
import {
  type BaseSummary,
  type IncarnationRecord,
  type TimelinePoint,
  type VaultState,
  type VaultStatus,
} from '../../timeline/index.ts';
import type { Cell } from '../contract.ts';
import { continuousStateText, continuousUri } from '../backup/continuous-backups.ts';
import type { Core } from '../core.ts';
import { requireTimeline, resolveTarget, storeOfTimeline } from './timeline-point.ts';
import { asleepOf } from '../virtual-clusters/suspender.ts';
import { type UseCase, columnsOf, rowsResult, timestampCell } from '../use-case.ts';
import { damageOf } from './verify-timelines.ts';
import { lookupVirtualCluster, requireManager } from '../virtual-clusters/virtual-cluster-lookup.ts';

type ShowTimeline = Extract<Statement, { kind: 'show_timeline' }>;

const COLUMNS = columnsOf({
  kind: 'text',
  id: 'text',
  builds_on: 'text',
  start_time: 'timestamptz',
  end_time: 'timestamptz',
  start_lsn: 'text',
  end_lsn: 'text',
  size_bytes: 'int8',
  stored_bytes: 'int8',
  state: 'text',
});

export const showTimeline: UseCase<ShowTimeline> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    await requireManager(core, context);
    const { signal } = context;
    const record = lookupVirtualCluster(core, statement.name);
    const { reader, vault } = requireTimeline(core);
    const store = storeOfTimeline(core, record);
    const bases = await reader.bases(store, { key: core.options.cluster.key, signal });
    const incarnations = await reader.incarnations(store);
    const damage = await damageOf(core, record);
    const shown = { core, record, bases, incarnations, status: vault.status(record.id) };
    return rowsResult(COLUMNS, [
      await windowRow(shown, signal),
      ...continuousRows(core, record),
      ...incarnations.map((incarnation) => logRow(incarnation, shown)),
      ...bases.map((base) => baseRow(base, damage)),
    ]);
  },
};

interface Shown {
  readonly core: Core;
  readonly record: VirtualClusterRecord;
  readonly bases: readonly BaseSummary[];
  readonly incarnations: readonly IncarnationRecord[];
  /** Undefined while nobody receives the log, as when the service is stopped. */
  readonly status: VaultStatus | undefined;
}

/** The window of the present lineage: every moment in it can be had. Its times are null where there is none. */
async function windowRow(shown: Shown, signal: AbortSignal): Promise<readonly Cell[]> {
  const { core, record, bases, status } = shown;
  const current = core.services.instanceOf(record).identity.incarnation;
  const latest = await newestPoint(core, record, signal);
  const { reader } = requireTimeline(core);
  const { key } = core.options.cluster;
  const [oldest] = latest
    ? await reader.basesTo(storeOfTimeline(core, record), { point: latest, key, signal })
    : [];
  // A life that has just begun knows no moment of its own yet; its base was consistent at one.
  // Since one was suspended nothing has happened: it can be had as it is now.
  const now = asleepOf(record) === undefined ? null : core.options.clock.now();
  const through = newest([status?.restorableThrough, latest?.time, oldest?.endTime, now]);
  const stored = bases.reduce((sum, base) => sum + base.storedBytes, status?.storedBytes ?? 0n);
  return [
    'window',
    current,
    null,
    timestampCell(oldest?.endTime ?? null),
    timestampCell(oldest === undefined ? null : through),
    lsnCell(oldest?.stopLsn ?? null),
    lsnCell(latest?.lsn ?? null),
    null,
    String(stored),
    windowState(oldest, bases),
  ];
}

function windowState(oldest: BaseSummary | undefined, bases: readonly BaseSummary[]): string {
  if (oldest !== undefined) return 'restorable';
  return bases.length === 0 ? 'no base yet' : 'waiting for a base: log that leads here is missing';
}

/** What the collection of the continuous backup can restore by itself; none where there is no such backup. */
function continuousRows(core: Core, { id }: VirtualClusterRecord): readonly (readonly Cell[])[] {
  const uri = continuousUri(core, id);
  if (uri === undefined) return [];
  const status = core.options.timeline?.continuous?.status(id);
  return [
    [
      'remote',
      uri,
      null,
      timestampCell(status?.restorableFrom ?? null),
      timestampCell(status?.restorableThrough ?? null),
      null,
      lsnCell(status?.publishedLsn ?? null),
      null,
      null,
      continuousStateText(status),
    ],
  ];
}

function newest(times: readonly (Timestamp | null | undefined)[]): Timestamp | null {
  return times.reduce<Timestamp | null>((most, time) => {
    return time !== null && time !== undefined && (most === null || time > most) ? time : most;
  }, null);
}

/** The newest moment that can be had; undefined when there is none. */
async function newestPoint(
  core: Core,
  record: VirtualClusterRecord,
  signal: AbortSignal,
): Promise<TimelinePoint | undefined> {
  try {
    return await resolveTarget(core, { record, target: { kind: 'latest' }, signal });
  } catch (error) {
    if (isAppError(error, 'time_outside_window')) return undefined;
    throw error;
  }
}

/** A life of the data: where it left its parent, and how far its log reaches. */
function logRow(incarnation: IncarnationRecord, { status, incarnations }: Shown): readonly Cell[] {
  const isReceived = status?.incarnation === incarnation.incarnation;
  const children = incarnations.filter((other) => other.parentIncarnation === incarnation.incarnation);
  const left = children.flatMap(({ forkLsn }) => forkLsn ?? []);
  const last = left.reduce<Lsn | null>((most, lsn) => (most === null || lsn > most ? lsn : most), null);
  return [
    'log',
    incarnation.incarnation,
    incarnation.parentIncarnation,
    null,
    timestampCell(isReceived ? status.restorableThrough : null),
    lsnCell(isReceived ? status.oldestLsn : (incarnation.timelines[0]?.beginLsn ?? null)),
    lsnCell(isReceived ? status.durableLsn : last),
    null,
    isReceived ? String(status.storedBytes) : null,
    isReceived ? stateText(status.state) : 'kept',
  ];
}

function baseRow(base: BaseSummary, damage: readonly DamageRecord[]): readonly Cell[] {
  const damaged = damage.find(({ bases }) => bases.includes(base.subdirectory));
  return [
    'base',
    base.subdirectory,
    base.baseSubdirectory,
    timestampCell(base.captureStartTime),
    timestampCell(base.endTime),
    lsnCell(base.startLsn),
    lsnCell(base.stopLsn),
    String(base.bytes),
    String(base.storedBytes),
    damaged === undefined ? 'complete' : `damaged: ${damaged.object}`,
  ];
}

function stateText(state: VaultState): string {
  switch (state.kind) {
    case 'receiving':
      return 'receiving';
    case 'waiting':
      return `waiting: ${state.reason}`;
    case 'out_of_room':
      return `out of room: ${state.reason}`;
    case 'gap':
      return `gap from ${formatLsn(state.fromLsn)} to ${formatLsn(state.toLsn)}`;
    default:
      return assertNever(state);
  }
}

function lsnCell(lsn: Lsn | null): Cell {
  return lsn === null ? null : formatLsn(lsn);
}
