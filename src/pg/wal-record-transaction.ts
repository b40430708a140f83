/** How transactions end in the log: records of `RMGR.transaction`. `access/xact.h` and `xactdesc.c` have the layout. */
import { CorruptError, formatLsn, type Timestamp } from '../base/index.ts';
import { RMGR, walDialectOf } from './wal-engine.ts';
import type { RelationLocator, WalRecord } from './wal-record.ts';

/** `XLOG_XACT_OPMASK` and the operations. */
const OPERATION_MASK = 0x70;
export const TRANSACTION_OPERATION = {
  commit: 0x00,
  prepare: 0x10,
  abort: 0x20,
  commitPrepared: 0x30,
  abortPrepared: 0x40,
  assignment: 0x50,
  invalidations: 0x60,
} as const;
/** `XLOG_XACT_HAS_INFO`: `xinfo` follows the time. */
const HAS_XINFO = 0x80;
const XINFO = {
  database: 0x001,
  subtransactions: 0x002,
  relations: 0x004,
  invalidations: 0x008,
  twoPhase: 0x010,
  origin: 0x020,
  gid: 0x080,
  droppedStatistics: 0x100,
} as const;

const INVALIDATION_BYTES = 16;
const LOCATOR_BYTES = 12;
/** Microseconds from 1970 to 2000, where Postgres counts from. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

export interface TransactionEnd {
  readonly kind: 'commit' | 'abort';
  readonly time: Timestamp;
  /** The transaction that ended; of a prepared one, not the one that finished it. */
  readonly xid: number;
  readonly isPrepared: boolean;
  /** Name of a prepared transaction, when it is written. */
  readonly gid: string | null;
  readonly databaseOid: number | null;
  readonly subtransactionIds: readonly number[];
  /** Storage that is gone with it. */
  readonly droppedRelations: readonly RelationLocator[];
  /** Where it came from, when it was replicated. */
  readonly origin: { readonly lsn: bigint; readonly time: Timestamp } | null;
}

/** When the transaction committed that this record ends, prepared ones included; null for any other record. */
export function commitTimeOf(record: WalRecord): Timestamp | null {
  if (record.rmid !== RMGR.transaction) return null;
  const operation = record.info & OPERATION_MASK;
  const isCommit =
    operation === TRANSACTION_OPERATION.commit || operation === TRANSACTION_OPERATION.commitPrepared;
  if (!isCommit) return null;
  const view = record.mainView;
  if (view.byteLength < 8) throw cutOff(record);
  return fromPostgresTime(view.getBigInt64(0, true));
}

/** The end of a transaction; null for any other record. @throws CorruptError when it does not hold together */
export function decodeTransactionEnd(record: WalRecord): TransactionEnd | null {
  if (record.rmid !== RMGR.transaction) return null;
  const operation = record.info & OPERATION_MASK;
  switch (operation) {
    case TRANSACTION_OPERATION.commit:
    case TRANSACTION_OPERATION.commitPrepared:
      return decodeEnd(record, 'commit', operation === TRANSACTION_OPERATION.commitPrepared);
    case TRANSACTION_OPERATION.abort:
    case TRANSACTION_OPERATION.abortPrepared:
      return decodeEnd(record, 'abort', operation === TRANSACTION_OPERATION.abortPrepared);
    default:
      return null;
  }
}

/** `ParseCommitRecord`, `ParseAbortRecord`: parts in this order, each there if its bit is set. */
function decodeEnd(record: WalRecord, kind: 'commit' | 'abort', isPrepared: boolean): TransactionEnd {
  const reader = new MainDataReader(record);
  const time = fromPostgresTime(reader.int64());
  const xinfo = (record.info & HAS_XINFO) === 0 ? 0 : reader.uint32();
  const has = (bit: number) => (xinfo & bit) !== 0;
  const databaseOid = has(XINFO.database) ? reader.uint32() : null;
  if (databaseOid !== null) reader.skip(4);
  const subtransactionIds = has(XINFO.subtransactions) ? reader.list(4, () => reader.uint32()) : [];
  const droppedRelations = has(XINFO.relations) ? reader.list(LOCATOR_BYTES, () => reader.locator()) : [];
  if (has(XINFO.droppedStatistics)) reader.skipList(walDialectOf(record.engineMajor).statisticsItemBytes);
  if (has(XINFO.invalidations)) reader.skipList(INVALIDATION_BYTES);
  const xid = has(XINFO.twoPhase) ? reader.uint32() : record.xid;
  const gid = has(XINFO.twoPhase) && has(XINFO.gid) ? reader.text() : null;
  const origin = has(XINFO.origin) ? { lsn: reader.uint64(), time: fromPostgresTime(reader.int64()) } : null;
  return { kind, time, xid, isPrepared, gid, databaseOid, subtransactionIds, droppedRelations, origin };
}

/** `TimestampTz` as we count. */
export function fromPostgresTime(microseconds: bigint): Timestamp {
  return (microseconds + POSTGRES_EPOCH_US) as Timestamp;
}

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

  int64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
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
  return new CorruptError(`the log record at ${formatLsn(record.lsn)} is shorter than what it should hold`);
}
