/** Starting and stopping the service of a virtual cluster: its instance, its settings in memory, its jobs, and its gate. */
import type { Clock, Logger, VirtualClusterId, VirtualClusterName } from '../base/index.ts';
import { AppError } from '../base/index.ts';
import {
  type VirtualClusterRecord,
  migrate,
  parsePausePoints,
  postgresJobStore,
  postgresScheduleStore,
} from '../catalog/index.ts';
import {
  CPU_WEIGHT_DEFAULT,
  type Instance,
  type InstanceHost,
  type InstanceSettings,
  SESSION_MEMORY_BYTES_MIN,
} from '../instance/index.ts';
import {
  type JobDomain,
  type JobRunner,
  readTransactionOutcome,
  type ScheduleDomain,
  type Scheduler,
} from '../jobs/index.ts';
import { timelineStoreLocation, type VaultHost, type VaultSource } from '../timeline/index.ts';
import { requireEmpty } from './virtual-clusters/emptiness.ts';
import { healRoles } from './privileges/heal-roles.ts';
import type { ServiceGates } from './virtual-clusters/service-gate.ts';
import { applySessionDefaults } from './settings/session-defaults.ts';
import type { Settings } from './settings/settings.ts';

export interface ServicesOptions {
  readonly instanceHost: InstanceHost;
  readonly settings: Settings;
  readonly runner: JobRunner;
  readonly scheduler: Scheduler;
  readonly gates: ServiceGates;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Receives the log of whatever runs; left out on a node that keeps no timelines. */
  readonly vault?: VaultHost | undefined;
  /** A virtual cluster may be renamed while it serves. */
  readonly nameOf: (virtualClusterId: VirtualClusterId) => VirtualClusterName | undefined;
  /** Not to be slowed down for the sake of others. */
  readonly isExempt: (virtualClusterId: VirtualClusterId) => boolean;
  /** Whose instance serves it: its own, but for a reader. */
  readonly servedBy: (virtualClusterId: VirtualClusterId) => VirtualClusterId;
}

export class Services {
  readonly #options: ServicesOptions;
  readonly #listeners: ((virtualClusterId: VirtualClusterId) => void)[] = [];

  constructor(options: ServicesOptions) {
    this.#options = options;
  }

  /** Is told of each virtual cluster that has begun to serve, or to follow, and whose log is received. */
  onBegun(listener: (virtualClusterId: VirtualClusterId) => void): void {
    this.#listeners.push(listener);
  }

  /** @throws AppError `object_state` when the virtual cluster has no directory on this node */
  instanceOf(record: { id: VirtualClusterId; name: string }): Instance {
    const instance = this.#options.instanceHost.get(this.#options.servedBy(record.id));
    if (instance === undefined) {
      throw new AppError('object_state', `the directory of virtual cluster "${record.name}" is missing`, {
        hint: 'put it back and restart the node, or drop the virtual cluster and restore a backup',
      });
    }
    return instance;
  }

  /** Tunables as the settings have them now; they apply at the next start of the instance. */
  instanceSettings(virtualClusterId: VirtualClusterId): InstanceSettings {
    const { settings, isExempt } = this.#options;
    const cpuWeight = Number(settings.integer(virtualClusterId, 'instance.cpu_weight'));
    return {
      maxConnections: Number(settings.integer(virtualClusterId, 'instance.max_connections')),
      sharedBuffersBytes: Number(settings.integer(virtualClusterId, 'instance.shared_buffers')),
      sessionMemoryBytes: sessionMemory(settings.integer(virtualClusterId, 'instance.session_memory')),
      niceness: isExempt(virtualClusterId)
        ? 0
        : Number(settings.integer(virtualClusterId, 'instance.niceness')),
      cpuWeight: isExempt(virtualClusterId) ? Math.max(CPU_WEIGHT_DEFAULT, cpuWeight) : cpuWeight,
      memoryBytes: Number(settings.integer(virtualClusterId, 'instance.memory_limit')),
      extra: {
        temp_file_limit: kilobytes(settings.integer(virtualClusterId, 'instance.temp_file_limit')),
        max_slot_wal_keep_size: kilobytes(settings.integer(virtualClusterId, 'instance.slot_wal_limit')),
      },
    };
  }

  /** Starts (or takes over) the instance, brings its tables up to date, takes up its jobs, lets clients in. May run twice. */
  async open(record: VirtualClusterRecord, wait: { signal: AbortSignal }): Promise<void> {
    const instance = this.instanceOf(record);
    instance.configure(this.instanceSettings(record.id));
    await instance.start(wait);
    await this.#admit(record, instance, wait);
  }

  /** Lets the vault receive the log of a follower, which serves nobody. Harmless when it does. */
  async followLog(record: VirtualClusterRecord): Promise<void> {
    await this.#options.vault?.follow(this.#vaultSourceOf(record, this.instanceOf(record)));
    this.#tellBegun(record.id);
  }

  /** Starts it anew so that it can only be read, or may write again. Its jobs and schedules rest while it is read-only. */
  async setReadOnly(
    record: VirtualClusterRecord,
    options: { isReadOnly: boolean; signal: AbortSignal },
  ): Promise<void> {
    await this.suspend(record, options);
    await this.instanceOf(record).setReadOnly(options.isReadOnly);
    await this.open(record, options);
  }

  /** Sends clients away, ends the work of jobs, stops the instance. May run twice. */
  async close(record: VirtualClusterRecord, wait: { signal: AbortSignal }): Promise<void> {
    await this.suspend(record, wait);
    this.#options.settings.unload(record.id);
  }

  /** As `close`, without waiting for clients to go by themselves: what they were not told is committed is not. May run twice. */
  async drain(record: VirtualClusterRecord, wait: { signal: AbortSignal }): Promise<void> {
    const { gates, runner, scheduler, instanceHost, clock } = this.#options;
    gates.close(record.id);
    await scheduler.detach(record.id);
    await runner.detach(record.id);
    const instance = instanceHost.get(record.id);
    if (instance?.state.kind === 'running' && !instance.isReadOnly)
      await endSessions(instance, { ...wait, clock });
    await this.close(record, wait);
  }

  /** As `close`, while its settings stay known: it may be asked for again at any time. */
  async suspend(record: VirtualClusterRecord, wait: { signal: AbortSignal }): Promise<void> {
    const { gates, runner, scheduler, instanceHost } = this.#options;
    gates.close(record.id);
    await scheduler.detach(record.id);
    await runner.detach(record.id);
    await instanceHost.get(record.id)?.stop({ mode: 'orderly', ...wait });
    // A server that stops in order waits until the vault has all of its log.
    await this.#options.vault?.unfollow(record.id);
  }

  /**
   * Exchanges the data directory behind a virtual cluster. From the moment its emptiness is checked until the new one serves nobody is
   * connected, so nothing that somebody wrote meanwhile can be lost.
   * @throws AppError `object_state` when it is not empty; then `commit` has not run and the old one serves again
   */
  async takeOver(
    record: VirtualClusterRecord,
    options: { commit: () => Promise<void>; signal: AbortSignal },
  ): Promise<void> {
    const { gates, runner, scheduler, clock } = this.#options;
    const before = this.instanceOf(record);
    gates.close(record.id);
    try {
      await endSessions(before, { ...options, clock });
      await requireEmpty(before, options);
      await scheduler.detach(record.id);
      await runner.detach(record.id);
      // What comes next at the same socket is another life of the data.
      await this.#options.vault?.unfollow(record.id);
      await options.commit();
    } finally {
      const now = this.instanceOf(record);
      if (now.state.kind === 'running') await this.#admit(record, now, options);
    }
  }

  async #admit(
    record: VirtualClusterRecord,
    instance: Instance,
    wait: { signal: AbortSignal },
  ): Promise<void> {
    const { settings, runner, scheduler, gates, clock, logger } = this.#options;
    // First of all: nothing that is written from now on may be recycled before the vault has it.
    await this.#options.vault?.follow(this.#vaultSourceOf(record, instance));
    if (instance.isReadOnly) {
      await settings.load(record.id, { database: instance, ...wait });
      gates.open(record.id);
      return this.#tellBegun(record.id);
    }
    const now = clock.now();
    const healed = await instance.withSystemClient(async (client) => {
      await migrate(client, { set: 'virtual_cluster', now });
      return healRoles(client);
    }, wait);
    const scope = { virtualClusterId: record.id, virtualClusterName: record.name };
    // However the data came here, and whichever release wrote it: no tenant meets a database without them.
    for (const change of await instance.guardDatabases(wait)) logger.for(scope).info(change);
    for (const change of healed) logger.for(scope).warning(change);
    await settings.load(record.id, { database: instance, ...wait });
    await applySessionDefaults(settings, { virtualClusterId: record.id, instance, ...wait });
    await runner.attach(this.#domainOf(record, instance), wait);
    await scheduler.attach(this.#scheduleDomainOf(record, instance), wait);
    gates.open(record.id);
    this.#tellBegun(record.id);
  }

  #tellBegun(virtualClusterId: VirtualClusterId): void {
    for (const listener of this.#listeners) listener(virtualClusterId);
  }

  #vaultSourceOf(record: VirtualClusterRecord, instance: Instance): VaultSource {
    const { settings, instanceHost } = this.#options;
    const { identity, dataDirectory, socketDirectory, login } = instance;
    return {
      dataDirectory,
      socketDirectory,
      login,
      virtualClusterId: record.id,
      virtualClusterName: record.name,
      incarnation: identity.incarnation,
      parentIncarnation: identity.parentIncarnation,
      forkLsn: identity.forkLsn,
      systemIdentifier: identity.systemIdentifier,
      engineMajor: identity.engineMajor,
      store: timelineStoreLocation({
        storeDirectory: instanceHost.storeDirectory,
        virtualClusterId: record.id,
      }),
      bytesMax: settings.integer(record.id, 'timeline.size_max'),
    };
  }

  #scheduleDomainOf(record: VirtualClusterRecord, instance: Instance): ScheduleDomain {
    const { settings, nameOf } = this.#options;
    return {
      virtualClusterId: record.id,
      get virtualClusterName() {
        return nameOf(record.id) ?? record.name;
      },
      incarnation: instance.identity.incarnation,
      store: postgresScheduleStore(instance),
      policy: () => ({
        isEnabled: settings.isOn(record.id, 'jobs.scheduler.enabled'),
        paceUs: settings.integer(record.id, 'jobs.scheduler.pace'),
        startsMax: Number(settings.integer(record.id, 'jobs.scheduler.max_jobs_per_iteration')),
        isHistoryProtected: settings.isOn(record.id, 'schedules.backup.gc_protection.enabled'),
      }),
    };
  }

  #domainOf(record: VirtualClusterRecord, instance: Instance): JobDomain {
    const { settings, nameOf } = this.#options;
    return {
      virtualClusterId: record.id,
      get virtualClusterName() {
        return nameOf(record.id) ?? record.name;
      },
      incarnation: instance.identity.incarnation,
      store: postgresJobStore(instance),
      outcomeOf: (transactionId, wait) => readTransactionOutcome(instance, transactionId, wait),
      pausePoints: () => parsePausePoints(settings.text(record.id, 'jobs.debug.pausepoints')),
      retryDelays: () => ({
        initialDelayUs: settings.integer(record.id, 'jobs.registry.retry.initial_delay'),
        maxDelayUs: settings.integer(record.id, 'jobs.registry.retry.max_delay'),
      }),
    };
  }
}

/**
 * Ends every session but our own; the gate lets no new one in. Postgres's own wait for an end looks no more often than each tenth of a second,
 * for one session after the other.
 */
async function endSessions(
  instance: Instance,
  options: { clock: Clock; signal: AbortSignal },
): Promise<void> {
  const { clock, signal } = options;
  await instance.withSystemClient(async (client) => {
    await client.query(`select pg_catalog.pg_terminate_backend(pid) ${OTHER_SESSIONS}`);
    const untilMs = clock.monotonicMs() + SESSIONS_END_MS_MAX;
    while (clock.monotonicMs() < untilMs) {
      if ((await client.query(`select ${OTHER_SESSIONS} limit 1`)).length === 0) return;
      await clock.sleep(SESSIONS_END_POLL_MS, { signal });
    }
  }, options);
}

const OTHER_SESSIONS = `from pg_catalog.pg_stat_activity
  where backend_type in ('client backend', 'walsender') and pid <> pg_catalog.pg_backend_pid()
    and usename is distinct from 'atoll'`;
/** Sessions that are told to end are given so long; one that takes longer ends with its server. */
const SESSIONS_END_MS_MAX = 5000;
const SESSIONS_END_POLL_MS = 5;

/** Too little would be none at all: nobody could log in. */
function sessionMemory(bytes: bigint): number {
  return bytes === 0n ? 0 : Math.max(Number(bytes), SESSION_MEMORY_BYTES_MIN);
}

function kilobytes(bytes: bigint): string {
  return `${(bytes + 1023n) / 1024n}kB`;
}
