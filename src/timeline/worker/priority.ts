import { readdirSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { errnoOf } from '../../base/index.ts';
import { workerClock } from './worker-environment.ts';

/** Niceness of bulk work: any session's process goes first. */
export const BULK_NICENESS = 10;

/**
 * Set to anything by tests, which saturate the machine for as long as they last: there bulk work that stands back hardly gets on. Workers' sessions
 * then count as much as any other.
 */
export const EQUAL_SESSIONS_VARIABLE = 'ATOLL_TEST_EQUAL_SESSIONS';

/** The kernel takes one such change each tenth of a second, of all users together but root. */
const AGAIN_MS = 100;
const ATTEMPTS_MAX = 50;

/**
 * Lowers the priority of this process for good. On Linux niceness belongs to threads, so those that run already are
 * lowered one by one; later ones inherit it. Where the kernel groups processes by session ("autogroup"), niceness counts within the
 * group only, and the group has a niceness of its own: that of a process which leads its session is set, too, as soon as the kernel
 * takes it. See docs/decisions/0016-making-way.md.
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
  if (process.env[EQUAL_SESSIONS_VARIABLE] === undefined) void lowerSession();
}

/** Never rejects: a process without it works as well, at the cost of others. */
async function lowerSession(): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    try {
      writeFileSync('/proc/self/autogroup', String(BULK_NICENESS));
      return;
    } catch (error) {
      if (errnoOf(error) !== 'EAGAIN') return; // This kernel has no such groups.
    }
    await workerClock.sleep(AGAIN_MS, { signal: new AbortController().signal });
  }
}
