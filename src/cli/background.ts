import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { AppError, ERRORS, type ErrorCode } from '../base/index.ts';
import { nodeReportSchema, type NodeReport } from '../daemon/index.ts';

/** What a node tells the process that started it, once: over the channel between parent and child. */
const launchMessageSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('ready'), report: nodeReportSchema }),
  z.object({
    kind: z.literal('failed'),
    code: z.string(),
    message: z.string(),
    detail: z.string().optional(),
    hint: z.string().optional(),
  }),
]);

/** Characters of a dying child's standard error that are shown. */
const STDERR_SHOWN_MAX = 4000;

/**
 * Runs `atoll` with other arguments as a process of its own session, which nothing of this one holds any more, and waits until
 * it is ready. @throws AppError what the node reported, or `internal` when it ended without a word
 */
export async function launchDetached(argv: readonly string[]): Promise<NodeReport> {
  const program = process.argv[1];
  if (program === undefined) throw new AppError('internal', 'cannot tell which program runs');
  const directory = mkdtempSync(join(tmpdir(), 'atoll-launch-'));
  const stderrPath = join(directory, 'stderr');
  const stderr = openSync(stderrPath, 'a');
  try {
    const child = spawn(process.execPath, [...process.execArgv, program, ...argv], {
      detached: true,
      stdio: ['ignore', 'ignore', stderr, 'ipc'],
    });
    const answer = Promise.withResolvers<NodeReport>();
    child.once('message', (message: unknown) => {
      const told = launchMessageSchema.parse(message);
      if (told.kind === 'ready') answer.resolve(told.report);
      else answer.reject(reported(told));
    });
    child.once('error', (error) => answer.reject(error));
    const onExit = (code: number | null, signal: NodeJS.Signals | null) => {
      const said = readFileSync(stderrPath, 'utf8').slice(-STDERR_SHOWN_MAX).trim();
      answer.reject(
        new AppError(
          'internal',
          `the node ended before it was ready (${signal ?? `exit code ${code}`})`,
          said === '' ? {} : { detail: said },
        ),
      );
    };
    child.once('exit', onExit);
    const report = await answer.promise.finally(() => child.off('exit', onExit));
    child.disconnect();
    child.unref();
    return report;
  } finally {
    closeSync(stderr);
    rmSync(directory, { recursive: true, force: true });
  }
}

function reported(told: {
  code: string;
  message: string;
  detail?: string | undefined;
  hint?: string | undefined;
}): AppError {
  const known = told.code in ERRORS ? (told.code as ErrorCode) : 'internal';
  return new AppError(known, told.message, {
    ...(told.detail === undefined ? {} : { detail: told.detail }),
    ...(told.hint === undefined ? {} : { hint: told.hint }),
  });
}

/** Tells whoever started this process that the node is ready. Does nothing when nobody waits. */
export function tellReady(report: NodeReport): void {
  process.send?.({ kind: 'ready', report });
}

/** Tells whoever started this process why the node is not ready. False when nobody waits. */
export async function tellFailed(error: unknown): Promise<boolean> {
  if (process.send === undefined || !process.connected) return false;
  const { promise, resolve } = Promise.withResolvers<void>();
  const failure =
    error instanceof AppError
      ? { code: error.code, message: error.message, detail: error.detail, hint: error.hint }
      : { code: 'internal', message: error instanceof Error ? error.message : String(error) };
  process.send({ kind: 'failed', ...failure }, undefined, {}, () => resolve());
  await promise;
  return true;
}
