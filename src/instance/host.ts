/** All instances of this machine's store. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AppError,
  type Clock,
  errnoOf,
  type IncarnationId,
  KeyedMutex,
  type Logger,
  type Lsn,
  type Rng,
  type VirtualClusterId,
  type VirtualClusterName,
} from '../base/index.ts';
import type { ClusterKey } from '../keys/index.ts';
import { BackgroundTasks } from './background-tasks.ts';
import { checkSettings, DEFAULT_INSTANCE_SETTINGS, readSettings } from './configuration.ts';
import type {
  Instance,
  InstanceHost,
  InstanceIdentity,
  InstanceSettings,
  OpenInstanceHost,
  ProvedIncarnation,
  ScratchCopy,
} from './contract.ts';
import { createClusterDirectory } from './create-instance.ts';
import { isPresent } from './data-directory.ts';
import { renameDurably, withDiskFullNamed } from './durable-files.ts';
import type { Engine, EngineSource } from './engine.ts';
import { writeIdentity } from './identity.ts';
import * as follow from './follow.ts';
import * as incarnations from './incarnations.ts';
import { type InstanceEnvironment, LocalInstance } from './local-instance.ts';
import { disableSubscriptions } from './prove-incarnation.ts';
import { DEFAULT_STOP_LIMITS, type StopLimits } from './postmaster.ts';
import { prepareEngine, removeOtherEngines } from './prepare-engine.ts';
import { findRunning } from './process-record.ts';
import type { OnReplacement } from './replace-life.ts';
import { discard, removeScratchTraces, scanStore } from './scan-store.ts';
import { type ScratchOptions, type ScratchPlace, withScratch, withServingScratch } from './scratch.ts';
import { Store } from './store.ts';
import { clusterLayout, REMOVING_PREFIX, randomSuffix, type StoreLayout } from './store-layout.ts';
import { prepareTemplate } from './template.ts';
import { directPrivileges } from './privileges/direct.ts';
import type { Privileges } from './privileges/contract.ts';
import { isRoot, namedUnprivilegedUser } from './users.ts';

/** How often instances' logs are looked at. */
const LOG_POLL_MS = 500;
/** What adopting a running instance may take before open goes on without it. */
const ADOPT_MS_MAX = 10_000;

export interface OpenHostOptions {
  readonly storeDirectory: string;
  readonly engine: EngineSource;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  /** Ends the opening only; `close` ends what was opened. */
  readonly signal: AbortSignal;
  /** What may be done to instances; what this process may, when undefined. */
  readonly privileges?: Privileges;
  readonly stopLimits?: StopLimits;
  /** Told on the way from one life of a data directory to the next: a test then looks at what a power cut would leave. */
  readonly onReplacement?: OnReplacement;
}

/**
 * Opens the store, or makes it; makes engine and template ready; undoes what a crash left half done; adopts the
 * instances that run. Those that don't are started by whoever knows that they should be.
 * @throws AppError `store_in_use`, `store_invalid`, `format_unsupported`, `engine_invalid`, `disk_full`
 * @throws CorruptError when the store's own records are damaged
 */
export async function openInstanceHost(options: OpenHostOptions): Promise<OpenInstanceHost> {
  const { rng, logger, signal, clock } = options;
  const privileges = options.privileges ?? directPrivileges();
  const store = await Store.open({
    directory: options.storeDirectory,
    rng,
    isShared: isRoot() || privileges.isSeparate,
  });
  try {
    const user = await namedUnprivilegedUser({ signal });
    const { engines, templates } = store.layout;
    const engine = await prepareEngine({ source: options.engine, engines, user, rng, signal });
    const template = await prepareTemplate({ templates, engine, user, rng, logger, signal });
    const identities = await scanStore({ store: store.layout, clock, privileges, rng, logger, signal });
    const stopLimits = options.stopLimits ?? DEFAULT_STOP_LIMITS;
    const { onReplacement = () => undefined } = options;
    const environment: InstanceEnvironment = {
      engine,
      clock,
      logger,
      stopLimits,
      privileges,
      onReplacement,
    };
    const host = new LocalInstanceHost({ store, template, environment, rng });
    await host.load(identities, { signal });
    return host;
  } catch (error) {
    store.close();
    throw withDiskFullNamed(error, `opening store ${store.layout.root}`);
  }
}

type ScratchTools = Pick<ScratchOptions<never>, 'instance' | 'environment' | 'rng' | 'closing'>;

class LocalInstanceHost implements OpenInstanceHost {
  readonly #store: Store;
  readonly #template: string;
  readonly #environment: InstanceEnvironment;
  readonly #rng: Rng;
  readonly #instances = new Map<VirtualClusterId, LocalInstance>();
  readonly #locks = new KeyedMutex<VirtualClusterId>();
  readonly #tasks = new BackgroundTasks();
  readonly #closing = new AbortController();

  constructor(options: {
    store: Store;
    template: string;
    environment: InstanceEnvironment;
    rng: Rng;
  }) {
    this.#store = options.store;
    this.#template = options.template;
    this.#environment = options.environment;
    this.#rng = options.rng;
  }

  get storeDirectory(): string {
    return this.#layout.root;
  }

  get clusterId(): string {
    return this.#store.clusterId;
  }

  get clusterKey(): ClusterKey {
    return this.#store.clusterKey;
  }

  get isNewStore(): boolean {
    return this.#store.isNew;
  }

  get engineVersion(): string {
    return this.#engine.version;
  }

  get #layout(): StoreLayout {
    return this.#store.layout;
  }

  get #engine(): Engine {
    return this.#environment.engine;
  }

  /** Takes up the virtual clusters found on disk; called once. */
  async load(identities: readonly InstanceIdentity[], options: { signal: AbortSignal }): Promise<void> {
    const { clock, logger, privileges } = this.#environment;
    const adopting: Promise<void>[] = [];
    for (const identity of identities) {
      const layout = clusterLayout(this.#layout, identity.virtualClusterId);
      const settings = (await readSettings(layout.configuration)) ?? DEFAULT_INSTANCE_SETTINGS;
      const instance = await this.#add(identity, settings);
      const { dataDirectory } = instance;
      const running = await findRunning({
        clusterDirectory: layout.directory,
        dataDirectory,
        clock,
        privileges,
      }).catch((error: unknown) =>
        logger.error(`cannot adopt virtual cluster "${identity.virtualClusterName}"`, error),
      );
      if (running === undefined) continue;
      adopting.push(instance.resume({ timeoutMs: ADOPT_MS_MAX, signal: options.signal }));
    }
    await Promise.all(adopting);
    const isAnythingRunning = this.list().some((instance) => instance.state.kind !== 'stopped');
    if (!isAnythingRunning) await removeOtherEngines({ engines: this.#layout.engines, engine: this.#engine });
    this.#tasks.add(this.#pollLogs());
  }

  list(): readonly Instance[] {
    return [...this.#instances.values()];
  }

  get(virtualClusterId: VirtualClusterId): Instance | undefined {
    return this.#instances.get(virtualClusterId);
  }

  async create(options: {
    virtualClusterId: VirtualClusterId;
    name: VirtualClusterName;
    settings: InstanceSettings;
    signal: AbortSignal;
  }): Promise<Instance> {
    const { virtualClusterId: id, name, settings, signal } = options;
    checkSettings(settings);
    return this.#exclusively(id, `creating virtual cluster "${name}"`, async () => {
      const identity = await createClusterDirectory({
        store: this.#layout,
        template: this.#template,
        engine: this.#engine,
        id,
        name,
        settings,
        privileges: this.#environment.privileges,
        clock: this.#environment.clock,
        rng: this.#rng,
        signal,
      });
      return this.#add(identity, settings);
    });
  }

  async rename(options: { virtualClusterId: VirtualClusterId; name: VirtualClusterName }): Promise<void> {
    await this.#exclusively(options.virtualClusterId, 'renaming a virtual cluster', async () => {
      const instance = this.#required(options.virtualClusterId);
      const identity = { ...instance.identity, virtualClusterName: options.name };
      await writeIdentity(instance.layout.directory, identity);
      instance.replaceIdentity(identity);
    });
  }

  async remove(options: { virtualClusterId: VirtualClusterId; signal: AbortSignal }): Promise<void> {
    const { virtualClusterId: id, signal } = options;
    await this.#exclusively(id, 'removing a virtual cluster', async () => {
      const instance = this.#instances.get(id);
      if (instance === undefined) return;
      await instance.stop({ mode: 'immediate', signal });
      const { layout } = instance;
      const removing = join(this.#layout.clusters, `${REMOVING_PREFIX}${id}-${randomSuffix(this.#rng)}`);
      await renameDurably({ from: layout.directory, to: removing }).catch((error: unknown) => {
        if (errnoOf(error) !== 'ENOENT') throw error; // Somebody took the folder away: the rest goes too.
      });
      this.#instances.delete(id);
      await instance.detach();
      await discard(removing, { ...this.#environment, signal: this.#closing.signal });
      for (const path of [
        layout.sockets,
        layout.proofSockets,
        layout.log,
        `${layout.log}.1`,
        `${layout.log}.2`,
      ]) {
        await rm(path, { recursive: true, force: true });
      }
      await removeScratchTraces(layout);
    });
  }

  async beginIncarnation(
    options: Parameters<InstanceHost['beginIncarnation']>[0],
  ): Promise<{ readonly dataDirectory: string; readonly uid: number | null }> {
    return this.#exclusively(options.virtualClusterId, 'beginning an incarnation', async () => {
      const instance = this.#required(options.virtualClusterId);
      const dataDirectory = await incarnations.begin(this.#step(instance, options));
      return { dataDirectory, uid: instance.user?.uid ?? null };
    });
  }

  async proveIncarnation(
    options: Parameters<InstanceHost['proveIncarnation']>[0],
  ): Promise<ProvedIncarnation> {
    return this.#exclusively(options.virtualClusterId, 'recovering restored data', async () => {
      const { recovery, prepare, isNewSystem = false, onDisabledSubscriptions = () => undefined } = options;
      const instance = this.#required(options.virtualClusterId);
      const rng = this.#rng;
      const { onForeignCode, isOfOtherCluster, onNotEmptied, isSchemaOnly } = options;
      const told = {
        onDisabledSubscriptions,
        onForeignCode,
        isOfOtherCluster,
        onNotEmptied,
        isSchemaOnly,
      };
      const how = { rng, recovery, prepare, isNewSystem, ...told };
      return incarnations.prove({ ...this.#step(instance, options), ...how });
    });
  }

  async commitIncarnation(options: Parameters<InstanceHost['commitIncarnation']>[0]): Promise<void> {
    await this.#exclusively(options.virtualClusterId, 'committing an incarnation', async () => {
      const { forkLsn, start = 'now' } = options;
      const instance = this.#required(options.virtualClusterId);
      const parentIncarnation =
        options.parentIncarnation === undefined ? instance.identity.incarnation : options.parentIncarnation;
      await incarnations.commit({ ...this.#step(instance, options), parentIncarnation, forkLsn, start });
    });
  }

  async beginRewind(
    options: Parameters<InstanceHost['beginRewind']>[0],
  ): Promise<{ readonly dataDirectory: string; readonly uid: number | null } | null> {
    return this.#exclusively(options.virtualClusterId, 'setting a data directory apart', async () => {
      const instance = this.#required(options.virtualClusterId);
      const dataDirectory = await incarnations.beginRewind(this.#step(instance, options));
      return dataDirectory === null ? null : { dataDirectory, uid: instance.user?.uid ?? null };
    });
  }

  async endRewind(options: Parameters<InstanceHost['endRewind']>[0]): Promise<void> {
    await this.#exclusively(options.virtualClusterId, 'ending a rewind', () =>
      incarnations.endRewind(this.#step(this.#required(options.virtualClusterId), options)),
    );
  }

  async abandonRewind(options: Parameters<InstanceHost['abandonRewind']>[0]): Promise<boolean> {
    return this.#exclusively(options.virtualClusterId, 'abandoning a rewind', () =>
      incarnations.abandonRewind(this.#step(this.#required(options.virtualClusterId), options)),
    );
  }

  async fence(options: Parameters<InstanceHost['fence']>[0]): Promise<void> {
    await this.#exclusively(options.virtualClusterId, 'fencing a log', () =>
      follow.fence({ ...this.#step(this.#required(options.virtualClusterId), options), ...options }),
    );
  }

  async commitFollower(options: Parameters<InstanceHost['commitFollower']>[0]): Promise<void> {
    const { virtualClusterId, following, signal } = options;
    await this.#exclusively(virtualClusterId, 'committing a follower', () =>
      follow.commitFollower({
        ...options,
        ...this.#step(this.#required(virtualClusterId), { incarnation: following.incarnation, signal }),
      }),
    );
  }

  async setFollowing(options: Parameters<InstanceHost['setFollowing']>[0]): Promise<void> {
    const { virtualClusterId, following } = options;
    await this.#exclusively(virtualClusterId, 'changing what a follower follows', async () => {
      const instance = this.#required(virtualClusterId);
      if (instance.following === null) {
        throw new AppError(
          'object_state',
          `virtual cluster "${instance.identity.virtualClusterName}" follows nothing`,
        );
      }
      await instance.setFollowing(following);
      await instance.reload();
    });
  }

  async promote(options: Parameters<InstanceHost['promote']>[0]): Promise<ProvedIncarnation> {
    const { virtualClusterId, incarnation, prepare, onDisabledSubscriptions, signal } = options;
    const { onAdopted = () => undefined } = options;
    return this.#exclusively(virtualClusterId, 'promoting a follower', () => {
      const instance = this.#required(virtualClusterId);
      const logger = this.#environment.logger.for(instance.identity);
      return follow.promote({
        ...this.#step(instance, { incarnation, signal }),
        prepare,
        onAdopted: (findings) => {
          for (const finding of findings) logger.warning(`changed before it serves: ${finding}`);
          onAdopted(findings);
        },
        disableSubscriptions: (client) => disableSubscriptions(client, { logger, onDisabledSubscriptions }),
      });
    });
  }

  async isWhole(virtualClusterId: VirtualClusterId): Promise<boolean> {
    return isPresent(this.#required(virtualClusterId).dataDirectory);
  }

  async lastRecordLsn(virtualClusterId: VirtualClusterId): Promise<Lsn> {
    return this.#exclusively(virtualClusterId, 'reading where the log ends', () =>
      incarnations.lastRecordLsn(this.#required(virtualClusterId)),
    );
  }

  withScratchCopy<T>(
    options: Omit<ScratchOptions<T>, keyof ScratchTools> & { virtualClusterId: VirtualClusterId },
  ): Promise<T> {
    return this.#withScratchTools(options, (tools) => withScratch({ ...options, ...tools }));
  }

  withServingCopy<T>(
    options: Omit<ScratchPlace, keyof ScratchTools> & {
      virtualClusterId: VirtualClusterId;
      use: (copy: ScratchCopy) => Promise<T>;
    },
  ): Promise<T> {
    return this.#withScratchTools(options, (tools) => withServingScratch({ ...options, ...tools }));
  }

  async #withScratchTools<T>(
    { virtualClusterId: id }: { virtualClusterId: VirtualClusterId },
    use: (tools: ScratchTools) => Promise<T>,
  ): Promise<T> {
    const instance = this.#required(id);
    await this.#exclusively(id, 'writing the configuration', () => instance.writeConfiguration());
    const tools = {
      instance,
      environment: this.#environment,
      rng: this.#rng,
      closing: this.#closing.signal,
    };
    try {
      // Not in the way of other changes, or of other copies: it may take hours, and touches nothing of theirs.
      return await use(tools);
    } catch (error) {
      throw withDiskFullNamed(error, 'making a copy to look at');
    }
  }

  async abandonIncarnation(options: Parameters<InstanceHost['abandonIncarnation']>[0]): Promise<void> {
    await this.#exclusively(options.virtualClusterId, 'abandoning an incarnation', async () => {
      const instance = this.#instances.get(options.virtualClusterId);
      if (instance !== undefined) await incarnations.abandon(this.#step(instance, options));
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#instances.values()].map((instance) => instance.detach()));
    await this.#tasks.settled();
    this.#store.close();
  }

  async #add(identity: InstanceIdentity, settings: InstanceSettings): Promise<LocalInstance> {
    this.#requireOurs(identity);
    const instance = await LocalInstance.open({
      layout: clusterLayout(this.#layout, identity.virtualClusterId),
      identity,
      settings,
      user: this.#environment.privileges.ownerOf(identity.uid),
      environment: this.#environment,
      onServing: (serving) => this.#tasks.add(this.#discardSuperseded(serving)),
    });
    this.#instances.set(identity.virtualClusterId, instance);
    return instance;
  }

  /** Whoever is not root cannot run what has users of its own. @throws AppError `store_invalid` */
  #requireOurs({ uid, virtualClusterId, virtualClusterName }: InstanceIdentity): void {
    const ours = this.#environment.privileges.uidOf(virtualClusterId);
    if (ours === null ? uid === null : uid !== null) return;
    throw new AppError(
      'store_invalid',
      `virtual cluster "${virtualClusterName}" runs under ${uid === null ? "the daemon's user" : `user ${uid}`}`,
      { hint: uid === null ? 'start atoll as the user who made the store' : 'start atoll as root' },
    );
  }

  /** One change of a virtual cluster at a time. */
  async #exclusively<T>(id: VirtualClusterId, what: string, task: () => Promise<T>): Promise<T> {
    return this.#locks.run(id, async () => {
      try {
        return await task();
      } catch (error) {
        throw withDiskFullNamed(error, what);
      }
    });
  }

  #required(id: VirtualClusterId): LocalInstance {
    const instance = this.#instances.get(id);
    if (instance === undefined)
      throw new AppError('object_not_found', `there is no instance of virtual cluster ${id}`);
    return instance;
  }

  /** What the steps of an incarnation have in common. Steps that take no signal end with the host. */
  #step(instance: LocalInstance, options: { incarnation: IncarnationId; signal?: AbortSignal }) {
    const { incarnation, signal = this.#closing.signal } = options;
    return { instance, environment: this.#environment, incarnation, signal };
  }

  async #discardSuperseded(instance: LocalInstance): Promise<void> {
    try {
      await incarnations.discardSuperseded(instance, {
        ...this.#environment,
        signal: this.#closing.signal,
      });
    } catch (error) {
      this.#environment.logger.warning(
        `cannot delete what was replaced in ${instance.layout.directory}`,
        error,
      );
    }
  }

  async #pollLogs(): Promise<void> {
    const { clock, logger } = this.#environment;
    for (;;) {
      await clock.sleep(LOG_POLL_MS, { signal: this.#closing.signal });
      for (const instance of this.#instances.values()) {
        await instance
          .pollLog()
          .catch((error: unknown) => logger.warning(`cannot read ${instance.layout.log}`, error));
      }
    }
  }
}
