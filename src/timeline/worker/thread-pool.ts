import { availableParallelism } from 'node:os';
import { type Transferable, Worker } from 'node:worker_threads';
import { assert, CancelledError } from '../../base/index.ts';
import { fromWireError, type WireError } from './wire-error.ts';

/** More threads than this copy faster than any disk we met; each costs memory. */
const THREADS_MAX = 8;

/** How many threads bulk work is spread over: one for each CPU that we may use, up to a limit. */
export function threadCount(): number {
  return Math.min(availableParallelism(), THREADS_MAX);
}

/** What a thread is told and what it answers; see thread-server.ts for the other side. */
export type ToThread = { readonly id: number; readonly task: unknown };
export type FromThread =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: WireError };

/** Does tasks; the caller bounds how many are under way, for they are held in memory. */
export interface TaskPool<Task, Result> extends AsyncDisposable {
  /** How many tasks are worked on at the same time. */
  readonly size: number;
  run(task: Task, transfer?: readonly Transferable[]): Promise<Result>;
  /** Gives every thread the same task; the results come in the order of threads. */
  runOnEach(task: Task): Promise<Result[]>;
}

interface Thread {
  readonly worker: Worker;
  /** Tasks it was given and has not answered; it works on them in order. */
  readonly waiting: Map<number, PromiseWithResolvers<unknown>>;
}

/** Threads that do CPU-bound work one task at a time each. The first thread that dies takes the pool with it. */
export class ThreadPool<Task, Result> implements TaskPool<Task, Result> {
  readonly #threads: Thread[];
  readonly #signal: AbortSignal;
  readonly #onAbort: () => void;
  #nextId = 1;
  #failure: Error | null = null;

  constructor(options: {
    readonly script: URL;
    readonly threads: number;
    /** Given to each thread with its number, as `workerData`. */
    readonly dataOf: (threadNo: number) => unknown;
    readonly signal: AbortSignal;
  }) {
    const { script, threads, dataOf, signal } = options;
    this.#signal = signal;
    this.#threads = Array.from({ length: threads }, (_, threadNo) => this.#start(script, dataOf(threadNo)));
    this.#onAbort = () => this.#fail(new CancelledError('cancelled', { cause: signal.reason }));
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
  }

  get size(): number {
    return this.#threads.length;
  }

  /** Gives a task to the thread with the least to do. */
  run(task: Task, transfer: readonly Transferable[] = []): Promise<Result> {
    const [first, ...others] = this.#threads;
    assert(first !== undefined, 'a pool has threads');
    const idlest = others.reduce(
      (best, each) => (each.waiting.size < best.waiting.size ? each : best),
      first,
    );
    return this.#send(idlest, task, transfer);
  }

  runOnEach(task: Task): Promise<Result[]> {
    return Promise.all(this.#threads.map((thread) => this.#send(thread, task, [])));
  }

  /** Ends the threads at once, wherever they are. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#fail(new CancelledError('the threads were ended'));
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #start(script: URL, workerData: unknown): Thread {
    const worker = new Worker(script, { workerData });
    const waiting: Thread['waiting'] = new Map();
    worker.on('message', (message: FromThread) => {
      const waiter = waiting.get(message.id);
      waiting.delete(message.id);
      if ('error' in message) waiter?.reject(fromWireError(message.error));
      else waiter?.resolve(message.result);
    });
    worker.on('error', (error) => this.#fail(error instanceof Error ? error : new Error(String(error))));
    worker.on('exit', (code) => this.#fail(new Error(`a thread ended with code ${code}`)));
    return { worker, waiting };
  }

  #send(thread: Thread, task: Task, transfer: readonly Transferable[]): Promise<Result> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    const waiter = Promise.withResolvers<unknown>();
    thread.waiting.set(id, waiter);
    const message: ToThread = { id, task };
    thread.worker.postMessage(message, [...transfer]);
    return waiter.promise as Promise<Result>; // The thread's script and its caller agree on it.
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { waiting } of this.#threads) {
      for (const waiter of waiting.values()) waiter.reject(this.#failure);
      waiting.clear();
    }
  }
}

/**
 * Runs `work` on every item, at most `concurrency` at a time, in order of arrival. The first failure ends it, once what is
 * under way has settled.
 */
export async function forEachConcurrently<T>(
  items: Iterable<T>,
  { concurrency }: { readonly concurrency: number },
  work: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  let failure: { readonly error: unknown } | null = null;
  const lane = async () => {
    for (let next = iterator.next(); next.done !== true && failure === null; next = iterator.next()) {
      try {
        await work(next.value);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  if (failure !== null) throw (failure as { readonly error: unknown }).error;
}
