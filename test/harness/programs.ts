import { spawn, spawnSync } from 'node:child_process';

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
