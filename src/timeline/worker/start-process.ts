/** Processes of our own code, with a private channel to each. */
import { type ChildProcess, spawn } from 'node:child_process';
import { getCompileCacheDir } from 'node:module';
import { fileURLToPath } from 'node:url';
import { FAULT_POINT_VARIABLE } from './fault-point.ts';
import { EQUAL_SESSIONS_VARIABLE } from './priority.ts';
import { READ_PIECES_VARIABLE } from './read-pieces.ts';

/**
 * Compiled code is kept beside the packages, which are trusted as much as the code: a process starts in half the time. Where the
 * folder cannot be written, nothing is kept.
 */
const COMPILE_CACHE = fileURLToPath(new URL('../../../node_modules/.cache/atoll', import.meta.url));

export interface ProcessOptions {
  readonly script: URL;
  /** Old generation of its heap, in MiB; as Node has it when left out. */
  readonly heapMiBMax?: number;
  /** By how much of what is in use a heap grows before it is collected; as the engine judges when left out. */
  readonly heapGrowingPercent?: number;
  /** System calls that may wait for the disk at once; as Node has it when left out. */
  readonly systemCalls?: number;
  /**
   * Leads a session of its own, so that its priority can be lowered as a whole: see priority.ts. Signals of a terminal do not reach it. Off by
   * default.
   */
  readonly isApart?: boolean;
}

/** Nothing of our environment comes with it: that may hold other programs' settings, and secrets. */
export function startProcess({
  script,
  heapMiBMax,
  heapGrowingPercent,
  systemCalls,
  isApart = false,
}: ProcessOptions): ChildProcess {
  const ofTests = [FAULT_POINT_VARIABLE, EQUAL_SESSIONS_VARIABLE, READ_PIECES_VARIABLE].flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  const heap = heapMiBMax === undefined ? [] : [`--max-old-space-size=${heapMiBMax}`];
  const growing = heapGrowingPercent === undefined ? [] : [`--heap-growing-percent=${heapGrowingPercent}`];
  const flags = ['--disable-warning=ExperimentalWarning', ...heap, ...growing];
  return spawn(process.execPath, [...flags, fileURLToPath(script)], {
    env: {
      ...(systemCalls === undefined ? {} : { UV_THREADPOOL_SIZE: String(systemCalls) }),
      NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? getCompileCacheDir() ?? COMPILE_CACHE,
      ...Object.fromEntries(ofTests),
    },
    detached: isApart,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced',
  });
}
