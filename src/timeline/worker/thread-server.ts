import { parentPort, type Transferable } from 'node:worker_threads';
import { required } from '../../base/index.ts';
import type { FromThread, ToThread } from './thread-pool.ts';
import { toWireError } from './wire-error.ts';

/** What a thread answers, and which of its memory goes along instead of being copied. */
export interface Answer<Result> {
  readonly result: Result;
  readonly transfer?: readonly Transferable[];
}

/** Serves the tasks of this thread's pool, one after the other in the order they came. */
export function serveTasks<Task, Result>(run: (task: Task) => Promise<Answer<Result>>): void {
  const port = required(parentPort, 'port of the thread');
  let last: Promise<void> = Promise.resolve();
  const serve = async ({ id, task }: ToThread) => {
    try {
      const { result, transfer = [] } = await run(task as Task); // The pool and this script agree on it.
      port.postMessage({ id, result } satisfies FromThread, [...transfer]);
    } catch (error) {
      port.postMessage({ id, error: toWireError(error) } satisfies FromThread);
    }
  };
  port.on('message', (message: ToThread) => {
    last = last.then(() => serve(message));
  });
}
