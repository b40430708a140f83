import { setTimeout as delay } from 'node:timers/promises';
import { CancelledError, type Clock, type Timestamp } from '../base/index.ts';

/** How far the wall clock may drift from our finer reading of it before we follow it, in microseconds. */
const STEP_US = 2000n;

/**
 * The machine's clock. The wall clock is read in microseconds: the monotonic clock refines the milliseconds that
 * JavaScript offers, and is anchored anew whenever the wall clock was stepped.
 */
export function systemClock(): Clock {
  let anchorUs = wallUs() - monotonicUs();
  return {
    now(): Timestamp {
      const coarseUs = wallUs();
      const fineUs = monotonicUs() + anchorUs;
      const distanceUs = fineUs - coarseUs;
      if (distanceUs >= -STEP_US && distanceUs <= STEP_US) return fineUs as Timestamp;
      anchorUs = coarseUs - monotonicUs();
      return coarseUs as Timestamp;
    },
    monotonicMs: () => performance.now(),
    async sleep(ms, { signal }) {
      try {
        await delay(ms, undefined, { signal });
      } catch (error) {
        throw new CancelledError('cancelled while waiting', { cause: error });
      }
    },
  };
}

function wallUs(): bigint {
  return BigInt(Date.now()) * 1000n;
}

function monotonicUs(): bigint {
  return process.hrtime.bigint() / 1000n;
}
