export { answersClients } from './answers-clients.ts';
export { Ballast } from './ballast.ts';
export { DEFAULT_INSTANCE_SETTINGS, SESSION_MEMORY_BYTES_MIN } from './configuration.ts';
export type * from './contract.ts';
export {
  type ControlGroupsSpec,
  CPU_WEIGHT_DEFAULT,
  giveBulkGroup,
  prepareControlGroups,
} from './control-groups.ts';
export { type EngineSource, findBundledEngine } from './engine.ts';
export type { Owner } from './durable-files.ts';
export { openInstanceHost, type OpenHostOptions } from './host.ts';
export type { Privileges } from './privileges/contract.ts';
export { directPrivileges } from './privileges/direct.ts';
export { HelperProcess, helperPrivileges } from './privileges/helper-client.ts';
export { orderStore } from './privileges/order-store.ts';
export type { RunFile } from './privileges/requests.ts';
export { summariseLog } from './summarise-log.ts';
export { makePlainDirectory } from './plain-directory.ts';
export { makeDirectories } from './make-directories.ts';
export {
  addTrustedKey,
  readStoreKey,
  readTrustedKeys,
  removeTrustedKey,
} from './trusted-keys.ts';
export type { StopLimits } from './postmaster.ts';
export type { OnReplacement, ReplacementStep } from './replace-life.ts';
