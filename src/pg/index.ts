export * from './control-file.ts';
export * from './crc32c.ts';
export * from './wal-identity.ts';
export * from './backup-label.ts';
export * from './page.ts';
export * from './page-entries.ts';
export * from './relation-map.ts';
export * from './relation-path.ts';
export * from './scram-verifier.ts';
export * from './source-tls.ts';
export { DEFAULT_TABLESPACE_OID, FORK, FORK_MAX, GLOBAL_TABLESPACE_OID, RMGR } from './wal-engine.ts';
export {
  type RelationLocator,
  type WalBlockReference,
  type WalRecord,
} from './wal-record.ts';
export * from './wal-record-activity.ts';
export * from './wal-record-reader.ts';
export * from './wal-record-storage.ts';
export {
  commitTimeOf,
  decodePreparedTransaction,
  decodeTransactionEnd,
  type PreparedTransaction,
  type TransactionEnd,
} from './wal-record-transaction.ts';
export * from './wal-record-xlog.ts';
export * from './wal-segment.ts';
export * from './wal-summary.ts';
export * from './timeline-history.ts';
export * from './wire/index.ts';
