/** Processes of our own code, with a private channel to each. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { nodeCredentialVariables } from '../../blob/index.ts';
import { enterBulkGroup } from './bulk-group.ts';
import type { Cell } from './cell.ts';
import { compileCacheDirectory } from './compile-cache.ts';
import type { Confine } from './confinement.ts';
import { FAULT_POINT_VARIABLE } from './fault-point.ts';
import { EQUAL_SESSIONS_VARIABLE } from './priority.ts';
import { READ_PIECES_VARIABLE } from './read-pieces.ts';

export interface ProcessOptions {
  readonly script: URL;
  /** Old generation of its heap, in MiB; as Node has it when left out. */
  readonly heapMiBMax?: number;
  /** By how much of what is in use a heap grows before it is collected; as the engine judges when left out. */
  readonly heapGrowingPercent?: number;
  /** System calls that may wait for the disk at once; as Node has it when left out. */
  readonly systemCalls?: number;
  /**
   * Leads a session of its own, and is in the control group of bulk work, so that its priority can be lowered as a whole: see priority.ts. Signals of a
   * terminal do not reach it. Off by default.
   */
  readonly isApart?: boolean;
  /** Is given what of our environment tells the node's own rights in storage services. Off by default. */
  readonly hasNodeCredentials?: boolean;
  /** What it can reach, and how it is kept to that; all that our user can when left out. */
  readonly cell?: { readonly of: Cell; readonly confine: Confine } | null;
}

/** Nothing else of our environment comes with it: that may hold other programs' settings, and secrets. */
export function startProcess({
  script,
  heapMiBMax,
  heapGrowingPercent,
  systemCalls,
  isApart = false,
  hasNodeCredentials = false,
  cell = null,
}: ProcessOptions): ChildProcess {
  const ofTests = [FAULT_POINT_VARIABLE, EQUAL_SESSIONS_VARIABLE, READ_PIECES_VARIABLE].flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  const heap = heapMiBMax === undefined ? [] : [`--max-old-space-size=${heapMiBMax}`];
  const growing = heapGrowingPercent === undefined ? [] : [`--heap-growing-percent=${heapGrowingPercent}`];
  const flags = ['--disable-warning=ExperimentalWarning', ...heap, ...growing];
  const command = [process.execPath, ...flags, fileURLToPath(script)];
  const [program = '', ...words] = cell === null ? command : cell.confine(cell.of, command);
  const child = spawn(program, words, {
    env: {
      ...(systemCalls === undefined ? {} : { UV_THREADPOOL_SIZE: String(systemCalls) }),
      NODE_COMPILE_CACHE: compileCacheDirectory(),
      ...(hasNodeCredentials ? nodeCredentialVariables() : {}),
      ...Object.fromEntries(ofTests),
    },
    detached: isApart,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced',
  });
  if (isApart) enterBulkGroup(child.pid);
  return child;
}
