/** `postmaster.pid`, by which a running server claims its data directory. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../base/index.ts';

export const POSTMASTER_PID_NAME = 'postmaster.pid';

/** `LOCK_FILE_LINE_PM_STATUS`, counted from 0. */
const STATUS_LINE = 7;

export interface PostmasterPid {
  readonly pid: number;
  readonly dataDirectory: string;
  /** Seconds since 1970, read from the wall clock of that moment. */
  readonly startedAtSeconds: number;
  /** True once it accepts connections. Asking it instead would fill its log while it recovers. */
  readonly isReady: boolean;
}

/** Undefined when there is none, or when its writer did not get far enough to say who it is. */
export async function readPostmasterPid(dataDirectory: string): Promise<PostmasterPid | undefined> {
  try {
    return parsePostmasterPid(await readFile(join(dataDirectory, POSTMASTER_PID_NAME), 'utf8'));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

export function parsePostmasterPid(text: string): PostmasterPid | undefined {
  const lines = text.split('\n');
  const [pid, dataDirectory, startedAt] = lines;
  if (!/^[1-9]\d{0,9}$/.test(pid ?? '') || !dataDirectory || !/^\d+$/.test(startedAt ?? '')) return undefined;
  const status = lines[STATUS_LINE]?.trim();
  return {
    pid: Number(pid),
    dataDirectory,
    startedAtSeconds: Number(startedAt),
    isReady: status === 'ready' || status === 'standby',
  };
}
