/** Timeline history files: which timelines of Postgres led to one, and where each was left. `access/transam/timeline.c`. */
import { CorruptError, formatLsn, InputError, type Lsn, parseLsn } from '../base/index.ts';

/** A stretch of the log that belongs to one timeline. */
export interface TimelineSpan {
  readonly timelineId: number;
  /** The timeline was begun here; 0 for the first one that is known. */
  readonly beginLsn: Lsn;
  /** Its successor was begun here; null for the timeline the history is of. */
  readonly endLsn: Lsn | null;
  /** Why Postgres left it; empty for the last one. */
  readonly reason: string;
}

/** Oldest first, without gaps. The last one is the timeline that the history is of. */
export type TimelineHistory = readonly TimelineSpan[];

/** The history of a timeline that has no ancestors, as the first one. */
export function rootTimelineHistory(timelineId: number): TimelineHistory {
  return [{ timelineId, beginLsn: 0n as Lsn, endLsn: null, reason: '' }];
}

/**
 * Reads the content of a timeline's history file.
 * @throws CorruptError where Postgres would refuse the file, or when a switch lies before the one it follows
 */
export function parseTimelineHistory({
  text,
  timelineId,
}: {
  readonly text: string;
  readonly timelineId: number;
}): TimelineHistory {
  const spans: TimelineSpan[] = [];
  let beginLsn = 0n as Lsn;
  for (const line of text.split('\n')) {
    if (/^\s*(?:#|$)/.test(line)) continue;
    const span = parseLine(line, { beginLsn, timelineId });
    const former = spans.at(-1);
    if (former !== undefined && former.timelineId >= span.timelineId) throw malformed(timelineId, line);
    spans.push(span);
    beginLsn = span.endLsn;
  }
  return [...spans, { timelineId, beginLsn, endLsn: null, reason: '' }];
}

function parseLine(
  line: string,
  child: { readonly beginLsn: Lsn; readonly timelineId: number },
): TimelineSpan & { readonly endLsn: Lsn } {
  const match = /^\s*(\d{1,10})\s+([0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8})(?:\s(.*))?$/.exec(line);
  if (match === null) throw malformed(child.timelineId, line);
  const timelineId = Number(match[1]);
  const endLsn = parseLsn(match[2] ?? '');
  if (timelineId === 0 || timelineId >= child.timelineId || endLsn < child.beginLsn) {
    throw malformed(child.timelineId, line);
  }
  return { timelineId, beginLsn: child.beginLsn, endLsn, reason: match[3] ?? '' };
}

function malformed(timelineId: number, line: string): CorruptError {
  return new CorruptError(
    `the history of timeline ${timelineId} has a line that cannot be: ${JSON.stringify(line)}`,
  );
}

/** The content of the history file as Postgres writes it, with its empty lines; empty without ancestors. */
export function printTimelineHistory(history: TimelineHistory): string {
  return history
    .filter((span) => span.endLsn !== null)
    .map(
      ({ timelineId, endLsn, reason }) => `${timelineId}\t${formatLsn(endLsn ?? (0n as Lsn))}\t${reason}\n`,
    )
    .join('\n');
}

/** `00000002.history` */
export function formatTimelineHistoryName(timelineId: number): string {
  return `${timelineId.toString(16).toUpperCase().padStart(8, '0')}.history`;
}

/** Reads the name of a history file. @throws InputError `name_invalid` */
export function parseTimelineHistoryName(name: string): number {
  const match = /^([0-9A-F]{8})\.history$/.exec(name);
  if (match === null) throw new InputError('name_invalid', `not a timeline history: "${name}"`);
  return Number.parseInt(match[1] ?? '', 16);
}

/** The timeline that wrote, or will write, the byte at `lsn` in this history. */
export function timelineAt({
  history,
  lsn,
}: {
  readonly history: TimelineHistory;
  readonly lsn: Lsn;
}): TimelineSpan {
  const found = history.find(({ beginLsn, endLsn }) => beginLsn <= lsn && (endLsn === null || lsn < endLsn));
  if (found === undefined) throw new CorruptError(`a timeline history does not cover ${formatLsn(lsn)}`);
  return found;
}

/**
 * True when the history leads through this position: a log that ends there can be continued by it. The position at which a
 * timeline was left still belongs to it. Says nothing of lineage: two copies of one directory can have equal histories.
 */
export function leadsThrough(
  history: TimelineHistory,
  position: { readonly timelineId: number; readonly lsn: Lsn },
): boolean {
  const span = history.find(({ timelineId }) => timelineId === position.timelineId);
  if (span === undefined || position.lsn < span.beginLsn) return false;
  return span.endLsn === null || position.lsn <= span.endLsn;
}

/** The parts of the log from `fromLsn` to `toLsn`, each on its timeline, in order; empty ones are left out. */
export function timelineSpans(options: {
  readonly history: TimelineHistory;
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
}): readonly { readonly timelineId: number; readonly fromLsn: Lsn; readonly toLsn: Lsn }[] {
  return options.history.flatMap(({ timelineId, beginLsn, endLsn }) => {
    const fromLsn = beginLsn > options.fromLsn ? beginLsn : options.fromLsn;
    const toLsn = endLsn !== null && endLsn < options.toLsn ? endLsn : options.toLsn;
    return fromLsn < toLsn ? [{ timelineId, fromLsn, toLsn }] : [];
  });
}
