import { randomBytes } from 'node:crypto';
import type { Rng } from '../base/index.ts';

/** The kernel's random bytes. */
export function systemRng(): Rng {
  return { bytes: (length) => randomBytes(length) };
}
