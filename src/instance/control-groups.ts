/**
 * Control groups of Linux: one for each virtual cluster, in a folder that the operator has left to the node. They bound a virtual cluster as a
 * whole, which limits of single processes cannot. docs/decisions/0160-control-groups.md
 */
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { AppError, errnoOf, InputError } from '../base/index.ts';

/** What one virtual cluster may take, all its processes together. */
export interface GroupShare {
  /** Of the processor, against other virtual clusters', when all want it: 1 to 10000. */
  readonly cpuWeight: number;
  /** Pages of files that are cached count; undefined for no limit. */
  readonly memoryBytes: number | undefined;
}

export const CPU_WEIGHT_DEFAULT = 100;

const CONTROLLERS = ['cpu', 'memory'] as const;
type Controller = (typeof CONTROLLERS)[number];

/** What was found, and prepared, at the operator's folder. */
export const controlGroupsSpecSchema = z.strictObject({
  /** Absolute path. */
  parent: z.string(),
  /** Of the kernel's interface. The first has a tree of folders for each controller, or for some together. */
  version: z.union([z.literal(1), z.literal(2)]),
  controllers: z.array(z.enum(CONTROLLERS)),
  /** Folder of the group for processes of bulk work; null where the node's own processes are not in groups of ours. */
  bulkGroup: z.string().nullable(),
});
export type ControlGroupsSpec = z.infer<typeof controlGroupsSpecSchema>;

const PROCESSES = 'cgroup.procs';
const ENABLED = 'cgroup.subtree_control';
/** Where processes of the node itself go: a folder that hands controllers on may have none. */
const NODE_GROUP = 'node';
/** Relays serve everybody: they come first, and take no more than what clients send and receive costs. */
const NODE_WEIGHT = 1000;
/** Processes of bulk work do not come first with the relays: all of them together weigh as much as their niceness is worth against one virtual cluster. */
const BULK_GROUP = 'bulk';
const BULK_WEIGHT = 10;
const CLUSTER_GROUP = /^vc-[1-9]\d*$/;
/** The file of version 1 by which we know that a folder has the controller. */
const FILES_OF_VERSION_1: Readonly<Record<Controller, string>> = {
  cpu: 'cpu.shares',
  memory: 'memory.limit_in_bytes',
};
/** What version 1 means by the default. */
const SHARES_DEFAULT = 1024;
const SHARES_MIN = 2;

/**
 * Makes the operator's folder ready to hold groups, moves this process out of its way, and removes groups that are left empty. To be called
 * before other processes are started: they begin where this one is. @throws InputError `usage` with what is wrong
 */
export function prepareControlGroups(parent: string): ControlGroupsSpec {
  try {
    if (!existsSync(parent)) mkdirSync(parent);
    const version = existsSync(join(parent, 'cgroup.controllers')) ? 2 : 1;
    const controllers = version === 2 ? enableControllers(parent) : controllersOfVersion1(parent);
    if (controllers.length === 0) throw unusable(parent, 'it has neither the controller cpu nor memory');
    for (const name of readdirSync(parent)) if (CLUSTER_GROUP.test(name)) removeIfEmpty(join(parent, name));
    const bulkGroup = makeNodeGroups(parent, { version, controllers });
    return { parent, version, controllers, bulkGroup };
  } catch (error) {
    const code = errnoOf(error);
    if (error instanceof AppError || code === undefined) throw error;
    const isTaken = code === 'EBUSY' || code === 'EOPNOTSUPP';
    throw unusable(parent, isTaken ? 'it has processes of its own' : code, error);
  }
}

function unusable(parent: string, why: string, cause?: unknown): InputError {
  return new InputError('usage', `control groups cannot be made in ${parent}: ${why}`, {
    cause,
    hint: 'name a folder below /sys/fs/cgroup that is left to the node, as Delegate=yes of systemd does',
  });
}

/** Of version 2: hands controllers on to the groups below. */
function enableControllers(parent: string): Controller[] {
  const there = wordsIn(join(parent, 'cgroup.controllers'));
  const controllers = CONTROLLERS.filter((name) => there.has(name));
  if (wordsIn(join(parent, PROCESSES)).has(String(process.pid))) enterNodeGroup(parent);
  const enabled = wordsIn(join(parent, ENABLED));
  const missing = controllers.filter((name) => !enabled.has(name));
  if (missing.length > 0) {
    writeFileSync(join(parent, ENABLED), missing.map((name) => `+${name}`).join(' '));
  }
  return controllers;
}

function enterNodeGroup(parent: string): void {
  const own = join(parent, NODE_GROUP);
  makeGroup(own);
  writeFileSync(join(own, PROCESSES), String(process.pid));
}

function isInNodeGroup(parent: string): boolean {
  const processes = join(parent, NODE_GROUP, PROCESSES);
  return existsSync(processes) && wordsIn(processes).has(String(process.pid));
}

/**
 * Groups for what is the node's: one that comes first, and one for bulk work. Of version 2 only where this process was in the operator's folder: whose else
 * it is, nobody takes it out of. The trees of version 1 are nobody's record of who is whose. Gives the folder of the second.
 */
function makeNodeGroups(
  parent: string,
  { version, controllers }: Pick<ControlGroupsSpec, 'version' | 'controllers'>,
): string | null {
  if (!controllers.includes('cpu')) return null;
  if (version === 1) enterNodeGroup(parent);
  else if (!isInNodeGroup(parent)) return null;
  const bulk = join(parent, BULK_GROUP);
  makeGroup(bulk);
  for (const [group, weight] of [
    [join(parent, NODE_GROUP), NODE_WEIGHT],
    [bulk, BULK_WEIGHT],
  ] as const) {
    const [file, value] = weightFile(version, weight);
    writeFileSync(join(group, file), value);
  }
  return bulk;
}

/** Lets a user move processes of its own to the group for bulk work. To be called as root. */
export function giveBulkGroup(
  { parent, version, bulkGroup }: ControlGroupsSpec,
  { uid, gid }: { readonly uid: number; readonly gid: number },
): void {
  if (bulkGroup === null) return;
  chownSync(join(bulkGroup, PROCESSES), uid, gid);
  // Version 2 asks for the right over what both groups are in, too. It is none over groups of virtual clusters.
  if (version === 2) chownSync(join(parent, PROCESSES), uid, gid);
}

/** The file of a group's share of the processor, and what to write. */
function weightFile(version: 1 | 2, weight: number): readonly [name: string, value: string] {
  if (version === 2) return ['cpu.weight', String(weight)];
  const shares = Math.max(SHARES_MIN, Math.round((weight * SHARES_DEFAULT) / CPU_WEIGHT_DEFAULT));
  return ['cpu.shares', String(shares)];
}

function controllersOfVersion1(parent: string): Controller[] {
  return CONTROLLERS.filter((name) => existsSync(join(parent, FILES_OF_VERSION_1[name])));
}

/** The groups of the virtual clusters of this node. All calls are short: they write to the kernel alone. */
export class ControlGroups {
  readonly #spec: ControlGroupsSpec;

  constructor(spec: ControlGroupsSpec) {
    this.#spec = spec;
  }

  has(controller: Controller): boolean {
    return this.#spec.controllers.includes(controller);
  }

  /** Puts a process, and all that it will start, into the group of a virtual cluster. @throws with errno; AppError `internal` */
  enter(virtualClusterId: number, options: { pid: number; share: GroupShare }): void {
    const { pid, share } = options;
    const group = this.#path(virtualClusterId);
    makeGroup(group);
    for (const [name, value] of this.#valuesOf(share)) writeFileSync(join(group, name), value);
    writeFileSync(join(group, PROCESSES), String(pid));
  }

  /** Removes the group of a virtual cluster if nothing runs in it any more. */
  leave(virtualClusterId: number): void {
    removeIfEmpty(this.#path(virtualClusterId));
  }

  #path(virtualClusterId: number): string {
    const name = `vc-${virtualClusterId}`;
    if (!CLUSTER_GROUP.test(name)) throw new AppError('internal', `${name} is the group of nobody`);
    return join(this.#spec.parent, name);
  }

  #valuesOf({ cpuWeight, memoryBytes }: GroupShare): readonly (readonly [name: string, value: string])[] {
    const isFirst = this.#spec.version === 1;
    const cpu = weightFile(this.#spec.version, cpuWeight);
    const memory = isFirst
      ? (['memory.limit_in_bytes', String(memoryBytes ?? -1)] as const)
      : (['memory.max', String(memoryBytes ?? 'max')] as const);
    return [...(this.has('cpu') ? [cpu] : []), ...(this.has('memory') ? [memory] : [])];
  }
}

function wordsIn(path: string): ReadonlySet<string> {
  return new Set(readFileSync(path, 'latin1').split(/\s+/));
}

function makeGroup(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
}

/** What is not there, or not empty, stays as it is: the next start of the node looks again. */
function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
  }
}
