/** Puts the parts of the control layer together, around a running system VC. */
import {
  KeyedMutex,
  Mutex,
  Semaphore,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  type VirtualClusterId,
  assert,
} from '../base/index.ts';
import {
  CURRENT_RELEASE,
  JobIdSource,
  PostgresVirtualClusterCatalog,
  type VirtualClusterCatalog,
  isTerminal,
  migrate,
} from '../catalog/index.ts';
import {
  CaptureTurns,
  JobRunner,
  type JobType,
  Scheduler,
  backupJobType,
  restoreJobType,
} from '../jobs/index.ts';
import { publishDependencies } from './backup/backup-moment.ts';
import { StreamCatalog } from '../replication/index.ts';
import { captureSource } from './backup/capture-source.ts';
import { heirOf, isGone } from './backup/collection-heir.ts';
import { BackupPaths } from './backup/collection.ts';
import { DescribedBackups } from './backup/described-backups.ts';
import type { ControlOptions, Core } from './core.ts';
import { FileUploads } from './file-uploads.ts';
import { createDiskGuard } from './virtual-clusters/guard-disk.ts';
import { scheduleHistory } from './schedules/schedule-history.ts';
import { startScheduledBackup } from './schedules/scheduled-backup.ts';
import { ServiceGates } from './virtual-clusters/service-gate.ts';
import { createConsumer, ingestionJobType } from './replication/replication-consumer.ts';
import { Producers, producerJobType } from './replication/replication-producer.ts';
import { Services } from './services.ts';
import { Settings } from './settings/settings.ts';
import { executeStatement } from './statements.ts';
import { resolvePlace, resolveStorage, type StorageQuestion } from './backup/storage-location.ts';
import { Suspender } from './virtual-clusters/suspender.ts';
import { timelineJobTypes } from './jobs/timeline-jobs.ts';
import { isSystem } from './privileges/privileges.ts';
import { requireRecord } from './virtual-clusters/virtual-cluster-lookup.ts';

/** Copies for SHOW BACKUP that are recovered at the same time. */
const DESCRIBED_AT_ONCE = 1;

/** Starts the system VC, or takes it over while it runs, and brings its tables up to date. Nobody is let in yet. */
export async function buildCore(
  options: ControlOptions,
  signals: { signal: AbortSignal; stopping: AbortSignal },
): Promise<Core> {
  const { instanceHost, clock, nodeId, logger } = options;
  const { signal, stopping } = signals;
  const system = instanceHost.get(SYSTEM_VIRTUAL_CLUSTER_ID);
  assert(system !== undefined, 'the system virtual cluster is made before');
  await system.start({ signal });
  await system.withSystemClient(
    async (client) => {
      await migrate(client, { set: 'virtual_cluster', now: clock.now() });
      await migrate(client, { set: 'control_plane', now: clock.now() });
    },
    { signal },
  );
  const catalog = await PostgresVirtualClusterCatalog.open({ database: system, clock, signal });
  const streams = await StreamCatalog.open({ database: system, signal });
  const settings = new Settings({ catalog, clock });
  await settings.load(SYSTEM_VIRTUAL_CLUSTER_ID, { database: system, signal });
  const gates = new ServiceGates({ clock });
  const locks = new KeyedMutex<VirtualClusterId>();
  const storageQuestion = (virtualClusterId: VirtualClusterId, uri: string): StorageQuestion => ({
    database: services.instanceOf(requireRecord({ catalog }, virtualClusterId)),
    uri,
    virtualClusterId,
    settings,
    signal: stopping,
  });
  const resolveCollection: Core['resolveCollection'] = (virtualClusterId, uri) =>
    resolveStorage(options, storageQuestion(virtualClusterId, uri));
  const resolvePlaceOf: Core['resolvePlace'] = (virtualClusterId, uri) =>
    resolvePlace(options, storageQuestion(virtualClusterId, uri));
  // Job types and services need each other: a restore takes a service over, a service takes up jobs.
  const types = [
    producerJobType(() => core),
    ingestionJobType(() => core),
    ...timelineJobTypes(options, () => core),
    ...jobTypes(options, {
      catalog,
      settings,
      resolveCollection,
      coreOf: () => core,
      takeOver: ({ virtualClusterId, ...rest }) =>
        locks.run(virtualClusterId, () =>
          services.takeOver(requireRecord({ catalog }, virtualClusterId), rest),
        ),
    }),
  ];
  const ids = new JobIdSource({ clock, nodeId });
  const runner = new JobRunner({
    types,
    ids,
    clock,
    logger,
    nodeId,
    onChange: (virtualClusterId, record) => {
      if (record.schedule !== undefined && isTerminal(record.state)) scheduler.notify(virtualClusterId);
    },
  });
  // A run is started by the same use case as a client's BACKUP, which needs the whole core.
  const scheduler: Scheduler = new Scheduler({
    clock,
    logger,
    ids,
    startRun: (run) => startScheduledBackup(core, run),
    ...(options.timeline === undefined ? {} : { history: scheduleHistory(() => core) }),
  });
  const services = new Services({
    instanceHost,
    settings,
    runner,
    scheduler,
    gates,
    clock,
    logger,
    vault: options.timeline?.vault,
    nameOf: (id) => catalog.get(id)?.name,
    isExempt: (id) => isSystem(id) || catalog.get(id)?.capabilities.has('exempt_from_rate_limiting') === true,
    servedBy: (id) => catalog.get(id)?.readerOf ?? id,
  });
  const core: Core = {
    options,
    catalog,
    settings,
    runner,
    scheduler,
    ids,
    gates,
    services,
    suspender: new Suspender(() => core),
    diskGuard: createDiskGuard(options, () => core),
    locks,
    captureTurns: new CaptureTurns(),
    signal: stopping,
    resolveCollection,
    resolvePlace: resolvePlaceOf,
    backupPaths: new BackupPaths(),
    uploads: new FileUploads(options),
    derivations: new Mutex(),
    kmsFailures: new Map(),
    describing: new Semaphore(DESCRIBED_AT_ONCE),
    described: new DescribedBackups(),
    streams,
    consumer: createConsumer(options, streams, () => core),
    producers: new Producers(),
    answer: (statement, context) => executeStatement(core, statement, context),
  };
  return core;
}

function jobTypes(
  options: ControlOptions,
  parts: {
    catalog: VirtualClusterCatalog;
    settings: Settings;
    resolveCollection: Core['resolveCollection'];
    coreOf: () => Core;
    takeOver: Parameters<typeof restoreJobType>[0]['takeOver'];
  },
): readonly JobType[] {
  const { bulkWorker, collectionReader, instanceHost, clock, cluster } = options;
  const { settings, resolveCollection, takeOver } = parts;
  const objects = {
    worker: options.logicalWorker,
    rng: options.rng,
    instanceOf: (id: VirtualClusterId) => parts.coreOf().services.instanceOf(requireRecord(parts, id)),
  };
  return [
    backupJobType({
      bulkWorker,
      collectionReader,
      clusterId: cluster.id,
      key: cluster.key,
      release: CURRENT_RELEASE,
      resolveCollection,
      heirOf: (id) => heirOf(parts.coreOf(), requireRecord(parts, id)),
      sourceOf: (id) => captureSource(options, requireRecord(parts, id)),
      packBytesMax: (id) => Number(settings.integer(id, 'bulkio.backup.file_size')),
      objects,
      ...publishDependencies(options, parts.coreOf),
    }),
    restoreJobType({
      bulkWorker,
      clusterId: cluster.id,
      isGone: (id) => isGone(parts, id),
      instanceHost,
      clock,
      key: cluster.key,
      resolveCollection,
      takeOver,
      objects: { ...objects, key: cluster.key, resolveCollection },
    }),
  ];
}
