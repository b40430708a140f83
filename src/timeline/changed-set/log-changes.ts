/** What a stretch of the log changed, by reading the log itself. */
import { AppError, formatLsn, type Lsn } from '../../base/index.ts';
import { throwIfAborted } from '../../blob/index.ts';
import {
  firstRecordLsnFrom,
  type TimelineHistory,
  type WalRecord,
  WalRecordReader,
  type WalSegment,
  walSegmentNoOf,
  walSegmentStart,
} from '../../pg/index.ts';
import type { ChangedSetBuilder } from './changed-set.ts';
import type { LogSpan } from './plan.ts';
import { addRecord } from './sources.ts';

/** Where the bytes of the log come from: a `pg_wal`, a vault. */
export interface LogSource {
  /**
   * The bytes of a segment from its beginning on, in pieces that may be reused; fewer than a segment has when its rest is not
   * there. Null when there is nothing of it.
   */
  segment(segment: WalSegment, options: { signal: AbortSignal }): Promise<AsyncIterable<Uint8Array> | null>;
}

export interface LogFacts {
  readonly log: LogSource;
  readonly history: TimelineHistory;
  readonly segmentBytes: number;
  readonly engineMajor: number;
  readonly systemIdentifier: bigint;
}

export type AddLogChanges = typeof addLogChanges;

/**
 * Adds what the records that begin in the span changed, and gives the position that was reached: at least `span.toLsn`.
 * With `endsAnywhere`, the log may end before that, as recovery would find.
 * @throws AppError `changes_unknown` when the log does not reach far enough, or is damaged there
 */
export async function addLogChanges(
  set: ChangedSetBuilder,
  options: LogFacts & {
    readonly span: LogSpan;
    readonly endsAnywhere: boolean;
    readonly signal: AbortSignal;
  },
): Promise<Lsn> {
  const { span, segmentBytes, engineMajor, systemIdentifier, endsAnywhere, signal } = options;
  const firstSegmentNo = walSegmentNoOf({ lsn: span.fromLsn, segmentBytes });
  const reader = new WalRecordReader({
    beginLsn: walSegmentStart({ segmentNo: firstSegmentNo, segmentBytes }),
    segmentBytes,
    engineMajor,
    systemIdentifier,
    timelineId: span.timelineId,
    // What follows the span does not concern us, be it damaged or of another timeline; damage within is told below.
    atDamage: 'end',
    onRecord: (record) => addRecordOf(set, span, record),
  });
  // Between a page's last record and the first one of the next page lies only a header.
  const hasReached = () => firstRecordLsnFrom({ lsn: reader.completeLsn, segmentBytes }) >= span.toLsn;
  const isDone = () => reader.end !== null || hasReached();
  for (let segmentNo = firstSegmentNo; !isDone(); segmentNo++) {
    const expectedEnd = walSegmentStart({ segmentNo: segmentNo + 1n, segmentBytes });
    const pieces = await segmentOf({ ...options, segmentNo });
    if (pieces === null) break;
    for await (const piece of pieces) {
      throwIfAborted(signal);
      reader.push(piece);
      if (isDone()) break;
    }
    if (reader.receivedLsn < expectedEnd) break;
  }
  if (endsAnywhere || hasReached()) return reader.completeLsn;
  throw unknownChanges({ span, reachedLsn: reader.completeLsn, reason: reader.end?.reason });
}

/** @param facts.reason what is wrong at `reachedLsn`, when it is known */
export function unknownChanges(facts: {
  readonly span: LogSpan;
  readonly reachedLsn: Lsn;
  readonly reason?: string | undefined;
}): AppError {
  const { span, reachedLsn, reason } = facts;
  const from = formatLsn(reachedLsn > span.fromLsn ? reachedLsn : span.fromLsn);
  return new AppError(
    'changes_unknown',
    `what changed from ${from} to ${formatLsn(span.toLsn)} on timeline ${span.timelineId} is not known`,
    {
      detail: reason ?? 'neither summaries nor the log itself cover it',
      hint: 'a full base does not need to know what changed',
    },
  );
}

function addRecordOf(set: ChangedSetBuilder, span: LogSpan, record: WalRecord): void {
  if (record.lsn < span.toLsn && record.endLsn > span.fromLsn) addRecord(set, record);
}

/**
 * A timeline's last segment lives on as the beginning of its successor's first one: Postgres copies it there when it promotes,
 * and may remove or rename the original.
 */
async function segmentOf(
  options: LogFacts & { span: LogSpan; segmentNo: bigint; signal: AbortSignal },
): Promise<AsyncIterable<Uint8Array> | null> {
  const { log, history, segmentBytes, span, segmentNo, signal } = options;
  const segmentStart = walSegmentStart({ segmentNo, segmentBytes });
  for (const { timelineId, beginLsn } of history) {
    const isOwn = timelineId === span.timelineId;
    const beginsHere =
      beginLsn > segmentStart && walSegmentNoOf({ lsn: beginLsn, segmentBytes }) === segmentNo;
    const holdsOurs = timelineId > span.timelineId && beginsHere;
    if (!isOwn && !holdsOurs) continue;
    const pieces = await log.segment({ timelineId, segmentNo, segmentBytes }, { signal });
    if (pieces !== null) return pieces;
  }
  return null;
}
