import { setTimeout as sleep } from 'node:timers/promises';

/** Longest any condition of a test may take; generous, because tests never measure speed. */
const WAIT_MS_MAX = 300_000;
/**
 * Between two probes: a tenth of what has been waited, within these. A probe that asks a daemon takes a connection and some CPU; asked fifty
 * times a second it would take more of it than what is waited for.
 */
const PAUSE_MS = { min: 10, max: 100 };

/** Polls until `probe` gives something other than undefined or false. Errors of the probe count as "not yet". */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  options: { timeoutMs?: number } = {},
): Promise<T> {
  const begunMs = performance.now();
  const waitedMs = () => performance.now() - begunMs;
  const timeoutMs = options.timeoutMs ?? WAIT_MS_MAX;
  let lastError: unknown;
  while (waitedMs() < timeoutMs) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      lastError = error;
    }
    await sleep(Math.min(Math.max(PAUSE_MS.min, waitedMs() / 10), PAUSE_MS.max));
  }
  throw new Error(`waited in vain for ${what}`, { cause: lastError });
}
