/** Bounds what clients wait for an instance that runs and does not answer. */
import { AppError, type Clock, type VirtualClusterId } from '../base/index.ts';

/** When instances last answered anybody. One that has a thousand logins to deal with is slow, and does not hang. */
export class LastAnswers {
  readonly #clock: Clock;
  readonly #atMs = new Map<VirtualClusterId, number>();

  constructor({ clock }: { readonly clock: Clock }) {
    this.#clock = clock;
  }

  note(id: VirtualClusterId): void {
    this.#atMs.set(id, this.#clock.monotonicMs());
  }

  isWithin(id: VirtualClusterId, lastMs: number): boolean {
    const atMs = this.#atMs.get(id);
    return atMs !== undefined && this.#clock.monotonicMs() - atMs < lastMs;
  }
}

/**
 * Gives what was asked for, or gives up: a stopped server takes connections, by way of the kernel, and never says a word.
 * @throws AppError `instance_unresponsive` when it answered nobody for `timeoutMs`
 */
export async function withinAnswerTime<T>(
  ask: (signal: AbortSignal) => Promise<T>,
  options: {
    virtualClusterId: VirtualClusterId;
    virtualClusterName: string;
    lastAnswers: LastAnswers;
    clock: Clock;
    timeoutMs: number;
    signal: AbortSignal;
  },
): Promise<T> {
  const { virtualClusterId: id, virtualClusterName, lastAnswers, clock, timeoutMs } = options;
  const finished = new AbortController();
  const tooLate = new AbortController();
  const signal = AbortSignal.any([options.signal, finished.signal]);
  const giveUpInTime = async (): Promise<void> => {
    do await clock.sleep(timeoutMs, { signal });
    while (lastAnswers.isWithin(id, timeoutMs));
    tooLate.abort();
  };
  const timer = giveUpInTime().catch(() => undefined);
  try {
    const answer = await ask(AbortSignal.any([options.signal, tooLate.signal]));
    lastAnswers.note(id);
    return answer;
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
