/** A front door over a real instance, with a service of the test's own: what the front door's tests share. */
import { chmod, rm } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import {
  AppError,
  type Logger,
  parseVirtualClusterName,
  type VirtualClusterId,
} from '../../src/base/index.ts';
import type {
  Column,
  Credential,
  ExecuteContext,
  FrontDoorService,
  SessionIdentity,
  StatementResult,
} from '../../src/control/index.ts';
import { systemClock, systemRng } from '../../src/daemon/index.ts';
import { type FrontDoor, type FrontDoorOptions, openFrontDoor } from '../../src/frontdoor/index.ts';
import { DEFAULT_INSTANCE_SETTINGS, type Instance, openInstanceHost } from '../../src/instance/index.ts';
import type { Statement } from '../../src/sql/index.ts';
import { RawClient } from './raw-client.ts';
import { scratchDirectory } from './scratch.ts';
import { waitFor } from './wait.ts';

/** Keeps what is logged as a warning or worse; a test may look, and fails on what it did not expect. */
export class TestLogger implements Logger {
  readonly complaints: string[] = [];
  log(severity: string, message: string, cause?: unknown): void {
    if (severity !== 'info') this.complaints.push(`${message} ${cause instanceof Error ? cause.stack : ''}`);
  }
  info(): void {}
  warning(message: string, cause?: unknown): void {
    this.log('warning', message, cause);
  }
  error(message: string, cause?: unknown): void {
    this.log('error', message, cause);
  }
  for(): Logger {
    return this;
  }
}

/** Answers for one instance. `execute` and `describe` may be replaced by a test. */
export class FakeService implements FrontDoorService {
  readonly instance: Instance;
  readonly executed: { statement: Statement; context: ExecuteContext }[] = [];
  columns: readonly Column[] | undefined = [{ name: 'value', type: 'text' }];
  onExecute: (statement: Statement, context: ExecuteContext) => Promise<StatementResult> | StatementResult;
  credentials = new Map<string, Credential>();
  screen?: (options: { session: SessionIdentity; text: string }) => void;
  authorizeBySystem?: NonNullable<FrontDoorService['authorizeBySystem']>;
  /** Names of virtual clusters that lead to the instance. */
  readonly names = new Set(['main', 'system', 'other']);

  constructor(instance: Instance) {
    this.instance = instance;
    this.onExecute = (statement) => ({
      kind: 'rows',
      columns: this.columns ?? [],
      rows: [[statement.kind]],
      tag: 'SHOW 1',
    });
  }

  async route({ name = 'main', signal }: { name: string | undefined; signal: AbortSignal }) {
    if (!this.names.has(name)) {
      throw new AppError('service_unavailable', `service unavailable for target virtual cluster (${name})`);
    }
    await this.instance.whenServing({ timeoutMs: 60_000, signal });
    return {
      virtualClusterId: (name === 'system' ? 1 : 3) as VirtualClusterId,
      virtualClusterName: parseVirtualClusterName(name),
      socketPath: this.instance.socketPath,
      instanceGeneration: this.instance.generation,
    };
  }

  async credential({ user }: { user: string }): Promise<Credential | undefined> {
    return this.credentials.get(user);
  }

  async authorize({ user }: { user: string }): Promise<void> {
    if (user === 'outsider') throw new AppError('insufficient_privilege', `user ${user} may not enter`);
  }

  describe(): readonly Column[] | undefined {
    return this.columns;
  }

  async execute(statement: Statement, context: ExecuteContext): Promise<StatementResult> {
    this.executed.push({ statement, context });
    return this.onExecute(statement, context);
  }
}

export type TestDoorOptions = Partial<
  Pick<FrontDoorOptions, 'authentication' | 'limits' | 'listen' | 'isPlain' | 'throttle' | 'tls'>
>;

/** One instance and the front doors opened on it. */
export class TestBed implements AsyncDisposable {
  readonly instance: Instance;
  readonly service: FakeService;
  readonly logger = new TestLogger();
  readonly directory: string;
  readonly #end: () => Promise<void>;
  readonly #doors: FrontDoor[] = [];

  private constructor(options: { instance: Instance; directory: string; end: () => Promise<void> }) {
    this.instance = options.instance;
    this.service = new FakeService(options.instance);
    this.directory = options.directory;
    this.#end = options.end;
  }

  static async start(options: { maxConnections?: number } = {}): Promise<TestBed> {
    const directory = await scratchDirectory('atoll-fd-');
    await chmod(directory, 0o755); // As root, instances run under other users.
    const { signal } = new AbortController();
    const host = await openInstanceHost({
      storeDirectory: join(directory, 's'),
      engine: { kind: 'bundled' },
      clock: systemClock(),
      rng: systemRng(),
      logger: new TestLogger(),
      signal,
    });
    const instance = await host.create({
      virtualClusterId: 3 as VirtualClusterId,
      name: parseVirtualClusterName('main'),
      settings: { ...DEFAULT_INSTANCE_SETTINGS, maxConnections: options.maxConnections ?? 100 },
      signal,
    });
    await instance.start({ signal });
    return new TestBed({
      instance,
      directory,
      end: async () => {
        await instance.stop({ mode: 'immediate', signal });
        await host.close();
        await rm(directory, { recursive: true, force: true });
      },
    });
  }

  async open(options: TestDoorOptions = {}): Promise<FrontDoor> {
    const door = await openFrontDoor({
      service: this.service,
      listen: { host: '127.0.0.1', port: 0 },
      authentication: 'insecure',
      clock: systemClock(),
      rng: systemRng(),
      logger: this.logger,
      signal: new AbortController().signal,
      ...options,
    });
    this.#doors.push(door);
    return door;
  }

  /** Sessions of clients in the instance, as it counts them itself. */
  async backends(): Promise<number> {
    const rows = await this.instance.withSystemClient(
      (client) =>
        client.query(
          "SELECT count(*) AS n FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') AND usename <> 'atoll'",
        ),
      { signal: new AbortController().signal },
    );
    return Number(rows[0]?.['n']);
  }

  /** Nothing of any session may be left: neither here nor in the instance. Closes what a failed test left open. */
  async expectQuiet(): Promise<void> {
    RawClient.closeAll();
    for (const client of openClients) void client.end();
    await waitFor('sessions to end', () => this.#doors.every((door) => door.sessions === 0));
    await waitFor('backends to end', async () => (await this.backends()) === 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#doors.map((door) => door.close()));
    await this.#end();
  }
}

export interface ConnectOptions {
  readonly user?: string;
  readonly database?: string;
  readonly password?: string;
  readonly options?: string;
  readonly replication?: string;
}

const openClients = new Set<pg.Client>();

/** A connected client of `pg`; the caller ends it. */
export async function connect(door: FrontDoor, options: ConnectOptions = {}): Promise<pg.Client> {
  const client = new pg.Client({
    host: door.address.host,
    port: door.address.port,
    user: 'root',
    database: 'defaultdb',
    ...options,
  } as pg.ClientConfig);
  client.on('error', () => undefined); // Tests kill servers; the failing query tells.
  await client.connect();
  openClients.add(client);
  client.on('end', () => openClients.delete(client));
  return client;
}
