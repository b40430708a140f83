/**
 * Turns segments that are full into log objects, one at a time for the whole process: they wait on disk, not in memory. While log floods in
 * they wait for its end, as long as they are not too many: receiving it is what somebody waits for.
 */
import { statfs } from 'node:fs/promises';
import { type Clock, errnoOf } from '../../base/index.ts';
import { ThreadPool } from '../worker/thread-pool.ts';
import type { FullSegment } from './close-segment.ts';
import { Flood, LOOK_MS } from './flood.ts';

/** How long after a failure it is tried again. */
const RETRY_MS = 2000;
/** More do not wait for the end of a flood: 1 GiB, which compression makes a third of that. */
export const WAITING_SEGMENTS_MAX = 64;
/** With less room on the disk none waits: others look at what is free, and make way for want of it. */
const ROOM_TO_WAIT_BYTES = 8n << 30n;
const SCRIPT = new URL('./close-thread.ts', import.meta.url);

/** A segment that waits, and who wants to know of it. */
export interface WaitingSegment {
  readonly full: FullSegment;
  /** Tells how many bytes on disk it saved. */
  readonly onClosed: (savedBytes: number) => void;
  /** Told of every failure; it is tried again. */
  readonly onFailed: (error: unknown) => void;
}

export class SegmentCloser {
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #flood: Flood;
  readonly #waiting: WaitingSegment[] = [];
  /** Started with the first segment: a node that is idle has none. */
  #thread: ThreadPool<FullSegment, number> | null = null;
  #running: Promise<void> | null = null;

  /** The signal ends it behind the segment that is under way. */
  constructor(options: {
    readonly clock: Clock;
    /** All that the process has received so far. */
    readonly receivedBytes: () => bigint;
    readonly signal: AbortSignal;
  }) {
    this.#clock = options.clock;
    this.#flood = new Flood(options);
    this.#signal = options.signal;
  }

  add(waiting: WaitingSegment): void {
    this.#waiting.push(waiting);
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
  }

  /** What is left undone is done by the next process. */
  async settled(): Promise<void> {
    await this.#running;
    await this.#endThread();
  }

  async #run(): Promise<void> {
    for (;;) {
      await this.#untilItsTurn();
      const next = this.#waiting[0];
      if (next === undefined || this.#signal.aborted) return;
      try {
        next.onClosed(await this.#close(next.full));
        this.#waiting.shift();
      } catch (error) {
        if (this.#signal.aborted) return;
        next.onFailed(error);
        // The others go first: one that cannot be closed must not hold them up.
        this.#waiting.push(...this.#waiting.splice(0, 1));
        // Should the thread itself have died, the next attempt has another.
        await this.#endThread();
        await this.#clock.sleep(RETRY_MS, { signal: this.#signal }).catch(() => undefined);
      }
    }
  }

  async #untilItsTurn(): Promise<void> {
    for (;;) {
      const next = this.#waiting[0];
      const mayWait = !this.#signal.aborted && this.#waiting.length <= WAITING_SEGMENTS_MAX;
      if (next === undefined || !mayWait || !this.#flood.isOn()) return;
      if (!(await hasRoom(next.full.directory))) return;
      await this.#clock.sleep(LOOK_MS, { signal: this.#signal }).catch(() => undefined);
    }
  }

  #close(full: FullSegment): Promise<number> {
    const { signal } = new AbortController();
    this.#thread ??= new ThreadPool({ script: SCRIPT, threads: 1, dataOf: () => null, signal });
    return this.#thread.run(full);
  }

  async #endThread(): Promise<void> {
    const thread = this.#thread;
    this.#thread = null;
    await thread?.[Symbol.asyncDispose]();
  }
}

/** A folder that cannot be looked at is one whose segments cannot wait: closing them says why. */
async function hasRoom(directory: string): Promise<boolean> {
  try {
    const { bavail, bsize } = await statfs(directory, { bigint: true });
    return bavail * bsize >= ROOM_TO_WAIT_BYTES;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return false;
  }
}
