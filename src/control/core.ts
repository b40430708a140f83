/** What every use case works with, once the system VC serves. */
import type { LocalityTier } from '../blob/index.ts';
import type {
  Clock,
  KeyedMutex,
  Logger,
  Mutex,
  Rng,
  Semaphore,
  Timestamp,
  VirtualClusterId,
} from '../base/index.ts';
import type { JobIdSource, VirtualClusterCatalog, VirtualClusterRecord } from '../catalog/index.ts';
import type { InstanceHost } from '../instance/index.ts';
import type { CaptureTurns, DiskGuard, JobRunner, Scheduler } from '../jobs/index.ts';
import type {
  BulkWorker,
  ClusterKey,
  CollectionLocation,
  Place,
  CollectionReader,
  ContinuousHost,
  LogicalWorker,
  ReceiveWorker,
  TimelineReader,
  TimelineWorker,
  VaultHost,
  VerifyWorker,
} from '../timeline/index.ts';
import type { Consumer, StreamCatalog } from '../replication/index.ts';
import type { Statement } from '../sql/index.ts';
import type { BackupPaths } from './backup/collection.ts';
import type { DescribedBackups } from './backup/described-backups.ts';
import type { ExecuteContext, StatementResult } from './contract.ts';
import type { FileUploads } from './file-uploads.ts';
import type { Producers } from './replication/replication-producer.ts';
import type { ServiceGates } from './virtual-clusters/service-gate.ts';
import type { Services } from './services.ts';
import type { Settings } from './settings/settings.ts';
import type { Suspender } from './virtual-clusters/suspender.ts';

/** Bases and log of the virtual clusters of this node, and what is done with them. */
export interface TimelineParts {
  readonly vault: VaultHost;
  readonly reader: TimelineReader;
  readonly worker: Pick<TimelineWorker, 'captureBase' | 'materializePoint' | 'rewind' | 'publish'>;
  readonly verifier: VerifyWorker;
  /** Left out where nothing is published continuously. */
  readonly continuous?: ContinuousHost;
}

/** What the composition root hands in. */
export interface ControlOptions {
  readonly instanceHost: InstanceHost;
  readonly bulkWorker: BulkWorker;
  readonly collectionReader: CollectionReader;
  readonly logicalWorker: LogicalWorker;
  readonly receiver: ReceiveWorker;
  /** Left out on a node that keeps no timelines. */
  readonly timeline?: TimelineParts;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly nodeId: number;
  /** Identity of the physical cluster, and the key its backups are sealed with. */
  readonly cluster: { readonly id: string; readonly key: ClusterKey };
  /** Where `nodelocal://` leads; null when the operator has closed it. */
  readonly externalDirectory: string | null;
  /** Where files of users are kept: a folder of the store. */
  readonly userfileDirectory: string;
  /** Where limits of transfers are shared with workers; left out where nothing is limited. */
  readonly rateTable?: string;
  /** True when storage may not be reached with the node's own credentials. */
  readonly implicitCredentialsDisabled: boolean;
  /** Of this node, from broad to narrow. */
  readonly locality: readonly LocalityTier[];
}

export interface Core {
  readonly options: ControlOptions;
  readonly catalog: VirtualClusterCatalog;
  readonly settings: Settings;
  readonly runner: JobRunner;
  readonly scheduler: Scheduler;
  /** Of jobs and schedules. */
  readonly ids: JobIdSource;
  readonly gates: ServiceGates;
  readonly services: Services;
  readonly suspender: Suspender;
  readonly diskGuard: DiskGuard;
  /** One life-cycle change of a virtual cluster at a time. */
  readonly locks: KeyedMutex<VirtualClusterId>;
  /** One capture into a timeline store at a time, and nothing removed from it meanwhile. */
  readonly captureTurns: CaptureTurns;
  /** Aborts when the daemon stops. What has been begun is ended under it, not under a client's signal. */
  readonly signal: AbortSignal;
  /** Where a URI leads that was written in this virtual cluster, whose external connections it may name. */
  /** The place of one storage URI. */
  readonly resolvePlace: (virtualClusterId: VirtualClusterId, uri: string) => Promise<Place>;
  readonly resolveCollection: (
    virtualClusterId: VirtualClusterId,
    uri: string,
  ) => Promise<CollectionLocation>;
  readonly backupPaths: BackupPaths;
  readonly uploads: FileUploads;
  /** When a service for keys last kept a backup from being taken, of those that ask for it to be shown. */
  readonly kmsFailures: Map<VirtualClusterId, Timestamp>;
  /** A passphrase takes 64 MiB and a thread while it becomes a key: one at a time. */
  readonly derivations: Mutex;
  /** Copies that are recovered for SHOW BACKUP: they take room and CPU, and whoever may read a collection may ask for them. */
  readonly describing: Semaphore;
  readonly described: DescribedBackups;
  /** Streams of which this physical cluster is the consumer, and what carries them; and those of which it is the producer. */
  readonly streams: StreamCatalog;
  readonly consumer: Consumer;
  readonly producers: Producers;
  /** Carries out a statement that stands in a query of the client's. */
  readonly answer: (statement: Statement, context: ExecuteContext) => Promise<StatementResult>;
}

/** The log of one virtual cluster. */
export function loggerOf(core: Core, record: Pick<VirtualClusterRecord, 'id' | 'name'>): Logger {
  return core.options.logger.for({ virtualClusterId: record.id, virtualClusterName: record.name });
}
