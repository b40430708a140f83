/** Finds the records in the bytes of the write-ahead log, as `access/transam/xlogreader.c` does. */
import { assert, CorruptError, formatLsn, type Lsn } from '../base/index.ts';
import { crc32cOfRange } from './crc32c.ts';
import { INFO_KIND_MASK, isRmgr, RMGR, walDialectOf, XLOG_INFO } from './wal-engine.ts';
import { RecordView, WAL_RECORD_HEADER_BYTES, type WalRecord } from './wal-record.ts';
import { pageContinuation, pageProblem, pageTimelineId } from './wal-page-check.ts';
import {
  isWalSegmentBytes,
  WAL_LONG_HEADER_BYTES,
  WAL_PAGE_BYTES,
  WAL_SHORT_HEADER_BYTES,
} from './wal-segment.ts';

const ALIGNMENT = 8;
/** `XLogRecordMaxSize`: 1020 MiB. */
const RECORD_BYTES_MAX = 1020 * 1024 * 1024;
const GATHER_BYTES_INITIAL = 64 * 1024;
/** What announces 33 pages with their images, and the beginning of the data. */
const HEAD_BYTES_MIN = 2048;
/** A record beyond this gives its room back when it has been shown. */
const GATHER_BYTES_KEPT_MAX = 1024 * 1024;

/** `XLR_BLOCK_ID_DATA_SHORT`: the main data follows, after one byte with its length. */
const SHORT_DATA = 255;
const RECORD_AT = { prevLow: 8, prevHigh: 12, info: 16, rmid: 17, crc: 20 } as const;

export interface WalRecordReaderOptions {
  /** Position of the first byte that will be pushed: where a page of the log begins, best a segment. */
  readonly beginLsn: Lsn;
  readonly segmentBytes: number;
  /** 17 or 18. */
  readonly engineMajor: number;
  /** The timeline that is read: pages of it and of its ancestors pass, those of later ones do not. */
  readonly timelineId: number;
  /** When given, segments of another system are refused. */
  readonly systemIdentifier?: bigint;
  /**
   * Of a record that does not lie in one piece no more than this is held and shown, while all of it is checked: enough for who wants to know
   * of what kind it is and when a transaction ended. 1020 MiB when left out.
   */
  readonly headBytesMax?: number;
  /** Called for every complete record in order, before `push` returns. The record is valid during the call only. */
  readonly onRecord: (record: WalRecord) => void;
  /**
   * What bytes that are no record mean. `corrupt`: `push` throws, for every byte was written on purpose (a stream, a
   * segment that is complete). `end`: the log ends there, as recovery after a crash takes it; see `end`.
   */
  readonly atDamage?: 'corrupt' | 'end';
}

/** Where and why a log that is read with `atDamage: 'end'` ends. */
export interface WalEnd {
  readonly lsn: Lsn;
  readonly reason: string;
}

/**
 * Push the bytes of a log, one after the other from `beginLsn` on, cut as you like; get its records. A record is shown as
 * soon as its last byte is there, and only when its checksum, its length, its link to the record before it and the headers of
 * all its pages are right. The rest of a record that began before `beginLsn` is passed over. A record whose end was never
 * written (a crash; the log then goes on with `XLP_FIRST_IS_OVERWRITE_CONTRECORD`) is not shown.
 *
 * ```ts
 * const reader = new WalRecordReader({
 *   beginLsn, segmentBytes: 16 * 1024 * 1024, engineMajor: 18, timelineId,
 *   onRecord(record) {
 *     const time = commitTimeOf(record); // null for what is no commit
 *     if (time !== null) index.add(record.lsn, time);
 *   },
 * });
 * for await (const chunk of stream) reader.push(chunk);
 * reader.completeLsn; // everything before belongs to complete records: go on from the segment that holds it
 * ```
 *
 * Pushed bytes may be reused when `push` has returned. Holds at most the one record that is not complete, never more than
 * has been pushed of it, nor than `headBytesMax`.
 *
 * `push` throws CorruptError, naming the position, for anything that Postgres would not read; then the reader is done and
 * throws the same again.
 */
export class WalRecordReader {
  readonly #options: WalRecordReaderOptions;
  readonly #pageMagic: number;
  readonly #record: RecordView;
  #damage: CorruptError | null = null;
  #end: WalEnd | null = null;
  /** A callback has thrown in the midst of things. */
  #isBroken = false;

  /** Position of the page, in two halves, and of the next byte in it. */
  readonly #page: { high: number; low: number };
  #inPage = 0;
  #timelineId = 0;
  readonly #header = new Uint8Array(WAL_LONG_HEADER_BYTES);
  readonly #headerView = new DataView(this.#header.buffer);

  /** Bytes to pass over: padding, the rest of a record begun before us. Does not count headers of pages. */
  #passOver = 0;
  /** What is passed over is the rest of a record, which pages must announce. */
  #isPassingRecord = false;
  /** After a switch of segments: whatever follows, up to the next segment. */
  #isPassingSegment = false;

  /** A record that does not lie in one piece: bytes there, bytes in all (0 until known), where it begins. */
  #gathered = 0;
  #gatherBytes = 0;
  /** Checksum of its body as far as it is there. */
  #gatheredCrc = 0;
  #gatherRoom = new Uint8Array(GATHER_BYTES_INITIAL);
  #gatherView = new DataView(this.#gatherRoom.buffer);
  readonly #begin = { high: 0, low: 0 };

  /** Where the last record began, and whether there was one. */
  readonly #last = { high: 0, low: 0 };
  #hasLast = false;
  readonly #complete: { high: number; low: number; inPage: number };
  /** A record that was given up; the next one must say so. */
  readonly #aborted = { high: 0, low: 0 };
  #hasAborted = false;

  constructor(options: WalRecordReaderOptions) {
    const { beginLsn, segmentBytes, engineMajor } = options;
    assert(isWalSegmentBytes(segmentBytes), `not a segment size: ${segmentBytes}`);
    assert((options.headBytesMax ?? HEAD_BYTES_MIN) >= HEAD_BYTES_MIN, 'a head holds all but data');
    assert(beginLsn % BigInt(WAL_PAGE_BYTES) === 0n, 'the log is read from where a page begins');
    this.#options = options;
    this.#pageMagic = walDialectOf(engineMajor).pageMagic;
    this.#record = new RecordView(engineMajor);
    this.#page = { high: Number(beginLsn >> 32n), low: Number(beginLsn & 0xffff_ffffn) };
    this.#complete = { ...this.#page, inPage: 0 };
  }

  /** Position after the last byte pushed, or where reading ended at damage. */
  get receivedLsn(): Lsn {
    return lsnAt(this.#page, this.#inPage);
  }

  /** End of the last complete record; before the first one, where it may begin. */
  get completeLsn(): Lsn {
    return lsnAt(this.#complete, this.#complete.inPage);
  }

  /** With `atDamage: 'end'`: where the log ends, once that was met. Further bytes are ignored. */
  get end(): WalEnd | null {
    return this.#end;
  }

  /** @throws CorruptError unless `atDamage` is `end` */
  push(chunk: Uint8Array): void {
    assert(!this.#isBroken, 'a reader of the log is used after its callback has thrown');
    if (this.#damage !== null) {
      if (this.#end === null) throw this.#damage;
      return;
    }
    this.#isBroken = true;
    try {
      this.#consume(chunk);
    } catch (error) {
      if (this.#damage === null || error !== this.#damage) throw error;
      this.#isBroken = false;
      if (this.#end === null) throw error;
    }
    this.#isBroken = false;
  }

  #consume(chunk: Uint8Array): void {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
    let at = 0;
    while (at < chunk.length) {
      const before = at;
      if (this.#inPage === WAL_PAGE_BYTES) this.#turnPage();
      if (this.#isPassingSegment) at = this.#passSegment(chunk, at);
      else if (this.#inPage < this.#headerBytes()) at = this.#takeHeader(chunk, at);
      else if (this.#passOver > 0) at = this.#passBytes(chunk, at);
      else if (this.#gathered > 0) at = this.#gather(chunk, at);
      else at = this.#takeRecords(chunk, view, at);
      assert(at > before, 'a reader of the log stands still');
    }
  }

  /** The fast path: records that lie whole in this page and this chunk. */
  #takeRecords(chunk: Uint8Array, view: DataView, from: number): number {
    let at = from;
    for (;;) {
      const room = Math.min(WAL_PAGE_BYTES - this.#inPage, chunk.length - at);
      if (room === 0) return at;
      this.#begin.high = this.#page.high;
      this.#begin.low = this.#page.low + this.#inPage;
      if (room < WAL_RECORD_HEADER_BYTES) return this.#gather(chunk, at);
      const totalBytes = view.getUint32(at, true);
      if (totalBytes > room) return this.#gather(chunk, at);
      this.#checkHeader(view, at, totalBytes);
      this.#inPage += totalBytes;
      const body = { begin: at + WAL_RECORD_HEADER_BYTES, end: at + totalBytes, before: 0 };
      this.#finish(chunk, view, at, crc32cOfRange(chunk, body));
      at += totalBytes;
      if (this.#isPassingSegment) return at;
      const padding = Math.min(this.#passOver, room - totalBytes);
      this.#passOver -= padding;
      this.#inPage += padding;
      at += padding;
      if (this.#passOver > 0) return at;
    }
  }

  /** Takes more of a record into the room where it is put together. */
  #gather(chunk: Uint8Array, at: number): number {
    // Its length stands in the first four bytes, the rest of its header says whether to believe that.
    const knownBytes = this.#gatherBytes === 0 ? 4 : this.#gatherBytes;
    const wanted =
      this.#gathered < WAL_RECORD_HEADER_BYTES ? Math.min(knownBytes, WAL_RECORD_HEADER_BYTES) : knownBytes;
    const count = Math.min(wanted - this.#gathered, WAL_PAGE_BYTES - this.#inPage, chunk.length - at);
    if (this.#gathered >= WAL_RECORD_HEADER_BYTES) {
      const before = this.#gathered === WAL_RECORD_HEADER_BYTES ? 0 : this.#gatheredCrc;
      this.#gatheredCrc = crc32cOfRange(chunk, { begin: at, end: at + count, before });
    }
    this.#keep(chunk, at, count);
    this.#gathered += count;
    this.#inPage += count;
    if (this.#gathered === 4) this.#gatherBytes = this.#checkLength(this.#gatherView.getUint32(0, true));
    if (this.#gathered === WAL_RECORD_HEADER_BYTES) this.#checkHeader(this.#gatherView, 0, this.#gatherBytes);
    if (this.#gathered === this.#gatherBytes) this.#finishGathered();
    return at + count;
  }

  #finishGathered(): void {
    this.#gathered = 0;
    const totalBytes = this.#gatherBytes;
    this.#gatherBytes = 0;
    const bodyCrc = totalBytes === WAL_RECORD_HEADER_BYTES ? 0 : this.#gatheredCrc;
    const { headBytesMax = RECORD_BYTES_MAX } = this.#options;
    if (totalBytes > headBytesMax) {
      const head = this.#gatherRoom.subarray(0, headBytesMax);
      this.#finish(head, new DataView(head.buffer, 0, headBytesMax), 0, bodyCrc);
    } else {
      this.#finish(this.#gatherRoom, this.#gatherView, 0, bodyCrc);
    }
    if (this.#gatherRoom.length > GATHER_BYTES_KEPT_MAX) this.#makeRoom(GATHER_BYTES_INITIAL);
  }

  #keep(chunk: Uint8Array, at: number, count: number): void {
    const { headBytesMax = RECORD_BYTES_MAX } = this.#options;
    const kept = Math.min(count, headBytesMax - this.#gathered);
    if (kept <= 0) return;
    this.#reserve(this.#gathered + kept);
    this.#gatherRoom.set(chunk.subarray(at, at + kept), this.#gathered);
  }

  #reserve(bytes: number): void {
    if (bytes <= this.#gatherRoom.length) return;
    const former = this.#gatherRoom;
    this.#makeRoom(Math.max(bytes, this.#gatherRoom.length * 2));
    this.#gatherRoom.set(former);
  }

  #makeRoom(bytes: number): void {
    this.#gatherRoom = new Uint8Array(bytes);
    this.#gatherView = new DataView(this.#gatherRoom.buffer);
  }

  /** All bytes are there: checks them, and shows the record. */
  #finish(bytes: Uint8Array, view: DataView, at: number, bodyCrc: number): void {
    const whole = crc32cOfRange(bytes, { begin: at, end: at + RECORD_AT.crc, before: bodyCrc });
    if (view.getUint32(at + RECORD_AT.crc, true) !== whole) throw this.#refuse('a checksum that is wrong');
    const kind = view.getUint8(at + RECORD_AT.info) & INFO_KIND_MASK;
    const xlogKind = view.getUint8(at + RECORD_AT.rmid) === RMGR.xlog ? kind : null;
    if (this.#hasAborted) this.#checkOverwrite(view, at, xlogKind);
    this.#passOver = paddingAfter(this.#inPage);
    if (xlogKind === XLOG_INFO.switch) this.#beginPassingSegment();
    this.#last.high = this.#begin.high;
    this.#last.low = this.#begin.low;
    this.#hasLast = true;
    this.#show(bytes, view, at);
  }

  #show(bytes: Uint8Array, view: DataView, at: number): void {
    const record = this.#record;
    const endPage = this.#isPassingSegment ? this.#lastPageOfSegment() : this.#page;
    const endInPage = this.#isPassingSegment ? WAL_PAGE_BYTES : this.#inPage + this.#passOver;
    record.timelineId = this.#timelineId;
    record.show(bytes, view, at);
    record.place(this.#begin, endPage, endInPage);
    this.#complete.high = endPage.high;
    this.#complete.low = endPage.low;
    this.#complete.inPage = endInPage;
    this.#options.onRecord(record);
  }

  #checkHeader(view: DataView, at: number, totalBytes: number): void {
    this.#checkLength(totalBytes);
    const rmid = view.getUint8(at + RECORD_AT.rmid);
    if (!isRmgr(rmid)) throw this.#refuse(`a record of unknown resource manager ${rmid}`);
    const high = view.getUint32(at + RECORD_AT.prevHigh, true);
    const low = view.getUint32(at + RECORD_AT.prevLow, true);
    const { high: beginHigh, low: beginLow } = this.#begin;
    const isLinked = this.#hasLast
      ? high === this.#last.high && low === this.#last.low
      : high < beginHigh || (high === beginHigh && low < beginLow);
    if (!isLinked) throw this.#refuse('a record that does not follow the one before it');
  }

  #checkLength(totalBytes: number): number {
    if (totalBytes === 0) throw this.#refuse('zeroes instead of a record');
    if (totalBytes < WAL_RECORD_HEADER_BYTES || totalBytes > RECORD_BYTES_MAX) {
      throw this.#refuse(`a record of impossible length ${totalBytes}`);
    }
    return totalBytes;
  }

  /** After a record whose end was never written stands one that names it. */
  #checkOverwrite(view: DataView, at: number, xlogKind: number | null): void {
    this.#hasAborted = false;
    const main = at + WAL_RECORD_HEADER_BYTES;
    const isSaid =
      xlogKind === XLOG_INFO.overwriteContrecord &&
      view.getUint8(main) === SHORT_DATA &&
      view.getUint8(main + 1) >= 8 &&
      view.getUint32(main + 2, true) === this.#aborted.low &&
      view.getUint32(main + 6, true) === this.#aborted.high;
    if (!isSaid) throw this.#refuse('no word of the incomplete record before it');
  }

  #takeHeader(chunk: Uint8Array, at: number): number {
    const wanted = this.#headerBytes();
    const count = Math.min(wanted - this.#inPage, chunk.length - at);
    this.#header.set(chunk.subarray(at, at + count), this.#inPage);
    this.#inPage += count;
    if (this.#inPage === wanted) this.#checkPage(wanted === WAL_LONG_HEADER_BYTES);
    return at + count;
  }

  #checkPage(isFirstOfSegment: boolean): void {
    const { segmentBytes, systemIdentifier, timelineId } = this.#options;
    const problem = pageProblem(this.#headerView, {
      ...this.#page,
      magic: this.#pageMagic,
      isFirstOfSegment,
      segmentBytes,
      systemIdentifier,
      timelineIdMin: Math.max(this.#timelineId, 1),
      timelineIdMax: timelineId,
    });
    if (problem !== null) throw this.#refusePage(problem);
    const isFirst = this.#timelineId === 0;
    this.#timelineId = pageTimelineId(this.#headerView);
    this.#checkContinuation(isFirst);
  }

  /** Does the page go on with what the page before it left unfinished? */
  #checkContinuation(isFirst: boolean): void {
    const { continues, overwrites, remainingBytes } = pageContinuation(this.#headerView);
    const isRecordOpen = this.#gathered > 0 || this.#isPassingRecord;
    if (isRecordOpen && overwrites) {
      this.#giveUpRecord();
    } else if (isRecordOpen) {
      const expectedBytes = this.#isPassingRecord ? this.#passOver : this.#gatherBytes - this.#gathered;
      const isRest = continues && remainingBytes === expectedBytes;
      if (!isRest) throw this.#refusePage('no continuation of the record before it');
    } else if (continues) {
      if (!isFirst || remainingBytes === 0) throw this.#refusePage('the rest of a record that did not begin');
      this.#isPassingRecord = true;
      this.#passOver = remainingBytes;
    } else if (isFirst) {
      this.#noteComplete();
    }
  }

  #giveUpRecord(): void {
    if (this.#gathered > 0) {
      this.#hasAborted = true;
      this.#aborted.high = this.#begin.high;
      this.#aborted.low = this.#begin.low;
    }
    this.#gathered = 0;
    this.#gatherBytes = 0;
    this.#passOver = 0;
    this.#isPassingRecord = false;
  }

  #passBytes(chunk: Uint8Array, at: number): number {
    const count = Math.min(this.#passOver, WAL_PAGE_BYTES - this.#inPage, chunk.length - at);
    this.#passOver -= count;
    this.#inPage += count;
    if (this.#isPassingRecord && this.#passOver === 0) {
      this.#isPassingRecord = false;
      this.#passOver = paddingAfter(this.#inPage);
      this.#noteComplete();
    }
    return at + count;
  }

  /** Before the first record: this is where it may begin. */
  #noteComplete(): void {
    this.#complete.high = this.#page.high;
    this.#complete.low = this.#page.low;
    this.#complete.inPage = this.#inPage + this.#passOver;
  }

  #beginPassingSegment(): void {
    const isAtEnd = this.#bytesLeftInSegment() === this.#passOver;
    if (isAtEnd) return;
    this.#passOver = 0;
    this.#isPassingSegment = true;
  }

  #passSegment(chunk: Uint8Array, at: number): number {
    const count = Math.min(this.#bytesLeftInSegment(), chunk.length - at);
    const inPage = this.#inPage + count;
    // The last byte of the segment stays on its page: turning it is the caller's.
    const pages = Math.floor((inPage - 1) / WAL_PAGE_BYTES);
    this.#page.low += pages * WAL_PAGE_BYTES;
    this.#inPage = inPage - pages * WAL_PAGE_BYTES;
    if (this.#bytesLeftInSegment() === 0) this.#isPassingSegment = false;
    return at + count;
  }

  #turnPage(): void {
    const low = this.#page.low + WAL_PAGE_BYTES;
    this.#page.low = low % 0x1_0000_0000;
    if (low !== this.#page.low) this.#page.high++;
    this.#inPage = 0;
  }

  #headerBytes(): number {
    return this.#pageInSegment() === 0 ? WAL_LONG_HEADER_BYTES : WAL_SHORT_HEADER_BYTES;
  }

  #pageInSegment(): number {
    return this.#page.low & (this.#options.segmentBytes - 1);
  }

  #bytesLeftInSegment(): number {
    return this.#options.segmentBytes - this.#pageInSegment() - this.#inPage;
  }

  #lastPageOfSegment(): { high: number; low: number } {
    const pagesBytes = this.#options.segmentBytes - this.#pageInSegment() - WAL_PAGE_BYTES;
    return { high: this.#page.high, low: this.#page.low + pagesBytes };
  }

  #refuse(what: string): CorruptError {
    return this.#refuseAt(lsnAt(this.#begin, 0), what);
  }

  #refusePage(what: string): CorruptError {
    return this.#refuseAt(lsnAt(this.#page, 0), what);
  }

  #refuseAt(lsn: Lsn, what: string): CorruptError {
    const reason = `the log at ${formatLsn(lsn)} has ${what}`;
    const hint = 'read this segment from another copy, if there is one';
    this.#damage = new CorruptError(reason, { hint });
    if (this.#options.atDamage === 'end') this.#end = { lsn: this.completeLsn, reason };
    return this.#damage;
  }
}

function paddingAfter(inPage: number): number {
  return -inPage & (ALIGNMENT - 1);
}

function lsnAt(page: { readonly high: number; readonly low: number }, inPage: number): Lsn {
  return (((BigInt(page.high) << 32n) | BigInt(page.low)) + BigInt(inPage)) as Lsn;
}
