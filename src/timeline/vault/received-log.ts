/**
 * The log of one incarnation in the vault: checked while it is written, durable in steps, proved anew when a process takes it up. One
 * process writes it, and one caller appends.
 */
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AppError,
  assert,
  CorruptError,
  formatLsn,
  type IncarnationId,
  type Logger,
  type Lsn,
  Mutex,
  required,
  type Rng,
  type Timestamp,
} from '../../base/index.ts';
import { type WalRecordReader, walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';
import type { TimeIndexEntry } from '../format/time-index.ts';
import type { IncarnationRecord, TimelineStoreLocation } from '../store-contract.ts';
import { gapsOf, type LogGap } from '../store/gaps.ts';
import { openSegmentName, walDirectory } from '../store/layout.ts';
import type { LogSegment } from '../store/read-log.ts';
import { begunTimelines, contiguousRun, listWalFolder } from '../store/wal-folder.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { type ClockStep, CommitTracker } from './commit-tracker.ts';
import { makeFolderDurably, syncFile, syncFolder } from './files.ts';
import { findLog, type FoundLog, newRecordReader } from './find-log.ts';
import { readRecord, writeRecord } from './incarnation-file.ts';
import type { SegmentCloser } from './segment-closer.ts';
import { SegmentFile } from './segment-file.ts';
import { TimeIndexWriter } from './time-index-writer.ts';

export interface ReceivedLogOptions {
  readonly store: TimelineStoreLocation;
  readonly identity: Pick<
    IncarnationRecord,
    'incarnation' | 'parentIncarnation' | 'forkLsn' | 'systemIdentifier' | 'engineMajor'
  >;
  readonly closer: SegmentCloser;
  readonly rng: Rng;
  readonly logger: Logger;
  /** Told how many bytes on disk closing a segment has saved. */
  readonly onSaved: (bytes: number) => void;
  readonly signal: AbortSignal;
}

/** Where reception begins, when there is nothing yet to go on from. */
export interface LogBegin {
  readonly timelineId: number;
  /** Where the timeline itself begins. */
  readonly timelineBeginLsn: Lsn;
  readonly segmentBytes: number;
  /** First byte that will be received: a segment's. */
  readonly beginLsn: Lsn;
  /** The log on the timeline before, when that led here. */
  readonly continues?: ReceivedLog;
}

export class ReceivedLog implements AsyncDisposable {
  readonly #options: ReceivedLogOptions;
  readonly #segmentBytes: number;
  readonly #record: IncarnationRecord;
  readonly #directory: string;
  readonly #index: TimeIndexWriter;
  readonly #syncing = new Mutex();
  readonly #tracker: CommitTracker;
  readonly #reader: WalRecordReader;
  #gaps: readonly LogGap[];
  #oldestLsn: Lsn;
  #file: SegmentFile | null = null;
  #endLsn: Lsn;
  #durableLsn: Lsn;
  #coveredLsn = 0n as Lsn;
  #durableTime: Timestamp | null;
  /** What belongs to bytes that are written and may not be durable. */
  #writtenTime: Timestamp | null;
  #writtenEntries: TimeIndexEntry[] = [];
  #clockSteps: number;
  /** The kernel may have dropped what it could not write, and would not say so again. */
  #hasSyncFailed = false;
  /** The tracker knows more than the file has: log is on its way there, or never got there. */
  #isAppending = false;

  /** Takes up what is there; null when nothing was received yet. @throws CorruptError, AppError `format_unsupported` */
  static async open(options: ReceivedLogOptions): Promise<ReceivedLog | null> {
    const directory = walDirectory(options.store, options.identity.incarnation);
    const written = await readRecord(directory);
    if (written === null) return null;
    requireSameLife(written, options.identity);
    // Of the last one there may be nothing yet: then it is gone over to once more.
    const { segments } = await listWalFolder(directory);
    const record = { ...written, timelines: begunTimelines(segments, written.timelines) };
    const steps: ClockStep[] = [];
    const found = await findLog({ ...options, directory, record, onClockStep: (step) => steps.push(step) });
    if (found === null) return null;
    const log = new ReceivedLog({ options, record, found });
    for (const step of steps) log.#noteStep(step);
    await log.#reopenFile();
    for (const segment of found.full) {
      await syncFile(join(directory, openSegmentName(segment)));
      log.#enqueue(segment);
    }
    await syncFolder(directory);
    return log;
  }

  /**
   * Begins anew: for a new incarnation, on a new timeline, or behind log that is lost.
   * @throws CorruptError when the record there is damaged
   */
  static async begin(options: ReceivedLogOptions, begin: LogBegin): Promise<ReceivedLog> {
    const { identity } = options;
    const directory = walDirectory(options.store, identity.incarnation);
    await makeFolderDurably(directory);
    const former = await readRecord(directory);
    const timelines = (former?.timelines ?? []).filter(({ timelineId }) => timelineId < begin.timelineId);
    const known = former?.timelines.find(({ timelineId }) => timelineId === begin.timelineId);
    const own = known ?? { timelineId: begin.timelineId, beginLsn: begin.timelineBeginLsn };
    const record: IncarnationRecord = { ...identity, timelines: [...timelines, own] };
    await writeRecord(directory, record);
    faultPoint('vault.after_record');
    const folder = await listWalFolder(directory);
    const { last, clockSteps } = await TimeIndexWriter.repair(folder, { endLsn: null });
    const tracker = new CommitTracker({ last, onClockStep: (step) => log.#noteStep(step) });
    const { segmentBytes, beginLsn } = begin;
    const reader = newRecordReader({
      record,
      segmentBytes,
      beginLsn,
      onRecord: (each) => tracker.take(each),
      atDamage: 'corrupt',
    });
    const first = { segmentNo: walSegmentNoOf({ lsn: beginLsn, segmentBytes }) };
    const { continues } = begin;
    const found: FoundLog = {
      segmentBytes,
      oldestLsn: continues?.oldestLsn ?? beginLsn,
      endLsn: beginLsn,
      reader,
      tracker,
      full: [],
      gaps: continues?.gaps ?? gapsOf({ ...folder, segmentBytes }, [first]),
      clockSteps,
    };
    const log: ReceivedLog = new ReceivedLog({ options, record, found });
    // The old timeline's file holds what the new one's is yet to repeat.
    if (continues !== undefined) log.#coveredLsn = begin.timelineBeginLsn;
    return log;
  }

  private constructor(parts: {
    readonly options: ReceivedLogOptions;
    readonly record: IncarnationRecord;
    readonly found: FoundLog;
  }) {
    const { options, record, found } = parts;
    this.#options = options;
    this.#record = record;
    this.#directory = walDirectory(options.store, record.incarnation);
    this.#segmentBytes = found.segmentBytes;
    this.#index = new TimeIndexWriter({ directory: this.#directory, identity: record });
    this.#tracker = found.tracker;
    this.#reader = found.reader;
    this.#oldestLsn = found.oldestLsn;
    this.#endLsn = found.endLsn;
    this.#durableLsn = found.endLsn;
    this.#durableTime = found.tracker.maxTime;
    this.#writtenTime = found.tracker.maxTime;
    this.#writtenEntries.push(...found.tracker.drain());
    this.#gaps = found.gaps;
    this.#clockSteps = found.clockSteps;
  }

  get record(): IncarnationRecord {
    return this.#record;
  }

  get timelineId(): number {
    return required(this.#record.timelines.at(-1), 'timeline of an incarnation').timelineId;
  }

  get segmentBytes(): number {
    return this.#segmentBytes;
  }

  get oldestLsn(): Lsn {
    return this.#oldestLsn;
  }

  /** Next byte to be received. */
  get endLsn(): Lsn {
    return this.#endLsn;
  }

  /** Everything from `oldestLsn` to here is durable. */
  get durableLsn(): Lsn {
    return this.#durableLsn > this.#coveredLsn ? this.#durableLsn : this.#coveredLsn;
  }

  /** What is durable of this timeline's own files. */
  get syncedLsn(): Lsn {
    return this.#durableLsn;
  }

  get unsyncedBytes(): number {
    return Number(this.#endLsn - this.#durableLsn);
  }

  /** The last complete record ends where the log does: nothing is under way. */
  get isWhole(): boolean {
    return this.#reader.completeLsn === this.#endLsn;
  }

  /** Every moment up to here is known from bytes that are durable; never goes back. */
  get durableTime(): Timestamp | null {
    return this.#durableTime;
  }

  /** Of the newest commit that was written. */
  get writtenTime(): Timestamp | null {
    return this.#writtenTime;
  }

  /** Transactions whose end was taken since the log was opened. */
  get commits(): number {
    return this.#tracker.commits;
  }

  get gaps(): readonly LogGap[] {
    return this.#gaps;
  }

  get clockSteps(): number {
    return this.#clockSteps;
  }

  /** Checks and writes what comes next. Durable after the next `sync`. @throws CorruptError when it is no log; nothing of it is kept */
  async append(lsn: Lsn, bytes: Uint8Array): Promise<void> {
    if (lsn !== this.#endLsn) {
      throw new CorruptError(`the log goes on at ${formatLsn(lsn)} instead of ${formatLsn(this.#endLsn)}`);
    }
    for (let at = 0; at < bytes.length; ) {
      this.#file ??= await this.#newFile();
      const piece = bytes.subarray(at, at + this.#file.room);
      this.#isAppending = true;
      this.#reader.push(piece);
      await this.#file.append(piece);
      this.#isAppending = false;
      faultPoint('vault.after_first_write');
      at += piece.length;
      this.#endLsn = (this.#endLsn + BigInt(piece.length)) as Lsn;
      this.#writtenTime = this.#tracker.maxTime;
      this.#writtenEntries.push(...this.#tracker.drain());
      if (this.#file.room === 0) await this.#endSegment(this.#file);
    }
  }

  /** Makes durable what is written. Harmless at any time, also while more is being written. */
  async sync(): Promise<void> {
    await this.#syncing.run(() => this.#sync());
  }

  /** The server has told that nothing was committed behind the log's end up to `time`. */
  noteIdle(time: Timestamp): void {
    assert(this.isWhole, 'nothing is under way when idleness is noted');
    assert(this.#durableLsn === this.#endLsn, 'idleness is known of what is durable');
    this.#tracker.noteIdle({ lsn: this.#endLsn, time, timelineId: this.timelineId });
    this.#noteTime(time);
  }

  /** Makes what is known of idleness last. Where log is being appended, the commits in it have ended that already. */
  async settleIdle(): Promise<void> {
    if (!this.#isAppending) {
      this.#tracker.settleIdle();
      this.#writtenTime = this.#tracker.maxTime;
      this.#writtenEntries.push(...this.#tracker.drain());
    }
    await this.sync();
    await this.#syncing.run(() => this.#index.sync());
  }

  /** Looks again at what is there, for retention removes segments. */
  async lookAgain(): Promise<void> {
    const folder = await listWalFolder(this.#directory);
    const run = contiguousRun(folder, this.#record.timelines);
    const first = run[0];
    if (first === undefined) return;
    this.#gaps = gapsOf(folder, run);
    this.#oldestLsn = walSegmentStart({ segmentNo: first.segmentNo, segmentBytes: this.#segmentBytes });
  }

  /** The timeline ended at `switchLsn`: what was received beyond was never part of it. */
  async endTimeline(switchLsn: Lsn): Promise<void> {
    await this.sync();
    const file = this.#file;
    this.#file = null;
    if (file === null) return;
    const bytes = Number(switchLsn - walSegmentStart(file.segment));
    await file.close();
    if (bytes < 0 || bytes >= file.bytes) return;
    const cut = await SegmentFile.open({ directory: this.#directory, segment: file.segment, bytes });
    await cut.sync();
    await cut.close();
  }

  /** What is written becomes durable where that is possible. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (this.#hasSyncFailed) await this.#forgetUnsynced();
      else await this.settleIdle();
    } finally {
      await this.#file?.close();
      this.#file = null;
      await this.#index[Symbol.asyncDispose]();
    }
  }

  #noteTime(time: Timestamp | null): void {
    if (time !== null && (this.#durableTime === null || time > this.#durableTime)) this.#durableTime = time;
  }

  async #sync(): Promise<void> {
    const target = this.#endLsn;
    const time = this.#writtenTime;
    const entries = this.#writtenEntries;
    this.#writtenEntries = [];
    if (target > this.#durableLsn) {
      faultPoint('vault.before_sync');
      try {
        await this.#file?.sync();
      } catch (error) {
        this.#hasSyncFailed = true;
        throw error;
      }
      faultPoint('vault.after_sync');
      this.#durableLsn = target;
    }
    this.#noteTime(time);
    // Behind the log: an entry never tells of what is not durable.
    await this.#index.append(entries);
    if (entries.length > 0) faultPoint('vault.after_index');
  }

  /** What could not be synced is received again, though it can still be read. */
  async #forgetUnsynced(): Promise<void> {
    const file = this.#file;
    if (file === null) return;
    const bytes = Number(this.#durableLsn - walSegmentStart(file.segment));
    await truncate(file.path, Math.max(bytes, 0));
  }

  async #endSegment(file: SegmentFile): Promise<void> {
    this.#tracker.endSegment({ lsn: this.#reader.completeLsn, timelineId: this.timelineId });
    this.#writtenEntries.push(...this.#tracker.drain());
    await this.#syncing.run(async () => {
      await this.#sync();
      await this.#index.endSegment();
      this.#file = null;
      await file.close();
    });
    this.#enqueue(file.segment);
  }

  #enqueue(segment: LogSegment): void {
    const { closer, logger, onSaved } = this.#options;
    const { incarnation, systemIdentifier } = this.#record;
    let hasFailed = false;
    closer.add({
      full: { directory: this.#directory, segment, systemIdentifier, incarnation },
      onClosed: (savedBytes) => {
        onSaved(savedBytes);
        if (hasFailed) logger.info(`a segment of the log that could not be compressed now is`);
      },
      onFailed: (error) => {
        if (!hasFailed) logger.warning('a segment of the log cannot be compressed, will try again', error);
        hasFailed = true;
      },
    });
  }

  async #newFile(): Promise<SegmentFile> {
    const segment = this.#segmentAtEnd();
    assert(walSegmentStart(segment) === this.#endLsn, 'a segment is received from its beginning');
    return SegmentFile.open({ directory: this.#directory, segment, bytes: 0 });
  }

  async #reopenFile(): Promise<void> {
    const segment = this.#segmentAtEnd();
    const bytes = Number(this.#endLsn - walSegmentStart(segment));
    if (bytes > 0) this.#file = await SegmentFile.open({ directory: this.#directory, segment, bytes });
  }

  #segmentAtEnd(): LogSegment {
    const segmentBytes = this.#segmentBytes;
    const segmentNo = walSegmentNoOf({ lsn: this.#endLsn, segmentBytes });
    return { timelineId: this.timelineId, segmentNo, segmentBytes };
  }

  #noteStep({ lsn, from, to }: ClockStep): void {
    this.#clockSteps += 1;
    this.#options.logger.warning(
      `the clock was set back by ${(to - from) / 1000n} ms at ${formatLsn(lsn)}: moments between are ambiguous`,
    );
  }
}

function requireSameLife(
  record: IncarnationRecord,
  identity: {
    readonly incarnation: IncarnationId;
    readonly systemIdentifier: bigint;
    readonly engineMajor: number;
  },
): void {
  const isSame =
    record.incarnation === identity.incarnation &&
    record.systemIdentifier === identity.systemIdentifier &&
    record.engineMajor === identity.engineMajor;
  if (isSame) return;
  throw new AppError(
    'object_state',
    `the vault of incarnation ${identity.incarnation} is of another system`,
    {
      hint: 'a folder of the timeline store was exchanged: put it back',
    },
  );
}
