/** The way through the log that leads to a point: which incarnation wrote which part of it, on which timeline of Postgres. */
import { AppError, CorruptError, formatLsn, type IncarnationId, type Lsn } from '../../base/index.ts';
import type { BaseSummary, IncarnationRecord, TimelinePoint } from '../store-contract.ts';

/** Lives that one lineage may have. Beyond, the records lead in a circle or are not ours. */
const LIVES_MAX = 10_000;

/** Log that one incarnation wrote on one timeline. */
export interface LogStretch {
  readonly incarnation: IncarnationId;
  readonly systemIdentifier: bigint;
  readonly engineMajor: number;
  readonly timelineId: number;
  readonly beginLsn: Lsn;
  /** Where the lineage leaves it: the next stretch begins here, the last one ends at the point. */
  readonly endLsn: Lsn;
}

/**
 * The stretches that lead to a point, oldest first, without a gap. They begin where the records begin: the ancestors of a restored
 * virtual cluster may be unknown here.
 * @throws AppError `object_not_found` when the point's incarnation is unknown
 */
export function stretchesTo(
  point: Pick<TimelinePoint, 'incarnation' | 'timelineId' | 'lsn'>,
  records: readonly IncarnationRecord[],
): readonly LogStretch[] {
  const stretches: LogStretch[] = [];
  let record = records.find(({ incarnation }) => incarnation === point.incarnation);
  if (record === undefined) {
    throw new AppError('object_not_found', `the timeline knows no incarnation ${point.incarnation}`);
  }
  let endLsn = point.lsn;
  let timelineMax = point.timelineId;
  for (let lives = 0; record !== undefined; lives++) {
    if (lives === LIVES_MAX) throw new CorruptError(`the lineage of ${point.incarnation} has no beginning`);
    const own = stretchesOf(record, { endLsn, timelineMax });
    stretches.unshift(...own);
    endLsn = own[0]?.beginLsn ?? endLsn;
    timelineMax = Number.POSITIVE_INFINITY;
    const { parentIncarnation }: IncarnationRecord = record;
    record = records.find(({ incarnation }) => incarnation === parentIncarnation);
  }
  return stretches;
}

/** Only what has bytes: a point where an incarnation has just left its parent is one of the parent. */
function stretchesOf(
  { incarnation, systemIdentifier, engineMajor, timelines }: IncarnationRecord,
  { endLsn, timelineMax }: { endLsn: Lsn; timelineMax: number },
): readonly LogStretch[] {
  const before = timelines.filter(
    ({ timelineId, beginLsn }) => timelineId <= timelineMax && beginLsn < endLsn,
  );
  return before.map(({ timelineId, beginLsn }, index) => ({
    incarnation,
    systemIdentifier,
    engineMajor,
    timelineId,
    beginLsn,
    endLsn: before[index + 1]?.beginLsn ?? endLsn,
  }));
}

/** Whether a base lies on the way, so that replay from it leads to the point and nowhere else. */
export function isOnTheWay(
  base: {
    readonly incarnation: IncarnationId;
    readonly timelineId: number;
    readonly startLsn: Lsn;
    readonly stopLsn: Lsn;
  },
  stretches: readonly LogStretch[],
): boolean {
  return stretches.some(
    (stretch) =>
      stretch.incarnation === base.incarnation &&
      stretch.timelineId === base.timelineId &&
      stretch.beginLsn <= base.startLsn &&
      base.stopLsn <= stretch.endLsn,
  );
}

/**
 * The newest base that leads to a point: the last one that is consistent at or before it. Before that, Postgres would silently show later
 * rows. Undefined when none does.
 */
export function newestBaseFor(
  point: Pick<TimelinePoint, 'incarnation' | 'timelineId' | 'lsn'>,
  { bases, incarnations }: { bases: readonly BaseSummary[]; incarnations: readonly IncarnationRecord[] },
): BaseSummary | undefined {
  const stretches = stretchesTo(point, incarnations);
  return bases
    .filter((base) => isOnTheWay(base, stretches))
    .reduce<BaseSummary | undefined>(
      (best, base) => (best === undefined || base.stopLsn >= best.stopLsn ? base : best),
      undefined,
    );
}

/** The newest that is not known to be damaged; when there is no such one, a damaged one: not all of it may be needed. */
export function newestSoundBaseFor(
  point: Pick<TimelinePoint, 'incarnation' | 'timelineId' | 'lsn'>,
  options: {
    readonly bases: readonly BaseSummary[];
    readonly incarnations: readonly IncarnationRecord[];
    readonly avoid: readonly string[] | undefined;
  },
): BaseSummary | undefined {
  const { bases, incarnations, avoid = [] } = options;
  const sound = bases.filter(({ subdirectory }) => !avoid.includes(subdirectory));
  return (
    newestBaseFor(point, { bases: sound, incarnations }) ?? newestBaseFor(point, { bases, incarnations })
  );
}

/** The newest such one with all log behind it; when none has it, one that lacks some: what is missing is told where it is missed. */
export function newestHeldBaseFor(
  point: Pick<TimelinePoint, 'incarnation' | 'timelineId' | 'lsn'>,
  options: Parameters<typeof newestSoundBaseFor>[1] & {
    /** From here on the log to the point is there. */
    readonly heldLsn: Lsn;
  },
): BaseSummary | undefined {
  const bases = options.bases.filter(({ startLsn }) => startLsn >= options.heldLsn);
  return newestSoundBaseFor(point, { ...options, bases }) ?? newestSoundBaseFor(point, options);
}

/**
 * The base by which a directory that holds `current` can be taken to `point` in its own place: it leads to both. What has changed since
 * it is what is put back, so all attempts on one directory have to go by the same one. Undefined when there is none.
 */
export function newestSharedBase(
  ends: {
    readonly point: Pick<TimelinePoint, 'incarnation' | 'timelineId' | 'lsn'>;
    readonly current: Pick<TimelinePoint, 'incarnation' | 'timelineId' | 'lsn'>;
  },
  options: Parameters<typeof newestSoundBaseFor>[1],
): BaseSummary | undefined {
  const present = stretchesTo(ends.current, options.incarnations);
  const bases = options.bases.filter((base) => isOnTheWay(base, present));
  return newestSoundBaseFor(ends.point, { ...options, bases });
}

/**
 * Postgres's history file of the last timeline, from what the lineage says; null for the first timeline, the only one that needs none:
 * Postgres refuses to recover to another without it, also when replay begins on that one. Made rather than copied: a copy would
 * have to be the one of this lineage among several of the same name.
 */
export function timelineHistory(
  stretches: readonly LogStretch[],
): { readonly timelineId: number; readonly text: string } | null {
  const last = stretches.at(-1);
  if (last === undefined || last.timelineId === 1) return null;
  const lines = stretches.slice(0, -1).map(({ timelineId, endLsn, incarnation }) => {
    return `${timelineId}\t${formatLsn(endLsn)}\tincarnation ${incarnation} was left here\n`;
  });
  return { timelineId: last.timelineId, text: lines.join('') || '# Replay begins on this timeline.\n' };
}

/** `00000002.history` */
export function historyFileName(timelineId: number): string {
  return `${timelineId.toString(16).toUpperCase().padStart(8, '0')}.history`;
}
