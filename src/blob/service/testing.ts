/** For tests of drivers: real time, and little patience. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Timestamp } from '../../base/index.ts';
import type { Patience } from './patience.ts';

export const testPatience: Patience = {
  clock: {
    now: () => 0n as Timestamp,
    monotonicMs: () => performance.now(),
    sleep: (ms, options) => sleep(ms, undefined, options),
  },
  rng: { bytes: (length: number) => new Uint8Array(randomBytes(length)) },
  operationMs: 60_000,
  attemptMs: 30_000,
  // What hangs on purpose is not waited for longer because it is long.
  bytesPerMsMin: Number.POSITIVE_INFINITY,
};
