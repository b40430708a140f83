/** The control layer as the composition root sees it: opened once, started once, asked by every front end. */
import {
  AppError,
  InputError,
  Mutex,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  SYSTEM_VIRTUAL_CLUSTER_NAME,
  Semaphore,
  assert,
} from '../base/index.ts';
import { type VirtualClusterRecord, serviceModeOf } from '../catalog/index.ts';
import { DEFAULT_INSTANCE_SETTINGS } from '../instance/index.ts';
import { buildCore } from './build-core.ts';
import { discardFileUploads } from './files.ts';
import type { FrontDoorService } from './contract.ts';
import { type ControlOptions, type Core, loggerOf } from './core.ts';
import { frontDoorService } from './front-door-service.ts';
import { LoginThrottle } from './privileges/login-throttle.ts';
import { heal } from './virtual-clusters/heal.ts';
import { keepHouse } from './virtual-clusters/housekeeping.ts';
import {
  type Virtualization,
  begunVirtualization,
  initializeCluster,
  isInitialized,
} from './virtual-clusters/initialize.ts';
import { keepContinuousBackups } from './backup/continuous-backups.ts';
import { keepTimelines } from './timeline/keep-timelines.ts';
import { isSystem } from './privileges/privileges.ts';
import { forgetUnborn } from './replication/begin-stream.ts';
import { carryOnStreams } from './replication/replication-consumer.ts';
import { defaultTarget } from './virtual-clusters/routing.ts';
import {
  type ControlHealth,
  type MetricFamily,
  metricFamilies,
  unresponsiveVirtualClusters,
  virtualClusterStatus,
} from './status.ts';
import {
  logInByPassword,
  stillLoggedIn,
  type WebIdentity,
  type WebLoginRequest,
} from './privileges/web-login.ts';

/** Virtual clusters that are started or stopped at the same time. */
const AT_ONCE = 4;

export interface Control {
  /** Of everybody who logs in to this process, by whichever port. */
  readonly throttle: LoginThrottle;
  readonly service: FrontDoorService & Required<Pick<FrontDoorService, 'screen'>>;
  /**
   * Takes up an initialised store: starts (or adopts) the system VC and every virtual cluster whose service is `shared`, finishes what
   * an earlier daemon left half done, and resumes jobs. A store that is not initialised waits for `initialize`.
   * A virtual cluster that cannot be started is logged and tried again; the others are served.
   */
  start(options: { signal: AbortSignal }): Promise<void>;
  /** Makes a physical cluster of a new store, and serves it. @throws InputError `object_state` when it is one already */
  initialize(options: { virtualized: Virtualization; signal: AbortSignal }): Promise<void>;
  isInitialized(): boolean;
  /** Name of the virtual cluster that clients reach without naming one; undefined before `initialize`. */
  defaultTarget(): string | undefined;
  health(): ControlHealth;
  /** Names of the virtual clusters that should serve and do not take up connections. Bounded in time. */
  unresponsive(options: { signal: AbortSignal }): Promise<readonly string[]>;
  /**
   * Checks name and password for a session of the API or the console.
   * @throws InputError `authentication_failed`, `authorization_invalid`; AppError `service_unavailable`, `too_many_connections`
   */
  webLogin(request: WebLoginRequest): Promise<WebIdentity>;
  /** Who a session's user is by now; undefined when the session is over. @throws AppError while nobody can tell */
  webIdentity(identity: WebIdentity, options: { signal: AbortSignal }): Promise<WebIdentity | undefined>;
  /** Bounded in time and number of queries. */
  metricsSnapshot(options: { signal: AbortSignal }): Promise<readonly MetricFamily[]>;
  /**
   * Ends jobs where they can be resumed, and stops the instances unless they are to be kept for the next daemon.
   * Harmless when called twice.
   */
  shutdown(options: { instances: 'stop' | 'keep'; signal: AbortSignal }): Promise<void>;
}

export function openControl(options: ControlOptions): Control {
  return new LocalControl(options);
}

class LocalControl implements Control {
  readonly service: Control['service'];
  readonly throttle: LoginThrottle;
  readonly #options: ControlOptions;
  readonly #stopping = new AbortController();
  /** Whoever starts or initialises waits for who does. */
  readonly #coming = new Mutex();
  #core: Core | undefined;
  #phase: 'starting' | 'uninitialized' | 'serving' = 'starting';
  #housekeeping: Promise<void> | undefined;
  #keeping: Promise<void> | undefined;
  #suspending: Promise<void> | undefined;
  #guarding: Promise<void> | undefined;
  #scheduling: Promise<void> | undefined;

  constructor(options: ControlOptions) {
    this.#options = options;
    this.throttle = new LoginThrottle({ clock: options.clock });
    this.service = frontDoorService(() => this.#requireServing());
  }

  async start({ signal }: { signal: AbortSignal }): Promise<void> {
    await this.#coming.run(() => this.#start(signal));
  }

  async initialize(options: { virtualized: Virtualization; signal: AbortSignal }): Promise<void> {
    await this.#coming.run(() => this.#initialize(options));
  }

  async #start(signal: AbortSignal): Promise<void> {
    if (this.#options.instanceHost.get(SYSTEM_VIRTUAL_CLUSTER_ID) === undefined) {
      this.#phase = 'uninitialized';
      return;
    }
    const core = await this.#takeUp(signal);
    if (!isInitialized(core)) {
      const begun = begunVirtualization(core);
      if (begun === undefined) {
        this.#phase = 'uninitialized';
        return;
      }
      this.#options.logger.info('finishing an interrupted initialisation');
      await initializeCluster(core, begun);
    }
    await this.#serve(core);
  }

  async #initialize(options: { virtualized: Virtualization; signal: AbortSignal }): Promise<void> {
    const { signal, virtualized } = options;
    if (this.isInitialized()) {
      throw new InputError('object_state', 'the physical cluster is initialized already');
    }
    if (this.#options.instanceHost.get(SYSTEM_VIRTUAL_CLUSTER_ID) === undefined) {
      await this.#options.instanceHost.create({
        virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID,
        name: SYSTEM_VIRTUAL_CLUSTER_NAME,
        settings: DEFAULT_INSTANCE_SETTINGS,
        signal,
      });
    }
    const core = await this.#takeUp(signal);
    await initializeCluster(core, virtualized);
    await this.#serve(core);
    this.#options.logger.info(`initialized (${virtualized})`);
  }

  isInitialized(): boolean {
    return this.#core !== undefined && isInitialized(this.#core);
  }

  defaultTarget(): string | undefined {
    return this.#core === undefined ? undefined : defaultTarget(this.#core);
  }

  health(): ControlHealth {
    const core = this.#core;
    return {
      isInitialized: this.isInitialized(),
      notReadyReason: this.#notReadyReason(),
      virtualClusters: core === undefined ? [] : virtualClusterStatus(core),
    };
  }

  async unresponsive(options: { signal: AbortSignal }): Promise<readonly string[]> {
    return this.#core === undefined ? [] : unresponsiveVirtualClusters(this.#core, options);
  }

  async webLogin(request: WebLoginRequest): Promise<WebIdentity> {
    return logInByPassword(this.#requireServing(), this.throttle, request);
  }

  async webIdentity(
    identity: WebIdentity,
    options: { signal: AbortSignal },
  ): Promise<WebIdentity | undefined> {
    return stillLoggedIn(this.#requireServing(), identity, options);
  }

  async metricsSnapshot(options: { signal: AbortSignal }): Promise<readonly MetricFamily[]> {
    return this.#core === undefined ? [] : metricFamilies(this.#core, options);
  }

  async shutdown(options: { instances: 'stop' | 'keep'; signal: AbortSignal }): Promise<void> {
    const core = this.#core;
    // First of all, so that no job takes what stops around it for a failure of its own.
    const jobsEnded = core?.runner.shutdown();
    this.#stopping.abort();
    for (const { id } of core?.catalog.list() ?? []) core?.gates.close(id);
    await Promise.all([
      jobsEnded,
      this.#housekeeping,
      this.#scheduling,
      this.#keeping,
      this.#suspending,
      this.#guarding,
    ]);
    if (options.instances === 'stop') await this.#stopInstances(options.signal);
  }

  /** The system VC runs, its tables are up to date, and what was left half done is finished. */
  async #takeUp(signal: AbortSignal): Promise<Core> {
    if (this.#core !== undefined) return this.#core;
    const core = await buildCore(this.#options, { signal, stopping: this.#stopping.signal });
    await heal(core);
    await discardFileUploads(core);
    this.#core = core;
    return core;
  }

  async #serve(core: Core): Promise<void> {
    // Readers come with what they read.
    const records = core.catalog
      .list()
      .filter(({ state, readerOf }) => serviceModeOf(state) === 'shared' && readerOf === null);
    const system = records.find(({ id }) => isSystem(id));
    assert(system !== undefined, 'the system virtual cluster is always shared');
    await core.services.open(system, { signal: core.signal });
    this.#phase = 'serving';
    const places = new Semaphore(AT_ONCE);
    await Promise.all(
      records
        .filter(({ id }) => !isSystem(id))
        .map((record) => places.run(() => this.#openLogged(core, record), { signal: core.signal })),
    );
    this.#housekeeping ??= keepHouse(core);
    this.#keeping ??= Promise.all([keepTimelines(core), keepContinuousBackups(core)]).then(() => undefined);
    this.#suspending ??= core.suspender.run();
    this.#guarding ??= core.diskGuard.run(core);
    await forgetUnborn(core);
    await carryOnStreams(core);
    this.#scheduling ??= core.scheduler.run({ signal: core.signal });
  }

  /** Housekeeping tries again. */
  async #openLogged(core: Core, record: VirtualClusterRecord): Promise<void> {
    try {
      await core.locks.run(record.id, async () => {
        if (await core.suspender.sleepsOn(record))
          return loggerOf(core, record).info('suspended: it sleeps on');
        await core.services.open(record, { signal: core.signal });
      });
    } catch (error) {
      if (core.signal.aborted) throw error;
      loggerOf(core, record).error('the virtual cluster could not be started, will try again', error);
    }
  }

  /** The system VC last: until then it can be asked. */
  async #stopInstances(signal: AbortSignal): Promise<void> {
    const stop = { mode: 'orderly', signal } as const;
    const instances = this.#options.instanceHost.list();
    const places = new Semaphore(AT_ONCE);
    const others = instances.filter(({ identity }) => !isSystem(identity.virtualClusterId));
    await Promise.all(others.map((instance) => places.run(() => instance.stop(stop), { signal })));
    await this.#options.instanceHost.get(SYSTEM_VIRTUAL_CLUSTER_ID)?.stop(stop);
  }

  #notReadyReason(): string | undefined {
    if (this.#stopping.signal.aborted) return 'the node is stopping';
    if (this.#phase === 'serving') return undefined;
    return this.#phase === 'uninitialized'
      ? 'the physical cluster is not initialized'
      : 'the node is starting';
  }

  #requireServing(): Core {
    if (this.#core !== undefined && this.#phase === 'serving') return this.#core;
    const hint = this.#phase === 'uninitialized' ? 'initialize it with: atoll init' : 'try again in a moment';
    throw new AppError('cannot_connect_now', this.#notReadyReason() ?? 'the node is starting', { hint });
  }
}
