/** Writes the log as PostgreSQL does, for tests: any records, laid out over pages and segments. */
import type { Lsn } from '../base/index.ts';
import { crc32c } from './crc32c.ts';
import { INFO_KIND_MASK, RMGR, walDialectOf, XLOG_INFO } from './wal-engine.ts';
import { WAL_PAGE_BYTES } from './wal-segment.ts';

const RECORD_HEADER_BYTES = 24;

export interface FixtureRecord {
  readonly rmid: number;
  readonly info: number;
  readonly xid: number;
  /** Everything after the header: see `recordBody`. */
  readonly body: Uint8Array;
}

export interface FixturePlace {
  readonly lsn: Lsn;
  readonly endLsn: Lsn;
}

export interface FixtureWal {
  readonly bytes: Uint8Array;
  readonly places: readonly FixturePlace[];
}

export interface FixtureWalOptions {
  /** Where a page begins. */
  readonly beginLsn: Lsn;
  readonly segmentBytes: number;
  readonly timelineId: number;
  readonly systemIdentifier: bigint;
  readonly engineMajor: number;
  readonly records: readonly FixtureRecord[];
  /** Where the record before the first one begins. */
  readonly prevLsn?: Lsn | undefined;
}

/** A body that holds main data only. */
export function mainDataBody(main: Uint8Array): Uint8Array {
  if (main.length === 0) return main;
  if (main.length < 256) return Uint8Array.from([255, main.length, ...main]);
  const body = new Uint8Array(5 + main.length);
  body[0] = 254;
  new DataView(body.buffer).setUint32(1, main.length, true);
  body.set(main, 5);
  return body;
}

export interface FixtureBlock {
  readonly tablespaceOid: number;
  readonly databaseOid: number;
  readonly filenode: number;
  readonly fork: number;
  readonly blockNo: number;
}

/** A body with references to pages, each with one byte of data, and main data after them. */
export function blocksBody(blocks: readonly FixtureBlock[], main: Uint8Array): Uint8Array {
  const headers = blocks.map((block, index) => {
    const bytes = new Uint8Array(20);
    const view = new DataView(bytes.buffer);
    bytes.set([index, 0x20 | block.fork, 1, 0]);
    view.setUint32(4, block.tablespaceOid, true);
    view.setUint32(8, block.databaseOid, true);
    view.setUint32(12, block.filenode, true);
    view.setUint32(16, block.blockNo, true);
    return bytes;
  });
  const mainBody = mainDataBody(main);
  const mainHeader = mainBody.subarray(0, mainBody.length - main.length);
  return Buffer.concat([...headers, mainHeader, new Uint8Array(blocks.length), main]);
}

/** The bytes of the log with these records from the first page on, up to the end of the last record. */
export function writeFixtureWal(options: FixtureWalOptions): FixtureWal {
  const writer = new FixtureWriter(options);
  const places = options.records.map((record) => writer.append(record));
  return { bytes: writer.bytes(), places };
}

class FixtureWriter {
  readonly #options: FixtureWalOptions;
  readonly #parts: Uint8Array[] = [];
  #at: bigint;
  #prev: bigint;

  constructor(options: FixtureWalOptions) {
    this.#options = options;
    this.#at = options.beginLsn;
    this.#prev = options.prevLsn ?? 0n;
  }

  append(record: FixtureRecord): FixturePlace {
    this.#beginPage(0);
    const lsn = this.#at;
    this.#write(this.#recordBytes(record));
    this.#write(new Uint8Array(Number(-this.#at & 7n)));
    this.#prev = lsn;
    const isSwitch = record.rmid === RMGR.xlog && (record.info & INFO_KIND_MASK) === XLOG_INFO.switch;
    const segmentBytes = BigInt(this.#options.segmentBytes);
    if (isSwitch)
      this.#pass(new Uint8Array(Number((segmentBytes - (this.#at % segmentBytes)) % segmentBytes)));
    return { lsn: lsn as Lsn, endLsn: this.#at as Lsn };
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }

  #recordBytes({ rmid, info, xid, body }: FixtureRecord): Uint8Array {
    const bytes = new Uint8Array(RECORD_HEADER_BYTES + body.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint32(4, xid, true);
    view.setBigUint64(8, this.#prev, true);
    bytes.set([info, rmid], 16);
    bytes.set(body, RECORD_HEADER_BYTES);
    view.setUint32(20, crc32c(bytes.subarray(0, 20), crc32c(body)), true);
    return bytes;
  }

  #write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      if (at > 0) this.#beginPage(bytes.length - at);
      const room = WAL_PAGE_BYTES - Number(this.#at % BigInt(WAL_PAGE_BYTES));
      const piece = bytes.subarray(at, at + room);
      this.#pass(piece);
      at += piece.length;
    }
  }

  #pass(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#at += BigInt(bytes.length);
  }

  /** Writes a page's header if one begins here; `restBytes` are left of the record before. */
  #beginPage(restBytes: number): void {
    if (this.#at % BigInt(WAL_PAGE_BYTES) !== 0n) return;
    const { segmentBytes, timelineId, systemIdentifier, engineMajor } = this.#options;
    const isLong = this.#at % BigInt(segmentBytes) === 0n;
    const header = new Uint8Array(isLong ? 40 : 24);
    const view = new DataView(header.buffer);
    view.setUint16(0, walDialectOf(engineMajor).pageMagic, true);
    view.setUint16(2, (restBytes > 0 ? 1 : 0) | (isLong ? 2 : 0), true);
    view.setUint32(4, timelineId, true);
    view.setBigUint64(8, this.#at, true);
    view.setUint32(16, restBytes, true);
    if (isLong) {
      view.setBigUint64(24, systemIdentifier, true);
      view.setUint32(32, segmentBytes, true);
      view.setUint32(36, WAL_PAGE_BYTES, true);
    }
    this.#pass(header);
  }
}
