/** A control layer over real instances, asked directly: what the tests of statements share. */
import { chmod, rm } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import {
  AppError,
  CancelledError,
  type Clock,
  type Logger,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  type VirtualClusterId,
  type VirtualClusterName,
  required,
} from '../../src/base/index.ts';
import {
  type Control,
  type ExecuteContext,
  type Notice,
  type StatementResult,
  type TransactionStatus,
  type Virtualization,
  openControl,
} from '../../src/control/index.ts';
import { systemClock } from '../../src/daemon/clock.ts';
import { systemRng } from '../../src/daemon/rng.ts';
import { type InstanceHost, type OpenInstanceHost, openInstanceHost } from '../../src/instance/index.ts';
import { clusterKeyOf } from '../../src/keys/index.ts';
import { parseStatement } from '../../src/sql/index.ts';
import {
  type BulkWorker,
  type CollectionReader,
  createLogicalWorker,
  createReceiveWorker,
  Confinement,
} from '../../src/timeline/index.ts';
import { scratchDirectory } from './scratch.ts';

/** Keeps everything that is logged. */
export class RecordingLogger implements Logger {
  readonly lines: string[];
  readonly #tag: string;
  constructor(lines: string[] = [], tag = '') {
    this.lines = lines;
    this.#tag = tag;
  }
  log(severity: string, message: string, cause?: unknown): void {
    this.lines.push(`${severity} ${this.#tag}${message} ${cause instanceof Error ? cause.message : ''}`);
  }
  info(message: string): void {
    this.log('info', message);
  }
  warning(message: string, cause?: unknown): void {
    this.log('warning', message, cause);
  }
  error(message: string, cause?: unknown): void {
    this.log('error', message, cause);
  }
  for(scope: { virtualClusterId: number; virtualClusterName: string }): Logger {
    return new RecordingLogger(this.lines, `[T${scope.virtualClusterId},${scope.virtualClusterName}] `);
  }
}

export interface AskOptions {
  /** Name of the virtual cluster; `main` when left out. */
  readonly in?: string;
  /** `root` when left out. */
  readonly as?: string;
  readonly parameters?: readonly (string | null)[];
  readonly transaction?: TransactionStatus;
  readonly signal?: AbortSignal;
  /** Also of a statement that fails, whose answer has none. */
  readonly onNotice?: (notice: Notice) => void;
}

export interface Answer {
  readonly tag: string;
  readonly columns: readonly string[];
  readonly types: readonly string[];
  readonly rows: readonly Readonly<Record<string, string | null>>[];
  readonly notices: readonly Notice[];
}

const NEVER = new AbortController().signal;

export interface TestControlOptions {
  readonly virtualized?: Virtualization;
  readonly bulkWorker: BulkWorker;
  readonly collectionReader: CollectionReader;
  readonly clock?: Clock;
  /** Of the node; none when left out. */
  readonly locality?: readonly { readonly key: string; readonly value: string }[];
  /** Where calls of the host are cut, as by the death of the daemon. */
  readonly cuts?: HostCuts;
}

export interface HostCut {
  readonly method: keyof InstanceHost;
  readonly when: 'before' | 'after';
  /** Looks at the call's options; every call of the method when left out. */
  readonly isMeant?: (options: unknown) => boolean;
}

/**
 * Makes one call of the instance host end before or after it was done and never return, until the daemon stops: what the daemon leaves
 * behind then is what it leaves behind when it is killed there.
 */
export class HostCuts {
  #cut: HostCut | undefined;
  #reached = Promise.withResolvers<void>();
  #stopped = Promise.withResolvers<never>();

  /** Resolves when the call has been cut. */
  arm(cut: HostCut): Promise<void> {
    this.#cut = cut;
    this.#reached = Promise.withResolvers();
    this.#stopped = Promise.withResolvers();
    this.#stopped.promise.catch(() => undefined);
    return this.#reached.promise;
  }

  /** Ends the call that hangs. */
  release(): void {
    this.#cut = undefined;
    this.#stopped.reject(new CancelledError('the daemon died'));
  }

  wrap<T extends InstanceHost>(host: T): T {
    return new Proxy(host, {
      get: (target, property) => {
        const member: unknown = Reflect.get(target, property, target);
        if (typeof member !== 'function') return member;
        return (...parameters: unknown[]) => this.#call(target, { property, member, parameters });
      },
    });
  }

  #call(
    target: object,
    call: { property: string | symbol; member: unknown; parameters: unknown[] },
  ): unknown {
    const run = () => Reflect.apply(call.member as () => unknown, target, call.parameters);
    const cut = this.#cut;
    if (cut?.method !== call.property || cut.isMeant?.(call.parameters[0]) === false) return run();
    return this.#cutCall(run, cut.when);
  }

  async #cutCall(run: () => unknown, when: 'before' | 'after'): Promise<unknown> {
    if (when === 'after') await run();
    this.#reached.resolve();
    return this.#stopped.promise;
  }
}

export class TestControl implements AsyncDisposable {
  readonly directory: string;
  readonly logger = new RecordingLogger();
  readonly #options: TestControlOptions;
  #host: OpenInstanceHost | undefined;
  #control: Control | undefined;

  private constructor(directory: string, options: TestControlOptions) {
    this.directory = directory;
    this.#options = options;
  }

  /** On a new store, initialised unless `virtualized` is left out. */
  static async open(options: TestControlOptions): Promise<TestControl> {
    const directory = await scratchDirectory('atoll-control-');
    await chmod(directory, 0o755);
    const test = new TestControl(directory, options);
    try {
      await test.start();
      if (options.virtualized !== undefined) {
        await test.control.initialize({ virtualized: options.virtualized, signal: NEVER });
      }
    } catch (error) {
      await test[Symbol.asyncDispose]();
      throw error;
    }
    return test;
  }

  get control(): Control {
    return required(this.#control, 'control');
  }

  get host(): OpenInstanceHost {
    return required(this.#host, 'host');
  }

  get externalDirectory(): string {
    return join(this.directory, 'extern');
  }

  /** Opens the store as a daemon does that starts. */
  async start(): Promise<void> {
    const clock = this.#options.clock ?? systemClock();
    const rng = systemRng();
    const confinement = new Confinement({ logger: this.logger });
    this.#host = await openInstanceHost({
      storeDirectory: join(this.directory, 'store'),
      engine: { kind: 'bundled' },
      clock: systemClock(),
      rng,
      logger: this.logger,
      signal: NEVER,
    });
    this.#control = openControl({
      instanceHost: this.#options.cuts?.wrap(this.#host) ?? this.#host,
      bulkWorker: this.#options.bulkWorker,
      collectionReader: this.#options.collectionReader,
      logicalWorker: createLogicalWorker({ clock: systemClock(), logger: this.logger, confinement }),
      receiver: createReceiveWorker({ clock: systemClock(), logger: this.logger, confinement }),
      clock,
      rng,
      logger: this.logger,
      nodeId: 1,
      cluster: { id: this.#host.clusterId, key: clusterKeyOf(this.#host.clusterKey.secret) },
      externalDirectory: this.externalDirectory,
      userfileDirectory: join(this.directory, 'userfile'),
      implicitCredentialsDisabled: false,
      locality: this.#options.locality ?? [],
    });
    await this.#control.start({ signal: NEVER });
  }

  /** Ends the daemon's part and leaves the instances running, as a daemon does that is replaced. */
  async stop(options: { instances: 'stop' | 'keep' } = { instances: 'keep' }): Promise<void> {
    const down = this.#control?.shutdown({ ...options, signal: NEVER });
    this.#options.cuts?.release();
    await down;
    await this.#host?.close();
    this.#control = undefined;
    this.#host = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#host === undefined) await this.start().catch(() => undefined);
    await this.#control?.shutdown({ instances: 'stop', signal: NEVER }).catch(() => undefined);
    for (const instance of this.#host?.list() ?? []) {
      await instance.stop({ mode: 'immediate', signal: NEVER });
    }
    await this.#host?.close();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Number of a virtual cluster in use. */
  idOf(name: string): VirtualClusterId {
    if (name === 'system') return SYSTEM_VIRTUAL_CLUSTER_ID;
    const found = this.control.health().virtualClusters.find((status) => status.name === name);
    return required(found, `virtual cluster ${name}`).id;
  }

  /** Runs a statement of ours as the front door would. */
  async ask(text: string, options: AskOptions = {}): Promise<Answer> {
    const notices: Notice[] = [];
    const name = options.in ?? 'main';
    const context: ExecuteContext = {
      session: {
        virtualClusterId: this.idOf(name),
        virtualClusterName: name as VirtualClusterName,
        user: options.as ?? 'root',
        database: 'defaultdb',
        applicationName: 'test',
      },
      transaction: options.transaction ?? 'idle',
      text,
      parameters: options.parameters ?? [],
      onNotice: (notice) => {
        notices.push(notice);
        options.onNotice?.(notice);
      },
      signal: options.signal ?? NEVER,
    };
    const statement = required(parseStatement(text), `statement of ours in ${text}`).node;
    const described = this.control.service.describe(statement, context.session);
    const result = await this.control.service.execute(statement, context);
    if (result.kind === 'in_session') await this.postgres(result.sql, { in: name, as: context.session.user });
    return answerOf(result, { notices, described });
  }

  /** Rows of a statement of ours. */
  async rows(text: string, options: AskOptions = {}): Promise<Answer['rows']> {
    return (await this.ask(text, options)).rows;
  }

  /** The error that a statement of ours ends in. */
  async refusal(text: string, options: AskOptions = {}): Promise<AppError> {
    const error = await this.ask(text, options).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (error instanceof AppError) return error;
    throw error ?? new Error(`${text} was not refused`);
  }

  /** Statements of Postgres, in a session of `root` of that virtual cluster. */
  async postgres(
    text: string,
    options: { in?: string; as?: string; database?: string } = {},
  ): Promise<Record<string, string | null>[]> {
    const instance = required(this.host.get(this.idOf(options.in ?? 'main')), 'instance');
    const client = new pg.Client({
      host: instance.socketDirectory,
      user: options.as ?? 'root',
      database: options.database ?? 'defaultdb',
      types: { getTypeParser: () => (value: string) => value },
    });
    await client.connect();
    try {
      const result = await client.query<Record<string, string | null>>(text);
      return result.rows;
    } finally {
      await client.end();
    }
  }
}

function answerOf(
  result: StatementResult,
  more: { notices: readonly Notice[]; described: ReturnType<Control['service']['describe']> },
): Answer {
  const columns = result.kind === 'rows' ? result.columns : [];
  const described = more.described ?? [];
  if (JSON.stringify(described) !== JSON.stringify(columns)) {
    throw new Error(`described ${JSON.stringify(described)}, returned ${JSON.stringify(columns)}`);
  }
  const rows = result.kind === 'rows' ? result.rows : [];
  return {
    tag: result.tag,
    columns: columns.map(({ name }) => name),
    types: columns.map(({ type }) => type),
    rows: rows.map((row) => Object.fromEntries(columns.map(({ name }, index) => [name, row[index] ?? null]))),
    notices: more.notices,
  };
}
