import { parentPort, type Transferable } from 'node:worker_threads';
import { required } from '../../base/index.ts';
import type { FromThread, ToThread } from './thread-pool.ts';
import { toWireError } from './wire-error.ts';

/** What a thread answers, and which of its memory goes along instead of being copied. */
export interface Answer<Result> {
  readonly result: Result;
  readonly transfer?: readonly Transferable[];
}

/**
 * Serves the tasks of this thread's pool, beginning them in the order they came: one after the other, or `atOnce`, which lets
 * one wait for its storage while another works.
 */
export function serveTasks<Task, Result>(
  run: (task: Task) => Promise<Answer<Result>>,
  { atOnce = 1 }: { readonly atOnce?: number } = {},
): void {
  const port = required(parentPort, 'port of the thread');
  const waiting: ToThread[] = [];
  let served = 0;
  const serve = async ({ id, task }: ToThread) => {
    try {
      const { result, transfer = [] } = await run(task as Task); // The pool and this script agree on it.
      port.postMessage({ id, result } satisfies FromThread, [...transfer]);
    } catch (error) {
      port.postMessage({ id, error: toWireError(error) } satisfies FromThread);
    }
  };
  const serveNext = () => {
    const next = served < atOnce ? waiting.shift() : undefined;
    if (next === undefined) return;
    served += 1;
    void serve(next).finally(() => {
      served -= 1;
      serveNext();
    });
  };
  port.on('message', (message: ToThread) => {
    waiting.push(message);
    serveNext();
  });
}
