/** For how long producers keep log when they hear nothing of their consumers: as the setting says, as the consumer asked, or as the source's operator did. */
import type { JobId } from '../../base/index.ts';
import type { JsonObject } from '../../catalog/index.ts';

/** Of one producer, in microseconds. The last who said something counts; null: the setting. */
interface ExpirationWindow {
  readonly us: bigint | null;
  /** What its consumer said last, which it repeats with every report. */
  readonly reportedUs: bigint | null;
}

const AS_SET: ExpirationWindow = { us: null, reportedUs: null };

/** In memory; the producer's job writes down what has changed. */
export class ExpirationWindows {
  readonly #windows = new Map<JobId, ExpirationWindow>();
  readonly #unsaved = new Map<JobId, PromiseWithResolvers<void>>();

  /** Takes up what an earlier run of the job has written down. */
  begin(jobId: JobId, progress: JsonObject): Disposable {
    const us = durationOf(progress['expirationWindowUs']);
    const reportedUs = durationOf(progress['reportedWindowUs']);
    if (!this.#windows.has(jobId)) this.#windows.set(jobId, { us, reportedUs });
    return {
      [Symbol.dispose]: () => {
        this.#windows.delete(jobId);
        this.#unsaved.get(jobId)?.resolve();
        this.#unsaved.delete(jobId);
      },
    };
  }

  get(jobId: JobId): bigint | null {
    return this.#windows.get(jobId)?.us ?? null;
  }

  /** With every report of a consumer. What it has not changed does not undo what was said here. */
  noteReported(jobId: JobId, reportedUs: bigint | null): void {
    const { reportedUs: before } = this.#windows.get(jobId) ?? AS_SET;
    if (reportedUs === null || reportedUs === before) return;
    this.#change(jobId, { us: reportedUs, reportedUs });
  }

  /** Resolves when it is written down, or the stream is over. */
  async set(jobId: JobId, us: bigint): Promise<void> {
    const { reportedUs } = this.#windows.get(jobId) ?? AS_SET;
    await this.#change(jobId, { us, reportedUs }).promise;
  }

  /** Writes down what has changed. */
  async save(jobId: JobId, write: (progress: JsonObject) => Promise<void>): Promise<void> {
    const unsaved = this.#unsaved.get(jobId);
    const window = this.#windows.get(jobId);
    if (unsaved === undefined || window === undefined) return;
    const textOf = (us: bigint | null) => (us === null ? null : String(us));
    await write({ expirationWindowUs: textOf(window.us), reportedWindowUs: textOf(window.reportedUs) });
    if (this.#windows.get(jobId) !== window) return;
    this.#unsaved.delete(jobId);
    unsaved.resolve();
  }

  #change(jobId: JobId, window: ExpirationWindow): PromiseWithResolvers<void> {
    this.#windows.set(jobId, window);
    const unsaved = this.#unsaved.get(jobId) ?? Promise.withResolvers<void>();
    this.#unsaved.set(jobId, unsaved);
    return unsaved;
  }
}

function durationOf(value: JsonObject[string] | undefined): bigint | null {
  return typeof value === 'string' && /^\d{1,19}$/.test(value) ? BigInt(value) : null;
}
