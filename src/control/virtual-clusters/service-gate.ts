/** Whether clients are let into a virtual cluster now; who comes too early waits for a bounded time. */
import type { Clock, VirtualClusterId } from '../../base/index.ts';
import { AppError, CancelledError } from '../../base/index.ts';

export class ServiceGates {
  readonly #clock: Clock;
  readonly #open = new Set<VirtualClusterId>();
  readonly #waiting = new Map<VirtualClusterId, Set<() => void>>();

  constructor(options: { clock: Clock }) {
    this.#clock = options.clock;
  }

  isOpen(virtualClusterId: VirtualClusterId): boolean {
    return this.#open.has(virtualClusterId);
  }

  open(virtualClusterId: VirtualClusterId): void {
    this.#open.add(virtualClusterId);
    for (const wake of this.#waiting.get(virtualClusterId) ?? []) wake();
  }

  close(virtualClusterId: VirtualClusterId): void {
    this.#open.delete(virtualClusterId);
  }

  /** @throws AppError `cannot_connect_now` when it has not opened after `timeoutMs`; CancelledError */
  async whenOpen(
    virtualClusterId: VirtualClusterId,
    options: { name: string; timeoutMs: number; signal: AbortSignal },
  ): Promise<void> {
    if (this.isOpen(virtualClusterId)) return;
    const opened = Promise.withResolvers<void>();
    const waiting = this.#waiting.get(virtualClusterId) ?? new Set();
    this.#waiting.set(virtualClusterId, waiting.add(opened.resolve));
    const done = new AbortController();
    const signal = AbortSignal.any([options.signal, done.signal]);
    const timeout = this.#clock.sleep(options.timeoutMs, { signal }).then(
      () => opened.reject(stillStarting(options.name)),
      () => opened.reject(new CancelledError()),
    );
    try {
      await opened.promise;
    } finally {
      done.abort();
      await timeout;
      waiting.delete(opened.resolve);
      if (waiting.size === 0) this.#waiting.delete(virtualClusterId);
    }
  }
}

function stillStarting(name: string): AppError {
  return new AppError('cannot_connect_now', `virtual cluster "${name}" is starting up`, {
    hint: 'try again in a moment',
  });
}
