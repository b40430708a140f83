import { rm } from 'node:fs/promises';
import pg from 'pg';
import type {
  Logger,
  LogScope,
  Severity,
  VirtualClusterId,
  VirtualClusterName,
} from '../../src/base/index.ts';
import { systemClock, systemRng } from '../../src/daemon/index.ts';
import {
  DEFAULT_INSTANCE_SETTINGS,
  type EngineSource,
  type Instance,
  type OnReplacement,
  type OpenInstanceHost,
  openInstanceHost,
} from '../../src/instance/index.ts';
import { scratchDirectory } from './scratch.ts';

export interface LogEntry {
  readonly severity: Severity;
  readonly message: string;
  readonly scope: LogScope | null;
}

/** Keeps what is logged. */
export class MemoryLogger implements Logger {
  readonly entries: LogEntry[];
  readonly #scope: LogScope | null;

  constructor(entries: LogEntry[] = [], scope: LogScope | null = null) {
    this.entries = entries;
    this.#scope = scope;
  }

  log(severity: Severity, message: string, cause?: unknown): void {
    const text = cause instanceof Error ? `${message}: ${cause.message}` : message;
    this.entries.push({ severity, message: text, scope: this.#scope });
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

  for(scope: LogScope): Logger {
    return new MemoryLogger(this.entries, scope);
  }

  /** True when an entry holds the text. */
  has(text: string): boolean {
    return this.entries.some((entry) => entry.message.includes(text));
  }
}

export const NEVER = new AbortController().signal;

/** A store in a folder of its own, with instances of short patience. Ends them and deletes it all in the end. */
export class TestStore implements AsyncDisposable {
  readonly directory: string;
  readonly logger: MemoryLogger;
  host: OpenInstanceHost;
  /** Called in a replacement of one life of data by another; may be exchanged. */
  readonly hooks: { onReplacement: OnReplacement };

  private constructor(directory: string, host: OpenInstanceHost, parts: Pick<TestStore, 'logger' | 'hooks'>) {
    this.directory = directory;
    this.host = host;
    this.logger = parts.logger;
    this.hooks = parts.hooks;
  }

  static async open(): Promise<TestStore> {
    const directory = await scratchDirectory('atoll-store-');
    const logger = new MemoryLogger();
    const hooks = { onReplacement: () => undefined };
    return new TestStore(directory, await openHooked(directory, { logger, hooks }), { logger, hooks });
  }

  /** A virtual cluster, created and started; with parameters of PostgreSQL's own when they are given. */
  async serve(
    id: number,
    name = `vc${id}`,
    parameters: Readonly<Record<string, string>> = {},
  ): Promise<Instance> {
    const instance = await this.host.create({
      virtualClusterId: id as VirtualClusterId,
      name: name as VirtualClusterName,
      settings: { ...DEFAULT_INSTANCE_SETTINGS, extra: parameters },
      signal: NEVER,
    });
    await instance.start({ signal: NEVER });
    return instance;
  }

  /** Lets go of everything and opens the store again. */
  async reopen(): Promise<void> {
    await this.host.close();
    this.host = await openHooked(this.directory, this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const instance of this.host.list()) await instance.stop({ mode: 'immediate', signal: NEVER });
    await this.host.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

function openHooked(
  directory: string,
  { logger, hooks }: Pick<TestStore, 'logger' | 'hooks'>,
): Promise<OpenInstanceHost> {
  return openTestHost(directory, logger, { onReplacement: (step) => hooks.onReplacement(step) });
}

export function openTestHost(
  directory: string,
  logger: Logger,
  options: { readonly engine?: EngineSource; readonly onReplacement?: OnReplacement } = {},
): Promise<OpenInstanceHost> {
  return openInstanceHost({
    storeDirectory: directory,
    engine: { kind: 'bundled' },
    ...options,
    clock: systemClock(),
    rng: systemRng(),
    logger,
    signal: NEVER,
    stopLimits: { smartMs: 500, fastMs: 30_000, immediateMs: 10_000 },
  });
}

/** A session of a tenant, as the front door makes them. */
export async function withTenant<T>(
  instance: Instance,
  login: { user: string; database: string },
  use: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ host: instance.socketDirectory, ...login });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

/** Aborted from the `count`-th look at it on, which is before a query. */
export function abortedAfter(count: number): AbortSignal {
  const controller = new AbortController();
  let looks = 0;
  Object.defineProperty(controller.signal, 'aborted', {
    get: () => {
      looks += 1;
      return looks > count;
    },
  });
  Object.defineProperty(controller.signal, 'reason', { get: () => new Error('cut off') });
  return controller.signal;
}
