/**
 * What of a timeline store nobody needs any more, and why. Pure: what is there goes in, a list comes out, and the list is also what
 * a dry run shows.
 */
import {
  formatLsn,
  formatTimestamp,
  type IncarnationId,
  type Lsn,
  type Timestamp,
} from '../../base/index.ts';
import type { IncarnationRecord, Pin } from '../store-contract.ts';
import { isOnTheWay, type LogStretch, stretchesTo } from '../store/lineage.ts';

/** Of a base, what decides. */
export interface HeldBase {
  readonly subdirectory: string;
  readonly incarnation: IncarnationId;
  readonly timelineId: number;
  readonly startLsn: Lsn;
  readonly stopLsn: Lsn;
  /** The base serves every moment from here on. */
  readonly endTime: Timestamp;
  /** Packs and log objects that its manifest names, wherever they lie. */
  readonly objects: readonly string[];
}

/** A file of the bases' collection that is no manifest. */
export interface HeldObject {
  readonly path: string;
  readonly bytes: number;
  readonly writtenAt: Timestamp;
}

/** A segment of the vault. */
export interface HeldSegment {
  readonly name: string;
  readonly timelineId: number;
  readonly beginLsn: Lsn;
  readonly endLsn: Lsn;
  readonly bytes: number;
  readonly isClosed: boolean;
}

/** The log of one incarnation. */
export interface HeldLog {
  readonly incarnation: IncarnationId;
  /** Ascending. */
  readonly segments: readonly HeldSegment[];
  /** Files of the time index, by position. */
  readonly timeIndexes: readonly { readonly name: string; readonly beginLsn: Lsn; readonly bytes: number }[];
  /** When something was last written to it. */
  readonly writtenAt: Timestamp;
}

export interface Holdings {
  readonly bases: readonly HeldBase[];
  /** Files below the folders of bases, manifests excepted. */
  readonly objects: readonly HeldObject[];
  readonly logs: readonly HeldLog[];
  readonly incarnations: readonly IncarnationRecord[];
  readonly pins: readonly Pin[];
}

export interface RetentionRule {
  readonly now: Timestamp;
  /** Every moment this far back shall be restorable. */
  readonly windowUs: bigint;
  /** What the virtual cluster serves now. Its newest base and the log since stay, whatever the rule. */
  readonly current: IncarnationId;
  /** Most bytes that bases and log may take: beyond, the window becomes shorter. Pins are kept all the same. */
  readonly bytesMax: bigint;
  /** Bases that are known to be damaged: what is older stays until a sound one takes its place. */
  readonly damaged?: readonly string[];
}

/** Something that goes, in the order in which it goes. */
export interface Removal {
  readonly kind: 'base' | 'object' | 'segment' | 'time_index' | 'log_folder';
  /** Of a base its folder, of an object its path in the collection, else the name in the log's folder, or that folder's own. */
  readonly name: string;
  /** Whose log it is; null for bases and objects. */
  readonly incarnation: IncarnationId | null;
  readonly bytes: number;
  readonly reason: string;
}

export interface RetentionPlan {
  readonly removals: readonly Removal[];
  /** Bases that stay, and what keeps each. */
  readonly kept: readonly { readonly subdirectory: string; readonly reason: string }[];
  readonly keptBytes: number;
  readonly freedBytes: number;
  /** Moments before may be gone. Later than the rule's window when the bytes did not suffice. */
  readonly horizon: Timestamp;
}

/** @throws CorruptError when the lineage makes no sense: then nothing may go */
export function planRetention(holdings: Holdings, rule: RetentionRule): RetentionPlan {
  const horizon = (rule.now - rule.windowUs) as Timestamp;
  let plan = planWithHorizon(holdings, { ...rule, horizon });
  const later = holdings.bases.map(({ endTime }) => endTime).filter((time) => time > horizon);
  for (const nearer of later.toSorted((left, right) => (left < right ? -1 : 1))) {
    if (BigInt(plan.keptBytes) <= rule.bytesMax) break;
    plan = planWithHorizon(holdings, { ...rule, horizon: nearer });
  }
  return plan;
}

function planWithHorizon(
  holdings: Holdings,
  rule: RetentionRule & { readonly horizon: Timestamp },
): RetentionPlan {
  const { horizon } = rule;
  const needs = new Needs(holdings, new Set(rule.damaged));
  for (const head of headsOf(holdings, rule)) needs.addHead(head, { horizon });
  for (const pin of holdings.pins) if (pin.expiresAt > rule.now) needs.addPin(pin);
  const bases = holdings.bases.filter(({ subdirectory }) => !needs.bases.has(subdirectory));
  const staying = holdings.bases.filter(({ subdirectory }) => needs.bases.has(subdirectory));
  const isUnderWay = unfinishedFolders(holdings, rule);
  const referenced = new Set(staying.flatMap(({ objects }) => objects));
  const removals: Removal[] = [
    ...bases.map(
      ({ subdirectory, endTime }): Removal => ({
        kind: 'base',
        name: subdirectory,
        incarnation: null,
        bytes: 0,
        reason: `of ${formatTimestamp(endTime)}, not needed for any moment since ${formatTimestamp(horizon)}`,
      }),
    ),
    ...holdings.objects
      .filter(({ path }) => !isKeptObject(path, { referenced, staying }) && !isUnderWay(path))
      .map(unreferenced),
    ...holdings.logs.flatMap((log) => removalsOfLog(log, needs.logFrom(log.incarnation), rule)),
  ];
  const freedBytes = sumBytes(removals);
  return {
    removals,
    kept: staying.map(({ subdirectory }) => ({ subdirectory, reason: needs.bases.get(subdirectory) ?? '' })),
    keptBytes:
      sumBytes(holdings.objects) +
      sumBytes(holdings.logs.flatMap((log) => [...log.segments, ...log.timeIndexes])) -
      freedBytes,
    freedBytes,
    horizon,
  };
}

/** A position that can be gone back to together with everything before it, as far as the window reaches. */
interface Head {
  readonly incarnation: IncarnationId;
  readonly what: string;
}

/** The present, and what was left behind so lately that somebody may still want to look at it. */
function headsOf(
  { logs }: Holdings,
  { current, horizon }: RetentionRule & { horizon: Timestamp },
): readonly Head[] {
  const left = logs.filter(({ incarnation, writtenAt }) => incarnation !== current && writtenAt >= horizon);
  return [
    { incarnation: current, what: 'the window' },
    ...left.map(({ incarnation }) => ({
      incarnation,
      what: `what incarnation ${incarnation} wrote in the window`,
    })),
  ];
}

/** Gathers which bases stay, and from where on the log of each incarnation does. */
class Needs {
  readonly bases = new Map<string, string>();
  readonly #holdings: Holdings;
  readonly #damaged: ReadonlySet<string>;
  readonly #logFrom = new Map<IncarnationId, Lsn>();

  constructor(holdings: Holdings, damaged: ReadonlySet<string>) {
    this.#holdings = holdings;
    this.#damaged = damaged;
  }

  /** Null when none of the log is needed. */
  logFrom(incarnation: IncarnationId): Lsn | null {
    return this.#logFrom.get(incarnation) ?? null;
  }

  /** The newest base before the horizon, everything that came later, and the log since. */
  addHead({ incarnation, what }: Head, { horizon }: { horizon: Timestamp }): void {
    const stretches = this.#stretchesTo(incarnation, LOG_END);
    const onTheWay = this.#basesOn(stretches);
    const before = onTheWay.findLastIndex((base) => base.endTime <= horizon && this.#isSound(base));
    const kept = onTheWay.slice(Math.max(before, 0));
    for (const { subdirectory } of kept) this.#keep(subdirectory, what);
    this.#keepLog(stretches, kept[0]);
  }

  /** The newest base at or before the pinned position, and the log from there to the end of the claim. */
  addPin({ incarnation, fromLsn, owner, throughLsn }: Pin): void {
    const what = `pinned by ${owner}`;
    // One position further, since a way ends before its point.
    const stretches = this.#stretchesTo(incarnation, (fromLsn + 1n) as Lsn);
    const onTheWay = this.#basesOn(stretches).filter(
      ({ stopLsn, incarnation: of }) => of !== incarnation || stopLsn <= fromLsn,
    );
    const base = onTheWay.findLast((each) => this.#isSound(each)) ?? onTheWay.at(-1);
    if (base !== undefined) this.#keep(base.subdirectory, what);
    this.#keepLog(stretches, base ?? { incarnation, startLsn: fromLsn });
    if (throughLsn !== null) return;
    for (const { incarnation: heir } of this.#heirsOf(incarnation)) this.#keepFrom(heir, LOG_BEGIN);
  }

  /** Whether it can take the place of older ones. */
  #isSound(base: HeldBase): boolean {
    return !this.#damaged.has(base.subdirectory) && this.#hasOwnLog(base);
  }

  /**
   * Without the log that was written while it was captured it leads nowhere. What has not come yet is no hole: a vault that is out of room takes it
   * once what older bases need is gone.
   */
  #hasOwnLog({ incarnation, timelineId, startLsn, stopLsn }: HeldBase): boolean {
    const log = this.#holdings.logs.find((each) => each.incarnation === incarnation);
    let [heldLsn, endLsn] = [startLsn, startLsn];
    for (const segment of log?.segments ?? []) {
      if (segment.timelineId !== timelineId || segment.endLsn <= endLsn) continue;
      endLsn = segment.endLsn;
      if (segment.beginLsn <= heldLsn) heldLsn = endLsn;
    }
    return heldLsn >= stopLsn || heldLsn === endLsn;
  }

  #keep(subdirectory: string, reason: string): void {
    const known = this.bases.get(subdirectory);
    if (known === undefined) this.bases.set(subdirectory, reason);
    else if (!known.split(', ').includes(reason)) this.bases.set(subdirectory, `${known}, ${reason}`);
  }

  /** From where replay of the base begins; all of it when no base is known. */
  #keepLog(
    stretches: readonly LogStretch[],
    base: Pick<HeldBase, 'incarnation' | 'startLsn'> | undefined,
  ): void {
    const first = stretches.findIndex(({ incarnation }) => incarnation === base?.incarnation);
    for (const { incarnation, beginLsn } of stretches.slice(Math.max(first, 0))) {
      const isFirst = base !== undefined && incarnation === base.incarnation;
      this.#keepFrom(incarnation, isFirst ? base.startLsn : beginLsn);
    }
  }

  #keepFrom(incarnation: IncarnationId, lsn: Lsn): void {
    const known = this.#logFrom.get(incarnation);
    if (known === undefined || lsn < known) this.#logFrom.set(incarnation, lsn);
  }

  /** In the order of the lineage. */
  #basesOn(stretches: readonly LogStretch[]): HeldBase[] {
    return stretches.flatMap((stretch) =>
      this.#holdings.bases
        .filter((base) => isOnTheWay(base, [stretch]))
        .toSorted((left, right) => (left.stopLsn < right.stopLsn ? -1 : 1)),
    );
  }

  #heirsOf(incarnation: IncarnationId): readonly IncarnationRecord[] {
    const heirs: IncarnationRecord[] = [];
    const parents = new Set([incarnation]);
    for (let found = -1; found !== parents.size; ) {
      found = parents.size;
      for (const record of this.#holdings.incarnations) {
        const { parentIncarnation } = record;
        if (parents.has(record.incarnation) || parentIncarnation === null || !parents.has(parentIncarnation))
          continue;
        parents.add(record.incarnation);
        heirs.push(record);
      }
    }
    return heirs;
  }

  /** An incarnation without a record has left nothing but bases: those of its own. */
  #stretchesTo(incarnation: IncarnationId, lsn: Lsn): readonly LogStretch[] {
    const { incarnations } = this.#holdings;
    if (incarnations.some((record) => record.incarnation === incarnation)) {
      return stretchesTo({ incarnation, timelineId: TIMELINE_MAX, lsn }, incarnations);
    }
    const timelines = new Set(
      this.#holdings.bases
        .filter((base) => base.incarnation === incarnation)
        .map(({ timelineId }) => timelineId),
    );
    const unknown = { incarnation, systemIdentifier: 0n, engineMajor: 0, beginLsn: LOG_BEGIN, endLsn: lsn };
    return [...timelines].toSorted((a, b) => a - b).map((timelineId) => ({ ...unknown, timelineId }));
  }
}

/** A capture that has written nothing for so long is dead. */
const UNFINISHED_KEPT_US = 3_600_000_000n;
const LOG_BEGIN = 0n as Lsn;
const LOG_END = 0xffff_ffff_ffff_ffffn as Lsn;
const TIMELINE_MAX = 0xffff_ffff;

/** Locks and the like stay as long as their base does. */
function isKeptObject(
  path: string,
  { referenced, staying }: { referenced: ReadonlySet<string>; staying: readonly HeldBase[] },
): boolean {
  if (referenced.has(path)) return true;
  const isOfAttempt = /\/(?:data|wal)\/[^/]+$/.test(path);
  return !isOfAttempt && staying.some(({ subdirectory }) => path.startsWith(`${subdirectory}/`));
}

/** Says of a path whether somebody may still be writing a base there: there is no manifest yet, and something is new. */
function unfinishedFolders({ bases, objects }: Holdings, { now }: RetentionRule): (path: string) => boolean {
  const complete = new Set(bases.map(({ subdirectory }) => subdirectory));
  const young = objects.filter(({ writtenAt }) => writtenAt > now - UNFINISHED_KEPT_US);
  const folders = new Set(young.map(({ path }) => folderOf(path)).filter((folder) => !complete.has(folder)));
  return (path) => folders.has(folderOf(path));
}

/** `2026/01/02-030405.06` */
function folderOf(path: string): string {
  return path.split('/').slice(0, 3).join('/');
}

function unreferenced({ path, bytes }: HeldObject): Removal {
  return { kind: 'object', name: path, incarnation: null, bytes, reason: 'no base that stays uses it' };
}

/** Only from the oldest end, so that what stays has no hole; never what is being received. */
function removalsOfLog(log: HeldLog, from: Lsn | null, { current }: RetentionRule): Removal[] {
  const { incarnation, segments, timeIndexes } = log;
  if (from === null && incarnation === current) return [];
  const needed = from ?? LOG_END;
  const reason =
    from === null
      ? 'of an incarnation that nothing leads to any more'
      : `before ${formatLsn(from)}, where replay begins`;
  const end = segments.findIndex(
    (segment) => segment.endLsn > needed || (!segment.isClosed && incarnation === current),
  );
  const gone = end < 0 ? segments : segments.slice(0, end);
  const indexEnd = timeIndexes.findIndex((_, at) => (timeIndexes[at + 1]?.beginLsn ?? LOG_END) > needed);
  const goneIndexes = from === null ? timeIndexes : timeIndexes.slice(0, Math.max(indexEnd, 0));
  return [
    ...gone.map(({ name, bytes }): Removal => ({ kind: 'segment', name, incarnation, bytes, reason })),
    ...goneIndexes.map(
      ({ name, bytes }): Removal => ({ kind: 'time_index', name, incarnation, bytes, reason }),
    ),
    ...(from === null
      ? [{ kind: 'log_folder' as const, name: incarnation, incarnation, bytes: 0, reason }]
      : []),
  ];
}

function sumBytes(items: readonly { readonly bytes: number }[]): number {
  return items.reduce((sum, { bytes }) => sum + bytes, 0);
}
