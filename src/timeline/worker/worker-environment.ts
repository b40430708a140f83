/** Time and randomness of a bulk worker, which is a process of its own. */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { CancelledError, type Clock, type Rng, timestampFromMs } from '../../base/index.ts';

export const workerRng: Rng = { bytes: (length) => new Uint8Array(randomBytes(length)) };

export const workerClock: Clock = {
  now: () => timestampFromMs(performance.timeOrigin + performance.now()),
  monotonicMs: () => performance.now(),
  async sleep(ms, { signal }) {
    try {
      await delay(ms, undefined, { signal });
    } catch (error) {
      throw new CancelledError('cancelled while waiting', { cause: error });
    }
  },
};
