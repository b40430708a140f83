/** Keeps what is shown of a job's progress at most a second old, without a write per report. */
import type { Clock } from '../base/index.ts';

export interface ShownProgress {
  readonly fraction: number;
  readonly runningStatus: string;
}

/** Least time between two writes of one job's progress. */
export const PROGRESS_INTERVAL_MS = 1000;

export class ProgressWriter {
  readonly #clock: Clock;
  readonly #write: (progress: ShownProgress) => Promise<void>;
  readonly #ended = new AbortController();
  #latest: ShownProgress | undefined;
  #fraction = 0;
  #writing: Promise<void> | undefined;
  #lastWriteMs = Number.NEGATIVE_INFINITY;

  constructor(options: { clock: Clock; write: (progress: ShownProgress) => Promise<void> }) {
    this.#clock = options.clock;
    this.#write = options.write;
  }

  report(progress: ShownProgress): void {
    if (this.#ended.signal.aborted) return;
    this.#fraction = Math.min(1, Math.max(this.#fraction, progress.fraction));
    this.#latest = { fraction: this.#fraction, runningStatus: progress.runningStatus };
    this.#writing ??= this.#writeInTime();
  }

  /** No write is under way or will follow when this returns. */
  async end(): Promise<void> {
    this.#ended.abort();
    await this.#writing;
  }

  async #writeInTime(): Promise<void> {
    try {
      while (this.#latest !== undefined && !this.#ended.signal.aborted) {
        const waitMs = this.#lastWriteMs + PROGRESS_INTERVAL_MS - this.#clock.monotonicMs();
        if (waitMs > 0) await this.#sleep(waitMs);
        if (this.#ended.signal.aborted) return;
        const progress = this.#latest;
        this.#latest = undefined;
        this.#lastWriteMs = this.#clock.monotonicMs();
        await this.#write(progress);
      }
    } finally {
      this.#writing = undefined;
    }
  }

  /** Ends early, without an error, when the writer ends. */
  async #sleep(ms: number): Promise<void> {
    try {
      await this.#clock.sleep(ms, { signal: this.#ended.signal });
    } catch (error) {
      if (!this.#ended.signal.aborted) throw error;
    }
  }
}
