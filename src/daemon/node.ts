import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import {
  AppError,
  errnoOf,
  isAppError,
  Mutex,
  SYSTEM_VIRTUAL_CLUSTER_NAME,
  toError,
  type Clock,
  type Logger,
  type Rng,
} from '../base/index.ts';
import { createRateTable } from '../blob/index.ts';
import { CURRENT_RELEASE } from '../catalog/index.ts';
import { openControl, type Control, type Virtualization } from '../control/index.ts';
import { openFrontDoor, type FrontDoor, type FrontDoorTls, type TlsMaterial } from '../frontdoor/index.ts';
import { formatFamilies, type HttpAccess, HttpServer, WebSessions } from '../http/index.ts';
import { readNodeCertificates, type NodeCertificates } from '../keys/index.ts';
import {
  type ControlGroupsSpec,
  directPrivileges,
  makeDirectories,
  openInstanceHost,
  type OpenInstanceHost,
  readTrustedKeys,
} from '../instance/index.ts';
import {
  createBulkWorker,
  createCaptureWorker,
  createCollectionReader,
  createLogicalWorker,
  createPointWorker,
  createReceiveWorker,
  createTimelineReader,
  createVerifyWorker,
  withTrust,
  type ContinuousHost,
  openContinuousHost,
  openVaultHost,
  Confinement,
  SpareProcess,
  type VaultHost,
} from '../timeline/index.ts';
import { formatAddress, formatLocality, type Address } from './address.ts';
import type { DaemonConfig } from './config.ts';
import type { DroppedRoot } from './drop-root.ts';
import { nodeMetrics } from './node-metrics.ts';
import type { NodeReport } from './node-report.ts';
import { OperatorSocket, type Initialization } from './operator-socket.ts';
import { RelayGroup } from './relay/relay-group.ts';
import type { StopRequests } from './signals.ts';
import { statementFamilies } from './statement-metrics.ts';

/** The number of the only node there is so far. */
export const NODE_ID = 1;
const MOCK_KEY_BYTES = 32;

const VIRTUALIZATIONS: Readonly<Record<Initialization, Virtualization>> = {
  virtualized: 'main',
  virtualized_empty: 'empty',
  plain: 'none',
};

/** What the parts of a node are made with. */
export interface NodeEnvironment {
  readonly config: DaemonConfig;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly stop: StopRequests;
  /** Null for a node that acts with the rights it was started with. */
  readonly dropped: DroppedRoot | null;
  /** Of virtual clusters; null for none. */
  readonly controlGroups: ControlGroupsSpec | null;
}

/**
 * The opened parts of a node: store and instances, HTTP and SQL ports, virtual clusters. They come up in this order and go down in
 * the opposite one.
 */
export class Node implements AsyncDisposable {
  readonly #environment: NodeEnvironment;
  readonly #stack = new AsyncDisposableStack();
  readonly #host: OpenInstanceHost;
  readonly #control: Control;
  readonly #vault: VaultHost;
  readonly #continuous: ContinuousHost;
  /** Two operators who ask at the same time are answered one after the other. */
  readonly #initializing = new Mutex();
  #frontDoor: FrontDoor | undefined;
  #relays: RelayGroup | undefined;
  #http: HttpServer | undefined;

  private constructor(
    environment: NodeEnvironment,
    parts: { host: OpenInstanceHost; control: Control; vault: VaultHost; continuous: ContinuousHost },
  ) {
    this.#environment = environment;
    this.#host = parts.host;
    this.#control = parts.control;
    this.#vault = parts.vault;
    this.#continuous = parts.continuous;
  }

  /** Opens the store and the ports; nobody is served yet. */
  static async open(
    environment: NodeEnvironment,
    onStoreOpened: (host: OpenInstanceHost) => Promise<void>,
  ): Promise<Node> {
    const { config, clock, rng, logger, stop, dropped } = environment;
    const certificates = await readCertificates(environment);
    const host = await openInstanceHost({
      storeDirectory: config.store,
      engine:
        config.postgres18Directory === undefined
          ? { kind: 'bundled' }
          : { kind: 'directory', path: config.postgres18Directory },
      clock,
      rng,
      logger,
      privileges: dropped?.privileges ?? directPrivileges({ controlGroups: environment.controlGroups }),
      signal: stop.orderly,
    });
    let vault: VaultHost | undefined;
    let continuous: ContinuousHost | undefined;
    try {
      await onStoreOpened(host);
      vault = await openVaultHost({ directory: join(host.storeDirectory, 'timeline'), clock, logger });
      const spare = new SpareProcess({ clock });
      const confinement = new Confinement({ logger, isWanted: config.hasWorkerCells });
      continuous = openContinuousHost({ clock, logger });
      const { verifier, ...readers } = withTrust(
        {
          bulkWorker: createBulkWorker({ clock, logger, spare, confinement }),
          logicalWorker: createLogicalWorker({ clock, logger, spare, confinement }),
          collectionReader: createCollectionReader({ rng }),
          verifier: createVerifyWorker({ clock, logger, confinement }),
        },
        { rng, trustedKeys: () => readTrustedKeys(host.storeDirectory) },
      );
      const rateTable = join(host.storeDirectory, 'run', 'rates');
      await createRateTable(rateTable);
      const control = openControl({
        rateTable,
        instanceHost: host,
        ...readers,
        receiver: createReceiveWorker({ clock, logger, confinement }),
        timeline: {
          vault,
          reader: createTimelineReader({ rng, vault }),
          verifier,
          continuous,
          worker: {
            ...createCaptureWorker({ clock, logger, spare, confinement }),
            ...createPointWorker({ clock, logger, spare, confinement }),
          },
        },
        clock,
        rng,
        logger,
        nodeId: NODE_ID,
        cluster: { id: host.clusterId, key: host.clusterKey },
        externalDirectory: await openExternalDirectory(host.storeDirectory, config),
        userfileDirectory: join(host.storeDirectory, 'userfile'),
        implicitCredentialsDisabled: config.implicitCredentialsDisabled,
        locality: config.locality,
      });
      const node = new Node(environment, { host, control, vault, continuous });
      await node.#listen(certificates);
      return node;
    } catch (error) {
      await continuous?.close();
      await vault?.close();
      await host.close();
      throw error;
    }
  }

  /** Starts, or initialises, what the store holds. */
  async start(): Promise<void> {
    const { config, logger, stop, dropped } = this.#environment;
    const locality = config.locality.length === 0 ? '' : `, locality ${formatLocality(config.locality)}`;
    logger.info(
      `Atoll ${CURRENT_RELEASE}${dropped === null ? '' : ` as user ${dropped.user}`} with PostgreSQL ${this.#host.engineVersion} on Node.js ${process.versions.node}, ` +
        `store ${this.#host.storeDirectory}${locality}`,
    );
    await this.#control.start({ signal: stop.orderly });
    if (!this.#control.isInitialized() && config.firstStart !== 'wait') {
      await this.#initialize(config.firstStart);
    }
    logger.info(
      this.#control.isInitialized()
        ? 'serving'
        : 'waiting to be initialised: nobody is served before "atoll init"',
    );
  }

  report(): NodeReport {
    const { config } = this.#environment;
    const host = config.advertise?.host ?? shownHost(config.listen.host);
    return {
      processId: process.pid,
      release: CURRENT_RELEASE,
      store: this.#host.storeDirectory,
      isNewStore: this.#host.isNewStore,
      isInsecure: config.isInsecure,
      certificatesDirectory: config.certificates?.directory ?? null,
      isInitialized: this.#control.isInitialized(),
      defaultTarget: this.#control.defaultTarget() ?? 'system',
      sql: { host, port: config.advertise?.port ?? this.#frontDoor?.address.port ?? config.listen.port },
      http: { host: shownHost(config.http.host), port: this.#http?.port ?? config.http.port },
      socketDirectory: this.#socketDirectory,
      logFile: join(config.log.directory ?? join(this.#host.storeDirectory, 'logs'), 'atoll.log'),
    };
  }

  /** Shows new certificates to new connections, if what is in the folder fits together; else the former ones stay. */
  async reloadCertificates(): Promise<void> {
    const { logger } = this.#environment;
    try {
      const certificates = await readCertificates(this.#environment);
      if (certificates === undefined) return;
      const material = materialOf(certificates);
      this.#frontDoor?.useCertificate(material); // Refuses what does not fit, before anything else has changed.
      this.#relays?.useCertificate(material);
      this.#http?.useCertificate(certificates.console);
      logger.info('certificates read again');
    } catch (error) {
      logger.error('the certificates were not read again, the former ones stay in use', error);
    }
  }

  /** Stops in order, each part bounded in time; at once when the operator insists. What goes wrong is logged. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  get #socketDirectory(): string {
    return join(this.#host.storeDirectory, 'run', 'sql');
  }

  async #listen(certificates: NodeCertificates | undefined): Promise<void> {
    const { config, clock, logger } = this.#environment;
    this.#defer('closing the store', () => this.#host.close());
    // After the instances: each waits, when it stops, until its last log was received.
    this.#defer('closing the vault', () => this.#vault.close());
    this.#defer('ending continuous backup', () => this.#continuous.close());
    try {
      const http = await HttpServer.open({
        address: config.http,
        certificate: certificates?.console,
        status: {
          nodeId: NODE_ID,
          release: CURRENT_RELEASE,
          locality: formatLocality(config.locality),
          notReadyReason: () => this.#control.health().notReadyReason,
          notResponding: () => this.#control.unresponsive({ signal: this.#environment.stop.orderly }),
        },
        metrics: {
          defaultTarget: () => this.#control.defaultTarget() ?? 'system',
          hasVirtualCluster: (name) => this.#hasVirtualCluster(name),
          collect: () => this.#collectMetrics(),
        },
        access: this.#httpAccess(),
        mounts: [],
        clock,
        logger,
      });
      this.#http = http;
      this.#defer('closing HTTP', () => http.close());
      this.#defer('stopping the virtual clusters', () => this.#stopVirtualClusters());
      await this.#openSqlPort(certificates);
      const operator = await OperatorSocket.open({
        store: this.#host.storeDirectory,
        service: {
          report: () => this.report(),
          figures: async () => formatFamilies(await this.#collectMetrics()),
          initialize: (kind) => this.#initialize(kind),
        },
      });
      this.#defer("closing the operator's socket", () => operator.close());
    } catch (error) {
      await this.#stack.disposeAsync();
      throw error;
    }
  }

  /** Who may see what at the HTTP port. */
  #httpAccess(): HttpAccess {
    const { config, clock, rng } = this.#environment;
    const control = this.#control;
    if (config.isInsecure) return { kind: 'open' };
    const sessions = new WebSessions({
      clock,
      rng,
      service: {
        logIn: (request) => control.webLogin(request),
        refresh: (identity, options) => control.webIdentity(identity, options),
      },
    });
    return { kind: 'login', sessions, acceptsPlain: config.acceptsSqlWithoutTls };
  }

  async #openSqlPort(certificates: NodeCertificates | undefined): Promise<void> {
    const { config, clock, rng, logger } = this.#environment;
    const { service } = this.#control;
    const authentication = config.isInsecure ? 'insecure' : 'scram';
    const mockKey = rng.bytes(MOCK_KEY_BYTES);
    const tls: FrontDoorTls | undefined = certificates && {
      material: materialOf(certificates),
      acceptsPlain: config.acceptsSqlWithoutTls,
      principals: config.certificates?.principals ?? new Map(),
    };
    const address = listenAddress(config.listen);
    if (config.relayProcesses > 0) await requireFree(address);
    const frontDoor = await openFrontDoor({
      service,
      listen: { ...address, socketDirectory: this.#socketDirectory, reusePort: config.relayProcesses > 0 },
      authentication,
      tls,
      throttle: this.#control.throttle,
      mockKey,
      clock,
      rng,
      logger,
      signal: new AbortController().signal,
      cancelElsewhere: (key) => this.#relays?.cancel(key),
    }).catch((error: unknown) => {
      throw isAppError(error, 'address_in_use') ? sqlAddressInUse(address, error) : error;
    });
    this.#frontDoor = frontDoor;
    this.#defer('closing the SQL port', () => frontDoor.close());
    if (config.relayProcesses === 0) return;
    const relays = await RelayGroup.open({
      count: config.relayProcesses,
      listen: { host: address.host, port: frontDoor.address.port, authentication, tls, mockKey },
      service,
      clock,
      logger,
      cancelHere: (key) => frontDoor.cancel(key),
    });
    this.#relays = relays;
    this.#defer('closing the relay processes', () => relays.close());
  }

  async #initialize(kind: Initialization): Promise<void> {
    const signal = this.#environment.stop.orderly;
    await this.#initializing.run(() =>
      this.#control.initialize({ virtualized: VIRTUALIZATIONS[kind], signal }),
    );
  }

  /** The node itself answers as `system`, also before there is a virtual cluster. */
  #hasVirtualCluster(name: string): boolean {
    if (name === SYSTEM_VIRTUAL_CLUSTER_NAME) return true;
    return this.#control.health().virtualClusters.some((status) => status.name === name);
  }

  async #collectMetrics() {
    const frontDoor = this.#frontDoor;
    const relays = (await this.#relays?.figures()) ?? [];
    const { virtualClusters } = this.#control.health();
    const ids = virtualClusters.map((status) => status.id);
    const doors = frontDoor === undefined ? [] : [frontDoor, ...relays];
    const ofNode =
      doors.length === 0
        ? []
        : [
            ...nodeMetrics({ doors, instanceHost: this.#host, virtualClusterIds: new Set(ids) }),
            ...statementFamilies({ doors, virtualClusters }),
          ];
    const ofVirtualClusters = await this.#control.metricsSnapshot({ signal: this.#environment.stop.orderly });
    return [...ofVirtualClusters, ...ofNode];
  }

  async #stopVirtualClusters(): Promise<void> {
    const { stop, logger } = this.#environment;
    try {
      await this.#control.shutdown({ instances: 'stop', signal: stop.immediate });
    } catch (error) {
      if (!stop.immediate.aborted) throw error;
      logger.warning('stopping at once, as asked');
      const { signal } = new AbortController();
      await Promise.all(this.#host.list().map((instance) => instance.stop({ mode: 'immediate', signal })));
    }
  }

  #defer(what: string, close: () => Promise<void>): void {
    const { logger } = this.#environment;
    this.#stack.defer(async () => {
      try {
        await close();
      } catch (error) {
        logger.error(`${what} failed`, error);
      }
    });
  }
}

/** Undefined when nothing is to be encrypted. @throws InputError `usage` */
async function readCertificates({
  config,
  clock,
  logger,
  dropped,
}: NodeEnvironment): Promise<NodeCertificates | undefined> {
  if (config.certificates === undefined) return undefined;
  const nowMs = Number(clock.now() / 1_000n);
  const certificates = readNodeCertificates(config.certificates.directory, {
    nowMs,
    ...(dropped === null ? {} : { files: await dropped.helper.readCertificates() }),
  });
  for (const warning of certificates.warnings) logger.warning(warning);
  return certificates;
}

function materialOf({ node, clientAuthorities }: NodeCertificates): TlsMaterial {
  return { ...node, clientAuthorities };
}

async function openExternalDirectory(store: string, config: DaemonConfig): Promise<string | null> {
  const { externalDirectory } = config;
  switch (externalDirectory.kind) {
    case 'disabled':
      return null;
    case 'in_store':
      await mkdir(join(store, 'extern'), { recursive: true, mode: 0o700 });
      return join(store, 'extern');
    case 'directory':
      return await madeExternalDirectory(externalDirectory.path);
  }
}

/** @throws AppError `io` */
async function madeExternalDirectory(path: string): Promise<string> {
  try {
    await makeDirectories(path, { mode: 0o700 });
    return path;
  } catch (cause) {
    throw new AppError('io', `the external directory ${path} cannot be made: ${toError(cause).message}`, {
      cause,
      hint: 'name another with --external-io-dir, or --external-io-dir=disabled',
    });
  }
}

/** "localhost" may have two addresses and a socket has one: the one that every client tries. */
function listenAddress(address: Address): Address {
  return /^localhost$/i.test(address.host) ? { ...address, host: '127.0.0.1' } : address;
}

/** How connection strings name a host. */
function shownHost(host: string): string {
  return host === '' || host === '0.0.0.0' || host === '::' ? 'localhost' : host;
}

function sqlAddressInUse(address: Address, cause: unknown): AppError {
  return new AppError('address_in_use', `the SQL address is in use: ${formatAddress(address)}`, {
    cause,
    hint: 'stop what listens there, or choose another with --listen-addr',
  });
}

/** Processes that share a port would share it with a stranger's too: this finds out whether anybody has it. */
async function requireFree(address: Address): Promise<void> {
  const server = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', (error) => {
    reject(errnoOf(error) === 'EADDRINUSE' ? sqlAddressInUse(address, error) : error);
  });
  server.listen({ ...address, exclusive: true }, () => server.close(() => resolve()));
  await promise;
}
