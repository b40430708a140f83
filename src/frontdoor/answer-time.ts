/** Bounds what clients wait for an instance that runs and does not answer. */
import { AppError, type Clock } from '../base/index.ts';

/**
 * Gives what was asked for, or gives up: a stopped server takes connections, by way of the kernel, and never says a word.
 * @throws AppError `instance_unresponsive` after `timeoutMs`
 */
export async function withinAnswerTime<T>(
  ask: (signal: AbortSignal) => Promise<T>,
  options: { virtualClusterName: string; clock: Clock; timeoutMs: number; signal: AbortSignal },
): Promise<T> {
  const { virtualClusterName, clock, timeoutMs } = options;
  const finished = new AbortController();
  const tooLate = new AbortController();
  const timer = clock.sleep(timeoutMs, { signal: AbortSignal.any([options.signal, finished.signal]) }).then(
    () => tooLate.abort(),
    () => undefined,
  );
  try {
    return await ask(AbortSignal.any([options.signal, tooLate.signal]));
  } catch (error) {
    if (!tooLate.signal.aborted) throw error;
    throw new AppError(
      'instance_unresponsive',
      `the server of virtual cluster "${virtualClusterName}" is not responding`,
      {
        cause: error,
        detail: `it did not answer within ${timeoutMs} ms`,
        hint: 'it may be stopped or waiting for its disk; try again in a moment, or ask the operator to look at it',
      },
    );
  } finally {
    finished.abort();
    await timer;
  }
}
