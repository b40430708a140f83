export { type BackupKeys, passphraseKeys } from './backup/backup-keys.ts';
export * from './contract.ts';
export {
  type LoginAttempt,
  LoginThrottle,
  networkOf,
  THROTTLE_LIMITS,
  type ThrottleLimits,
} from './privileges/login-throttle.ts';
export { joinsTransaction } from './jobs/bulk-statement.ts';
export * from './row-source-text.ts';
export type { ControlOptions } from './core.ts';
export {
  type OfflinePlan,
  type OfflineRestore,
  planOfflineRestore,
  restoreOffline,
} from './restore/offline-restore.ts';
export type { Virtualization } from './virtual-clusters/initialize.ts';
export { type Control, openControl } from './open-control.ts';
export type { WebIdentity, WebLoginRequest } from './privileges/web-login.ts';
export type { ControlHealth, MetricFamily, VirtualClusterStatus } from './status.ts';
