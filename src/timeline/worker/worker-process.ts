import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Clock } from '../../base/index.ts';
import type { BackupProgress } from '../contract.ts';
import type { FromWorker, ToWorker, WorkOutcome } from './messages.ts';
import { type ProcessOptions, startProcess } from './start-process.ts';

/** What a cancelled worker may take to clean up before it is killed. */
const CANCEL_MS_MAX = 10_000;
/** What a worker may write to its error output before the rest is dropped. */
const STDERR_BYTES_MAX = 16 * 1024;
/** Waits for the disk overlap in the worker's pool of system calls. */
const SYSTEM_CALLS = 16;

const ENDS_BY_ITSELF = 'ends by itself';

const SCRIPT = new URL('./worker-main.ts', import.meta.url);

/** How a work went, as seen from outside. */
export interface Carried {
  /** Null when the process ended without a word on it. */
  readonly outcome: WorkOutcome | null;
  /** How the process ended, or that it does; null when it waits for more to do. */
  readonly end: string | null;
  /** The process took the work up. What was not taken up can be given to another one. */
  readonly isBegun: boolean;
}

/** A process for bulk work, and the private channel to it. It ends with its work unless it may stay, and when this process ends. */
export class WorkerProcess {
  readonly #child: ChildProcess;
  /** Says how. */
  readonly #ended: Promise<string>;
  #hasEnded = false;
  #errors = '';
  #onMessage: (message: FromWorker) => void = () => undefined;

  constructor(options: Pick<ProcessOptions, 'heapGrowingPercent' | 'hasNodeCredentials' | 'cell'> = {}) {
    const child = startProcess({ script: SCRIPT, systemCalls: SYSTEM_CALLS, isApart: true, ...options });
    this.#child = child;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(0, STDERR_BYTES_MAX);
    });
    child.on('message', (message: FromWorker) => this.#onMessage(message));
    this.#ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(String(error)));
      child.once('close', (code, killedBy) => resolve(killedBy ?? `exit code ${code}`));
    }).finally(() => {
      this.#hasEnded = true;
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /**
   * Resolves when the process has ended, waits for more, or does nothing any more but end: giving back the memory of a restore takes a tenth of a
   * second. What was cancelled, or ends, and does not get there is killed.
   */
  async carryOut(
    message: Extract<ToWorker, { kind: 'work' }>,
    options: {
      readonly clock: Clock;
      readonly onProgress: (progress: BackupProgress) => void;
      readonly signal: AbortSignal;
    },
  ): Promise<Carried> {
    const { clock, onProgress, signal } = options;
    let outcome: WorkOutcome | null = null;
    let isBegun = false;
    const left = Promise.withResolvers<string | null>();
    this.#onMessage = (answer) => {
      if (answer.kind === 'begun') isBegun = true;
      else if (answer.kind === 'progress') onProgress(answer.progress);
      else if (answer.kind === 'waiting') left.resolve(null);
      else if (answer.kind === 'ending') left.resolve(ENDS_BY_ITSELF);
      else outcome = answer;
    };
    const cancelled = Promise.withResolvers<'cancelled'>();
    const onAbort = () => {
      this.#tell({ kind: 'cancel' });
      cancelled.resolve('cancelled');
    };
    signal.addEventListener('abort', onAbort, { once: true });
    this.#tell(message);
    const over = Promise.race([this.#ended, left.promise]);
    const first = await Promise.race([over, cancelled.promise]);
    const end = first === 'cancelled' ? await this.#killUnlessEnds(over, clock) : first;
    signal.removeEventListener('abort', onAbort);
    if (end === ENDS_BY_ITSELF) void this.#killUnlessEnds(this.#ended, clock);
    return { outcome, end, isBegun };
  }

  /** What it wrote to its error output since this was last asked. */
  takeErrors(): string {
    const errors = this.#errors.trim();
    this.#errors = '';
    return errors;
  }

  /** A process that waits keeps nobody from ending. */
  setWaiting(isWaiting: boolean): void {
    const stderr = this.#child.stderr as Socket | null; // What a pipe of a child is.
    for (const handle of [this.#child, this.#child.channel, stderr]) {
      if (isWaiting) handle?.unref();
      else handle?.ref();
    }
  }

  /** Has it end, which is not waited for. */
  end(): void {
    if (this.#child.connected) this.#child.disconnect();
  }

  /** A worker that has ended hears nothing, and says so by its end. */
  #tell(message: ToWorker): void {
    this.#child.send(message, () => undefined);
  }

  async #killUnlessEnds<End>(over: Promise<End>, clock: Clock): Promise<End> {
    const waiting = new AbortController();
    const patience = clock.sleep(CANCEL_MS_MAX, { signal: waiting.signal }).then(
      () => this.#child.kill('SIGKILL'),
      () => undefined, // It ended in time.
    );
    const end = await over;
    waiting.abort();
    await patience;
    return end;
  }
}
