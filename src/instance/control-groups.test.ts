import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeGroupsFolder, removeGroupsFolder } from '../../test/harness/control-groups.ts';
import { waitFor } from '../../test/harness/wait.ts';
import { ControlGroups, CPU_WEIGHT_DEFAULT, prepareControlGroups } from './control-groups.ts';
import { nicenessFor, withoutGroups } from './process-limits.ts';

const MIB = 1024 * 1024;
const SHARE = { cpuWeight: CPU_WEIGHT_DEFAULT, memoryBytes: undefined };

/** A folder with such files, standing for one of the kernel's. */
function withFolder(files: Readonly<Record<string, string>>, run: (path: string) => void): void {
  const path = mkdtempSync(join(tmpdir(), 'atoll-groups-'));
  try {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content);
    run(path);
  } finally {
    rmSync(path, { recursive: true });
  }
}

const VERSION_2 = {
  'cgroup.controllers': 'cpuset cpu io memory pids\n',
  'cgroup.subtree_control': '',
  'cgroup.procs': '',
};

test('a folder of version 2 hands on what it has, once, and groups get weight and limit', () => {
  withFolder(VERSION_2, (path) => {
    const read = (...names: string[]) => readFileSync(join(path, ...names), 'utf8');
    const spec = prepareControlGroups(path);
    assert.deepEqual(spec, { parent: path, version: 2, controllers: ['cpu', 'memory'], bulkGroup: null });
    assert.equal(read('cgroup.subtree_control'), '+cpu +memory');
    assert.equal(existsSync(join(path, 'node')), false);
    const groups = new ControlGroups(spec);
    groups.enter(3, { pid: 4711, share: { cpuWeight: 250, memoryBytes: 512 * MIB } });
    assert.equal(read('vc-3', 'cpu.weight'), '250');
    assert.equal(read('vc-3', 'memory.max'), String(512 * MIB));
    assert.equal(read('vc-3', 'cgroup.procs'), '4711');
    groups.enter(3, { pid: 4712, share: SHARE });
    assert.deepEqual([read('vc-3', 'cpu.weight'), read('vc-3', 'memory.max')], ['100', 'max']);
    writeFileSync(join(path, 'cgroup.subtree_control'), 'cpu memory\n');
    prepareControlGroups(path);
    assert.equal(read('cgroup.subtree_control'), 'cpu memory\n');
  });
});

test('this process makes way for groups below the one that it is in', () => {
  withFolder({ ...VERSION_2, 'cgroup.procs': `1\n${process.pid}\n` }, (path) => {
    const { bulkGroup } = prepareControlGroups(path);
    const read = (...names: string[]) => readFileSync(join(path, ...names), 'utf8');
    assert.deepEqual(
      [read('node', 'cgroup.procs'), read('node', 'cpu.weight')],
      [String(process.pid), '1000'],
    );
    assert.equal(bulkGroup, join(path, 'bulk'));
    assert.equal(read('bulk', 'cpu.weight'), '10');
  });
});

test('in a tree of version 1 this process, and bulk work apart from it, are in groups of the node', () => {
  withFolder({ 'cpu.shares': '1024' }, (path) => {
    const read = (...names: string[]) => readFileSync(join(path, ...names), 'utf8');
    assert.equal(prepareControlGroups(path).bulkGroup, join(path, 'bulk'));
    assert.deepEqual(
      [read('node', 'cgroup.procs'), read('node', 'cpu.shares')],
      [String(process.pid), '10240'],
    );
    assert.equal(read('bulk', 'cpu.shares'), '102');
  });
});

test('a process that is elsewhere is not moved by version 2, and has no group for bulk work', () => {
  withFolder(VERSION_2, (path) => {
    mkdirSync(join(path, 'node'));
    writeFileSync(join(path, 'node', 'cgroup.procs'), '1\n');
    assert.equal(prepareControlGroups(path).bulkGroup, null);
    assert.equal(existsSync(join(path, 'bulk')), false);
  });
});

test('a tree of version 1 gives what it has', () => {
  withFolder({ 'cpu.shares': '1024' }, (path) => {
    const groups = new ControlGroups(prepareControlGroups(path));
    assert.deepEqual([groups.has('cpu'), groups.has('memory')], [true, false]);
    groups.enter(3, { pid: 4711, share: { cpuWeight: 50, memoryBytes: 512 * MIB } });
    assert.equal(readFileSync(join(path, 'vc-3', 'cpu.shares'), 'utf8'), '512');
    assert.deepEqual(readdirSync(join(path, 'vc-3')).toSorted(), ['cgroup.procs', 'cpu.shares']);
    groups.enter(3, { pid: 4711, share: { ...SHARE, cpuWeight: 1 } });
    assert.equal(readFileSync(join(path, 'vc-3', 'cpu.shares'), 'utf8'), '10');
  });
});

test('groups that are left empty go, and nothing else does', () => {
  withFolder(VERSION_2, (path) => {
    for (const name of ['vc-3', 'vc-4', 'vc-x', 'other']) mkdirSync(join(path, name));
    writeFileSync(join(path, 'vc-4', 'cgroup.procs'), '4711');
    const groups = new ControlGroups(prepareControlGroups(path));
    const left = () => readdirSync(path, { withFileTypes: true }).filter((each) => each.isDirectory());
    assert.deepEqual(left().map(({ name }) => name).toSorted(), ['other', 'vc-4', 'vc-x']); // biome-ignore format: one list
    rmSync(join(path, 'vc-4', 'cgroup.procs'));
    groups.leave(4);
    groups.leave(4);
    assert.deepEqual(left().map(({ name }) => name).toSorted(), ['other', 'vc-x']); // biome-ignore format: one list
    assert.throws(() => groups.leave(-1), { code: 'internal' });
  });
});

test('a folder that holds no groups is refused with the reason', () => {
  withFolder({}, (path) => {
    assert.throws(() => prepareControlGroups(path), { code: 'usage', message: /neither the controller/ });
    assert.throws(() => prepareControlGroups(join(path, 'no', 'such')), { code: 'usage', message: /ENOENT/ });
  });
});

test('what no group can do is left to niceness, or said not to hold', () => {
  assert.deepEqual([10_000, 100, 80, 50, 1].map(nicenessFor), [0, 0, 1, 3, 19]);
  const limits = { addressSpaceBytes: undefined, niceness: 2, virtualClusterId: 3, ...SHARE };
  assert.deepEqual(withoutGroups(limits, null), { niceness: 2, unkept: [] });
  const asked = { ...limits, cpuWeight: 20, memoryBytes: 512 * MIB };
  assert.equal(withoutGroups(asked, null).niceness, 7);
  assert.deepEqual(
    withoutGroups(asked, null).unkept.map((each) => each.split(' ')[0]),
    ['instance.cpu_weight', 'instance.memory_limit'],
  );
  assert.deepEqual(withoutGroups(asked, { has: () => true }), { niceness: 2, unkept: [] });
  assert.deepEqual(withoutGroups(asked, { has: (name) => name === 'cpu' }).unkept, ['instance.memory_limit']);
});

const folder = makeGroupsFolder();
test('whoever weighs more gets more of a processor that all want', {
  skip: folder.path === null && folder.why,
}, async () => {
  assert.ok(folder.path !== null);
  const groups = new ControlGroups(prepareControlGroups(folder.path));
  const busy = (virtualClusterId: number, cpuWeight: number): ChildProcess[] =>
    Array.from({ length: 2 * availableParallelism() }, () => {
      // Held until it is told to go on: one that has run elsewhere has a head start.
      const child = spawn('/bin/sh', ['-c', 'read -r _ && while :; do :; done'], {
        stdio: ['pipe', 'ignore', 'ignore'],
      });
      groups.enter(virtualClusterId, { pid: child.pid as number, share: { ...SHARE, cpuWeight } });
      return child;
    });
  const [light, heavy] = [busy(3, 100), busy(4, 1000)];
  const all = [...light, ...heavy];
  const ended = all.map((child) => new Promise((resolve) => child.once('exit', resolve)));
  try {
    for (const child of all) child.stdin?.end('\n');
    // The light ones' small share lasts longer than any start: both groups want all there is by then.
    await waitFor('both to run', () => ticksOf(light) > 5 && ticksOf(heavy) > 5);
    const [lightBefore, heavyBefore] = [ticksOf(light), ticksOf(heavy)];
    const got = await waitFor('a second of processor time', () => {
      const [lightTicks, heavyTicks] = [ticksOf(light) - lightBefore, ticksOf(heavy) - heavyBefore];
      return lightTicks + heavyTicks > 100 && { lightTicks, heavyTicks };
    });
    assert.ok(got.heavyTicks > 3 * got.lightTicks, JSON.stringify(got));
  } finally {
    for (const child of all) child.kill('SIGKILL');
    await Promise.all(ended);
    await removeGroupsFolder(folder.path);
  }
});

const memoryFolder = makeGroupsFolder('memory');
test('whoever takes more memory than its group may ends, and nobody of another group does', {
  skip: memoryFolder.path === null && memoryFolder.why,
}, async () => {
  assert.ok(memoryFolder.path !== null);
  const groups = new ControlGroups(prepareControlGroups(memoryFolder.path));
  const hungry = (virtualClusterId: number, memoryBytes: number | undefined) => {
    // 100 MB in a variable of a shell, and then a word about it.
    const script =
      'read -r _ && all=$(head -c 100000000 /dev/zero | tr "\\0" x) && echo "${#all}" && read -r _';
    const child = spawn('/bin/sh', ['-c', script], { stdio: ['pipe', 'pipe', 'ignore'] });
    groups.enter(virtualClusterId, { pid: child.pid as number, share: { ...SHARE, memoryBytes } });
    const told = new Promise<string>((resolve) => {
      child.once('exit', (code, signal) => resolve(String(signal ?? code)));
      child.stdout.once('data', (text: Buffer) => resolve(`holds ${text.toString().trim()}`));
    });
    child.stdin.write('\n');
    return { child, told, closed: new Promise((resolve) => child.once('close', resolve)) };
  };
  const all = [hungry(3, 64 * MIB), hungry(4, undefined)];
  try {
    assert.deepEqual(await Promise.all(all.map(({ told }) => told)), ['SIGKILL', 'holds 100000000']);
  } finally {
    for (const { child } of all) child.kill('SIGKILL');
    await Promise.all(all.map(({ closed }) => closed));
    await removeGroupsFolder(memoryFolder.path);
  }
});

/** Processor time of processes, in hundredths of a second. */
function ticksOf(children: readonly ChildProcess[]): number {
  return children.reduce((sum, { pid }) => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
    return sum + Number(fields[11]) + Number(fields[12]);
  }, 0);
}
