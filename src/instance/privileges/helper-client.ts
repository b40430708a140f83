/** The daemon's side of its helper. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { getCompileCacheDir } from 'node:module';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { AppError, type Logger } from '../../base/index.ts';
import { certificateFilesSchema, type CertificateFiles } from '../../keys/index.ts';
import type { Postmaster, PostmasterCommand } from '../postmaster.ts';
import { storeLayout } from '../store-layout.ts';
import { UID_BASE } from '../users.ts';
import { untilCancelled } from '../waiting.ts';
import type { Privileges } from './contract.ts';
import { DATA_DIRECTORY_NAME } from '../store-layout.ts';
import {
  fromHelperSchema,
  type HelperSpec,
  type Place,
  type Request,
  type RunFile,
  SIGNALS,
} from './requests.ts';

const SCRIPT = fileURLToPath(new URL('./helper-main.ts', import.meta.url));
const COMPILE_CACHE = fileURLToPath(new URL('../../../node_modules/.cache/atoll', import.meta.url));
/** Old generation of its heap, in MiB. */
const HEAP_MIB_MAX = 64;

/**
 * What is left of root's rights: to change owners and modes, to look into folders of others, to become a user, and to see and end what
 * runs as one.
 */
const CAPABILITIES = ['chown', 'dac_override', 'fowner', 'fsetid', 'kill', 'setgid', 'setuid', 'sys_ptrace'];
const SETPRIV = [
  '--no-new-privs',
  '--inh-caps=-all',
  `--bounding-set=-all,${CAPABILITIES.map((name) => `+${name}`).join(',')}`,
];

const startedSchema = z.strictObject({
  pid: z.int().positive(),
  startToken: z.string(),
  unkept: z.array(z.string()),
});
const pidsSchema = z.array(z.int());

interface Waiter {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class HelperProcess {
  readonly #child: ChildProcess;
  readonly #spec: HelperSpec;
  readonly #ready = Promise.withResolvers<void>();
  readonly #waiters = new Map<number, Waiter>();
  readonly #servers = new Map<number, PromiseWithResolvers<string>>();
  /** Resolves when the process has ended, by whatever cause. */
  readonly ended: Promise<string>;
  #lastId = 0;
  #isEnding = false;

  private constructor(child: ChildProcess, spec: HelperSpec) {
    this.#child = child;
    this.#spec = spec;
    this.#ready.promise.catch(() => undefined);
    const ended = Promise.withResolvers<string>();
    this.ended = ended.promise;
    child.on('message', (message: unknown) => this.#take(message));
    child.once('error', (error) => ended.resolve(error.message));
    child.once('exit', (code, signal) => ended.resolve(signal ?? `exit code ${code}`));
    void this.ended.then((how) => this.#forget(how));
  }

  /** To be called as root, before anything of others was read. @throws AppError `internal` when it does not come up */
  static async start(spec: HelperSpec, { logger }: { readonly logger: Logger }): Promise<HelperProcess> {
    const canDrop =
      spawnSync('setpriv', [...SETPRIV, 'true'], { stdio: 'ignore', env: ENVIRONMENT }).status === 0;
    if (!canDrop)
      logger.warning("setpriv of util-linux cannot be run: the helper keeps all of root's capabilities");
    const node = [
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      `--max-old-space-size=${HEAP_MIB_MAX}`,
      SCRIPT,
      JSON.stringify(spec),
    ];
    const [program = '', ...words] = canDrop ? ['setpriv', ...SETPRIV, ...node] : node;
    const child = spawn(program, words, {
      cwd: '/',
      env: { ...ENVIRONMENT, NODE_COMPILE_CACHE: getCompileCacheDir() ?? COMPILE_CACHE },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      serialization: 'json',
    });
    const helper = new HelperProcess(child, spec);
    await helper.#ready.promise;
    // The daemon ends when its own work does.
    child.unref();
    child.channel?.unref();
    return helper;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Whether it was told to end. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** It has nothing to clean up. */
  end(): void {
    this.#isEnding = true;
    if (this.#child.connected) this.#child.disconnect();
  }

  async readCertificates(): Promise<CertificateFiles> {
    return certificateFilesSchema().parse(await this.ask({ verb: 'read_certificates' }));
  }

  async writeRunFile(file: RunFile, content: string): Promise<void> {
    await this.ask({ verb: 'write_run_file', file, content });
  }

  async removePidFile(): Promise<void> {
    await this.ask({ verb: 'remove_pid_file' });
  }

  /** @throws Error with what the helper says, and its errno if it has one; AppError `internal` when it is gone */
  ask(request: Request): Promise<unknown> {
    const id = (this.#lastId += 1);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiters.set(id, { resolve, reject });
    this.#child.channel?.ref();
    this.#child.send({ id, request }, (error) => {
      if (error !== null) this.#settle(id, (waiter) => waiter.reject(gone(error.message)));
    });
    return promise;
  }

  async launch(command: PostmasterCommand): Promise<Postmaster> {
    const { limits } = command;
    const started = startedSchema.parse(
      await this.ask({
        verb: 'launch',
        place: this.placeOf(command.dataDirectory),
        engine: this.#engineOf(command.postgres),
        log: basename(command.log),
        overrides: { ...command.overrides },
        limits:
          limits === undefined
            ? null
            : {
                addressSpaceBytes: limits.addressSpaceBytes ?? null,
                niceness: limits.niceness,
                cpuWeight: limits.cpuWeight,
                memoryBytes: limits.memoryBytes ?? null,
              },
      }).catch((cause: unknown) => {
        throw new AppError('instance_failed', `cannot run ${command.postgres}`, { cause });
      }),
    );
    const ending = this.#ending(started.pid);
    return {
      ...started,
      ended: ({ signal }) => untilCancelled(ending, signal),
      send: async (signal) => this.signal(started, signal),
    };
  }

  async signal(
    { pid, startToken }: { readonly pid: number; readonly startToken?: string },
    signal: NodeJS.Signals,
  ): Promise<void> {
    const known = SIGNALS.find((each) => each === signal);
    if (known === undefined) throw new AppError('internal', `${signal} is not sent to instances`);
    await this.ask({ verb: 'signal', pid, startToken: startToken ?? null, signal: known });
  }

  placeOf(path: string): Place {
    const place = this.placeIfAny(path);
    if (place === null) throw new AppError('internal', `${path} is no data directory of the store`);
    return place;
  }

  placeIfAny(path: string): Place | null {
    const [cluster = '', directory = '', ...rest] = relative(
      storeLayout(this.#spec.root).clusters,
      path,
    ).split('/');
    const isPlace = rest.length === 0 && DATA_DIRECTORY_NAME.test(directory);
    return isPlace ? { cluster, directory } : null;
  }

  #engineOf(postgres: string): string | null {
    const { engines } = storeLayout(this.#spec.root);
    const name = relative(engines, dirname(dirname(postgres)));
    return join(engines, basename(name), 'bin', 'postgres') === postgres ? name : null;
  }

  /** Its end may have been told already. */
  async #ending(pid: number): Promise<string> {
    const { promise } = this.#serverOf(pid);
    const how = await promise;
    this.#servers.delete(pid);
    return how;
  }

  #serverOf(pid: number): PromiseWithResolvers<string> {
    const known = this.#servers.get(pid) ?? Promise.withResolvers<string>();
    this.#servers.set(pid, known);
    return known;
  }

  #take(text: unknown): void {
    const message = fromHelperSchema.parse(text);
    switch (message.kind) {
      case 'ready':
        return this.#ready.resolve();
      case 'done':
        return this.#settle(message.id, (waiter) => waiter.resolve(message.value));
      case 'failed': {
        const error = new Error(message.message);
        const told = message.code === null ? error : Object.assign(error, { code: message.code });
        return this.#settle(message.id, (waiter) => waiter.reject(told));
      }
      case 'ended':
        return this.#serverOf(message.pid).resolve(message.how);
    }
  }

  #settle(id: number, settle: (waiter: Waiter) => void): void {
    const waiter = this.#waiters.get(id);
    this.#waiters.delete(id);
    if (this.#waiters.size === 0) this.#child.channel?.unref();
    if (waiter !== undefined) settle(waiter);
  }

  #forget(how: string): void {
    const error = gone(how);
    this.#ready.reject(error);
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }
}

const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin',
  LC_ALL: 'C',
  TZ: 'UTC',
};

function gone(how: string): AppError {
  return new AppError('internal', `the daemon's helper is gone: ${how}`);
}

/** Privileges of a daemon that has none of its own: `peers` are the names of its user and of root. */
export function helperPrivileges(
  helper: HelperProcess,
  { peers }: { readonly peers: readonly string[] },
): Privileges {
  return {
    isSeparate: true,
    peers: () => peers,
    uidOf: (id) => UID_BASE + id,
    ownerOf: () => null,
    async processesIn(directory) {
      const place = helper.placeIfAny(directory);
      return place === null ? [] : pidsSchema.parse(await helper.ask({ verb: 'processes', place }));
    },
    async worksIn(pid, directory) {
      return z.boolean().parse(await helper.ask({ verb: 'works_in', pid, place: helper.placeOf(directory) }));
    },
    signal: (process, signal) => helper.signal(process, signal),
    launch: (command) => helper.launch(command),
    async take(directory) {
      await helper.ask({ verb: 'take', place: helper.placeOf(directory) });
    },
    async removeFiles(directory, names) {
      await helper.ask({ verb: 'remove_files', place: helper.placeOf(directory), names: [...names] });
    },
    async sign(directory, name) {
      await helper.ask({ verb: 'sign', place: helper.placeOf(directory), name });
    },
    async openConfiguration(directory) {
      await helper.ask({ verb: 'open_configuration', cluster: basename(directory) });
    },
    async openSockets(directory) {
      await helper.ask({ verb: 'open_sockets', name: basename(directory) });
    },
  };
}
