/** What the processes of an instance may take of the machine, as far as the kernel lets us say so of single processes. */
import type { InstanceSettings } from './contract.ts';

export interface ProcessLimits {
  /** Undefined for no limit. */
  readonly addressSpaceBytes: number | undefined;
  readonly niceness: number;
}

const MIB = 1024 * 1024;
/** The program, its libraries, and shared memory beside the buffers, which counts in every process. */
const BASE_BYTES = 256 * MIB;

export function limitsOf(settings: InstanceSettings): ProcessLimits {
  const { sharedBuffersBytes, sessionMemoryBytes, niceness } = settings;
  const isLimited = sessionMemoryBytes > 0 && process.platform === 'linux';
  return {
    addressSpaceBytes: isLimited ? BASE_BYTES + sharedBuffersBytes + sessionMemoryBytes : undefined,
    niceness,
  };
}

/** The same command under limits that all its children inherit; the process is the same to whoever started it. */
export function limited(command: readonly string[], limits: ProcessLimits): readonly string[] {
  const { addressSpaceBytes, niceness } = limits;
  const nice = niceness === 0 ? command : ['nice', '-n', String(niceness), ...command];
  if (addressSpaceBytes === undefined) return nice;
  const kib = Math.ceil(addressSpaceBytes / 1024);
  return ['/bin/sh', '-c', 'ulimit -v "$0" && exec "$@"', String(kib), ...nice];
}

/** When the machine is out of memory the kernel ends a session, and neither the daemon nor the server that the session belongs to. */
export const OOM_ENVIRONMENT: Readonly<Record<string, string>> =
  process.platform === 'linux'
    ? { PG_OOM_ADJUST_FILE: '/proc/self/oom_score_adj', PG_OOM_ADJUST_VALUE: '500' }
    : {};
