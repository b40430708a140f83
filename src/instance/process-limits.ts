/** What the processes of an instance may take of the machine, as far as the kernel lets us say so of single processes. */
import type { InstanceSettings } from './contract.ts';
import { CPU_WEIGHT_DEFAULT, type ControlGroups, type GroupShare } from './control-groups.ts';

/** Those of each process, and the share of all together. */
export interface ProcessLimits extends GroupShare {
  /** Undefined for no limit. */
  readonly addressSpaceBytes: number | undefined;
  readonly niceness: number;
  /** Whose group it is that all together are. */
  readonly virtualClusterId: number;
}

const MIB = 1024 * 1024;
/** The program, its libraries, and shared memory beside the buffers, which counts in every process. */
const BASE_BYTES = 256 * MIB;

export function limitsOf(
  settings: InstanceSettings,
  { virtualClusterId }: { readonly virtualClusterId: number },
): ProcessLimits {
  const { sharedBuffersBytes, sessionMemoryBytes, niceness, cpuWeight, memoryBytes } = settings;
  const isLimited = sessionMemoryBytes > 0 && process.platform === 'linux';
  return {
    addressSpaceBytes: isLimited ? BASE_BYTES + sharedBuffersBytes + sessionMemoryBytes : undefined,
    niceness,
    cpuWeight,
    memoryBytes: memoryBytes === 0 ? undefined : memoryBytes,
    virtualClusterId,
  };
}

const NICENESS_MAX = 19;
/** What the kernel makes of one step of niceness. */
const WEIGHT_PER_NICENESS = 1.25;

/** The niceness that comes nearest to a share of the processor; none makes up for a share above the default. */
export function nicenessFor(cpuWeight: number): number {
  const steps = Math.round(Math.log(CPU_WEIGHT_DEFAULT / cpuWeight) / Math.log(WEIGHT_PER_NICENESS));
  return Math.min(NICENESS_MAX, Math.max(0, steps));
}

/** What becomes of limits that take control groups, given those that there are. */
export function withoutGroups(
  limits: ProcessLimits,
  groups: Pick<ControlGroups, 'has'> | null,
): { readonly niceness: number; readonly unkept: readonly string[] } {
  const { cpuWeight, memoryBytes } = limits;
  const hasWeight = cpuWeight === CPU_WEIGHT_DEFAULT || groups?.has('cpu') === true;
  const niceness = hasWeight ? limits.niceness : Math.max(limits.niceness, nicenessFor(cpuWeight));
  const hasMemory = memoryBytes === undefined || groups?.has('memory') === true;
  return {
    niceness,
    unkept: [
      ...(hasWeight ? [] : [`instance.cpu_weight = ${cpuWeight}: it has niceness ${niceness} instead`]),
      ...(hasMemory ? [] : ['instance.memory_limit']),
    ],
  };
}

/** The same command under limits that all its children inherit; the process is the same to whoever started it. */
export function limited(
  command: readonly string[],
  limits: Pick<ProcessLimits, 'addressSpaceBytes' | 'niceness'>,
): readonly string[] {
  const { addressSpaceBytes, niceness } = limits;
  const nice = niceness === 0 ? command : ['nice', '-n', String(niceness), ...command];
  if (addressSpaceBytes === undefined) return nice;
  const kib = Math.ceil(addressSpaceBytes / 1024);
  return ['/bin/sh', '-c', 'ulimit -v "$0" && exec "$@"', String(kib), ...nice];
}

/** Descriptor on which a held command is told how to go on. */
export const RELEASE_FD = 3;

/** The same command, waiting for a line with its niceness; it ends when nobody can say that any more. */
export function held(command: readonly string[]): readonly string[] {
  return [
    '/bin/sh',
    '-c',
    `read -r niceness <&${RELEASE_FD} && exec nice -n "$niceness" "$@" ${RELEASE_FD}<&-`,
    'sh',
    ...command,
  ];
}

/** When the machine is out of memory the kernel ends a session, and neither the daemon nor the server that the session belongs to. */
export const OOM_ENVIRONMENT: Readonly<Record<string, string>> =
  process.platform === 'linux'
    ? { PG_OOM_ADJUST_FILE: '/proc/self/oom_score_adj', PG_OOM_ADJUST_VALUE: '500' }
    : {};
