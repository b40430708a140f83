import type { Core } from './core.ts';

/** How long somebody may take who is asked for figures. */
const ANSWER_MS_MAX = 2000;

/** What `ask` gives; undefined when it fails or takes too long: who is stopping, starting or overloaded is worth no error. */
export async function inTime<T>(
  core: Core,
  options: { signal: AbortSignal },
  ask: (wait: { signal: AbortSignal }) => Promise<T>,
): Promise<T | undefined> {
  const finished = new AbortController();
  const tooLate = new AbortController();
  const timer = core.options.clock
    .sleep(ANSWER_MS_MAX, { signal: AbortSignal.any([options.signal, finished.signal]) })
    .then(
      () => tooLate.abort(),
      () => undefined,
    );
  try {
    return await ask({ signal: AbortSignal.any([options.signal, tooLate.signal]) });
  } catch {
    return undefined;
  } finally {
    finished.abort();
    await timer;
  }
}
