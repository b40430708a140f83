import assert from 'node:assert/strict';
import { CancelledError, type Clock, type Timestamp } from '../../src/base/index.ts';

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

/** Time for tests: it moves when `advance` is called, and wakes who slept long enough. */
export class ManualClock implements Clock {
  readonly #startUs: bigint;
  readonly #sleepers = new Set<Sleeper>();
  #elapsedMs = 0;

  constructor(start: Timestamp = 1_700_000_000_000_000n as Timestamp) {
    this.#startUs = start;
  }

  /** How many sleep now. */
  get sleeperCount(): number {
    return this.#sleepers.size;
  }

  /** Work without I/O goes on until all of it sleeps. Throws when it does not come to that. */
  async whenAsleep(): Promise<void> {
    // Who has just been woken, or told of an abort, goes on in later turns.
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    assert.ok(this.#sleepers.size > 0, 'nobody sleeps');
  }

  now(): Timestamp {
    return (this.#startUs + BigInt(this.#elapsedMs) * 1000n) as Timestamp;
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  async sleep(ms: number, options: { signal: AbortSignal }): Promise<void> {
    const { signal } = options;
    if (signal.aborted) throw new CancelledError();
    if (ms <= 0) return;
    await new Promise<void>((resolve, reject) => {
      const onAbort = () => {
        this.#sleepers.delete(sleeper);
        reject(new CancelledError());
      };
      const sleeper: Sleeper = {
        dueMs: this.#elapsedMs + ms,
        wake: () => {
          this.#sleepers.delete(sleeper);
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#sleepers.add(sleeper);
    });
  }

  /** Moves time by whole milliseconds. */
  advance(ms: number): void {
    this.#elapsedMs += ms;
    const due = [...this.#sleepers].filter((sleeper) => sleeper.dueMs <= this.#elapsedMs);
    for (const sleeper of due) sleeper.wake();
  }
}
