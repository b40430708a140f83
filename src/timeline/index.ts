export {
  formatBackupSubdirectory,
  formatIncrementalSubdirectory,
  normalizeFullFolder,
} from './collection/layout.ts';
export { CONTINUOUS_CHAIN, putEncryptionInfo, readEncryptionInfo } from './collection/encryption.ts';
export { openCollection as openCollectionStore } from './collection/open.ts';
export { withTrust } from './collection/trust.ts';
export { createCollectionReader } from './collection/reader.ts';
export type * from './contract.ts';
export type * from './store-contract.ts';
export type * from './part/contract.ts';
export { missingCatalogs, missingDatabase, provePart } from './part/prove-part.ts';
export {
  BACKUP_FAULT_POINTS,
  FAULT_POINT_VARIABLE,
  JOB_FAULT_POINTS,
  MATERIALIZE_FAULT_POINTS,
  PUBLISH_FAULT_POINTS,
  RESET_FAULT_POINTS,
  REWIND_FAULT_POINTS,
  SUSPEND_FAULT_POINTS,
  failurePoint,
  faultPoint,
} from './worker/fault-point.ts';
export { createCaptureWorker } from './worker/capture-worker.ts';
export { BULK_GROUP_VARIABLE } from './worker/bulk-group.ts';
export { Confinement } from './worker/confinement.ts';
export { SpareProcess } from './worker/spare-process.ts';
export { createBulkWorker } from './worker/bulk-worker.ts';
export { baseSubdirectoryAfter, basesCollection, basesLeadingTo } from './store/bases.ts';
export { timelineStoreLocation } from './store/layout.ts';
export { createVerifyWorker } from './worker/verify-worker.ts';
export type * from './verify/contract.ts';
export { createReceiveWorker } from './worker/receive-worker.ts';
export { createPointWorker } from './worker/point-worker.ts';
export { INTAKE_BOUNDS_NANOS, NO_INTAKE, type VaultIntake } from './vault/intake-figures.ts';
export { openVaultHost } from './vault/vault-host.ts';
export { newestBaseFor, newestSharedBase } from './store/lineage.ts';
export { putPin, readPins, removePin } from './retention/pins.ts';
export { createTimelineReader } from './store/reader.ts';
export { VAULT_FAULT_POINTS } from './worker/fault-point.ts';
export { removeTimelineStore } from './store/remove-store.ts';
export { createTimelineRetention, type RetentionRequest, type TimelineRetention } from './retention/keep.ts';
export type { Removal, RetentionPlan } from './retention/plan.ts';
export type * from './logical/contract.ts';
export { OBJECTS_FAULT_POINTS } from './worker/fault-point.ts';
export { createLogicalWorker } from './worker/logical-worker.ts';
export { openContinuousHost } from './continuous/continuous-host.ts';
export type * from './continuous/contract.ts';
export { CONTINUOUS_FAULT_POINTS } from './worker/fault-point.ts';
