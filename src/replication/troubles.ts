/** Which troubles of a stream pass by themselves, and how long they are waited out. */
import { AppError, type Clock, errnoOf } from '../base/index.ts';

/** Between two attempts: twice as long each time. */
export const RETRY_MS = { first: 250, max: 10_000 } as const;

/** What people can do when nothing is tried any more. */
export const GIVEN_UP_HINT =
  'RESUME REPLICATION tries again; COMPLETE REPLICATION fails over to what there is';

/** How long something has not gone well, and how long to wait before it is tried again. */
export class Troubles {
  readonly #clock: Clock;
  #beginMs: number | null = null;
  #retryMs: number = RETRY_MS.first;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get sinceMs(): number {
    return this.#beginMs === null ? 0 : this.#clock.monotonicMs() - this.#beginMs;
  }

  get retryMs(): number {
    return this.#retryMs;
  }

  note(): void {
    this.#retryMs = this.#beginMs === null ? RETRY_MS.first : Math.min(this.#retryMs * 2, RETRY_MS.max);
    this.#beginMs ??= this.#clock.monotonicMs();
  }

  forget(): void {
    this.#beginMs = null;
  }
}

/** What was waited for long enough. */
export class GivenUpError extends AppError {}

/** Connections that are lost, and servers that end or begin; ours say so by their codes, Postgres and the system by theirs. */
export function isPassing(error: unknown): boolean {
  if (error instanceof AppError) return error.row.retry !== 'never' && !(error instanceof GivenUpError);
  return /^(?:57P0|08|53300|E[A-Z]{3,})/.test(errnoOf(error) ?? '');
}
