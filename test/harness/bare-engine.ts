import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chown,
  copyFile,
  link,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  symlink,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import pg from 'pg';
import { findBundledEngine } from '../../src/instance/engine.ts';
import { waitFor } from './wait.ts';

const SIGNALS = { fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

export interface BareEngineOptions {
  /** Lines of postgresql.conf. */
  readonly settings?: Readonly<Record<string, string | number>>;
  readonly walSegmentMiB?: number;
  /** `atoll` when left out. */
  readonly superuser?: string;
  /** For `initdb`, behind all others. */
  readonly initFlags?: readonly string[];
  /** Folder of another engine's `bin`, `lib` and `share`, as npm brings it. */
  readonly engineDirectory?: string;
}

/**
 * A PostgreSQL as npm brings it, with all its contrib modules and nothing of ours around it, in a folder of its own: for tests
 * that compare what we read with what PostgreSQL itself says of it. Ends it and deletes everything in the end.
 */
export class BareEngine implements AsyncDisposable {
  readonly directory: string;
  /** As whom `use` logs in; another once the role was renamed. */
  superuser: string;
  readonly #settings: Readonly<Record<string, string | number>>;
  #process: ChildProcess | null = null;

  private constructor(directory: string, { superuser = 'atoll', settings = {} }: BareEngineOptions) {
    this.directory = directory;
    this.superuser = superuser;
    this.#settings = settings;
  }

  static async open(options: BareEngineOptions = {}): Promise<BareEngine> {
    const engine = new BareEngine(await mkdtemp(join(tmpdir(), 'atoll-bare-')), options);
    try {
      await engine.#install(options.engineDirectory ?? (await findBundledEngine()).directory);
      engine.#run('initdb', [
        `--pgdata=${engine.dataDirectory}`,
        `--username=${engine.superuser}`,
        '--auth=trust',
        '--data-checksums',
        '--locale-provider=builtin',
        '--builtin-locale=C.UTF-8',
        '--locale=C',
        '--encoding=UTF8',
        `--wal-segsize=${options.walSegmentMiB ?? 16}`,
        '--no-sync',
        '--no-instructions',
        ...(options.initFlags ?? []),
      ]);
      return engine;
    } catch (error) {
      await engine[Symbol.asyncDispose]();
      throw error;
    }
  }

  get dataDirectory(): string {
    return join(this.directory, 'data');
  }

  /** Starts on `dataDirectory`, or on a copy of it that lies in the same folder. */
  async start(options: { dataDirectory?: string } = {}): Promise<void> {
    const { dataDirectory = this.dataDirectory } = options;
    const settings = {
      listen_addresses: '',
      unix_socket_directories: this.directory,
      fsync: 'off',
      shared_buffers: '32MB',
      ...this.#settings,
    };
    const log = await open(join(this.directory, 'log'), 'a');
    const parameters = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    this.#process = spawn(join(this.directory, 'bin', 'postgres'), ['-D', dataDirectory, ...parameters], {
      ...ownerOfTests(),
      stdio: ['ignore', log.fd, log.fd],
    });
    await log.close();
    const { pid } = this.#process;
    await waitFor('the bare engine to accept connections', async () => {
      if (this.#process?.exitCode !== null) throw new Error(`postgres ${pid} ended: ${await this.log()}`);
      // Not every data directory has a database `postgres`.
      await this.use('template1', (client) => client.query('SELECT 1'));
      return true;
    });
  }

  /** `immediate` is a crash: nothing is written any more. */
  async stop(mode: keyof typeof SIGNALS): Promise<void> {
    const running = this.#process;
    this.#process = null;
    if (running === null || running.exitCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill(SIGNALS[mode]);
    await ended;
  }

  log(): Promise<string> {
    return readFile(join(this.directory, 'log'), 'utf8');
  }

  /** A session that ends with `use`. */
  async use<T>(database: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = await this.connect(database);
    try {
      return await use(client);
    } finally {
      await client.end();
    }
  }

  async connect(database: string): Promise<pg.Client> {
    const client = new pg.Client({ host: this.directory, user: this.superuser, database });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  /** A copy of the data directory as it lies there; stop the engine before. */
  async copyData(name: string): Promise<string> {
    const target = join(this.directory, name);
    execFileSync('cp', ['-a', this.dataDirectory, target]);
    return target;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('immediate');
    await rm(this.directory, { recursive: true, force: true });
  }

  /** The package's files under second names, so that an unprivileged user reaches them, and the links that npm drops. */
  async #install(source: string): Promise<void> {
    const { uid, gid } = ownerOfTests();
    if (uid !== undefined && gid !== undefined) await chown(this.directory, uid, gid);
    for (const entry of await readdir(source, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const from = join(entry.parentPath, entry.name);
      const to = join(this.directory, relative(source, from));
      await mkdir(dirname(to), { recursive: true });
      await link(from, to).catch(() => copyFile(from, to));
    }
    const links: unknown = JSON.parse(await readFile(join(source, 'pg-symlinks.json'), 'utf8'));
    for (const { source: from, target } of links as { source: string; target: string }[]) {
      const path = join(this.directory, relative('native', target));
      await symlink(relative(dirname(target), from), path).catch(() => undefined);
    }
  }

  #run(program: string, parameters: readonly string[]): void {
    const path = join(this.directory, 'bin', program);
    execFileSync(path, parameters, { ...ownerOfTests(), stdio: ['ignore', 'ignore', 'pipe'] });
  }
}

/** Postgres refuses root, and `initdb` insists on a user that has a name. */
export function ownerOfTests(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const idOf = (flag: string) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
  return { uid: idOf('-u'), gid: idOf('-g') };
}
