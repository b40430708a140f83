import { CancelledError, type Clock } from '../base/index.ts';

/** Late by so much, nobody minds; and a thousand deadlines that are a millisecond apart are seen to together. */
const TICK_MS = 20;

/** Somebody who must be done by a certain time. */
export interface Expiring {
  /** Called once, when its time is up. */
  expire(): void;
}

/**
 * By when others must be done. One timer serves them all: connections that have not logged in are many, cost their maker nothing, and a timer
 * with its signals is most of what one of them would cost us.
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #ends = new Map<Expiring, number>();
  readonly #closed = new AbortController();
  /** Until when the timer sleeps; infinite when there is none. */
  #wakesAtMs = Number.POSITIVE_INFINITY;
  #sleeping = new AbortController();

  constructor(options: { clock: Clock }) {
    this.#clock = options.clock;
  }

  get size(): number {
    return this.#ends.size;
  }

  /** Gives it so long from now, whatever it had before. */
  set(expiring: Expiring, options: { withinMs: number }): void {
    const atMs = this.#clock.monotonicMs() + options.withinMs;
    this.#ends.set(expiring, atMs);
    if (atMs < this.#wakesAtMs) this.#sleepUntil(atMs);
  }

  /** It is done; harmless when it was before. */
  clear(expiring: Expiring): void {
    this.#ends.delete(expiring);
  }

  /** Nobody expires any more. */
  close(): void {
    this.#ends.clear();
    this.#closed.abort();
    this.#sleeping.abort();
  }

  #sleepUntil(atMs: number): void {
    if (this.#closed.signal.aborted) return;
    this.#sleeping.abort();
    const sleeping = new AbortController();
    this.#sleeping = sleeping;
    this.#wakesAtMs = atMs;
    const ms = Math.max(atMs - this.#clock.monotonicMs(), 0);
    this.#clock.sleep(ms, { signal: sleeping.signal }).then(
      () => this.#wake(),
      (error: unknown) => {
        if (!(error instanceof CancelledError)) throw error;
      },
    );
  }

  #wake(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#wakesAtMs = Number.POSITIVE_INFINITY;
    let nextMs = Number.POSITIVE_INFINITY;
    const over: Expiring[] = [];
    for (const [expiring, atMs] of this.#ends) {
      if (atMs <= nowMs) over.push(expiring);
      else nextMs = Math.min(nextMs, atMs);
    }
    for (const expiring of over) this.#ends.delete(expiring);
    if (nextMs < Number.POSITIVE_INFINITY) this.#sleepUntil(Math.max(nextMs, nowMs + TICK_MS));
    for (const expiring of over) expiring.expire();
  }
}
