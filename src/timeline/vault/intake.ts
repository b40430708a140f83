/** How the log of a virtual cluster comes in: counted for whoever watches. No I/O. */
import { type Clock, Histogram, type Timestamp } from '../../base/index.ts';
import { INTAKE_BOUNDS_NANOS, type VaultIntake } from './intake-figures.ts';

/** What is looked at of the log, before and after something was done to it. */
interface LogTimes {
  /** Commits taken since it was opened. */
  readonly commits: number;
  /** Of the newest commit that was written. */
  readonly writtenTime: Timestamp | null;
  /** Of the newest that is durable. */
  readonly durableTime: Timestamp | null;
  readonly unsyncedBytes: number;
}

const NANOS_PER_MS = 1_000_000;
const NANOS_PER_US = 1_000n;

export class Intake {
  readonly #clock: Clock;
  #commits = 0;
  #waitedMs = 0;
  /** Null while something is taken. */
  #waitsSinceMs: number | null;
  readonly #flush = new Histogram(INTAKE_BOUNDS_NANOS);
  readonly #admit = new Histogram(INTAKE_BOUNDS_NANOS);
  readonly #commit = new Histogram(INTAKE_BOUNDS_NANOS);

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#waitsSinceMs = clock.monotonicMs();
  }

  /** Around the arrival of log. */
  async arriving(log: LogTimes, append: () => Promise<void>): Promise<void> {
    const { commits, writtenTime } = log;
    this.#waitedMs = this.#waitMs();
    this.#waitsSinceMs = null;
    try {
      await append();
    } finally {
      this.#waitsSinceMs = this.#clock.monotonicMs();
    }
    this.#commits += log.commits - commits;
    if (log.commits > commits && log.writtenTime !== writtenTime) this.#age(this.#admit, log.writtenTime);
  }

  /** Around making durable what has arrived. */
  async flushing(log: LogTimes, sync: () => Promise<void>): Promise<void> {
    const { durableTime, unsyncedBytes } = log;
    const begunMs = this.#clock.monotonicMs();
    await sync();
    // Another may have done it just before.
    if (unsyncedBytes === 0) return;
    this.#flush.observe((this.#clock.monotonicMs() - begunMs) * NANOS_PER_MS);
    if (log.durableTime !== durableTime) this.#age(this.#commit, log.durableTime);
  }

  get figures(): VaultIntake {
    return {
      commits: this.#commits,
      receiveWaitNanos: this.#waitMs() * NANOS_PER_MS,
      flush: this.#flush.figures,
      admitLatency: this.#admit.figures,
      commitLatency: this.#commit.figures,
    };
  }

  #waitMs(): number {
    if (this.#waitsSinceMs === null) return this.#waitedMs;
    return this.#waitedMs + this.#clock.monotonicMs() - this.#waitsSinceMs;
  }

  /** The source's clock may be ahead of ours. */
  #age(histogram: Histogram, time: Timestamp | null): void {
    if (time === null) return;
    histogram.observe(Math.max(0, Number((this.#clock.now() - time) * NANOS_PER_US)));
  }
}
