/** The daemon's side of continuous backup: one process for all virtual clusters, started when one is to be published, and again when it ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { getCompileCacheDir } from 'node:module';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import type { Clock, Logger, VirtualClusterId } from '../../base/index.ts';
import type { VaultStatus } from '../store-contract.ts';
import { FAULT_POINT_VARIABLE } from '../worker/fault-point.ts';
import type { ContinuousHost, ContinuousStatus, ContinuousTarget } from './contract.ts';
import type { FromPublishing, ToPublishing } from './messages.ts';

const RESTART_MS = { first: 200, max: 10_000 };
/** A process that has lived so long has earned a quick restart. */
const HEALTHY_MS = 10_000;
const CLOSE_MS_MAX = 5000;
/** What it may write to its error output before the rest is dropped. */
const STDERR_BYTES_MAX = 16 * 1024;
/** Old generation of the process's heap, in MiB; pieces of log lie outside it. */
const HEAP_MIB_MAX = 256;
const SCRIPT = fileURLToPath(new URL('./publishing-main.ts', import.meta.url));
const COMPILE_CACHE = fileURLToPath(new URL('../../../node_modules/.cache/atoll', import.meta.url));

export function openContinuousHost(options: {
  readonly clock: Clock;
  readonly logger: Logger;
}): ContinuousHost {
  return new ProcessContinuousHost(options);
}

class ProcessContinuousHost implements ContinuousHost {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #closing = new AbortController();
  readonly #targets = new Map<VirtualClusterId, ContinuousTarget>();
  readonly #statuses = new Map<VirtualClusterId, ContinuousStatus>();
  #child: ChildProcess | null = null;
  #running: Promise<void> | null = null;

  constructor({ clock, logger }: { readonly clock: Clock; readonly logger: Logger }) {
    this.#clock = clock;
    this.#logger = logger;
  }

  publish(target: ContinuousTarget): void {
    const { virtualClusterId } = target;
    if (isDeepStrictEqual(this.#targets.get(virtualClusterId), target)) return;
    this.#targets.set(virtualClusterId, target);
    this.#send({ kind: 'publish', target });
    this.#running ??= this.#run();
  }

  stop(virtualClusterId: VirtualClusterId): void {
    if (!this.#targets.delete(virtualClusterId)) return;
    this.#statuses.delete(virtualClusterId);
    this.#send({ kind: 'stop', virtualClusterId });
  }

  note(statuses: readonly VaultStatus[]): void {
    const wanted = statuses.filter(({ virtualClusterId }) => this.#targets.has(virtualClusterId));
    if (wanted.length > 0) this.#send({ kind: 'vault', statuses: wanted });
  }

  status(virtualClusterId: VirtualClusterId): ContinuousStatus | undefined {
    return this.#statuses.get(virtualClusterId);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const child = this.#child;
    if (child === null) return void (await this.#running);
    this.#send({ kind: 'close' });
    const waiting = new AbortController();
    const patience = this.#clock.sleep(CLOSE_MS_MAX, { signal: waiting.signal }).then(
      () => child.kill('SIGKILL'),
      () => undefined, // It ended in time.
    );
    await this.#running;
    waiting.abort();
    await patience;
  }

  /** Keeps a process running. */
  async #run(): Promise<void> {
    const { signal } = this.#closing;
    let restartMs = RESTART_MS.first;
    while (!signal.aborted) {
      const beginMs = this.#clock.monotonicMs();
      const how = await this.#runOnce();
      this.#child = null;
      if (signal.aborted) return;
      this.#logger.error(`the process of continuous backup ended (${how}), another takes its place`);
      if (this.#clock.monotonicMs() - beginMs > HEALTHY_MS) restartMs = RESTART_MS.first;
      await this.#clock.sleep(restartMs, { signal }).catch(() => undefined);
      restartMs = Math.min(restartMs * 2, RESTART_MS.max);
    }
  }

  /** Resolves with how it ended. */
  async #runOnce(): Promise<string> {
    const child = startProcess();
    this.#child = child;
    const errors = { text: '' };
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      errors.text = (errors.text + text).slice(0, STDERR_BYTES_MAX);
    });
    child.on('message', (message: FromPublishing) => this.#take(message));
    const ended = Promise.withResolvers<string>();
    child.once('error', (error) => ended.resolve(String(error)));
    child.once('close', (code, killedBy) => ended.resolve(killedBy ?? `exit code ${code}`));
    for (const target of this.#targets.values()) this.#send({ kind: 'publish', target });
    const how = await ended.promise;
    return errors.text === '' ? how : `${how}: ${errors.text.trim()}`;
  }

  #take(message: FromPublishing): void {
    if (message.kind === 'log') {
      this.#logger.for(message.scope).log(message.severity, message.message);
      return;
    }
    for (const status of message.statuses) {
      if (this.#targets.has(status.virtualClusterId)) this.#statuses.set(status.virtualClusterId, status);
    }
  }

  #send(message: ToPublishing): void {
    this.#child?.send(message, () => undefined);
  }
}

function startProcess(): ChildProcess {
  const fault = process.env[FAULT_POINT_VARIABLE];
  const args = ['--disable-warning=ExperimentalWarning', `--max-old-space-size=${HEAP_MIB_MAX}`, SCRIPT];
  return spawn(process.execPath, args, {
    // The node's own credentials of storage services are in its environment and nowhere else.
    env: {
      NODE_COMPILE_CACHE: getCompileCacheDir() ?? COMPILE_CACHE,
      ...(fault === undefined ? {} : { [FAULT_POINT_VARIABLE]: fault }),
    },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced',
  });
}
