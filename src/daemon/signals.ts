/** What the operator asks of the process by signals. */
export interface StopRequests extends Disposable {
  /** Aborts at the first SIGTERM, SIGINT or SIGHUP: stop in order. */
  readonly orderly: AbortSignal;
  /** Aborts at the second: stop at once. */
  readonly immediate: AbortSignal;
}

const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/** Listens for signals until disposed. A third signal ends the process on the spot, as if it were killed. */
export function listenForStop(): StopRequests {
  const orderly = new AbortController();
  const immediate = new AbortController();
  const onSignal = () => {
    if (!orderly.signal.aborted) orderly.abort();
    else if (!immediate.signal.aborted) immediate.abort();
    else process.exit(1);
  };
  for (const signal of STOP_SIGNALS) process.on(signal, onSignal);
  return {
    orderly: orderly.signal,
    immediate: immediate.signal,
    [Symbol.dispose]() {
      for (const signal of STOP_SIGNALS) process.off(signal, onSignal);
    },
  };
}

/** Resolves when the signal aborts. */
export async function whenAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => resolve(), { once: true });
  await promise;
}
