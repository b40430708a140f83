export { formatBackupSubdirectory, normalizeSubdirectory } from './collection/layout.ts';
export { createCollectionReader } from './collection/reader.ts';
export type * from './contract.ts';
export type * from './store-contract.ts';
export { BACKUP_FAULT_POINTS, FAULT_POINT_VARIABLE, MATERIALIZE_FAULT_POINTS } from './worker/fault-point.ts';
export { createBulkWorker } from './worker/bulk-worker.ts';
