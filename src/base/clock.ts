import type { Timestamp } from './brands.ts';

/** Time, passed in so that tests can own it. The real one is made in `daemon`. */
export interface Clock {
  /** Wall clock in microseconds since 1970, UTC. May step. */
  now(): Timestamp;
  /** Milliseconds from an arbitrary start; never steps back. */
  monotonicMs(): number;
  /** Resolves after `ms`. @throws CancelledError when `signal` aborts first */
  sleep(ms: number, options: { signal: AbortSignal }): Promise<void>;
}

/** Random bytes, passed in so that tests can seed them. */
export interface Rng {
  bytes(length: number): Uint8Array;
}
