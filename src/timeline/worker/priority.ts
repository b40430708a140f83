import { readdirSync } from 'node:fs';
import { setPriority } from 'node:os';

/** Niceness of bulk work: any session's process goes first. */
export const BULK_NICENESS = 10;

/**
 * Lowers the priority of this process for good. On Linux niceness belongs to threads, so those that run already are
 * lowered one by one; later ones inherit it.
 */
export function lowerPriority(): void {
  setPriority(BULK_NICENESS);
  if (process.platform !== 'linux') return;
  for (const thread of readdirSync('/proc/self/task')) {
    try {
      setPriority(Number(thread), BULK_NICENESS);
    } catch {
      // The thread ended meanwhile.
    }
  }
}
