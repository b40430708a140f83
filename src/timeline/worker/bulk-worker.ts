import { AppError, CancelledError, type Clock, type Logger } from '../../base/index.ts';
import type { BackupProgress, BulkWorker } from '../contract.ts';
import { cellOf, findCell, NOTHING } from './cell.ts';
import type { Confinement } from './confinement.ts';
import type { BulkWork, WorkOutcome } from './messages.ts';
import type { SpareProcess } from './spare-process.ts';
import { fromWireError } from './wire-error.ts';
import { type Carried, WorkerProcess } from './worker-process.ts';

/**
 * Carries out bulk work in processes of their own, one work at a time in each, of low priority. Requests and keys travel over the
 * process's private channel. A worker ends with its work (unless it becomes the `spare` one for a while), when it is cancelled, or
 * when this process ends.
 */
export function createBulkWorker(options: {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Make way when others wait for the CPU; on unless set to false. */
  readonly isLimited?: boolean;
  /** What keeps a process for the next work; without it each has a process of its own. */
  readonly spare?: SpareProcess;
  /** What keeps each process to what its work needs; without it they reach all that our user can. */
  readonly confinement?: Confinement;
}): BulkWorker {
  const { clock, logger, isLimited = true, ...processes } = options;
  return {
    async backup(request, { onProgress, signal }) {
      const outcome = await runWorker(
        { kind: 'backup', request },
        { clock, logger, isLimited, onProgress, signal, ...processes },
      );
      if (outcome.kind === 'backup_done') return outcome.result;
      throw failureOf(outcome);
    },
    async materialize(request, { onProgress, signal }) {
      const outcome = await runWorker(
        { kind: 'materialize', request },
        { clock, logger, isLimited, onProgress, signal, ...processes },
      );
      if (outcome.kind === 'materialize_done') return outcome.result;
      throw failureOf(outcome);
    },
  };
}

/** What every work in a process of its own is given. */
export interface RunOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly isLimited: boolean;
  readonly onProgress: (progress: BackupProgress) => void;
  readonly signal: AbortSignal;
  readonly spare?: SpareProcess;
  readonly confinement?: Confinement;
}

/** Resolves or rejects only when the process has ended, does nothing any more but end, or is kept as the spare one. */
export async function runWorker(work: BulkWork, options: RunOptions): Promise<WorkOutcome> {
  const { logger, signal, spare, confinement } = options;
  if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
  const confine = (await confinement?.confine()) ?? null;
  const of = cellOf(work);
  const processOptions = {
    ...heapFor(work),
    hasNodeCredentials: of.hasOwnRights,
    cell: confine === null ? null : { of, confine },
  };
  // Where there are no cells, processes differ in nothing but the rights that they were given.
  const cell = await findCell(confine === null ? { ...NOTHING, hasOwnRights: of.hasOwnRights } : of);
  const kept = spare?.take(cell) ?? null;
  let worker = kept ?? new WorkerProcess(processOptions);
  let carried = await give(work, { ...options, worker });
  if (kept !== null && !carried.isBegun && !signal.aborted) {
    // It ended while it waited: nothing of the work was done.
    worker = new WorkerProcess(processOptions);
    carried = await give(work, { ...options, worker });
  }
  const { outcome, end } = carried;
  const errors = worker.takeErrors();
  if (errors !== '') logger.warning(`bulk worker: ${errors}`);
  if (end === null) spare?.keep(worker, cell);
  if (outcome !== null) return outcome;
  if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
  throw new AppError('worker_lost', `the process that did the ${work.kind} ended unexpectedly (${end})`, {
    detail: errors,
    hint: 'it is tried again; if it happens again, look for a lack of memory',
  });
}

/**
 * What is expanded is garbage as soon as it is written: half a megabyte of each frame, beside a heap of ten. By itself the engine looks through
 * all of that heap for every twenty frames. docs/decisions/0100-speed-of-restores.md
 */
function heapFor({ kind }: BulkWork): { readonly heapGrowingPercent?: number } {
  return kind === 'materialize' || kind === 'materialize_point' ? { heapGrowingPercent: 500 } : {};
}

function give(work: BulkWork, options: RunOptions & { worker: WorkerProcess }): Promise<Carried> {
  const { worker, isLimited, spare } = options;
  return worker.carryOut({ kind: 'work', work, isLimited, mayStay: spare?.mayStay === true }, options);
}

export function failureOf(outcome: WorkOutcome): Error {
  return outcome.kind === 'failed'
    ? fromWireError(outcome.error)
    : new AppError('internal', 'a worker did other work');
}
