import { isAppError } from '../base/index.ts';

/** Tasks nobody waits for now, all of which are awaited in the end. A task that fails is a bug, and ends the process. */
export class BackgroundTasks {
  readonly #running = new Set<Promise<void>>();

  /** Being cancelled is how a task ends when its owner closes. */
  add(task: Promise<void>): void {
    const tracked: Promise<void> = task
      .catch((error: unknown) => {
        if (!isAppError(error, 'cancelled')) throw error;
      })
      .finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
