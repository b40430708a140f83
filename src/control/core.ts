/** What every use case works with, once the system VC serves. */
import type { Clock, KeyedMutex, Logger, Rng, VirtualClusterId } from '../base/index.ts';
import type { VirtualClusterCatalog, VirtualClusterRecord } from '../catalog/index.ts';
import type { InstanceHost } from '../instance/index.ts';
import type { JobRunner } from '../jobs/index.ts';
import type { BulkWorker, ClusterKey, CollectionLocation, CollectionReader } from '../timeline/index.ts';
import type { BackupPaths } from './collection.ts';
import type { ServiceGates } from './service-gate.ts';
import type { Services } from './services.ts';
import type { Settings } from './settings.ts';

/** What the composition root hands in. */
export interface ControlOptions {
  readonly instanceHost: InstanceHost;
  readonly bulkWorker: BulkWorker;
  readonly collectionReader: CollectionReader;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly nodeId: number;
  /** Identity of the physical cluster, and the key its backups are sealed with. */
  readonly cluster: { readonly id: string; readonly key: ClusterKey };
  /** Where `nodelocal://` leads; null when the operator has closed it. */
  readonly externalDirectory: string | null;
}

export interface Core {
  readonly options: ControlOptions;
  readonly catalog: VirtualClusterCatalog;
  readonly settings: Settings;
  readonly runner: JobRunner;
  readonly gates: ServiceGates;
  readonly services: Services;
  /** One life-cycle change of a virtual cluster at a time. */
  readonly locks: KeyedMutex<VirtualClusterId>;
  /** Aborts when the daemon stops. What has been begun is ended under it, not under a client's signal. */
  readonly signal: AbortSignal;
  readonly resolveCollection: (uri: string) => Promise<CollectionLocation>;
  readonly backupPaths: BackupPaths;
}

/** The log of one virtual cluster. */
export function loggerOf(core: Core, record: Pick<VirtualClusterRecord, 'id' | 'name'>): Logger {
  return core.options.logger.for({ virtualClusterId: record.id, virtualClusterName: record.name });
}
