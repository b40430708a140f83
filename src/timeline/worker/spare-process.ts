import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../base/index.ts';
import type { FoundCell } from './cell.ts';
import { FAULT_POINT_VARIABLE } from './fault-point.ts';
import { SPARE_MS_MAX } from './messages.ts';
import type { WorkerProcess } from './worker-process.ts';

/** A process is not given work when it may just be ending because none came for so long. */
const MARGIN_MS = 10_000;

/**
 * The process of the last work, kept for the next one: it has loaded its code, and the engine has compiled what runs often. One at most; it
 * ends by itself when nothing comes for `SPARE_MS_MAX`, and when this process ends. See docs/decisions/0037-warm-workers.md.
 */
export class SpareProcess {
  readonly #clock: Clock;
  #kept: { readonly worker: WorkerProcess; readonly cell: FoundCell; readonly sinceMs: number } | null = null;

  constructor({ clock }: { readonly clock: Clock }) {
    this.#clock = clock;
  }

  /** Whether a process may stay when its work is done. Where a test cuts processes off, each is told where when it starts. */
  get mayStay(): boolean {
    return process.env[FAULT_POINT_VARIABLE] === undefined;
  }

  /** The one that was kept, or null, also when it can reach other things than this cell. It is the caller's now. */
  take(cell: FoundCell): WorkerProcess | null {
    const kept = this.#kept;
    this.#kept = null;
    if (kept === null || kept.worker.hasEnded) return null;
    if (!isDeepStrictEqual(kept.cell, cell)) {
      kept.worker.end();
      return null;
    }
    if (!this.mayStay || this.#clock.monotonicMs() - kept.sinceMs > SPARE_MS_MAX - MARGIN_MS) {
      kept.worker.end();
      return null;
    }
    kept.worker.setWaiting(false);
    return kept.worker;
  }

  /** Keeps a process that waits for more; any other one that was kept is ended. */
  keep(worker: WorkerProcess, cell: FoundCell): void {
    this.#kept?.worker.end();
    worker.setWaiting(true);
    this.#kept = { worker, cell, sinceMs: this.#clock.monotonicMs() };
  }
}
