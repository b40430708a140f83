/** The daemon's side of a process that serves it all its life. */
import type { ChildProcess } from 'node:child_process';
import type { Clock } from '../../base/index.ts';
import { type ProcessOptions, startProcess } from './start-process.ts';

/** A process that has lived so long has earned a quick restart. */
const HEALTHY_MS = 10_000;
/** What it may write to its error output before the rest is dropped. */
const STDERR_BYTES_MAX = 16 * 1024;

export interface KeptProcessOptions<From> extends ProcessOptions {
  /** What it is kept from coming up for after it has ended: doubled each time that it has not lived long. */
  readonly restartMs: { readonly first: number; readonly max: number };
  /** What it may take to end in order before it is killed. */
  readonly closeMsMax: number;
  readonly clock: Clock;
  /** A process is there that knows nothing yet. */
  readonly onStart: () => void;
  readonly onMessage: (message: From) => void;
  /** It has ended, and another one takes its place unless `isClosing`. `how` says how, with what it wrote to its error output. */
  readonly onEnd: (how: string, state: { readonly isClosing: boolean }) => void;
}

/** A process of our own with a private channel to it: started again when it ends, ended with `close`, and when this process ends. */
export class KeptProcess<To extends { readonly kind: string }, From> {
  readonly #options: KeptProcessOptions<From>;
  readonly #closing = new AbortController();
  #child: ChildProcess | null = null;
  #running: Promise<void> | null = null;

  constructor(options: KeptProcessOptions<From>) {
    this.#options = options;
  }

  /** Aborted when it is being closed. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Has a process run from now on. Harmless when one does. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** A process that is not there, or ends, hears nothing: `onStart` is the place to tell the next one. */
  send(message: To): void {
    this.#child?.send(message, () => undefined);
  }

  /** Says `last` to it and waits for its end. */
  async close(last: To): Promise<void> {
    this.#closing.abort();
    const child = this.#child;
    if (child === null) return void (await this.#running);
    this.send(last);
    const { clock, closeMsMax } = this.#options;
    const waiting = new AbortController();
    const patience = clock.sleep(closeMsMax, { signal: waiting.signal }).then(
      () => child.kill('SIGKILL'),
      () => undefined, // It ended in time.
    );
    await this.#running;
    waiting.abort();
    await patience;
  }

  async #run(): Promise<void> {
    const { clock, restartMs, onEnd } = this.#options;
    const { signal } = this.#closing;
    let waitMs = restartMs.first;
    while (!signal.aborted) {
      const beginMs = clock.monotonicMs();
      const how = await this.#runOnce();
      this.#child = null;
      onEnd(how, { isClosing: signal.aborted });
      if (signal.aborted) return;
      if (clock.monotonicMs() - beginMs > HEALTHY_MS) waitMs = restartMs.first;
      await clock.sleep(waitMs, { signal }).catch(() => undefined);
      waitMs = Math.min(waitMs * 2, restartMs.max);
    }
  }

  /** Resolves with how it ended. */
  async #runOnce(): Promise<string> {
    const child = startProcess(this.#options);
    this.#child = child;
    let errors = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(0, STDERR_BYTES_MAX);
    });
    child.on('message', (message: From) => this.#options.onMessage(message));
    const ended = Promise.withResolvers<string>();
    child.once('error', (error) => ended.resolve(String(error)));
    child.once('close', (code, killedBy) => ended.resolve(killedBy ?? `exit code ${code}`));
    this.#options.onStart();
    const how = await ended.promise;
    return errors === '' ? how : `${how}: ${errors.trim()}`;
  }
}
