import { CancelledError, type VirtualClusterId } from '../../base/index.ts';

/**
 * Lets one at a time capture into a timeline store, or remove from it. A base counts for nothing until it is complete, so what is removed while
 * one is captured may be the log that it begins with.
 */
export class CaptureTurns {
  readonly #taken = new Map<VirtualClusterId, Promise<void>>();

  isTaken(virtualClusterId: VirtualClusterId): boolean {
    return this.#taken.has(virtualClusterId);
  }

  /** Begins at once when nobody has the turn. @throws CancelledError when the signal aborts before it comes */
  async run<T>(
    virtualClusterId: VirtualClusterId,
    use: () => Promise<T>,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<T> {
    for (let taken = this.#taken.get(virtualClusterId); taken !== undefined; ) {
      await untilEither(taken, signal);
      taken = this.#taken.get(virtualClusterId);
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#taken.set(virtualClusterId, promise);
    try {
      return await use();
    } finally {
      this.#taken.delete(virtualClusterId);
      resolve();
    }
  }
}

async function untilEither(ended: Promise<void>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<void>();
  const onAbort = () => aborted.reject(new CancelledError('cancelled', { cause: signal.reason }));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    if (signal.aborted) onAbort();
    await Promise.race([ended, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
