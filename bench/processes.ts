import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** Runs a program to its end. @throws Error with its output when it fails */
export async function run(
  command: string,
  args: readonly string[],
  options: {
    env?: Record<string, string>;
    uid?: number;
    gid?: number;
    input?: string;
    /** Leads a session of its own: where the kernel shares the processor by session, it has a share of its own. */
    isApart?: boolean;
  } = {},
): Promise<string> {
  const { env, uid, gid, input, isApart = false } = options;
  const child = spawn(command, args, {
    env: { ...process.env, ...env },
    cwd: '/',
    detached: isApart,
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stdin.on('error', () => undefined); // A program may end before it has read its input.
  child.stdin.end(input ?? '');
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${output}`);
  return output;
}

/** Milliseconds that `work` took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

/** Every process below (and with) this one. */
export function processTree(pid: number): number[] {
  const parents = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      parents.set(parent, [...(parents.get(parent) ?? []), Number(name)]);
    } catch {
      // The process ended while we looked.
    }
  }
  const tree = [pid];
  for (const member of tree) tree.push(...(parents.get(member) ?? []));
  return tree;
}

/** Memory that is the processes' own plus their share of what they share, in bytes (Linux). */
export function proportionalMemoryBytes(pids: readonly number[]): number {
  let kib = 0;
  for (const pid of pids) {
    try {
      kib += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0);
    } catch {
      // The process ended while we looked.
    }
  }
  return kib * 1024;
}

const WORKER_END_MS_MAX = 2000;

/** Highest resident memory of a process so far, in bytes (Linux). */
export function peakMemoryBytes(pid: number): number {
  return Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}

/** Bulk workers below a daemon, by what they run: Node.js calls its processes by names that change with its version. */
export function bulkWorkers(daemonPid: number): number[] {
  return processTree(daemonPid).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        .split('\0')
        .some((word) => word.endsWith('/worker-main.ts'));
    } catch {
      return false; // It ended while we looked.
    }
  });
}

/**
 * Highest resident memory of a bulk worker while `work` runs, in bytes: the kernel keeps it, so that looking now and then is enough.
 * @throws Error when no worker was ever seen, rather than to report 0
 */
export async function peakMemoryOfWorkers(daemonPid: number, work: () => Promise<unknown>): Promise<number> {
  let peak = 0;
  const look = () => {
    for (const pid of bulkWorkers(daemonPid)) {
      try {
        peak = Math.max(peak, peakMemoryBytes(pid));
      } catch {
        // It ended between the two looks.
      }
    }
  };
  const timer = setInterval(look, 20);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  if (peak === 0) throw new Error(`no bulk worker was seen below process ${daemonPid}`);
  return peak;
}

/** A worker gives its memory back when its work is told to be done: it is waited for, but not for one that stays for the next work. */
export async function whenWorkersEnded(daemonPid: number): Promise<void> {
  const deadlineMs = performance.now() + WORKER_END_MS_MAX;
  const areThere = () => bulkWorkers(daemonPid).length > 0 || processTree(daemonPid).some(isEnding);
  while (areThere() && performance.now() < deadlineMs)
    await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Between two looks at what workers have used: one that does anything uses more than the hundredth of a second that is counted. */
const IDLE_LOOK_MS = 500;
const IDLE_LOOKS_MAX = 60;

/** Waits until no bulk worker of a daemon does anything, as the first base of a new virtual cluster. @throws Error when they go on and on */
export async function whenWorkersIdle(daemonPid: number): Promise<void> {
  const used = () => bulkWorkers(daemonPid).map((pid) => `${pid} ${cpuTicks(pid)}`);
  let before = ['unknown'];
  for (let look = 0; look < IDLE_LOOKS_MAX; look += 1) {
    const now = used();
    if (now.join() === before.join()) return;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, IDLE_LOOK_MS));
  }
  throw new Error('bulk workers did not come to rest');
}

/** What a process runs is forgotten first, and what it used is counted last. */
function isEnding(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1') === '';
  } catch {
    return false; // It has ended.
  }
}

/** Null when it has ended. */
function cpuTicks(pid: number): number | null {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
    return Number(fields[11]) + Number(fields[12]);
  } catch {
    return null;
  }
}

/**
 * CPU time of a daemon's bulk workers, in milliseconds: of those that have ended, and of those that stay for the next work. The daemon starts no other
 * processes that end while it serves.
 */
export function cpuOfWorkersMs(daemonPid: number): number {
  const ticks = bulkWorkers(daemonPid).reduce((sum, pid) => sum + (cpuTicks(pid) ?? 0), 0);
  return cpuOfEndedChildrenMs(daemonPid) + ticks * 10;
}

/** CPU time of a process's children that have ended, with all their threads, in milliseconds: Linux counts in hundredths of a second. */
export function cpuOfEndedChildrenMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ');
  const [userTicks, systemTicks] = [Number(fields[13]), Number(fields[14])];
  return (userTicks + systemTicks) * 10;
}

/** The unprivileged user that runs the servers when we are root: pgbouncer and PostgreSQL refuse root. */
export function serverUser(): { uid: number; gid: number; name: string } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g'), name: 'postgres' };
}
