/** What a vault that is taken up holds: proved from the newest entry of the index on, cut back to what is whole. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  CorruptError,
  formatLsn,
  isAppError,
  type Logger,
  type Lsn,
  required,
  type Rng,
} from '../../base/index.ts';
import { type WalRecord, WalRecordReader, walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';
import { openCollection } from '../collection/open.ts';
import type { IncarnationRecord } from '../store-contract.ts';
import { gapsOf, type LogGap } from '../store/gaps.ts';
import { type LogSegment, readSegment } from '../store/read-log.ts';
import {
  contiguousRun,
  listWalFolder,
  readClosedHeader,
  type SegmentFile,
  type WalFolder,
} from '../store/wal-folder.ts';
import { type ClockStep, CommitTracker } from './commit-tracker.ts';
import { removeDurably } from './files.ts';
import { TimeIndexWriter } from './time-index-writer.ts';

export interface FoundLog {
  readonly segmentBytes: number;
  readonly oldestLsn: Lsn;
  /** Everything before, from `oldestLsn` on, is there and right. What lies behind is to be received again. */
  readonly endLsn: Lsn;
  /** Stands at `endLsn`. */
  readonly reader: WalRecordReader;
  readonly tracker: CommitTracker;
  /** Open segments that are full. */
  readonly full: readonly LogSegment[];
  readonly gaps: readonly LogGap[];
  readonly clockSteps: number;
}

interface FindOptions {
  readonly directory: string;
  readonly record: IncarnationRecord;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly onClockStep: (step: ClockStep) => void;
  readonly signal: AbortSignal;
}

/** Null when there is no log yet. Removes what a process that was cut off left behind. */
export async function findLog(options: FindOptions): Promise<FoundLog | null> {
  const { directory, record, rng, signal } = options;
  await openCollection({ displayUri: directory, directory }, { rng }).discardUploads('', { signal });
  const folder = await listWalFolder(directory);
  for (const name of folder.superseded) {
    await readClosedHeader(join(directory, `${name.slice(0, 24)}.wal`));
    await removeDurably(join(directory, name));
  }
  const run = contiguousRun(folder, record.timelines);
  if (run.length === 0) return null;
  await checkHeaders(run, options);
  const proved = await prove({ ...options, folder, run, indexEndLsn: null });
  return { ...proved, gaps: gapsOf(folder, run), oldestLsn: startOf(run[0], folder) };
}

type Proved = Omit<FoundLog, 'gaps' | 'oldestLsn'>;
type ProveOptions = FindOptions & {
  readonly folder: WalFolder;
  readonly run: readonly SegmentFile[];
  /** Entries of the index beyond are dropped. */
  readonly indexEndLsn: Lsn | null;
};

async function prove(options: ProveOptions): Promise<Proved> {
  const { folder, run, onClockStep } = options;
  const { last, clockSteps } = await TimeIndexWriter.repair(folder, { endLsn: options.indexEndLsn });
  const tracker = new CommitTracker({ last, onClockStep });
  const from = last === null ? run : run.filter((file) => endOf(file, folder) > last.lsn);
  const completeLsn = await walk(from, { ...options, tracker });
  if (last !== null && options.indexEndLsn === null && last.lsn > completeLsn) {
    return prove({ ...options, indexEndLsn: completeLsn });
  }
  const endLsn = await endOfLog(completeLsn, options);
  const reader = await readerAt(endLsn, { ...options, completeLsn, tracker });
  const full = run
    .filter((file) => !file.isClosed && endOf(file, folder) <= endLsn)
    .map((file) => segmentOf(file, folder));
  return { segmentBytes: folder.segmentBytes, endLsn, reader, tracker, full, clockSteps };
}

/** Reads all records, shows their commits to the tracker, and tells where the last complete one ends. */
async function walk(
  files: readonly SegmentFile[],
  options: ProveOptions & { readonly tracker: CommitTracker },
): Promise<Lsn> {
  const { folder, run, logger, tracker } = options;
  const last = run.at(-1);
  let reader: WalRecordReader | null = null;
  let completeLsn = startOf(files[0] ?? last, folder);
  for (const file of files) {
    const current: WalRecordReader =
      reader ?? recordReader(startOf(file, folder), options, (record) => tracker.take(record));
    reader = current;
    const damage = await pushSegment(current, file, options);
    completeLsn = current.completeLsn;
    // What was being written when the machine stopped is received again; the rest was whole once.
    if (damage === null || (file === last && !file.isClosed)) continue;
    logger.error('a stored segment of the log is damaged: nothing can be restored across it', damage);
    reader = null;
  }
  return completeLsn;
}

/** What is wrong with the segment, or null. */
async function pushSegment(
  reader: WalRecordReader,
  file: SegmentFile,
  { folder, record, signal }: ProveOptions,
): Promise<CorruptError | null> {
  const segment = segmentOf(file, folder);
  try {
    const pieces = readSegment(folder.directory, { segment, incarnation: record.incarnation, signal });
    for await (const { bytes } of pieces) reader.push(bytes);
  } catch (error) {
    if (error instanceof CorruptError) return error;
    throw error;
  }
  if (reader.end === null) return null;
  const { lsn, reason } = reader.end;
  return new CorruptError(`${join(folder.directory, file.name)} has ${reason} at ${formatLsn(lsn)}`);
}

/**
 * The last segment is cut back to its last complete record, for what follows may not have been synced. Whether the end of a record that
 * began in a former segment is right is known when it is complete.
 */
async function endOfLog(completeLsn: Lsn, { folder, run }: ProveOptions): Promise<Lsn> {
  const last = run.at(-1);
  if (last === undefined || last.isClosed) return endOf(last, folder);
  const { size } = await stat(join(folder.directory, last.name));
  const beginLsn = startOf(last, folder);
  const heldLsn = beginLsn + BigInt(size);
  // Behind a switch of segments the log is complete up to the segment's end, held or not.
  const wholeLsn = completeLsn < heldLsn ? completeLsn : heldLsn;
  return (wholeLsn > beginLsn ? wholeLsn : beginLsn) as Lsn;
}

/** A reader that has seen everything from the segment on in which the record lies that is not complete at `endLsn`. */
async function readerAt(
  endLsn: Lsn,
  options: ProveOptions & { readonly completeLsn: Lsn; readonly tracker: CommitTracker },
): Promise<WalRecordReader> {
  const { folder, run, completeLsn, tracker } = options;
  const { segmentBytes } = folder;
  const fromLsn = completeLsn < endLsn ? completeLsn : endLsn;
  const fromNo = walSegmentNoOf({ lsn: fromLsn, segmentBytes });
  const beginLsn = walSegmentStart({ segmentNo: fromNo, segmentBytes });
  const reader = recordReader(beginLsn, { ...options, atDamage: 'corrupt' }, (record) =>
    tracker.take(record),
  );
  for (const file of run.filter(({ segmentNo }) => segmentNo >= fromNo)) {
    const segment = segmentOf(file, folder);
    const { incarnation } = options.record;
    for await (const { offset, bytes } of readSegment(folder.directory, {
      ...options,
      segment,
      incarnation,
    })) {
      const room = endLsn - startOf(file, folder) - BigInt(offset);
      if (room > 0n) reader.push(room < bytes.length ? bytes.subarray(0, Number(room)) : bytes);
    }
  }
  return reader;
}

function recordReader(
  beginLsn: Lsn,
  options: FindOptions & { readonly folder: WalFolder; readonly atDamage?: 'end' | 'corrupt' },
  onRecord: (record: WalRecord) => void,
): WalRecordReader {
  const { record, folder, atDamage = 'end' } = options;
  return newRecordReader({ record, segmentBytes: folder.segmentBytes, beginLsn, onRecord, atDamage });
}

/** Of a record the vault wants to know when a transaction was committed, which stands at its beginning. Records are up to 1020 MiB long. */
const RECORD_HEAD_BYTES = 64 * 1024;

/** Reads the log of an incarnation on its newest timeline. Of long records only the head is shown. */
export function newRecordReader(options: {
  readonly record: IncarnationRecord;
  readonly segmentBytes: number;
  readonly beginLsn: Lsn;
  readonly onRecord: (record: WalRecord) => void;
  readonly atDamage: 'end' | 'corrupt';
}): WalRecordReader {
  const { record, ...rest } = options;
  const { engineMajor, systemIdentifier } = record;
  const timelineId = required(record.timelines.at(-1), 'timeline of an incarnation').timelineId;
  const headBytesMax = RECORD_HEAD_BYTES;
  return new WalRecordReader({ ...rest, engineMajor, systemIdentifier, timelineId, headBytesMax });
}

/** A closed segment says whose it is. What does not fit is told; who reads it is told again. */
async function checkHeaders(run: readonly SegmentFile[], options: FindOptions): Promise<void> {
  const { directory, record, logger } = options;
  for (const file of run.filter(({ isClosed }) => isClosed)) {
    const path = join(directory, file.name);
    try {
      const header = await readClosedHeader(path);
      const isOurs =
        header.incarnation === record.incarnation &&
        header.systemIdentifier === record.systemIdentifier &&
        header.segmentNo === file.segmentNo &&
        header.timelineId === file.timelineId;
      if (!isOurs) throw new CorruptError(`${path} is of another incarnation or segment than its name`);
    } catch (error) {
      if (!isAppError(error, 'data_corrupt')) throw error;
      logger.error('a stored segment of the log is damaged: nothing can be restored across it', error);
    }
  }
}

function segmentOf(file: SegmentFile, { segmentBytes }: WalFolder): LogSegment {
  return { timelineId: file.timelineId, segmentNo: file.segmentNo, segmentBytes };
}

function startOf(file: SegmentFile | undefined, { segmentBytes }: WalFolder): Lsn {
  return walSegmentStart({ segmentNo: required(file, 'segment').segmentNo, segmentBytes });
}

function endOf(file: SegmentFile | undefined, { segmentBytes }: WalFolder): Lsn {
  return walSegmentStart({ segmentNo: required(file, 'segment').segmentNo + 1n, segmentBytes });
}
