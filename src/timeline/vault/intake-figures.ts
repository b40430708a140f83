import type { HistogramFigures } from '../../base/index.ts';

/** In nanoseconds: 0.1 ms to a minute. */
export const INTAKE_BOUNDS_NANOS: readonly number[] = [
  0.1, 1, 5, 20, 100, 500, 1000, 5000, 20_000, 60_000,
].map((ms) => ms * 1_000_000);

/** Since reception began; durations in nanoseconds, counted between `INTAKE_BOUNDS_NANOS`. */
export interface VaultIntake {
  /** Transactions whose end has arrived. */
  readonly commits: number;
  /** Without any log to take: from one piece to the next, and since the newest. */
  readonly receiveWaitNanos: number;
  /** What it took to make log durable. */
  readonly flush: HistogramFigures;
  /** From a commit to its arrival, and until it was durable; of the newest one each time that something came. */
  readonly admitLatency: HistogramFigures;
  readonly commitLatency: HistogramFigures;
}

const NONE: HistogramFigures = { counts: [...INTAKE_BOUNDS_NANOS, Infinity].map(() => 0), sum: 0 };

export const NO_INTAKE: VaultIntake = {
  commits: 0,
  receiveWaitNanos: 0,
  flush: NONE,
  admitLatency: NONE,
  commitLatency: NONE,
};
