/** Which summaries tell what changed in a stretch of the log, and what only the log itself tells. */
import type { Lsn } from '../../base/index.ts';
import { type WalSummaryName, walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';

/** A stretch of the log of one timeline. */
export interface LogSpan {
  readonly timelineId: number;
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
}

export interface ChangePlan {
  /** In order; what they say beyond the span does no harm. */
  readonly summaries: readonly WalSummaryName[];
  /** What no summary covers, in order. */
  readonly holes: readonly LogSpan[];
}

/** The fewest summaries that cover as much of the span as all of them do. */
export function planChanges(available: readonly WalSummaryName[], span: LogSpan): ChangePlan {
  const { timelineId } = span;
  const useful = available
    .filter(
      (name) => name.timelineId === timelineId && name.endLsn > span.fromLsn && name.startLsn < span.toLsn,
    )
    .sort((a, b) => (a.startLsn < b.startLsn ? -1 : 1));
  const summaries: WalSummaryName[] = [];
  const holes: LogSpan[] = [];
  let position = span.fromLsn;
  for (let at = 0; position < span.toLsn; ) {
    let best: WalSummaryName | undefined;
    for (let name = useful[at]; name !== undefined && name.startLsn <= position; name = useful[++at]) {
      if (best === undefined || name.endLsn > best.endLsn) best = name;
    }
    if (best !== undefined && best.endLsn > position) {
      summaries.push(best);
      position = best.endLsn;
    } else {
      const toLsn = useful[at]?.startLsn ?? span.toLsn;
      holes.push({ timelineId, fromLsn: position, toLsn });
      position = toLsn;
    }
  }
  return { summaries, holes };
}

/**
 * Cuts a span into at most so many parts, about equally long, each but the first from where a segment begins. A record that begins in one part and
 * ends in the next belongs to both, so that what the parts changed is together what the span did.
 */
export function* partsOfSpan(
  { timelineId, fromLsn, toLsn }: LogSpan,
  { parts, segmentBytes }: { readonly parts: number; readonly segmentBytes: number },
): Iterable<LogSpan> {
  const first = walSegmentNoOf({ lsn: fromLsn, segmentBytes });
  const segments = walSegmentNoOf({ lsn: (toLsn - 1n) as Lsn, segmentBytes }) - first + 1n;
  const count = segments < BigInt(parts) ? segments : BigInt(parts);
  for (let part = 0n, from = fromLsn; part < count; part++) {
    const segmentNo = first + (segments * (part + 1n)) / count;
    const to = part + 1n === count ? toLsn : walSegmentStart({ segmentNo, segmentBytes });
    yield { timelineId, fromLsn: from, toLsn: to };
    from = to;
  }
}
