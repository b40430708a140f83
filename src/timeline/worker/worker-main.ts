/**
 * Entry of a bulk worker: a process of low priority for one work at a time, that ends with it unless it may stay, and ends at once when the
 * daemon that started it is gone.
 */
import { type Clock, isAppError } from '../../base/index.ts';
import type { BackupProgress } from '../contract.ts';
import {
  createRestCell,
  LIMITER_INTERVAL_MS,
  type PressureReading,
  type RestCell,
  readPressure,
  restPermille,
} from './limiter.ts';
import { type BulkWork, type FromWorker, SPARE_MS_MAX, type ToWorker, type WorkOutcome } from './messages.ts';
import { lowerPriority } from './priority.ts';
import { toWireError } from './wire-error.ts';
import { workerClock, workerRng } from './worker-environment.ts';

/** Progress is told no more often. */
const PROGRESS_INTERVAL_MS = 100;

/** One that has grown beyond this ends with its work: what it holds is not worth what the next one gains. */
const SPARE_MEMORY_BYTES_MAX = 192 * 1024 * 1024;

/** Of the work that is under way, and of what lets us wait for the next. */
let cancellation = new AbortController();
let waiting = new AbortController();

lowerPriority();
process.once('disconnect', () => process.exit(1));
process.on('message', (message: ToWorker) => {
  if (message.kind === 'cancel') cancellation.abort();
  else void serve(message);
});

async function serve({ work, isLimited, mayStay }: Extract<ToWorker, { kind: 'work' }>): Promise<void> {
  waiting.abort();
  cancellation = new AbortController();
  tell({ kind: 'begun' });
  const restCell = createRestCell();
  const limiting = new AbortController();
  const limiter = isLimited ? limit(restCell, { clock: workerClock, signal: limiting.signal }) : null;
  const outcome = await carryOut(work, restCell).catch(
    (error: unknown): WorkOutcome => ({ kind: 'failed', error: toWireError(error) }),
  );
  limiting.abort();
  await limiter;
  const stays = mayStay && outcome.kind !== 'failed' && process.memoryUsage.rss() <= SPARE_MEMORY_BYTES_MAX;
  if (!stays) {
    tell(outcome);
    process.send?.({ kind: 'ending' } satisfies FromWorker, () => process.exit(0));
    return;
  }
  tell(outcome);
  waiting = new AbortController();
  tell({ kind: 'waiting' });
  await workerClock.sleep(SPARE_MS_MAX, { signal: waiting.signal }).then(
    () => process.exit(0),
    () => undefined, // More to do has come.
  );
}

function tell(message: FromWorker): void {
  process.send?.(message);
}

/** Loads only what its work needs: starting is a good part of a small backup. */
async function carryOut(work: BulkWork, restCell: RestCell): Promise<WorkOutcome> {
  const { signal } = cancellation;
  const tools = { clock: workerClock, rng: workerRng, restCell, onProgress: progressSender(), signal };
  switch (work.kind) {
    case 'backup': {
      const { runBackup } = await import('../capture/backup.ts');
      return { kind: 'backup_done', result: await runBackup(work.request, tools) };
    }
    case 'materialize': {
      const { runMaterialize } = await import('../materialize/materialize.ts');
      return { kind: 'materialize_done', result: await runMaterialize(work.request, tools) };
    }
    case 'capture_base': {
      const { runCaptureBase } = await import('../capture/capture-base.ts');
      return { kind: 'base_done', result: await runCaptureBase(work.request, tools) };
    }
    case 'backup_objects': {
      const { runBackupObjects } = await import('../logical/backup-objects.ts');
      return { kind: 'objects_backed_up', result: await runBackupObjects(work.request, tools) };
    }
    case 'restore_objects': {
      const { runRestoreObjects } = await import('../logical/restore-objects.ts');
      return { kind: 'objects_restored', result: await runRestoreObjects(work.request, tools) };
    }
    case 'check_directory': {
      const { checkDirectory } = await import('../verify/check-directory.ts');
      return { kind: 'directory_checked', result: checkDirectory(work.request, tools) };
    }
    case 'check_objects': {
      const { checkObjects } = await import('../verify/check-objects.ts');
      return { kind: 'objects_checked', result: await checkObjects(work.request, tools) };
    }
    case 'list_files': {
      const { listBackupFiles } = await import('../verify/list-backup-files.ts');
      return { kind: 'files_listed', result: await listBackupFiles(work.request, tools) };
    }
    case 'describe_databases': {
      const { describeDatabases } = await import('../logical/describe-databases.ts');
      return { kind: 'databases_described', result: await describeDatabases(work.request, tools) };
    }
    case 'rewind': {
      const { runRewind } = await import('../materialize/rewind.ts');
      return { kind: 'point_done', result: await runRewind(work.request, tools) };
    }
    case 'publish': {
      const { runPublish } = await import('../publish/publish.ts');
      return { kind: 'publish_done', result: await runPublish(work.request, tools) };
    }
    case 'receive_base': {
      const { runReceiveBase } = await import('../receive/receive-base.ts');
      return { kind: 'base_received', result: await runReceiveBase(work.request, tools) };
    }
    case 'materialize_point': {
      const { runMaterializePoint } = await import('../materialize/materialize-point.ts');
      return { kind: 'point_done', result: await runMaterializePoint(work.request, tools) };
    }
  }
}

function progressSender(): (progress: BackupProgress) => void {
  let lastMs = Number.NEGATIVE_INFINITY;
  return (progress) => {
    const nowMs = performance.now();
    if (nowMs - lastMs < PROGRESS_INTERVAL_MS) return;
    lastMs = nowMs;
    tell({ kind: 'progress', progress });
  };
}

/** Tells the threads how much to rest, as the machine's load changes. */
async function limit(
  cell: RestCell,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<void> {
  let before: PressureReading | null = readPressure({ atMs: clock.monotonicMs() });
  while (before !== null && !signal.aborted) {
    try {
      await clock.sleep(LIMITER_INTERVAL_MS, { signal });
    } catch (error) {
      if (isAppError(error, 'cancelled')) return;
      throw error;
    }
    const after = readPressure({ atMs: clock.monotonicMs() });
    if (after !== null) Atomics.store(cell, 0, restPermille(before, after));
    before = after;
  }
}
