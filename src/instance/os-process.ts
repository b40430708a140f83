/** Processes of the machine, told apart even when the kernel gives a pid away again. */
import { execFile } from 'node:child_process';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { errnoOf } from '../base/index.ts';

const isLinux = process.platform === 'linux';
/** What `ps` may say of a whole machine. */
const PS_BYTES_MAX = 16 * 1024 * 1024;

/**
 * What, together with its pid, names a process for ever: when it began, as the kernel recorded it. Undefined when there
 * is no such process, or only its corpse.
 */
export async function startTokenOf(pid: number): Promise<string | undefined> {
  return isLinux ? linuxStartToken(pid) : psStartToken(pid);
}

/** Seconds since 1970 at which a process began, as near as the system tells; undefined when there is none. */
export async function startedAtSeconds(pid: number): Promise<number | undefined> {
  if (!isLinux) {
    const token = await psStartToken(pid);
    return token === undefined ? undefined : Date.parse(token) / 1000;
  }
  const stat = await linuxStat(pid);
  if (stat === undefined) return undefined;
  const bootSeconds = Number(/^btime (\d+)$/m.exec(await readFile('/proc/stat', 'utf8'))?.[1]);
  return bootSeconds + stat.startTicks / LINUX_TICKS_PER_SECOND;
}

/** True when the process works in the folder: a Postgres process does in its data directory, and nobody else. */
export async function worksIn(pid: number, directory: string): Promise<boolean> {
  if (isLinux) return (await workingDirectory(pid)) === directory;
  const command = await psField(pid, 'command');
  return command?.includes(` -D ${directory} `) ?? false;
}

/** All processes that work in the folder; on systems other than Linux, the server alone of those that run there. */
export async function processesIn(directory: string): Promise<number[]> {
  if (!isLinux) return psServersOf(directory);
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    if ((await workingDirectory(pid)) === directory && (await linuxStat(pid)) !== undefined) found.push(pid);
  }
  return found;
}

/** Sends a signal to whichever process has the pid now. True when there was one. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return false;
    throw error;
  }
}

/** `USER_HZ`, which the kernel keeps at 100 for all it tells user space on every architecture we run on. */
const LINUX_TICKS_PER_SECOND = 100;

async function linuxStartToken(pid: number): Promise<string | undefined> {
  const stat = await linuxStat(pid);
  if (stat === undefined) return undefined;
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  return `${bootId}:${stat.startTicks}`;
}

async function linuxStat(pid: number): Promise<{ startTicks: number } | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(undefinedWhenGone);
  // The name in parentheses may itself hold spaces and parentheses; fields are counted after the last one.
  const fields = text?.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, startTicks] = [fields?.[0], Number(fields?.[19])];
  if (state === undefined || state === 'Z' || state === 'X' || Number.isNaN(startTicks)) return undefined;
  return { startTicks };
}

async function workingDirectory(pid: number): Promise<string | undefined> {
  return readlink(`/proc/${pid}/cwd`).catch(undefinedWhenGone);
}

/** A process may end while it is looked at, and those of other users are none of our business. */
function undefinedWhenGone(error: unknown): undefined {
  if (!['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errnoOf(error) ?? '')) throw error;
  return undefined;
}

async function psStartToken(pid: number): Promise<string | undefined> {
  const state = await psField(pid, 'stat');
  return state === undefined || state.startsWith('Z') ? undefined : psField(pid, 'lstart');
}

async function psServersOf(directory: string): Promise<number[]> {
  const processes = (await ps(['-ax', '-o', 'pid=,command='])) ?? '';
  return processes
    .split('\n')
    .filter((line) => line.includes(` -D ${directory} `))
    .map((line) => Number.parseInt(line, 10));
}

async function psField(pid: number, field: string): Promise<string | undefined> {
  return ps(['-o', `${field}=`, '-p', String(pid)]);
}

async function ps(parameters: readonly string[]): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)('ps', ['-ww', ...parameters], {
      env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
      maxBuffer: PS_BYTES_MAX,
    });
    return stdout.trim() === '' ? undefined : stdout.trim();
  } catch (error) {
    // `ps` ends with status 1 when there is no such process; anything else has an errno.
    if (errnoOf(error) !== undefined) throw error;
    return undefined;
  }
}
