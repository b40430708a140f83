/** Records about which rows and transactions are seen: visibility bits (`access/heapam_xlog.h`), running transactions (`storage/standbydefs.h`). */
import { RMGR } from './wal-engine.ts';
import { MainDataReader } from './wal-record-data.ts';
import type { WalRecord } from './wal-record.ts';

/** `XLOG_HEAP_OPMASK` and `XLOG_HEAP2_VISIBLE`. */
const HEAP_KIND_MASK = 0x70;
const HEAP2_VISIBLE = 0x40;
const VISIBILITY_FLAG = { allVisible: 1, allFrozen: 2, ofCatalog: 4 } as const;
/** `XLOG_STANDBY_INFO_MASK` leaves no bits, so the kind is the whole upper half. */
const STANDBY_KIND_MASK = 0xf0;
const STANDBY_RUNNING_XACTS = 0x10;

/** A heap page whose bits in the visibility map were set; clearing them is never logged by itself. */
export interface VisibilitySet {
  readonly snapshotConflictXid: number;
  readonly isAllVisible: boolean;
  readonly isAllFrozen: boolean;
  /** Of a catalog, or a table that logical decoding takes for one. */
  readonly isOfCatalog: boolean;
}

/** Null for a record of any other kind. Its block 0 is the map's page, block 1 the heap's. @throws CorruptError */
export function decodeVisibilitySet(record: WalRecord): VisibilitySet | null {
  if (record.rmid !== RMGR.heap2 || (record.info & HEAP_KIND_MASK) !== HEAP2_VISIBLE) return null;
  const reader = new MainDataReader(record);
  const snapshotConflictXid = reader.uint32();
  const flags = reader.uint8();
  return {
    snapshotConflictXid,
    isAllVisible: (flags & VISIBILITY_FLAG.allVisible) !== 0,
    isAllFrozen: (flags & VISIBILITY_FLAG.allFrozen) !== 0,
    isOfCatalog: (flags & VISIBILITY_FLAG.ofCatalog) !== 0,
  };
}

/** What was under way when the record was written; a standby begins to serve with it. */
export interface RunningTransactions {
  readonly nextXid: number;
  readonly oldestRunningXid: number;
  readonly latestCompletedXid: number;
  /** Transactions, then subtransactions as far as they are known. */
  readonly xids: readonly number[];
  readonly subtransactionIds: readonly number[];
  /** Not all subtransactions are listed. */
  readonly isOverflowed: boolean;
}

/** Null for a record of any other kind. @throws CorruptError when it is shorter than it should be */
export function decodeRunningTransactions(record: WalRecord): RunningTransactions | null {
  const isRunning = (record.info & STANDBY_KIND_MASK) === STANDBY_RUNNING_XACTS;
  if (record.rmid !== RMGR.standby || !isRunning) return null;
  const reader = new MainDataReader(record);
  const transactions = reader.uint32();
  const subtransactions = reader.uint32();
  const isOverflowed = reader.uint8() !== 0;
  reader.skip(3); // padding
  const nextXid = reader.uint32();
  const oldestRunningXid = reader.uint32();
  const latestCompletedXid = reader.uint32();
  const xids = reader.oids(transactions);
  const subtransactionIds = reader.oids(subtransactions);
  return { nextXid, oldestRunningXid, latestCompletedXid, xids, subtransactionIds, isOverflowed };
}
