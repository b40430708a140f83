import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** What a program said last is kept for messages, at most so much of it. */
const SAID_LENGTH_MAX = 4000;

export interface ProgramResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end with the given standard input. */
export async function runProgram(
  command: string,
  args: readonly string[],
  options: { input?: string; env?: Record<string, string>; cwd?: string } = {},
): Promise<ProgramResult> {
  const child = spawn(command, args, {
    env: { ...process.env, ...options.env },
    cwd: options.cwd,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const chunks = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (chunks.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (chunks.stderr += text));
  child.stdin.on('error', () => undefined); // The program may end before it has read all.
  child.stdin.end(options.input ?? '');
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { status, ...chunks };
}

export interface RunningProgram extends AsyncDisposable {
  /** Throws, with what the program last said, when it has ended. */
  requireAlive(): void;
}

/** Starts a program that runs until it is disposed of, which kills it. */
export function startProgram(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): RunningProgram {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let ended: string | null = null;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-SAID_LENGTH_MAX)));
  }
  const over = new Promise<void>((resolve) => {
    const end = (why: string) => {
      ended = why;
      resolve();
    };
    child.once('error', (error) => end(error.message));
    child.once('close', (status, signal) => end(`it ended with ${status ?? signal}`));
  });
  return {
    requireAlive: () => {
      if (ended !== null) throw new Error(`${command}: ${ended}: ${said}`);
    },
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await over;
    },
  };
}

/**
 * The `skip` option of a test that drives `program`: false when it is there, otherwise the reason, said loudly.
 * In CI a missing program is an error, for there nothing may be skipped.
 */
export function skipWithout(program: string): string | false {
  const found = spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
  if (found) return false;
  if (process.env['CI'] === 'true') throw new Error(`${program} is missing, and CI may skip no test`);
  const reason = `SKIPPED, NOT TESTED: this machine has no ${program}`;
  process.stderr.write(`\n*** ${reason} ***\n\n`);
  return reason;
}

/** As `skipWithout`, for a file that a package of the system brings. */
export function skipWithoutFile(path: string): string | false {
  if (existsSync(path)) return false;
  if (process.env['CI'] === 'true') throw new Error(`${path} is missing, and CI may skip no test`);
  const reason = `SKIPPED, NOT TESTED: this machine has no ${path}`;
  process.stderr.write(`\n*** ${reason} ***\n\n`);
  return reason;
}
