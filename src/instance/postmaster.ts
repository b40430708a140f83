/** One run of a server process: started by us, or found running and adopted. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { AppError, type Clock, toError } from '../base/index.ts';
import { configurationFiles } from './configuration.ts';
import type { StopMode } from './contract.ts';
import type { ControlGroups } from './control-groups.ts';
import type { Owner } from './durable-files.ts';
import { LOG_LINE_PREFIX } from './log-lines.ts';
import { startTokenOf } from './os-process.ts';
import type { Privileges } from './privileges/contract.ts';
import {
  held,
  limited,
  OOM_ENVIRONMENT,
  type ProcessLimits,
  RELEASE_FD,
  withoutGroups,
} from './process-limits.ts';
import { cleanEnvironment } from './run-program.ts';
import { untilCancelled } from './waiting.ts';

/** How often we look whether a process that is not our child still lives. */
const WATCH_MS = 250;
/** What the left-overs of a dead server are given to end by themselves, and then by force. */
const LEFTOVER_MS_MAX = 5_000;
const LEFTOVER_POLL_MS = 10;

export interface Postmaster {
  readonly pid: number;
  readonly startToken: string;
  /** What was asked for and does not hold for this run, for want of control groups. */
  readonly unkept: readonly string[];
  /** How it ended, once it has. @throws CancelledError */
  ended(options: { signal: AbortSignal }): Promise<string>;
  /** Harmless when it has ended. */
  send(signal: NodeJS.Signals): Promise<void>;
}

export interface PostmasterCommand {
  readonly postgres: string;
  readonly dataDirectory: string;
  /** Folder of the configuration files. */
  readonly configuration: string;
  /** Parameters of this start only; they outrank the files. */
  readonly overrides: Readonly<Record<string, string>>;
  readonly log: string;
  readonly user: Owner | null;
  /** Undefined for a start that serves nobody. */
  readonly limits?: ProcessLimits;
}

/**
 * Starts a server in a session of its own with its log going to a file, so that nothing of ours can block or end it.
 * @throws AppError `instance_failed` when it cannot be run at all
 */
export async function spawnPostmaster(
  command: PostmasterCommand,
  groups: ControlGroups | null,
): Promise<Postmaster> {
  const log = await open(command.log, 'a', 0o600);
  try {
    return await spawnLoggingTo(log.fd, command, groups);
  } finally {
    await log.close();
  }
}

/** The same, with a log that is open. */
export async function spawnLoggingTo(
  logFd: number,
  command: Omit<PostmasterCommand, 'log'>,
  groups: ControlGroups | null,
): Promise<Postmaster> {
  const files = configurationFiles(command.configuration);
  const overrides = {
    config_file: files.postgresql,
    hba_file: files.hba,
    ident_file: files.ident,
    // What is logged before the files have been read must be readable as well.
    log_line_prefix: LOG_LINE_PREFIX,
    ...command.overrides,
  };
  const parameters = Object.entries(overrides).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  try {
    const server = [command.postgres, '-D', command.dataDirectory, ...parameters];
    const { words, unkept, release } = underLimits(server, command, groups);
    const [program = '', ...rest] = words;
    const child = spawn(program, rest, {
      cwd: '/',
      env: { ...cleanEnvironment(), ...OOM_ENVIRONMENT },
      detached: true,
      stdio: ['ignore', logFd, logFd, ...(release === null ? [] : (['pipe'] as const))],
      ...(command.user === null ? {} : command.user),
    });
    const ending = Promise.withResolvers<string>();
    child.once('exit', (code, signal) => ending.resolve(describeExit(code, signal)));
    await once(child, 'spawn');
    child.unref();
    const pid = child.pid as number;
    return {
      pid,
      unkept: release?.(child) ?? unkept,
      // A child that has ended already has no token, and needs none: its handle is never confused.
      startToken: (await startTokenOf(pid)) ?? 'ended',
      ended: ({ signal }) => untilCancelled(ending.promise, signal),
      send: async (signal) => void child.kill(signal),
    };
  } catch (error) {
    throw new AppError('instance_failed', `cannot run ${command.postgres}`, { cause: error });
  }
}

/**
 * A command under its limits. With control groups it is held until `release` has put it into its group, so that nothing it starts is ever outside,
 * whatever the rights of its user; release says what of the limits does not hold.
 */
function underLimits(
  server: readonly string[],
  { limits }: Pick<PostmasterCommand, 'limits'>,
  groups: ControlGroups | null,
): {
  words: readonly string[];
  unkept: readonly string[];
  release: ((child: ChildProcess) => readonly string[]) | null;
} {
  if (limits === undefined) return { words: server, unkept: [], release: null };
  if (groups === null) {
    const { niceness, unkept } = withoutGroups(limits, null);
    return { words: limited(server, { ...limits, niceness }), unkept, release: null };
  }
  const release = (child: ChildProcess): readonly string[] => {
    const { niceness, unkept } = enterGroup(groups, { pid: child.pid as number, limits });
    const line = child.stdio[RELEASE_FD] as Writable;
    line.on('error', () => undefined); // It was killed meanwhile: its end tells.
    line.end(`${niceness}\n`);
    child.once('exit', () => groups.leave(limits.virtualClusterId));
    return unkept;
  };
  return { words: held(limited(server, { ...limits, niceness: 0 })), unkept: [], release };
}

function enterGroup(
  groups: ControlGroups,
  { pid, limits }: { pid: number; limits: ProcessLimits },
): ReturnType<typeof withoutGroups> {
  try {
    groups.enter(limits.virtualClusterId, { pid, share: limits });
    return withoutGroups(limits, groups);
  } catch (error) {
    const { niceness, unkept } = withoutGroups(limits, null);
    return { niceness, unkept: [`its control group (${toError(error).message})`, ...unkept] };
  }
}

/** Takes over a server that somebody else started, known by pid and start token. */
export function adoptPostmaster(options: {
  pid: number;
  startToken: string;
  clock: Clock;
  privileges: Privileges;
}): Postmaster {
  const { pid, startToken, clock, privileges } = options;
  const isAlive = async () => (await startTokenOf(pid)) === startToken;
  return {
    pid,
    startToken,
    // What did not hold was said when it was started.
    unkept: [],
    ended: async ({ signal }) => {
      while (await isAlive()) await clock.sleep(WATCH_MS, { signal });
      return 'ended by itself';
    },
    send: async (signal) => {
      if (await isAlive()) await privileges.signal({ pid, startToken }, signal);
    },
  };
}

function describeExit(code: number | null, signal: NodeJS.Signals | null): string {
  if (signal !== null) return `killed by ${signal}`;
  return code === 0 ? 'ended' : `ended with status ${code}`;
}

/** How long each kind of stop may take before the next, harder one. */
export interface StopLimits {
  /** Sessions may finish what they do. */
  readonly smartMs: number;
  /** Sessions are ended, memory is written out. */
  readonly fastMs: number;
  /** Nothing is written; the next start recovers. */
  readonly immediateMs: number;
}

export const DEFAULT_STOP_LIMITS: StopLimits = { smartMs: 3_000, fastMs: 60_000, immediateMs: 10_000 };

/** Ends a server, harder and harder. `hurry` jumps to the immediate stop. Returns when it has ended. */
export async function stopPostmaster(
  postmaster: Postmaster,
  options: { mode: StopMode; limits: StopLimits; clock: Clock; hurry: AbortSignal; signal: AbortSignal },
): Promise<void> {
  const { mode, limits, clock, hurry, signal } = options;
  const gentle = [
    { send: 'SIGTERM', ms: limits.smartMs },
    { send: 'SIGINT', ms: limits.fastMs },
  ] as const;
  for (const step of mode === 'orderly' ? gentle : []) {
    if (hurry.aborted) break;
    await postmaster.send(step.send);
    if (await endsWithin(postmaster, step.ms, { clock, hurry, signal })) return;
  }
  await postmaster.send('SIGQUIT');
  if (await endsWithin(postmaster, limits.immediateMs, { clock, signal })) return;
  await postmaster.send('SIGKILL');
  await postmaster.ended({ signal });
}

async function endsWithin(
  postmaster: Postmaster,
  ms: number,
  options: { clock: Clock; hurry?: AbortSignal; signal: AbortSignal },
): Promise<boolean> {
  const { clock, hurry, signal } = options;
  const race = new AbortController();
  const either = AbortSignal.any([signal, race.signal, ...(hurry === undefined ? [] : [hurry])]);
  const timer = clock.sleep(ms, { signal: either }).then(
    () => false,
    () => false,
  );
  const ended = postmaster.ended({ signal: AbortSignal.any([signal, race.signal]) }).then(() => true);
  try {
    return await Promise.race([ended, timer]);
  } finally {
    race.abort();
    await Promise.allSettled([ended, timer]);
  }
}

/**
 * Ends what a dead server left running in its data directory: a new server would refuse to start beside it, for they
 * share memory. @throws AppError `instance_failed` when something does not end
 */
export async function endLeftovers(options: {
  dataDirectory: string;
  clock: Clock;
  privileges: Privileges;
  signal: AbortSignal;
}): Promise<void> {
  const { dataDirectory, clock, privileges, signal } = options;
  for (const kill of ['SIGQUIT', 'SIGKILL'] as const) {
    const deadline = clock.monotonicMs() + LEFTOVER_MS_MAX;
    const leftovers = await privileges.processesIn(dataDirectory);
    if (leftovers.length === 0) return;
    for (const pid of leftovers) await privileges.signal({ pid }, kill);
    while ((await privileges.processesIn(dataDirectory)).length > 0 && clock.monotonicMs() < deadline) {
      await clock.sleep(LEFTOVER_POLL_MS, { signal });
    }
  }
  const stubborn = await privileges.processesIn(dataDirectory);
  if (stubborn.length === 0) return;
  throw new AppError('instance_failed', `processes ${stubborn.join(', ')} in ${dataDirectory} do not end`, {
    hint: 'they belong to a server that died; end them, or restart the machine',
  });
}
