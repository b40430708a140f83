import { readdirSync, readFileSync } from 'node:fs';
import { errnoOf } from '../../base/index.ts';

/** How often the pressure is looked at. */
export const LIMITER_INTERVAL_MS = 100;
/** At most this part of its working time a thread rests after each frame: a quarter of its speed. */
const REST_PERMILLE_MAX = 3000;
/** Pressure of others below this is noise. */
const PRESSURE_MIN = 0.05;
/** Pressure of others at which we go at half speed, and from which on twice as steeply to the least. */
const PRESSURE_HALF = 0.3;
const REST_PERMILLE_HALF = 1000;
const NANOSECONDS_PER_MS = 1_000_000;

/** Memory shared with threads: how long to rest per time worked, in thousandths. */
export type RestCell = Int32Array<SharedArrayBuffer>;

export function createRestCell(): RestCell {
  return new Int32Array(new SharedArrayBuffer(8));
}

/** Rests as long as the cell says for the time that was worked. Blocks the thread. */
export function rest(cell: RestCell, { workedMs }: { readonly workedMs: number }): void {
  const permille = Atomics.load(cell, 0);
  if (permille > 0) Atomics.wait(cell, 1, 0, (workedMs * permille) / 1000);
}

/** One reading of how long tasks of the machine, and our own threads, have waited for a CPU since they began. */
export interface PressureReading {
  readonly atMs: number;
  readonly anyWaitingMs: number;
  readonly ownWaitingMs: number;
}

/** Reads it from the kernel, or null where it does not tell. */
export function readPressure({ atMs }: { readonly atMs: number }): PressureReading | null {
  try {
    const match = /^some .*\btotal=(\d+)$/m.exec(readFileSync('/proc/pressure/cpu', 'latin1'));
    if (match === null) return null;
    let ownNs = 0;
    for (const thread of readdirSync('/proc/self/task')) {
      ownNs += Number(readSchedule(thread).split(' ')[1] ?? 0);
    }
    return { atMs, anyWaitingMs: Number(match[1]) / 1000, ownWaitingMs: ownNs / NANOSECONDS_PER_MS };
  } catch (error) {
    if (errnoOf(error) !== undefined) return null;
    throw error;
  }
}

/**
 * How much to rest, given two readings: nothing while only we wait (our low priority already sees to it that others go
 * first), more the more others wait too.
 */
export function restPermille(before: PressureReading, after: PressureReading): number {
  const elapsedMs = after.atMs - before.atMs;
  if (elapsedMs <= 0) return 0;
  const any = (after.anyWaitingMs - before.anyWaitingMs) / elapsedMs;
  const own = Math.min(1, Math.max(0, after.ownWaitingMs - before.ownWaitingMs) / elapsedMs);
  const others = any - own;
  if (others < PRESSURE_MIN) return 0;
  const toHalf = Math.min(1, others / PRESSURE_HALF);
  const beyond = Math.max(0, others / PRESSURE_HALF - 1);
  const permille = toHalf * REST_PERMILLE_HALF + beyond * (REST_PERMILLE_MAX - REST_PERMILLE_HALF);
  return Math.round(Math.min(permille, REST_PERMILLE_MAX));
}

function readSchedule(thread: string): string {
  try {
    return readFileSync(`/proc/self/task/${thread}/schedstat`, 'latin1');
  } catch {
    return ''; // The thread ended meanwhile.
  }
}
