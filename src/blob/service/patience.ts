import { AppError, CancelledError, type Clock, isAppError, type Rng } from '../../base/index.ts';
import type { SignalOptions } from '../blob-store.ts';

/** How long requests to a service are tried again. */
export interface Patience {
  readonly clock: Clock;
  readonly rng: Rng;
  /** All attempts of one operation together, in milliseconds. */
  readonly operationMs: number;
  /** One attempt, in milliseconds, and as much more as its content may take: a request that hangs is given up and made again. */
  readonly attemptMs: number;
  /** A transfer that is no faster, of several that share a line, is as good as none; 64 KB/s when left out. */
  readonly bytesPerMsMin?: number;
}

const BYTES_PER_MS_MIN = 64;

const FIRST_DELAY_MS = 100;
const DELAY_MS_MAX = 20_000;

/** Of a request that carries so much content, one way or the other: over a slow line it must come to an end some time. */
export function attemptMsOf(
  { attemptMs, bytesPerMsMin = BYTES_PER_MS_MIN }: Pick<Patience, 'attemptMs' | 'bytesPerMsMin'>,
  contentBytes: number,
): number {
  return attemptMs + Math.ceil(contentBytes / bytesPerMsMin);
}

/**
 * Does `work` until it succeeds, fails for good, or the operation's time is over. Between attempts it waits twice as long
 * each time, less a random half, so that many clients of a service that comes back do not come back in step.
 * @throws CancelledError when the signal aborts; otherwise what the last attempt threw
 */
export async function withPatience<T>(
  patience: Patience,
  { signal, contentBytes = 0 }: SignalOptions & { readonly contentBytes?: number },
  work: (options: SignalOptions & { readonly attempt: number }) => Promise<T>,
): Promise<T> {
  const { clock } = patience;
  const attemptMs = attemptMsOf(patience, contentBytes);
  const begin = clock.monotonicMs();
  for (let attempt = 1; ; attempt++) {
    try {
      return await attemptOnce({ attemptMs, signal, attempt, work });
    } catch (error) {
      const isLast = clock.monotonicMs() - begin + delayMs(attempt) >= patience.operationMs;
      if (!isAppError(error, 'blob_unavailable') || isLast) throw error;
    }
    await clock.sleep(jittered(patience.rng, delayMs(attempt)), { signal });
  }
}

async function attemptOnce<T>(options: {
  readonly attemptMs: number;
  readonly signal: AbortSignal;
  readonly attempt: number;
  readonly work: (options: SignalOptions & { readonly attempt: number }) => Promise<T>;
}): Promise<T> {
  const { attemptMs, signal, attempt, work } = options;
  if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
  const timeout = AbortSignal.timeout(attemptMs);
  try {
    return await work({ signal: AbortSignal.any([signal, timeout]), attempt });
  } catch (error) {
    if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
    if (!timeout.aborted || isAppError(error, 'blob_exists')) throw error;
    throw new AppError(
      'blob_unavailable',
      `object storage did not answer within ${Math.round(attemptMs / 1000)} s`,
    );
  }
}

function delayMs(attempt: number): number {
  return Math.min(FIRST_DELAY_MS * 2 ** Math.min(attempt - 1, 20), DELAY_MS_MAX);
}

function jittered(rng: Rng, ms: number): number {
  const [byte = 0] = rng.bytes(1);
  return Math.round(ms * (0.5 + byte / 510));
}
