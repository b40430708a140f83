import { setTimeout as sleep } from 'node:timers/promises';

/** Longest any condition of a test may take; generous, because tests never measure speed. */
const WAIT_MS_MAX = 120_000;

/** Polls until `probe` gives something other than undefined or false. Errors of the probe count as "not yet". */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  options: { timeoutMs?: number } = {},
): Promise<T> {
  const deadline = performance.now() + (options.timeoutMs ?? WAIT_MS_MAX);
  let lastError: unknown;
  while (performance.now() < deadline) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      lastError = error;
    }
    await sleep(20);
  }
  throw new Error(`waited in vain for ${what}`, { cause: lastError });
}
