/** Runs a program of the engine to its end: the few that are no server. */
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { AppError } from '../base/index.ts';
import type { Owner } from './durable-files.ts';

/** The end of what a failed program said that an error repeats, in characters. */
const COMPLAINT_LENGTH_MAX = 2000;

export interface ProgramRun {
  readonly program: string;
  readonly parameters: readonly string[];
  readonly input?: string;
  /** Runs as this user when the daemon is root. */
  readonly user: Owner | null;
  readonly signal: AbortSignal;
}

/** What a program printed. */
export interface ProgramOutput {
  readonly stdout: string;
  readonly stderr: string;
}

/** @throws AppError `engine_invalid` when it cannot be run or fails */
export async function runProgram(run: ProgramRun): Promise<ProgramOutput> {
  const child = spawn(run.program, run.parameters, {
    cwd: '/',
    env: cleanEnvironment(),
    stdio: 'pipe',
    signal: run.signal,
    ...(run.user === null ? {} : run.user),
  });
  const ended = Promise.withResolvers<string | null>();
  child.once('error', ended.reject);
  child.once('close', (code, signal) => ended.resolve(code === 0 ? null : (signal ?? `status ${code}`)));
  // A program that fails early closes its input first; its status says more than the broken pipe.
  child.stdin.once('error', () => undefined);
  child.stdin.end(run.input ?? '');
  let results: [string, string, string | null];
  try {
    results = await Promise.all([text(child.stdout), text(child.stderr), ended.promise]);
  } catch (error) {
    throw new AppError('engine_invalid', `cannot run ${run.program}`, { cause: error });
  }
  const [stdout, stderr, failure] = results;
  if (failure === null) return { stdout, stderr };
  throw new AppError('engine_invalid', `${run.program} ended with ${failure}`, {
    detail: stderr.trim().slice(-COMPLAINT_LENGTH_MAX),
  });
}

/** Nothing of the daemon's environment reaches an instance: it may hold credentials. */
export function cleanEnvironment(): Record<string, string> {
  return { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}
