/** Reading what resource managers write into their records beside the pages. */
import { CorruptError, formatLsn, type Lsn, type Timestamp } from '../base/index.ts';
import { WAL_LEVELS, type WalLevel } from './control-file.ts';
import type { RelationLocator, WalRecord } from './wal-record.ts';

/** `sizeof(RelFileLocator)`. */
export const LOCATOR_BYTES = 12;
/** Microseconds from 1970 to 2000, where Postgres counts from. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

/** Reads a record's main data from its beginning. Every method throws CorruptError at its end. */
export class MainDataReader {
  readonly #record: WalRecord;
  readonly #view: DataView;
  #at = 0;

  constructor(record: WalRecord) {
    this.#record = record;
    this.#view = record.mainView;
  }

  /** Bytes that were not read yet. */
  get remainingBytes(): number {
    return this.#view.byteLength - this.#at;
  }

  uint8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  uint32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  uint64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  lsn(): Lsn {
    return this.uint64() as Lsn;
  }

  /** `TimestampTz`. */
  time(): Timestamp {
    return fromPostgresTime(this.#view.getBigInt64(this.#take(8), true));
  }

  /** `wal_level`, as a number in the order of `WAL_LEVELS`. */
  walLevel(): WalLevel {
    const level = WAL_LEVELS[this.uint32()];
    if (level === undefined) throw new CorruptError(`${nameOf(this.#record)} holds an unknown wal_level`);
    return level;
  }

  /** Oids or transaction ids. */
  oids(count: number): number[] {
    if (count * 4 > this.remainingBytes) throw cutOff(this.#record);
    return Array.from({ length: count }, () => this.uint32());
  }

  /** `RelFileLocator`. */
  locator(): RelationLocator {
    return { tablespaceOid: this.uint32(), databaseOid: this.uint32(), filenode: this.uint32() };
  }

  /** A 32-bit count, then as many items of `itemBytes` each. */
  list<T>(itemBytes: number, item: () => T): T[] {
    const count = this.uint32();
    if (count * itemBytes > this.remainingBytes) throw cutOff(this.#record);
    return Array.from({ length: count }, item);
  }

  skipList(itemBytes: number): void {
    this.skip(this.uint32() * itemBytes);
  }

  /** Text up to a zero byte. */
  text(): string {
    const { buffer, byteOffset, byteLength } = this.#view;
    const rest = new Uint8Array(buffer, byteOffset + this.#at, byteLength - this.#at);
    const length = rest.indexOf(0);
    if (length === -1) throw cutOff(this.#record);
    this.skip(length + 1);
    return new TextDecoder().decode(rest.subarray(0, length));
  }

  /** Goes on at the next multiple of 8 bytes. */
  align(): void {
    this.#take(-this.#at & 7);
  }

  skip(bytes: number): void {
    this.#take(bytes);
  }

  #take(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#view.byteLength) throw cutOff(this.#record);
    this.#at += bytes;
    return at;
  }
}

function cutOff(record: WalRecord): CorruptError {
  return new CorruptError(`${nameOf(record)} is shorter than what it should hold`);
}

function nameOf(record: WalRecord): string {
  return `the log record at ${formatLsn(record.lsn)}`;
}

/** `TimestampTz` as we count. */
function fromPostgresTime(microseconds: bigint): Timestamp {
  return (microseconds + POSTGRES_EPOCH_US) as Timestamp;
}
