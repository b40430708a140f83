/** Decides what of a moment the collection has already, and what must be copied from the timeline store. */
import { AppError, formatLsn, type Lsn } from '../../base/index.ts';
import { walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';
import type { Manifest, ManifestHistory, ManifestWal } from '../format/manifest.ts';
import { NO_SOURCE } from '../format/manifest-tables.ts';
import { holdsAllOf } from '../part/restrict-image.ts';
import type { TimelinePoint } from '../store-contract.ts';

/** Where a frame of a timeline store lies: the id of its pack, which never changes, and the place in it. */
export type SourceName = `${string}/${number}`;

export interface PublishPlan {
  /** What the backup's image is: a base of the store, or the older backup once more, under a longer log. */
  readonly image: Manifest;
  /** Frames of the image that are not in the collection yet: rows of its table, in the order of packs and offsets. */
  readonly copied: readonly number[];
  /** Frames of the image that the older backup names: its rows, by rows of the image. */
  readonly reused: ReadonlyMap<number, number>;
  /** Log of the older backup that is named again. */
  readonly keptWal: readonly ManifestWal[];
  /** The first segment to be copied for the backup's own log. */
  readonly firstSegmentNo: bigint;
  readonly history: (Pick<ManifestHistory, 'beginTime' | 'beginLsn'> & { readonly segmentNos: Range }) | null;
}

/** Segments from `begin` up to, not including, `end`. */
export interface Range {
  readonly begin: bigint;
  readonly end: bigint;
}

export interface PlanRequest {
  readonly point: TimelinePoint;
  /** The newest base of the store that leads to the point. */
  readonly base: Manifest;
  /** The backup that the new one builds on; null for a full one. */
  readonly older: Manifest | null;
  readonly hasRevisionHistory: boolean;
  /** Whether the store has every segment of its log from this one on. */
  readonly hasLogFrom: (segmentNo: bigint) => boolean;
}

/**
 * On top of an older backup either the base's frames are taken, as far as the chain does not have them, or the older image stays and only
 * log is added: whichever is less. The log alone is also the way where no base is newer than the older backup.
 * @throws AppError `time_outside_window` when log is missing that the revision history needs
 */
export function planPublish(request: PlanRequest): PublishPlan {
  const { point, base, older } = request;
  const segmentBytes = base.header.engine.walSegmentBytes;
  const reused = older === null ? new Map<number, number>() : sharedFrames(base, older);
  const copied = framesInOrder(base).filter((frame) => !reused.has(frame));
  const history = historyOf(request);
  const baseFirst = walSegmentNoOf({ lsn: base.header.startLsn, segmentBytes });
  if (older === null) return { image: base, copied, reused, keptWal: [], firstSegmentNo: baseFirst, history };
  const keptWal = older.wal.filter((object) => isWhole(object, segmentBytes));
  const olderFirst = walSegmentNoOf({ lsn: older.header.startLsn, segmentBytes }) + BigInt(keptWal.length);
  const copiedBytes = copied.reduce((sum, frame) => sum + (base.frames.lengths[frame] ?? 0), 0);
  const isLogLess =
    base.header.startLsn <= older.header.startLsn || Number(point.lsn - older.header.startLsn) < copiedBytes;
  // What bears a name of the part by now may have borne none when the older backup was taken.
  const isEnough = base.header.selection === undefined || holdsAllOf(older, base);
  if (isLogLess && isEnough && request.hasLogFrom(olderFirst)) {
    return {
      image: older,
      copied: [],
      reused: new Map(Array.from(older.frames.packs.keys(), (frame) => [frame, frame])),
      keptWal,
      firstSegmentNo: olderFirst,
      history: history === null ? null : { ...history, segmentNos: { begin: olderFirst, end: olderFirst } },
    };
  }
  if (
    history !== null &&
    history.segmentNos.begin < baseFirst &&
    !request.hasLogFrom(history.segmentNos.begin)
  ) {
    throw historyLost(older);
  }
  return { image: base, copied, reused, keptWal: [], firstSegmentNo: baseFirst, history };
}

/** What a backup with revision history covers: all since the one before it, or all since its own base. */
function historyOf({ point, base, older, hasRevisionHistory }: PlanRequest): PublishPlan['history'] {
  if (!hasRevisionHistory) return null;
  const segmentBytes = base.header.engine.walSegmentBytes;
  const end = walSegmentNoOf({ lsn: base.header.startLsn, segmentBytes });
  const { endTime: beginTime, targetLsn: beginLsn } = (older ?? base).header;
  // A base that leads to the point may name a later moment as its own.
  if (beginLsn > point.lsn || beginTime > point.time) {
    return { beginTime: point.time, beginLsn: point.lsn, segmentNos: { begin: end, end } };
  }
  const begin = walSegmentNoOf({ lsn: beginLsn, segmentBytes });
  return { beginTime, beginLsn, segmentNos: { begin: begin < end ? begin : end, end } };
}

function historyLost({ header }: Manifest): AppError<'time_outside_window'> {
  return new AppError(
    'time_outside_window',
    `protected ts verification error: the log from ${formatLsn(header.targetLsn)} on, where backup ${header.subdirectory} ends, is in the timeline no more`,
    { hint: 'take a full backup; then back up more often, or raise gc.ttlseconds' },
  );
}

/** Rows of the older backup's frames that were copied from the same places as frames of the base. */
function sharedFrames(base: Manifest, older: Manifest): Map<number, number> {
  const rows = new Map<SourceName, number>();
  for (const row of older.frames.packs.keys()) {
    const name = sourceOf(older, row);
    if (name !== null) rows.set(name, row);
  }
  const shared = new Map<number, number>();
  if (rows.size === 0) return shared;
  for (const row of base.frames.packs.keys()) {
    const found = rows.get(placeOf(base, row));
    if (found !== undefined) shared.set(row, found);
  }
  return shared;
}

/** Where a frame of a backup was copied from; null when it was read from a data directory. */
export function sourceOf({ sources }: Manifest, row: number): SourceName | null {
  const pack = sources?.packs[row] ?? NO_SOURCE;
  const id = sources?.packIds[pack];
  return id === undefined ? null : `${id}/${sources?.offsets[row] ?? 0}`;
}

/** The place of a frame of the store itself. */
export function placeOf({ packs, frames }: Manifest, row: number): SourceName {
  return `${packs[frames.packs[row] ?? 0]?.id ?? ''}/${frames.offsets[row] ?? 0}`;
}

function framesInOrder({ frames }: Manifest): readonly number[] {
  const { packs, offsets } = frames;
  return Array.from(packs.keys()).sort(
    (left, right) => (packs[left] ?? 0) - (packs[right] ?? 0) || (offsets[left] ?? 0) - (offsets[right] ?? 0),
  );
}

function isWhole({ segmentNo, endLsn }: ManifestWal, segmentBytes: number): boolean {
  return endLsn === (walSegmentStart({ segmentNo: segmentNo + 1n, segmentBytes }) satisfies Lsn);
}
