/** What the operator asks of the process by signals. */
export interface StopRequests extends Disposable {
  /** Aborts at the first SIGTERM, SIGINT, or SIGHUP if that stops: stop in order. */
  readonly orderly: AbortSignal;
  /** Aborts at the second: stop at once. */
  readonly immediate: AbortSignal;
}

/**
 * Listens for signals until disposed. A third signal ends the process on the spot, as if it were killed. SIGHUP stops too, unless
 * `onHangUp` takes it.
 */
export function listenForStop(options: { onHangUp?: () => void } = {}): StopRequests {
  const { onHangUp } = options;
  const stopSignals = [
    'SIGTERM',
    'SIGINT',
    ...(onHangUp === undefined ? (['SIGHUP'] as const) : []),
  ] as const;
  const orderly = new AbortController();
  const immediate = new AbortController();
  const onSignal = () => {
    if (!orderly.signal.aborted) orderly.abort();
    else if (!immediate.signal.aborted) immediate.abort();
    else process.exit(1);
  };
  for (const signal of stopSignals) process.on(signal, onSignal);
  if (onHangUp !== undefined) process.on('SIGHUP', onHangUp);
  return {
    orderly: orderly.signal,
    immediate: immediate.signal,
    [Symbol.dispose]() {
      for (const signal of stopSignals) process.off(signal, onSignal);
      if (onHangUp !== undefined) process.off('SIGHUP', onHangUp);
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
