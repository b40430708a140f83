/** How transactions end in the log: records of `RMGR.transaction`. `access/xact.h` and `xactdesc.c` have the layout. */
import type { Timestamp } from '../base/index.ts';
import { RMGR, walDialectOf } from './wal-engine.ts';
import { LOCATOR_BYTES, MainDataReader } from './wal-record-data.ts';
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
/** `MAXALIGN(sizeof(xl_xact_prepare))`; the name and each list after it are aligned as well. */
const PREPARE_HEADER_BYTES = 72;

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

/** A transaction that was prepared: neither committed nor aborted, and beyond crashes. */
export interface PreparedTransaction {
  readonly time: Timestamp;
  readonly xid: number;
  readonly gid: string;
  readonly databaseOid: number;
  readonly subtransactionIds: readonly number[];
}

/** When the transaction committed that this record ends, prepared ones included; null for any other record. */
export function commitTimeOf(record: WalRecord): Timestamp | null {
  if (record.rmid !== RMGR.transaction) return null;
  const operation = record.info & OPERATION_MASK;
  const isCommit =
    operation === TRANSACTION_OPERATION.commit || operation === TRANSACTION_OPERATION.commitPrepared;
  if (!isCommit) return null;
  return new MainDataReader(record).time();
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

/** PREPARE TRANSACTION; null for any other record. @throws CorruptError when it does not hold together */
export function decodePreparedTransaction(record: WalRecord): PreparedTransaction | null {
  const isPrepare = (record.info & OPERATION_MASK) === TRANSACTION_OPERATION.prepare;
  if (record.rmid !== RMGR.transaction || !isPrepare) return null;
  const reader = new MainDataReader(record);
  reader.skip(8); // magic, length
  const xid = reader.uint32();
  const databaseOid = reader.uint32();
  const time = reader.time();
  reader.skip(4); // owner
  const subtransactions = reader.uint32();
  reader.skip(PREPARE_HEADER_BYTES - 32);
  const gid = reader.text();
  reader.align();
  return { time, xid, gid, databaseOid, subtransactionIds: reader.oids(subtransactions) };
}

/** `ParseCommitRecord`, `ParseAbortRecord`: parts in this order, each there if its bit is set. */
function decodeEnd(record: WalRecord, kind: 'commit' | 'abort', isPrepared: boolean): TransactionEnd {
  const reader = new MainDataReader(record);
  const time = reader.time();
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
  const origin = has(XINFO.origin) ? { lsn: reader.uint64(), time: reader.time() } : null;
  return { kind, time, xid, isPrepared, gid, databaseOid, subtransactionIds, droppedRelations, origin };
}
