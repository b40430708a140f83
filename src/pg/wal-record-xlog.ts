/** Records of `RMGR.xlog`: checkpoints, ends of recovery, and what else the log says of itself. `catalog/pg_control.h`, `access/xlog_internal.h`. */
import type { Lsn, Timestamp } from '../base/index.ts';
import type { WalLevel } from './control-file.ts';
import { INFO_KIND_MASK, RMGR, XLOG_INFO } from './wal-engine.ts';
import { MainDataReader } from './wal-record-data.ts';
import type { WalRecord } from './wal-record.ts';

/** What a record of `RMGR.xlog` says; kinds that only carry pages or nothing are null. */
export type XlogEvent =
  | {
      readonly kind: 'checkpoint';
      readonly isShutdown: boolean;
      /** Replay from this checkpoint begins here. */
      readonly redoLsn: Lsn;
      readonly timelineId: number;
      readonly previousTimelineId: number;
      readonly walLevel: WalLevel;
      /** Epoch in the upper half, transaction id in the lower. */
      readonly nextXid: bigint;
    }
  /** Where an online checkpoint began; its redo position is this record. */
  | { readonly kind: 'checkpoint_redo'; readonly walLevel: WalLevel }
  /** Recovery ended without a checkpoint: the timeline changes here. */
  | {
      readonly kind: 'end_of_recovery';
      readonly time: Timestamp;
      readonly timelineId: number;
      readonly previousTimelineId: number;
      readonly walLevel: WalLevel;
    }
  /** A base backup is consistent from here on. */
  | { readonly kind: 'backup_end'; readonly startLsn: Lsn }
  | {
      readonly kind: 'parameter_change';
      readonly maxConnections: number;
      readonly maxWorkerProcesses: number;
      readonly maxWalSenders: number;
      readonly maxPreparedTransactions: number;
      readonly maxLocksPerTransaction: number;
      readonly walLevel: WalLevel;
      readonly logsHints: boolean;
      readonly tracksCommitTimes: boolean;
    }
  | { readonly kind: 'restore_point'; readonly time: Timestamp; readonly name: string }
  /** The record that began there was never completed. */
  | { readonly kind: 'overwrite'; readonly overwrittenLsn: Lsn; readonly time: Timestamp }
  /** The segment ends with this record. */
  | { readonly kind: 'switch' }
  /** Images of the record's pages, which replay puts in place. */
  | { readonly kind: 'page_images'; readonly isForHint: boolean };

/** @throws CorruptError when the record is shorter than it should be */
export function decodeXlogEvent(record: WalRecord): XlogEvent | null {
  if (record.rmid !== RMGR.xlog) return null;
  const reader = new MainDataReader(record);
  const kind = record.info & INFO_KIND_MASK;
  switch (kind) {
    case XLOG_INFO.checkpointShutdown:
    case XLOG_INFO.checkpointOnline:
      return decodeCheckpoint(reader, kind === XLOG_INFO.checkpointShutdown);
    case XLOG_INFO.checkpointRedo:
      return { kind: 'checkpoint_redo', walLevel: reader.walLevel() };
    case XLOG_INFO.endOfRecovery:
      return {
        kind: 'end_of_recovery',
        time: reader.time(),
        timelineId: reader.uint32(),
        previousTimelineId: reader.uint32(),
        walLevel: reader.walLevel(),
      };
    case XLOG_INFO.backupEnd:
      return { kind: 'backup_end', startLsn: reader.lsn() };
    case XLOG_INFO.parameterChange:
      return decodeParameterChange(reader);
    case XLOG_INFO.restorePoint:
      return { kind: 'restore_point', time: reader.time(), name: reader.text() };
    case XLOG_INFO.overwriteContrecord:
      return { kind: 'overwrite', overwrittenLsn: reader.lsn(), time: reader.time() };
    case XLOG_INFO.switch:
      return { kind: 'switch' };
    case XLOG_INFO.fullPageImage:
    case XLOG_INFO.fullPageImageForHint:
      return { kind: 'page_images', isForHint: kind === XLOG_INFO.fullPageImageForHint };
    default:
      return null;
  }
}

/** `CheckPoint`, which pg_control repeats. Fields that nobody here asks for are passed over. */
function decodeCheckpoint(reader: MainDataReader, isShutdown: boolean): XlogEvent {
  const redoLsn = reader.lsn();
  const timelineId = reader.uint32();
  const previousTimelineId = reader.uint32();
  reader.skip(4); // full_page_writes and padding
  const walLevel = reader.walLevel();
  const nextXid = reader.uint64();
  return { kind: 'checkpoint', isShutdown, redoLsn, timelineId, previousTimelineId, walLevel, nextXid };
}

/** `xl_parameter_change`. */
function decodeParameterChange(reader: MainDataReader): XlogEvent {
  return {
    kind: 'parameter_change',
    maxConnections: reader.uint32(),
    maxWorkerProcesses: reader.uint32(),
    maxWalSenders: reader.uint32(),
    maxPreparedTransactions: reader.uint32(),
    maxLocksPerTransaction: reader.uint32(),
    walLevel: reader.walLevel(),
    logsHints: reader.uint8() !== 0,
    tracksCommitTimes: reader.uint8() !== 0,
  };
}
