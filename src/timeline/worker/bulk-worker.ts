import { type ChildProcess, spawn } from 'node:child_process';
import { getCompileCacheDir } from 'node:module';
import { fileURLToPath } from 'node:url';
import { AppError, CancelledError, type Clock, type Logger } from '../../base/index.ts';
import type { BackupProgress, BulkWorker } from '../contract.ts';
import { FAULT_POINT_VARIABLE } from './fault-point.ts';
import type { BulkWork, FromWorker, ToWorker } from './messages.ts';
import { fromWireError } from './wire-error.ts';

/** What a cancelled worker may take to clean up before it is killed. */
const CANCEL_MS_MAX = 10_000;
/** What a worker may write to its error output before the rest is dropped. */
const STDERR_BYTES_MAX = 16 * 1024;
/** Waits for the disk overlap in the worker's pool of system calls. */
const SYSTEM_CALLS = 16;

/**
 * Compiled code is kept beside the packages, which are trusted as much as the code: a worker starts in half the time. Where the
 * folder cannot be written, nothing is kept.
 */
const COMPILE_CACHE = fileURLToPath(new URL('../../../node_modules/.cache/atoll', import.meta.url));

type Outcome = Exclude<FromWorker, { kind: 'progress' }>;

/**
 * Carries out bulk work in processes of their own, one for each work, of low priority. Requests and keys travel over the
 * process's private channel. A worker ends with its work, when it is cancelled, or when this process ends.
 */
export function createBulkWorker(options: {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Make way when others wait for the CPU; on unless set to false. */
  readonly isLimited?: boolean;
}): BulkWorker {
  const { clock, logger, isLimited = true } = options;
  return {
    async backup(request, { onProgress, signal }) {
      const outcome = await runWorker(
        { kind: 'backup', request },
        { clock, logger, isLimited, onProgress, signal },
      );
      if (outcome.kind === 'backup_done') return outcome.result;
      throw failureOf(outcome);
    },
    async materialize(request, { onProgress, signal }) {
      const outcome = await runWorker(
        { kind: 'materialize', request },
        { clock, logger, isLimited, onProgress, signal },
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
}

/** Resolves or rejects only when the process has ended. */
export async function runWorker(work: BulkWork, options: RunOptions): Promise<Outcome> {
  const { logger, isLimited, onProgress, signal } = options;
  if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
  const child = startProcess();
  const stderr = collectErrors(child);
  let outcome: Outcome | null = null;
  child.on('message', (message: FromWorker) => {
    if (message.kind === 'progress') onProgress(message.progress);
    else outcome = message;
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(String(error)));
    child.once('close', (code, killedBy) => resolve(killedBy ?? `exit code ${code}`));
  });
  const cancelled = Promise.withResolvers<null>();
  const onAbort = () => {
    tell(child, { kind: 'cancel' });
    cancelled.resolve(null);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  tell(child, { kind: 'work', work, isLimited });
  const how = await untilEnded(child, { ended, cancelled: cancelled.promise, clock: options.clock });
  signal.removeEventListener('abort', onAbort);
  if (stderr.text !== '') logger.warning(`bulk worker: ${stderr.text.trim()}`);
  if (outcome !== null) return outcome;
  if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
  throw new AppError('worker_lost', `the process that did the ${work.kind} ended unexpectedly (${how})`, {
    detail: stderr.text,
    hint: 'it is tried again; if it happens again, look for a lack of memory',
  });
}

function startProcess(): ChildProcess {
  const fault = process.env[FAULT_POINT_VARIABLE];
  const script = fileURLToPath(new URL('./worker-main.ts', import.meta.url));
  return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', script], {
    // Nothing of our environment: it may hold other programs' settings, and secrets.
    env: {
      UV_THREADPOOL_SIZE: String(SYSTEM_CALLS),
      NODE_COMPILE_CACHE: getCompileCacheDir() ?? COMPILE_CACHE,
      ...(fault === undefined ? {} : { [FAULT_POINT_VARIABLE]: fault }),
    },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced',
  });
}

/** Waits for the end, and makes it come when the work was cancelled and does not stop. */
async function untilEnded(
  child: ChildProcess,
  options: { readonly ended: Promise<string>; readonly cancelled: Promise<null>; readonly clock: Clock },
): Promise<string> {
  const { ended, cancelled, clock } = options;
  const first = await Promise.race([ended, cancelled]);
  if (first !== null) return first;
  const waiting = new AbortController();
  const patience = clock.sleep(CANCEL_MS_MAX, { signal: waiting.signal }).then(
    () => child.kill('SIGKILL'),
    () => undefined, // It ended in time.
  );
  const how = await ended;
  waiting.abort();
  await patience;
  return how;
}

function collectErrors(child: ChildProcess): { text: string } {
  const collected = { text: '' };
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    collected.text = (collected.text + text).slice(0, STDERR_BYTES_MAX);
  });
  return collected;
}

/** A worker that has ended hears nothing, and says so by its end. */
function tell(child: ChildProcess, message: ToWorker): void {
  child.send(message, () => undefined);
}

export function failureOf(outcome: Outcome): Error {
  return outcome.kind === 'failed'
    ? fromWireError(outcome.error)
    : new AppError('internal', 'a worker did other work');
}
