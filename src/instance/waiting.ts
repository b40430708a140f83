/** Waiting that a signal can end. */
import { CancelledError } from '../base/index.ts';

/** @throws CancelledError */
export function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
}

/** The result of `promise`, unless `signal` aborts first; the promise itself goes on. @throws CancelledError */
export async function untilCancelled<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const cancelled = Promise.withResolvers<never>();
  const onAbort = () => cancelled.reject(new CancelledError('cancelled', { cause: signal.reason }));
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, cancelled.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
