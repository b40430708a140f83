/** Numbers of jobs: ordered by time, unique across the nodes of a physical cluster. */
import type { Clock, JobId } from '../base/index.ts';
import { assert } from '../base/index.ts';

/** Numbers count 10 µs units from here, 2015-01-01 in UTC. */
const EPOCH_US = 1_420_070_400_000_000n;
const UNIT_US = 10n;
const NODE_BITS = 15n;

/** Highest node number that fits. */
export const NODE_ID_MAX = 2 ** 15 - 1;

export class JobIdSource {
  readonly #clock: Clock;
  readonly #nodeId: bigint;
  #lastUnit = 0n;

  constructor(options: { clock: Clock; nodeId: number }) {
    assert(options.nodeId > 0 && options.nodeId <= NODE_ID_MAX, 'node number out of range');
    this.#clock = options.clock;
    this.#nodeId = BigInt(options.nodeId);
  }

  /** Later numbers will be above `id`, also when the clock has stepped back since it was given. */
  noteUsed(id: bigint): void {
    const unit = id >> NODE_BITS;
    if (unit > this.#lastUnit) this.#lastUnit = unit;
  }

  next(): JobId {
    const unit = (this.#clock.now() - EPOCH_US) / UNIT_US;
    this.#lastUnit = unit > this.#lastUnit ? unit : this.#lastUnit + 1n;
    return ((this.#lastUnit << NODE_BITS) | this.#nodeId) as JobId;
  }
}
