/** Whether log comes in faster than both receiving and compressing it leave CPU for. Pure but for what it remembers. */
import type { Clock } from '../../base/index.ts';

/** From this on it is a flood: a backlog, or a bulk load. Per second. */
export const FLOOD_BYTES = 32 * 1024 * 1024;
/** A shorter stretch says nothing. */
export const LOOK_MS = 100;

interface Look {
  readonly atMs: number;
  readonly receivedBytes: bigint;
}

export class Flood {
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #receivedBytes: () => bigint;
  #last: Look;
  #isOn = false;

  /** @param options.receivedBytes all that was received so far */
  constructor(options: { readonly clock: Pick<Clock, 'monotonicMs'>; readonly receivedBytes: () => bigint }) {
    this.#clock = options.clock;
    this.#receivedBytes = options.receivedBytes;
    this.#last = this.#look();
  }

  /** As of the stretch since it was asked last, when that was long enough; else as it was then. */
  isOn(): boolean {
    const look = this.#look();
    const elapsedMs = look.atMs - this.#last.atMs;
    if (elapsedMs < LOOK_MS) return this.#isOn;
    const bytes = Number(look.receivedBytes - this.#last.receivedBytes);
    this.#isOn = (bytes * 1000) / elapsedMs >= FLOOD_BYTES;
    this.#last = look;
    return this.#isOn;
  }

  #look(): Look {
    return { atMs: this.#clock.monotonicMs(), receivedBytes: this.#receivedBytes() };
  }
}
