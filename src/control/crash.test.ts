import assert from 'node:assert/strict';
import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type HostCut, HostCuts, RecordingLogger, TestControl } from '../../test/harness/control.ts';
import { noBackups } from '../../test/harness/scripted-backups.ts';
import { waitFor } from '../../test/harness/wait.ts';
import { systemClock } from '../daemon/clock.ts';
import { systemRng } from '../daemon/rng.ts';
import { createBulkWorker, createCollectionReader } from '../timeline/index.ts';

const SYSTEM = { in: 'system' } as const;
const NEVER = new AbortController().signal;

const list = async (test: TestControl) =>
  (await test.rows('SHOW VIRTUAL CLUSTERS', SYSTEM)).map((row) => [
    row['id'],
    row['name'],
    row['service_mode'],
  ]);

/** Asks, and has the daemon die where the host's method is cut. */
async function dieIn(
  test: TestControl,
  cuts: HostCuts,
  death: HostCut & { during: string; in?: string },
): Promise<void> {
  const reached = cuts.arm(death);
  const asked = test.refusal(death.during, { in: death.in ?? 'system' });
  await Promise.race([reached, asked.then((error) => assert.fail(`${death.during}: ${error.message}`))]);
  await test.stop();
  await asked;
}

describe('a daemon that dies between the catalog and the disk', () => {
  const cuts = new HostCuts();
  let test: TestControl;
  before(async () => {
    test = await TestControl.open({ virtualized: 'main', cuts, ...noBackups() });
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  it('before the directory of CREATE: nothing is left', async () => {
    await dieIn(test, cuts, { method: 'create', when: 'before', during: 'CREATE VIRTUAL CLUSTER a' });
    await test.start();
    assert.deepEqual((await list(test)).length, 2);
    await test.ask('CREATE VIRTUAL CLUSTER a', SYSTEM);
    assert.deepEqual((await list(test))[2], ['5', 'a', 'none'], 'a number is never used twice');
  });

  it('after the directory of CREATE: the virtual cluster is whole', async () => {
    await dieIn(test, cuts, { method: 'create', when: 'after', during: 'CREATE VIRTUAL CLUSTER b' });
    await test.start();
    assert.deepEqual((await list(test))[3], ['6', 'b', 'none']);
    await test.ask('ALTER VIRTUAL CLUSTER b START SERVICE SHARED', SYSTEM);
    await test.postgres('CREATE TABLE t (a int)', { in: 'b' });
  });

  it('in RENAME: both sides have the new name', async () => {
    await dieIn(test, cuts, {
      method: 'rename',
      when: 'before',
      during: 'ALTER VIRTUAL CLUSTER b RENAME TO c',
    });
    await test.start();
    assert.deepEqual((await list(test))[3], ['6', 'c', 'shared']);
    assert.equal(test.host.get(test.idOf('c'))?.identity.virtualClusterName, 'c');
  });

  for (const when of ['before', 'after'] as const) {
    it(`${when} the removal of DROP: it is gone`, async () => {
      const name = `gone-${when}`;
      await test.ask(`CREATE VIRTUAL CLUSTER ${name}`, SYSTEM);
      const id = test.idOf(name);
      await dieIn(test, cuts, { method: 'remove', when, during: `DROP VIRTUAL CLUSTER ${name} IMMEDIATE` });
      await test.start();
      assert.ok(!(await list(test)).some(([, listed]) => listed === name));
      assert.equal(test.host.get(id), undefined);
      await test.ask(`CREATE VIRTUAL CLUSTER ${name}`, SYSTEM);
      await test.ask(`DROP VIRTUAL CLUSTER ${name} IMMEDIATE`, SYSTEM);
    });
  }

  it('loses the record: the directory is adopted, without service and capabilities', async () => {
    const system = test.host.get(test.idOf('system'));
    await system?.withSystemClient(
      (client) => client.query("delete from public.virtual_clusters where name = 'c'"),
      { signal: NEVER },
    );
    await test.stop();
    await test.start();
    assert.deepEqual((await list(test))[3], ['6', 'c', 'none']);
    const capabilities = await test.rows('SHOW VIRTUAL CLUSTER c WITH CAPABILITIES', SYSTEM);
    assert.ok(capabilities.every((row) => row['capability_value'] === 'false'));
    await test.ask('ALTER VIRTUAL CLUSTER c START SERVICE SHARED', SYSTEM);
    assert.deepEqual(await test.postgres('SELECT a FROM t', { in: 'c' }), []);
  });

  it('loses the directory: the record stays, and says what is wrong', async () => {
    const id = test.idOf('a');
    const folder = join(test.directory, 'store', 'vc', String(id));
    await test.stop({ instances: 'stop' });
    await rename(folder, join(test.directory, 'elsewhere'));
    await test.start();
    assert.deepEqual((await list(test))[2], ['5', 'a', 'none']);
    const refused = await test.refusal('ALTER VIRTUAL CLUSTER a START SERVICE SHARED', SYSTEM);
    assert.deepEqual(
      [refused.sqlstate, refused.message],
      ['55000', 'the directory of virtual cluster "a" is missing'],
    );
    assert.ok(test.logger.lines.some((line) => line.startsWith('error [T5,a] the directory')));
    await test.stop();
    await rename(join(test.directory, 'elsewhere'), folder);
    await test.start();
    await test.ask('ALTER VIRTUAL CLUSTER a START SERVICE SHARED', SYSTEM);
  });
});

describe('an initialisation that is interrupted', () => {
  for (const when of ['before', 'after'] as const) {
    it(`${when} main is made: the next start finishes it`, async () => {
      const cuts = new HostCuts();
      await using test = await TestControl.open({ cuts, ...noBackups() });
      const isMeant = (options: unknown) => (options as { name: string }).name === 'main';
      const reached = cuts.arm({ method: 'create', when, isMeant });
      const begun = assert.rejects(test.control.initialize({ virtualized: 'main', signal: NEVER }));
      await reached;
      await test.stop();
      await begun;
      await test.start();
      assert.ok(test.control.isInitialized());
      const ids = (await list(test)).map(([, name, mode]) => [name, mode]);
      assert.deepEqual(ids, [
        ['system', 'shared'],
        ['main', 'shared'],
      ]);
      assert.equal(test.control.defaultTarget(), 'main');
    });
  }

  it('before the system VC is made: it waits to be asked again', async () => {
    const cuts = new HostCuts();
    await using test = await TestControl.open({ cuts, ...noBackups() });
    const reached = cuts.arm({ method: 'create', when: 'after' });
    const begun = assert.rejects(test.control.initialize({ virtualized: 'main', signal: NEVER }));
    await reached;
    await test.stop();
    await begun;
    await test.start();
    assert.equal(test.control.isInitialized(), false);
    await test.control.initialize({ virtualized: 'empty', signal: NEVER });
    assert.deepEqual(await list(test), [['1', 'system', 'shared']]);
  });
});

describe('a daemon that dies in RESTORE', () => {
  const cuts = new HostCuts();
  let test: TestControl;
  before(async () => {
    test = await TestControl.open({
      virtualized: 'main',
      cuts,
      bulkWorker: createBulkWorker({ clock: systemClock(), logger: new RecordingLogger() }),
      collectionReader: createCollectionReader({ rng: systemRng() }),
    });
    await test.postgres('CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n');
    await test.ask("BACKUP INTO 'nodelocal://1/main'");
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  const incarnations = async (name: string) =>
    (await readdir(join(test.directory, 'store', 'vc', String(test.idOf(name))))).filter((entry) =>
      /^[0-9a-f]{8}-/.test(entry),
    );

  for (const [method, when] of [
    ['beginIncarnation', 'before'],
    ['beginIncarnation', 'after'],
    ['proveIncarnation', 'before'],
    ['proveIncarnation', 'after'],
    ['commitIncarnation', 'before'],
    ['commitIncarnation', 'after'],
  ] as const) {
    it(`${when} ${method}: the next one finishes the job`, async () => {
      const name = `r-${method.toLowerCase()}-${when}`;
      await test.ask(`CREATE VIRTUAL CLUSTER ${name}`, SYSTEM);
      await test.ask(`ALTER VIRTUAL CLUSTER ${name} GRANT ALL CAPABILITIES`, SYSTEM);
      await test.ask(`ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`, SYSTEM);
      await dieIn(test, cuts, {
        method,
        when,
        during: "RESTORE FROM LATEST IN 'nodelocal://1/main'",
        in: name,
      });
      await test.start();
      const [job] = await waitFor('the job to end', async () => {
        const jobs = await test.rows('SHOW JOBS', { in: name });
        return ['succeeded', 'failed', 'paused'].includes(jobs[0]?.['status'] ?? '') && jobs;
      });
      assert.deepEqual([job?.['job_type'], job?.['status'], job?.['error']], ['RESTORE', 'succeeded', null]);
      const [kept] = await test.rows('SHOW JOBS', SYSTEM);
      await test.rows(`SHOW JOB WHEN COMPLETE ${kept?.['job_id']}`, SYSTEM);
      assert.deepEqual(await test.postgres('SELECT count(*)::text AS n FROM t', { in: name }), [
        { n: '100' },
      ]);
      await waitFor('the old incarnation to be removed', async () => (await incarnations(name)).length === 1);
      await test.ask(`ALTER VIRTUAL CLUSTER ${name} STOP SERVICE`, SYSTEM);
      await test.ask(`DROP VIRTUAL CLUSTER ${name} IMMEDIATE`, SYSTEM);
    });
  }
});
