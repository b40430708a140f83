/** Which position a moment is: just before the first commit whose running maximum of commit times exceeds it. */
import { join } from 'node:path';
import { CorruptError, isAppError, type Lsn, type Timestamp } from '../../base/index.ts';
import { commitTimeOf, WAL_PAGE_BYTES, WalRecordReader, walSegmentStart } from '../../pg/index.ts';
import type { TimeIndexEntry } from '../format/time-index.ts';
import type { IncarnationRecord, TimelineStoreLocation } from '../store-contract.ts';
import { walDirectory } from './layout.ts';
import { openLog } from './read-log.ts';
import { readTimeIndexFile } from './read-time-index.ts';
import { contiguousRun, listWalFolder, type WalFolder } from './wal-folder.ts';

export interface LogOfLife {
  readonly store: TimelineStoreLocation;
  readonly record: IncarnationRecord;
  /** Where the lineage leaves it, or how far it is durable; null for as far as it goes. */
  readonly endLsn: Lsn | null;
  readonly signal: AbortSignal;
}

/** A place in the log, and what is known of the times before it. */
export interface LogPlace {
  readonly lsn: Lsn;
  /** The running maximum of the times of commits before; null when there is none. */
  readonly time: Timestamp | null;
}

/** The place of a time, or null when no commit of this log exceeds it. */
export async function placeOfTime(log: LogOfLife, time: Timestamp): Promise<LogPlace | null> {
  const folder = await listWalFolder(walDirectory(log.store, log.record.incarnation));
  const { before, after } = await entriesAround(
    folder,
    (entry) => entry.time <= time && isWithin(log, entry),
  );
  // Idleness ends where the log was: nothing that was committed later belongs to the time.
  const isIdleEnd = after?.kind === 'idle' && isWithin(log, after);
  const throughLsn = isIdleEnd ? after.lsn : log.endLsn;
  const walked = await walk(log, { folder, from: before, throughLsn, isWanted: (maxTime) => maxTime > time });
  if (walked.foundLsn !== null) return { lsn: walked.foundLsn, time: walked.timeBefore };
  return isIdleEnd ? { lsn: after.lsn, time: walked.maxTime } : null;
}

/** Where the log ends with a complete record, and the newest time known there. */
export async function endOfTimes(
  log: LogOfLife,
): Promise<LogPlace & { readonly commitTime: Timestamp | null }> {
  const folder = await listWalFolder(walDirectory(log.store, log.record.incarnation));
  const { before } = await entriesAround(folder, (entry) => isWithin(log, entry));
  const walked = await walk(log, { folder, from: before, throughLsn: log.endLsn, isWanted: () => false });
  return { lsn: walked.completeLsn, time: walked.maxTime, commitTime: walked.maxTime };
}

/** Whether the clock was set back over this time, so that it was lived through twice. */
export async function isAmbiguous(log: LogOfLife, time: Timestamp): Promise<boolean> {
  const folder = await listWalFolder(walDirectory(log.store, log.record.incarnation));
  for (const { name } of folder.timeIndexes.toReversed()) {
    const entries = await entriesOf(folder, name);
    const isHit = (entry: TimeIndexEntry) =>
      entry.kind === 'clock_step' && entry.ownTime <= time && time < entry.time && isWithin(log, entry);
    if (entries.some(isHit)) return true;
    if ((entries[0]?.time ?? time) < time) return false;
  }
  return false;
}

/** A commit belongs to what lies before a place when it begins before; idleness, when it ends there, too. */
function isWithin({ endLsn }: LogOfLife, { kind, lsn }: TimeIndexEntry): boolean {
  return endLsn === null || lsn < endLsn || (kind === 'idle' && lsn === endLsn);
}

/** The last entry that is `early`, and the one that follows it. Entries are early up to some place, and not from there on. */
async function entriesAround(
  folder: WalFolder,
  isEarly: (entry: TimeIndexEntry) => boolean,
): Promise<{ readonly before: TimeIndexEntry | null; readonly after: TimeIndexEntry | null }> {
  let after: TimeIndexEntry | null = null;
  for (const { name } of folder.timeIndexes.toReversed()) {
    const entries = await entriesOf(folder, name);
    const index = entries.findLastIndex(isEarly);
    const next: TimeIndexEntry | null = entries[index + 1] ?? after;
    const before = entries[index];
    if (before !== undefined) return { before, after: next };
    after = next;
  }
  return { before: null, after };
}

/** Of a file that is damaged there are none: the log tells the same, only more slowly, whose commits are read from the entry before on. */
async function entriesOf(folder: WalFolder, name: string): Promise<readonly TimeIndexEntry[]> {
  try {
    return (await readTimeIndexFile(folder.directory, name)).entries;
  } catch (error) {
    if (isAppError(error, 'data_corrupt')) return [];
    throw error;
  }
}

interface Walked {
  /** Where the first wanted commit begins. */
  readonly foundLsn: Lsn | null;
  readonly timeBefore: Timestamp | null;
  readonly maxTime: Timestamp | null;
  readonly completeLsn: Lsn;
}

/** Reads commits from an entry on until one is wanted. @throws CorruptError naming what is damaged or missing */
async function walk(
  { store, record, endLsn, signal }: LogOfLife,
  options: {
    readonly folder: WalFolder;
    readonly from: TimeIndexEntry | null;
    readonly throughLsn: Lsn | null;
    readonly isWanted: (maxTime: Timestamp) => boolean;
  },
): Promise<Walked> {
  const { folder, from, throughLsn, isWanted } = options;
  const timelineId = record.timelines.at(-1)?.timelineId ?? 1;
  const first = contiguousRun(folder, record.timelines)[0];
  const { segmentBytes } = folder;
  const oldestLsn =
    first === undefined ? null : walSegmentStart({ segmentNo: first.segmentNo, segmentBytes });
  // The index outlives the log that it was made from; what was committed in between is not known then.
  const known = from !== null && oldestLsn !== null && from.lsn < oldestLsn ? null : from;
  const startLsn = known?.lsn ?? oldestLsn ?? (0n as Lsn);
  let maxTime = known?.time ?? null;
  let found: { lsn: Lsn; timeBefore: Timestamp | null } | null = null;
  const pageLsn = (startLsn - (startLsn % BigInt(WAL_PAGE_BYTES))) as Lsn;
  const reader = new WalRecordReader({
    beginLsn: pageLsn,
    segmentBytes: Math.max(segmentBytes, 1024 * 1024),
    engineMajor: record.engineMajor,
    timelineId,
    atDamage: 'end',
    // A commit's time stands at its beginning.
    headBytesMax: 64 * 1024,
    onRecord(each) {
      const time = found === null ? commitTimeOf(each) : null;
      const isBeyond = throughLsn !== null && each.lsn >= throughLsn;
      if (time === null || isBeyond || each.lsn < startLsn) return;
      const timeBefore = maxTime;
      maxTime = maxTime === null || time > maxTime ? time : maxTime;
      if (isWanted(maxTime)) found = { lsn: each.lsn, timeBefore };
    },
  });
  if (first !== undefined) {
    for await (const { bytes } of openLog(store, { record, timelineId, fromLsn: pageLsn, signal })) {
      reader.push(bytes);
      const isThrough = throughLsn !== null && reader.completeLsn >= throughLsn;
      if (found !== null || reader.end !== null || isThrough) break;
    }
  }
  const hit = found as { lsn: Lsn; timeBefore: Timestamp | null } | null; // Set by the callback.
  if (hit === null && reader.end !== null && endLsn !== null && reader.end.lsn < endLsn) {
    throw new CorruptError(`the log in ${join(folder.directory)} has ${reader.end.reason}`);
  }
  const complete = reader.completeLsn > startLsn ? reader.completeLsn : startLsn;
  return {
    foundLsn: hit?.lsn ?? null,
    timeBefore: hit?.timeBefore ?? null,
    maxTime,
    completeLsn: throughLsn !== null && complete > throughLsn ? throughLsn : complete,
  };
}
