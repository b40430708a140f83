import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ATOLL } from '../../../test/harness/daemon.ts';
import { waitFor } from '../../../test/harness/wait.ts';

interface Running {
  readonly output: () => string;
  readonly interrupt: () => void;
  /** Process id of a node. */
  readonly pidOf: (site: 'primary' | 'standby') => number;
}

/** Runs the demonstration with a temporary folder of its own, which must be empty afterwards. */
async function demo(
  argv: readonly string[],
  whileRunning: (running: Running) => Promise<void>,
): Promise<{ code: number | null; output: string }> {
  const parent = mkdtempSync(join(tmpdir(), 'atoll-demo-test-'));
  const temporary = join(parent, 'tmp');
  mkdirSync(temporary);
  chmodSync(parent, 0o755); // As root, instances run as others, who pass through here.
  try {
    const child = spawn(ATOLL, ['demo', ...argv], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: temporary },
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += String(chunk)));
    child.stderr.on('data', (chunk: Buffer) => (output += String(chunk)));
    const closed = once(child, 'close');
    // A daemon's command line is its title; it is known by the servers that it has started.
    const pidOf = (site: string) => Number(serversIn(join(temporary, `atoll-demo-${site}-`))[0]?.daemon);
    try {
      await whileRunning({ output: () => output, interrupt: () => child.kill('SIGINT'), pidOf });
    } catch (error) {
      child.kill('SIGTERM');
      await closed;
      throw error;
    }
    const [code] = (await closed) as [number | null];
    assert.deepEqual(readdirSync(temporary), [], output);
    assert.deepEqual(serversIn(temporary), [], output);
    return { code, output };
  } finally {
    rmSync(parent, { recursive: true, force: true });
  }
}

/** The servers of Postgres whose command line names a folder that begins so, and the daemons that they serve. */
function serversIn(folder: string): readonly { pid: string; daemon: string }[] {
  const text = execFileSync('ps', ['-ww', '-A', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' });
  const processes = text.split('\n').map((line) => {
    const [pid = '', parent = '', ...args] = line.trim().split(/\s+/);
    return { pid, parent, args: args.join(' ') };
  });
  const daemonOf = (parent: string) => {
    // Where the daemon is not root, a helper of it that is has started them.
    const starter = processes.find(({ pid }) => pid === parent);
    return starter?.args === 'atoll-helper' ? starter.parent : parent;
  };
  return processes
    .filter(({ args }) => args.includes(`-D ${folder}`))
    .map(({ pid, parent }) => ({ pid, daemon: daemonOf(parent) }));
}

test('the demonstration shows a restore, a failover and a failback of every row, and leaves nothing behind', async () => {
  const { code, output } = await demo(['--once'], async () => undefined);
  assert.equal(code, 0, output);
  assert.match(output, /BACKUP INTO 'nodelocal:\/\/1\/ledger';\n[\s\S]*succeeded/);
  assert.match(output, /RESTORE FROM LATEST IN 'nodelocal:\/\/1\/ledger';\n[\s\S]*succeeded/);
  assert.match(output, /standby\/system> CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main\n/);
  assert.match(output, /primary\/system> ALTER VIRTUAL CLUSTER main START REPLICATION OF main\n/);
  assert.equal(output.match(/COMPLETE REPLICATION TO LATEST;\n/g)?.length, 2);
  assert.equal(
    output.match(/That is \d{4}-\d\d-\d\d [\d:.]+\+00: later than the last transfer\.\n/g)?.length,
    2,
  );
  assert.equal(output.match(/Every row is there: counts and hashes are equal\.\n/g)?.length, 3);
  for (const cluster of ['main', 'restored'])
    assert.match(
      output,
      new RegExp(`psql "postgresql://root@localhost:\\d+/ledger\\?options=-ccluster%3D${cluster}"\n`),
    );
});

test('an interrupt ends it at any time, and still nothing is left behind', async () => {
  const { code, output } = await demo([], async (running) => {
    await waitFor('the first statement', () => running.output().includes('CREATE DATABASE'));
    running.interrupt();
  });
  assert.equal(code, 130, output);
  assert.match(output, /Stopping\.\n$/);
});

test('when one of the physical clusters ends, it says so and stops the other', async () => {
  const { code, output } = await demo([], async (running) => {
    await waitFor('the first statement', () => running.output().includes('CREATE DATABASE'));
    process.kill(running.pidOf('standby'), 'SIGTERM');
  });
  assert.equal(code, 75, output);
  assert.match(output, /Stopping\.\n/);
  assert.match(output, /atoll: cannot connect to localhost:\d+/);
});
