/** Which moments a chain of backups can be restored to, as an error tells somebody who has named another one. */
import { formatTimestamp, type Timestamp } from '../../base/index.ts';
import type { BackupSummary } from '../../timeline/index.ts';

/** So many are named: those nearest to what was asked for. */
const NAMED_MAX = 5;

/** Every moment from `from` to `to`, both included; one moment when they are equal. */
interface Span {
  readonly from: Timestamp;
  readonly to: Timestamp;
}

/** A sentence without a full stop; `layers` are not empty, and stand in the order of their ends. */
export function restorableTimes(
  layers: readonly Pick<BackupSummary, 'endTime' | 'revisionStart'>[],
  { near }: { readonly near: Timestamp },
): string {
  const spans = spansOf(layers);
  const nearest = new Set(
    spans.toSorted((left, right) => distance(left, near) - distance(right, near)).slice(0, NAMED_MAX),
  );
  const named = spans.filter((span) => nearest.has(span)).map(textOf);
  const others = spans.length - named.length;
  const more = others === 0 ? '' : `; and ${others} more`;
  return `it can be restored to ${named.join('; ')}${more}: SHOW BACKUP ... WITH revision_start_time shows all`;
}

/** The history of one backup may go on where that of the one before it ends. */
function spansOf(layers: readonly Pick<BackupSummary, 'endTime' | 'revisionStart'>[]): readonly Span[] {
  const spans: Span[] = [];
  const ordered = layers
    .map(({ endTime, revisionStart }): Span => ({ from: revisionStart ?? endTime, to: endTime }))
    .toSorted((left, right) => Number(left.from - right.from));
  for (const span of ordered) {
    const last = spans.at(-1);
    if (last === undefined || span.from > last.to) spans.push(span);
    else if (span.to > last.to) spans[spans.length - 1] = { from: last.from, to: span.to };
  }
  return spans;
}

function textOf({ from, to }: Span): string {
  return from === to
    ? formatTimestamp(to)
    : `any time from ${formatTimestamp(from)} to ${formatTimestamp(to)}`;
}

function distance({ from, to }: Span, time: Timestamp): number {
  if (time < from) return Number(from - time);
  return time > to ? Number(time - to) : 0;
}
