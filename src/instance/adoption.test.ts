import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NEVER, TestStore, withTenant } from '../../test/harness/instance-store.ts';
import { waitFor } from '../../test/harness/wait.ts';
import type { VirtualClusterId } from '../base/index.ts';
import { systemClock } from '../daemon/index.ts';
import { readIdentity, writeIdentity } from './identity.ts';
import type { Instance } from './index.ts';
import { processesIn, startTokenOf } from './os-process.ts';
import { directPrivileges } from './privileges/direct.ts';
import { findRunning } from './process-record.ts';

const MAIN = 3 as VirtualClusterId;
const HOST_PROCESS = join(import.meta.dirname, '../../test/harness/host-process.ts');

let store: TestStore;
before(async () => {
  store = await TestStore.open();
});
after(async () => {
  await store[Symbol.asyncDispose]();
});

/** Lets go of the store, has another process do something with it, and kills that process. */
async function inKilledProcess(task: 'serve' | 'create', until: (child: ChildProcess) => Promise<void>) {
  await store.host.close();
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', HOST_PROCESS, store.directory, task],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const ended = once(child, 'exit');
  try {
    await until(child);
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

async function says(child: ChildProcess, word: string): Promise<void> {
  let said = '';
  for await (const chunk of child.stdout ?? []) {
    said += String(chunk);
    if (said.includes(word)) return;
  }
  throw new Error(`the process ended after "${said}"`);
}

function main(): Instance {
  const instance = store.host.get(MAIN);
  assert.ok(instance);
  return instance;
}

function pidOf(instance: Instance): number {
  assert.equal(instance.state.kind, 'running');
  return instance.state.kind === 'running' ? instance.state.pid : 0;
}

test('an instance survives its daemon and is adopted by the next, sessions and all', async () => {
  await inKilledProcess('serve', (child) => says(child, 'serving'));
  await store.reopen();
  const pid = pidOf(main());
  await main().start({ signal: NEVER }); // Harmless: it runs.
  await withTenant(main(), { user: 'root', database: 'defaultdb' }, async (tenant) => {
    await tenant.query('CREATE TABLE kept (a int)');
    await store.reopen();
    assert.equal(pidOf(main()), pid);
    await tenant.query('INSERT INTO kept VALUES (1)');
  });
});

test('an adopted instance is supervised: killed, it is started again', async () => {
  const before = main().generation;
  const pid = pidOf(main());
  process.kill(pid, 'SIGKILL');
  await waitFor('the restart', () => main().generation > before);
  assert.notEqual(pidOf(main()), pid);
});

test('an adopted instance is stopped in order', async () => {
  await store.reopen();
  await main().stop({ mode: 'orderly', signal: NEVER });
  assert.deepEqual(await processesIn(main().dataDirectory), []);
  await main().start({ signal: NEVER });
  await main().withSystemClient((client) => client.query('SELECT 1'), { signal: NEVER });
});

test('lines of the log are not repeated to the next daemon', async () => {
  await withTenant(main(), { user: 'root', database: 'defaultdb' }, (tenant) =>
    tenant.query("DO $$ BEGIN RAISE WARNING 'only once'; END $$"),
  );
  const count = () => store.logger.entries.filter(({ message }) => message.includes('only once')).length;
  await waitFor('the entry', () => count() === 1);
  await store.reopen();
  await withTenant(main(), { user: 'root', database: 'defaultdb' }, (tenant) =>
    tenant.query("DO $$ BEGIN RAISE WARNING 'and then'; END $$"),
  );
  await waitFor('the entry', () => store.logger.has('and then'));
  assert.equal(count(), 1);
});

test('a process that merely has the pid is not taken for the server, nor harmed', async () => {
  const { dataDirectory } = main();
  await main().stop({ mode: 'orderly', signal: NEVER });
  const bystander = spawn('sleep', ['600'], { stdio: 'ignore' });
  try {
    await once(bystander, 'spawn');
    const now = Math.trunc(Date.now() / 1000);
    const claim = [
      bystander.pid,
      dataDirectory,
      now,
      5432,
      main().socketDirectory,
      '',
      '1 1',
      'ready   ',
      '',
    ];
    await writeFile(join(dataDirectory, 'postmaster.pid'), claim.join('\n'));
    await store.reopen();
    assert.equal(main().state.kind, 'stopped');
    await main().start({ signal: NEVER });
    assert.notEqual(pidOf(main()), bystander.pid);
    assert.equal(bystander.exitCode, null);
  } finally {
    bystander.kill();
  }
});

test('a server that began at another time than recorded is not adopted', async () => {
  const { dataDirectory } = main();
  const pid = pidOf(main());
  const clusterDirectory = join(store.directory, 'vc', '3');
  const path = join(clusterDirectory, 'process.json');
  const find = () =>
    findRunning({ clusterDirectory, dataDirectory, clock: systemClock(), privileges: directPrivileges() });
  assert.equal((await find())?.pid, pid);
  const record = await readFile(path, 'utf8');
  const token = (await startTokenOf(pid)) ?? '';
  assert.ok(record.includes(token));
  // Without a record the server's own note decides.
  await rm(path);
  assert.equal((await find())?.pid, pid);
  const claimPath = join(dataDirectory, 'postmaster.pid');
  const claim = await readFile(claimPath, 'utf8');
  const lines = claim.split('\n');
  lines[2] = String(Number(lines[2]) - 3600);
  await writeFile(claimPath, lines.join('\n'));
  await assert.rejects(find(), { code: 'instance_failed', message: /is not the one that was started/ });
  await writeFile(claimPath, claim);
  await writeFile(path, record);
  assert.equal((await find())?.pid, pid);
});

test('a daemon killed while it creates leaves whole virtual clusters or none', async () => {
  for (const delayMs of [0, 60, 170]) {
    await inKilledProcess('create', async (child) => {
      await says(child, 'open');
      await new Promise((resolve) => setTimeout(resolve, delayMs));
    });
    await store.reopen();
    const names = await readdir(join(store.directory, 'vc'));
    assert.deepEqual(
      names.filter((name) => name.startsWith('.')),
      [],
    );
    assert.deepEqual(
      names.toSorted(),
      store.host
        .list()
        .map((instance) => String(instance.identity.virtualClusterId))
        .toSorted(),
    );
  }
  for (const instance of store.host.list()) {
    await instance.start({ signal: NEVER });
    if (instance !== main()) {
      const { virtualClusterId } = instance.identity;
      await store.host.remove({ virtualClusterId, signal: NEVER });
    }
  }
});

test('what no record names is set aside, what was being removed is removed, what cannot be read stays', async () => {
  const clusters = join(store.directory, 'vc');
  const identity = await readIdentity(join(clusters, '3'));
  const strangers = ['4', 'backup-of-3', '.creating-8-ab', '.creating-9-cd', '.removing-7-ef', '10', '11'];
  for (const name of strangers) await mkdir(join(clusters, name));
  await writeIdentity(join(clusters, '.creating-9-cd'), identity); // Complete but for its name.
  await writeIdentity(join(clusters, '10'), identity); // Somebody's copy.
  await writeFile(join(clusters, '11', 'identity.json'), 'x');
  const entries = [
    '6d6b3fb2-6f0a-4dd2-9b2f-0d3a1f8f4a11',
    '6d6b3fb2-6f0a-4dd2-9b2f-0d3a1f8f4a12.begun',
    'identity.json.tmp',
  ];
  for (const name of entries) await mkdir(join(clusters, '3', name));
  await rename(join(clusters, '3', 'identity.json.tmp'), join(clusters, '3', 'x'));
  await writeFile(join(clusters, '3', 'identity.json.tmp'), 'torn');

  const pid = pidOf(main());
  await store.reopen();
  assert.equal(pidOf(main()), pid);
  assert.deepEqual((await readdir(clusters)).toSorted(), ['10', '11', '3']);
  assert.deepEqual(
    store.host.list().map((instance) => instance.identity.virtualClusterId),
    [3],
  );
  const aside = (await readdir(join(store.directory, 'quarantine'))).map((name) =>
    name.replace(/-\d+-[0-9a-f]{16}$/, ''),
  );
  assert.deepEqual(aside.toSorted(), [
    '3-6d6b3fb2-6f0a-4dd2-9b2f-0d3a1f8f4a11',
    '3-x',
    '4',
    'backup-of-3',
    'creating-9-cd',
  ]);
  const left = await readdir(join(clusters, '3'));
  assert.deepEqual(
    left.toSorted(),
    ['conf', 'identity.json', identity.incarnation, 'process.json'].toSorted(),
  );
  assert.ok((await stat(join(clusters, '11', 'identity.json'))).isFile());
});
