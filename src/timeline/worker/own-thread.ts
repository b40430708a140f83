import { throwIfAborted } from '../../blob/index.ts';
import type { TaskPool } from './thread-pool.ts';

/** Does tasks in this thread, one after the other: for work that is done before other threads would have started. */
export class OwnThread<Task, Result> implements TaskPool<Task, Result> {
  readonly size = 1;
  readonly #work: AsyncDisposable & { run(task: Task): Promise<{ readonly result: Result }> };
  readonly #signal: AbortSignal;
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    work: AsyncDisposable & { run(task: Task): Promise<{ readonly result: Result }> },
    { signal }: { readonly signal: AbortSignal },
  ) {
    this.#work = work;
    this.#signal = signal;
  }

  run(task: Task): Promise<Result> {
    const done = this.#last.then(async () => {
      throwIfAborted(this.#signal);
      return (await this.#work.run(task)).result;
    });
    this.#last = done.catch(() => undefined);
    return done;
  }

  async runOnEach(task: Task): Promise<Result[]> {
    return [await this.run(task)];
  }

  /** Behind the task that is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    await this.#work[Symbol.asyncDispose]();
  }
}
