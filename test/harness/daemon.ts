import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import pg from 'pg';
import { scratchDirectory } from './scratch.ts';
import { waitFor } from './wait.ts';

const ROOT = resolve(import.meta.dirname, '../..');
export const ATOLL = join(ROOT, 'bin/atoll');

/** Bulk work does not stand back behind tests, which saturate the machine and wait for it. What is measured is not a test. */
const OF_TESTS = process.env['NODE_TEST_CONTEXT'] === undefined ? {} : { ATOLL_TEST_EQUAL_SESSIONS: 'yes' };

export interface DaemonOptions {
  /** Defaults to a fresh folder that is removed in the end. */
  readonly store?: string;
  readonly flags?: readonly string[];
  /** `none` (the default) starts with `--insecure`. */
  readonly security?: 'none' | 'password';
  readonly environment?: Readonly<Record<string, string>>;
  /** Runs the daemon as this user instead of ours. */
  readonly uid?: number;
  readonly gid?: number;
}

/** A real `atoll start-single-node` in a process of its own, on ports of the system's choice. */
export class TestDaemon implements AsyncDisposable {
  readonly store: string;
  readonly #options: DaemonOptions;
  readonly #ownsStore: boolean;
  #child: ChildProcess | undefined;
  #output = '';
  #url = new URL('postgresql://invalid');

  private constructor(store: string, options: DaemonOptions) {
    this.store = store;
    this.#options = options;
    this.#ownsStore = options.store === undefined;
  }

  static async start(options: DaemonOptions = {}): Promise<TestDaemon> {
    const store = options.store ?? (await scratchDirectory('atoll-test-'));
    const daemon = new TestDaemon(store, options);
    try {
      await daemon.startAgain();
    } catch (error) {
      await daemon[Symbol.asyncDispose]();
      throw error;
    }
    return daemon;
  }

  /** Starts the daemon on the same store, after `kill` or `stop`; on the same port from the second time on. */
  async startAgain(): Promise<void> {
    const urlFile = join(this.store, '..', `${this.store.split('/').pop()}.url`);
    await rm(urlFile, { force: true });
    const port = this.#url.port === '' ? '0' : this.#url.port;
    const { uid, gid } = this.#options;
    const child = spawn(
      ATOLL,
      [
        'start-single-node',
        ...(this.#options.security === 'password' ? [] : ['--insecure']),
        `--store=${this.store}`,
        `--listen-addr=127.0.0.1:${port}`,
        '--http-addr=127.0.0.1:0',
        `--listening-url-file=${urlFile}`,
        ...(this.#options.flags ?? []),
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...OF_TESTS, ...this.#options.environment },
        ...(uid === undefined ? {} : { uid }),
        ...(gid === undefined ? {} : { gid }),
      },
    );
    this.#child = child;
    child.stdout?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    const text = await waitFor('the daemon to listen', () => {
      if (child.exitCode !== null || child.signalCode !== null) return 'ended';
      return existsSync(urlFile) && readFileSync(urlFile, 'utf8').trim();
    });
    await rm(urlFile, { force: true });
    if (text === 'ended') throw new Error(`the daemon ended with ${child.exitCode}:\n${this.#output}`);
    this.#url = new URL(text);
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error('the daemon does not run');
    return pid;
  }

  get port(): number {
    return Number(this.#url.port);
  }

  /** All that the daemon printed. */
  get output(): string {
    return this.#output;
  }

  /** Connection string of a virtual cluster; `system` is the control plane. */
  url(options: { cluster?: string; database?: string; user?: string } = {}): string {
    const { cluster, database = 'defaultdb', user = 'root' } = options;
    const query = cluster === undefined ? '' : `?options=-ccluster%3D${cluster}`;
    return `postgresql://${encodeURIComponent(user)}@127.0.0.1:${this.port}/${encodeURIComponent(database)}${query}`;
  }

  /** A connected client of `pg`; the caller ends it. */
  async connect(options: { cluster?: string; database?: string; user?: string } = {}): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.url(options) });
    client.on('error', () => undefined); // Tests kill servers; the failing query tells.
    await client.connect();
    return client;
  }

  /** Runs statements on a connection of their own and gives the rows of the last. */
  async query(
    sql: string | readonly string[],
    options: { cluster?: string; database?: string; user?: string } = {},
  ): Promise<Record<string, unknown>[]> {
    const client = await this.connect(options);
    try {
      let rows: Record<string, unknown>[] = [];
      for (const statement of typeof sql === 'string' ? [sql] : sql)
        rows = (await client.query(statement)).rows;
      return rows;
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** Process ids of the postmasters of this store, by virtual cluster id. */
  async postmasters(): Promise<Map<number, number>> {
    const pids = new Map<number, number>();
    for (const id of await readdir(join(this.store, 'vc'))) {
      for (const entry of await readdir(join(this.store, 'vc', id))) {
        const file = join(this.store, 'vc', id, entry, 'postmaster.pid');
        if (existsSync(file)) pids.set(Number(id), Number((await readFile(file, 'utf8')).split('\n')[0]));
      }
    }
    return pids;
  }

  async #ended(child: ChildProcess): Promise<void> {
    await waitFor('the daemon to end', () => isOver(child));
  }

  /** It does not run, for whatever reason. */
  get hasEnded(): boolean {
    return this.#child === undefined || isOver(this.#child);
  }

  /** Waits until it has ended by itself; its instances live on. */
  async ended(): Promise<void> {
    if (this.#child !== undefined) await this.#ended(this.#child);
  }

  /** kill -9 of the daemon alone: its instances live on. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    child.kill('SIGKILL');
    await this.#ended(child);
  }

  /** Orderly stop of daemon and instances. */
  async stop(): Promise<number | null> {
    const child = this.#child;
    if (child === undefined) return null;
    child.kill('SIGTERM');
    await this.#ended(child);
    return child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().catch(() => undefined);
    if (!this.#ownsStore) return;
    const left = await this.postmasters().catch(() => new Map<number, number>());
    for (const pid of left.values()) {
      try {
        process.kill(pid, 'SIGQUIT');
      } catch {
        // Already gone, which is what we want.
      }
    }
    await rm(this.store, { recursive: true, force: true });
  }
}

function isOver(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
