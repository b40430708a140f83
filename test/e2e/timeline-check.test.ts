import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { copyFile, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TestDaemon } from '../harness/daemon.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system', database: 'defaultdb' };

interface Refusal {
  readonly code: string;
  readonly message: string;
}

describe('checks of timelines', () => {
  let daemon: TestDaemon;

  const system = (sql: string) => daemon.query(sql, SYSTEM);
  const inside = (cluster: string, sql: string | readonly string[]) => daemon.query(sql, { cluster });
  const checks = (cluster: string) => system(`SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER ${cluster}`);

  async function idOf(cluster: string): Promise<string> {
    return String((await system(`SELECT id FROM [SHOW VIRTUAL CLUSTER ${cluster}]`))[0]?.['id']);
  }

  async function refusal(sql: string): Promise<Refusal> {
    return system(sql).then(
      () => assert.fail(`${sql} was not refused`),
      (error: unknown) => error as Refusal, // What node-postgres throws.
    );
  }

  const untilBase = (cluster: string) =>
    waitFor(`a base of ${cluster}`, async () =>
      (await system(`SHOW TIMELINE FOR VIRTUAL CLUSTER ${cluster}`)).some((row) => row['kind'] === 'base'),
    );

  /** What a copy would leave behind, of any virtual cluster; and pins of `main`. */
  async function leftovers(): Promise<readonly string[]> {
    const found: string[] = [];
    for (const id of await readdir(join(daemon.store, 'vc'))) {
      const names = await readdir(join(daemon.store, 'vc', id));
      found.push(...names.filter((name) => name.endsWith('.scratch')));
    }
    found.push(...(await readdir(join(daemon.store, 'run'))).filter((name) => /^\d+s/.test(name)));
    found.push(...(await readdir(join(daemon.store, 'logs'))).filter((name) => name.startsWith('scratch')));
    const pins = join(daemon.store, 'timeline', '3', 'pins');
    if (existsSync(pins)) found.push(...(await readdir(pins)));
    return found;
  }

  before(async () => {
    daemon = await TestDaemon.start();
    await inside('main', [
      'CREATE TABLE diary (id serial PRIMARY KEY, what text)',
      `INSERT INTO diary (what) SELECT 'entry ' || n FROM generate_series(1, 5000) n`,
      'CREATE INDEX ON diary (lower(what))',
      'DELETE FROM diary WHERE id % 7 = 0',
    ]);
    await untilBase('main');
  });

  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  it('tries a restore to any moment out, and tells what was looked at', async () => {
    await inside('main', `INSERT INTO diary (what) SELECT 'later ' || n FROM generate_series(1, 500) n`);
    await system('ALTER VIRTUAL CLUSTER main CHECK TIMELINE');
    await system(`ALTER VIRTUAL CLUSTER main CHECK TIMELINE AS OF SYSTEM TIME '-1ms'`);
    const rows = await checks('main');
    assert.equal(rows.length, 2);
    for (const row of rows) {
      assert.equal(row['state'], 'succeeded', JSON.stringify(row));
      assert.equal(row['findings'], null);
      assert.ok(Number(row['databases']) >= 5, 'templates too');
      assert.ok(Number(row['tables']) > 100 && Number(row['indexes']) > 100 && Number(row['pages']) > 1000);
    }
    const lives = await system('SHOW TIMELINE FOR VIRTUAL CLUSTER main');
    assert.equal(lives.filter((row) => row['kind'] === 'log').length, 1, 'a copy is no life of the data');
    assert.deepEqual(await leftovers(), []);
    assert.equal((await inside('main', 'SELECT count(*)::int AS n FROM diary'))[0]?.['n'], 4786);
  });

  it('checks the system virtual cluster, and refuses what cannot be checked', async () => {
    await untilBase('system');
    await system('ALTER VIRTUAL CLUSTER system CHECK TIMELINE');
    const unknown = await refusal('ALTER VIRTUAL CLUSTER nobody CHECK TIMELINE');
    assert.equal(unknown.code, '42704');
    const early = await refusal(
      `ALTER VIRTUAL CLUSTER main CHECK TIMELINE AS OF SYSTEM TIME '2001-01-01 00:00:00+00'`,
    );
    assert.equal(early.code, '22023');
    assert.match(early.message, /the window is from/);
    const late = await refusal(
      `ALTER VIRTUAL CLUSTER main CHECK TIMELINE AS OF SYSTEM TIME '2101-01-01 00:00:00+00'`,
    );
    assert.equal(late.code, '22023');
  });

  it('shows a virtual cluster its own checks, and no others, while it has the capability for it', async () => {
    const own = 'SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER main';
    assert.deepEqual(await inside('main', own), await checks('main'));
    await assert.rejects(inside('main', 'SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER system'), {
      code: '42501',
    });
    await assert.rejects(inside('main', 'SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER nobody'), {
      code: '42501',
    });
    await assert.rejects(inside('main', 'ALTER VIRTUAL CLUSTER main CHECK TIMELINE'), { code: '42501' });
    await inside('main', 'CREATE ROLE visitor LOGIN');
    await assert.rejects(daemon.query(own, { cluster: 'main', user: 'visitor' }), {
      code: '42501',
      message: /admin role/,
    });
    await system('ALTER VIRTUAL CLUSTER main REVOKE CAPABILITY can_check_consistency');
    await assert.rejects(inside('main', own), {
      code: '42501',
      hint: /GRANT CAPABILITY can_check_consistency/,
    });
    await system('ALTER VIRTUAL CLUSTER main GRANT CAPABILITY can_check_consistency');
  });

  it('finds a visibility map that promises what is not so, and says where', async () => {
    await system('CREATE VIRTUAL CLUSTER sick');
    await system('ALTER VIRTUAL CLUSTER sick SET CLUSTER SETTING timeline.enabled = false');
    await system('ALTER VIRTUAL CLUSTER sick START SERVICE SHARED');
    await inside('sick', [
      'CREATE TABLE hidden AS SELECT n FROM generate_series(1, 1000) n',
      'VACUUM (FREEZE) hidden',
    ]);
    const [place] = await inside('sick', `SELECT pg_relation_filepath('hidden') AS path`);
    await system('ALTER VIRTUAL CLUSTER sick STOP SERVICE');
    const folder = join(daemon.store, 'vc', await idOf('sick'));
    const incarnation = (await readdir(folder)).find((name) => /^[0-9a-f-]{36}$/.test(name)) ?? '';
    const map = join(folder, incarnation, `${String(place?.['path'])}_vm`);
    await copyFile(map, join(daemon.store, 'stale_vm'));
    await system('ALTER VIRTUAL CLUSTER sick START SERVICE SHARED');
    await inside('sick', 'DELETE FROM hidden WHERE n <= 10');
    await system('ALTER VIRTUAL CLUSTER sick STOP SERVICE');
    await copyFile(join(daemon.store, 'stale_vm'), map);
    await system('ALTER VIRTUAL CLUSTER sick START SERVICE SHARED');
    await system('ALTER VIRTUAL CLUSTER sick RESET CLUSTER SETTING timeline.enabled');
    await untilBase('sick');
    const failed = await refusal('ALTER VIRTUAL CLUSTER sick CHECK TIMELINE');
    assert.equal(failed.code, 'XX001');
    assert.match(failed.message, /database "defaultdb", table public\.hidden: .*visib/);
    const [check] = await checks('sick');
    assert.equal(check?.['state'], 'failed');
    assert.match(String(check?.['findings']), /table public\.hidden: row \(0,\d+\) is not visible to all/);
    assert.deepEqual(await leftovers(), []);
  });

  it('leaves nothing behind when the daemon is killed in the midst of it, and can be canceled', async () => {
    await inside('main', [
      `CREATE FUNCTION waits(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
        IF current_setting('application_name') = 'atoll' THEN PERFORM pg_sleep(3600); END IF; RETURN n; END$$`,
      'CREATE TABLE patient AS SELECT n FROM generate_series(1, 10) n',
      'CREATE INDEX patient_waits ON patient (waits(n))',
    ]);
    const statement = `ALTER VIRTUAL CLUSTER main CHECK TIMELINE AS OF SYSTEM TIME '0s'`;
    const untilLooking = () =>
      waitFor('the check to come to the index that keeps it waiting', async () => {
        const [job] = await system(
          `SELECT * FROM [SHOW JOBS] WHERE job_type = 'TIMELINE CHECK' AND status = 'running'`,
        );
        return String(job?.['running_status']).includes('patient_waits')
          ? String(job?.['job_id'])
          : undefined;
      });
    const asked = assert.rejects(system(statement));
    await untilLooking();
    const [scratch] = (await leftovers()).filter((name) => name.endsWith('.scratch'));
    assert.ok(scratch !== undefined);
    const directory = join(daemon.store, 'vc', await idOf('main'), scratch);
    const postmaster = Number((await readFile(join(directory, 'postmaster.pid'), 'utf8')).split('\n')[0]);
    await daemon.kill();
    await asked;
    assert.ok(existsSync(`/proc/${postmaster}`), 'a server outlives its daemon');
    await daemon.startAgain();
    assert.ok(!existsSync(directory), 'what was left is gone before anybody is let in');
    await waitFor('its server to be reaped', () => !existsSync(`/proc/${postmaster}`));
    const again = await untilLooking();
    await system(`CANCEL JOB ${again}`);
    await waitFor('the end of the job', async () => {
      const [job] = await system(`SELECT status FROM [SHOW JOB ${again}]`);
      return job?.['status'] === 'canceled';
    });
    assert.deepEqual(await leftovers(), []);
    assert.equal((await checks('main')).length, 2, 'nothing is claimed of a check that did not end');
    await inside('main', 'DROP TABLE patient');
  });

  it('ends with the virtual cluster, and with the daemon', async () => {
    const hangs = [
      `CREATE FUNCTION waits(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
        IF current_setting('application_name') = 'atoll' THEN PERFORM pg_sleep(3600); END IF; RETURN n; END$$`,
      'CREATE TABLE patient AS SELECT n FROM generate_series(1, 10) n',
      'CREATE INDEX patient_waits ON patient (waits(n))',
    ];
    await system('CREATE VIRTUAL CLUSTER fleeting');
    await system('ALTER VIRTUAL CLUSTER fleeting START SERVICE SHARED');
    await inside('fleeting', hangs);
    await untilBase('fleeting');
    const id = await idOf('fleeting');
    const begin = async () => {
      // Its client is cut off, or told.
      void system(`ALTER VIRTUAL CLUSTER fleeting CHECK TIMELINE AS OF SYSTEM TIME '0s'`).then(
        () => undefined,
        () => undefined,
      );
      await waitFor('the copy to be looked at', async () =>
        (await system(`SELECT * FROM [SHOW JOBS] WHERE status = 'running'`)).some((job) =>
          String(job['running_status']).includes('patient_waits'),
        ),
      );
    };
    await begin();
    await daemon.stop();
    assert.deepEqual(await leftovers(), [], 'an orderly stop takes it down');
    await daemon.startAgain();
    await waitFor('the check to go on', async () =>
      (await leftovers()).some((name) => name.endsWith('.scratch')),
    );
    await system('ALTER VIRTUAL CLUSTER fleeting STOP SERVICE');
    await system('DROP VIRTUAL CLUSTER fleeting IMMEDIATE');
    await waitFor('the job to notice', async () =>
      (await system(`SELECT * FROM [SHOW JOBS] WHERE job_type = 'TIMELINE CHECK'`)).every((job) =>
        ['succeeded', 'failed', 'canceled'].includes(String(job['status'])),
      ),
    );
    assert.ok(!existsSync(join(daemon.store, 'vc', id)));
    assert.deepEqual(await leftovers(), []);
    assert.equal((await readdir(join(daemon.store, 'quarantine'))).length, 0);
  });

  it('says what it met when a worker is lost each time, and leaves nothing behind', async () => {
    await daemon.stop();
    const { store } = daemon;
    await using cut = await TestDaemon.start({
      store,
      environment: { ATOLL_TEST_FAULT_POINT: 'materialize.before_sync' },
    });
    await cut.query(
      [
        `SET CLUSTER SETTING jobs.registry.retry.initial_delay = '10ms'`,
        `SET CLUSTER SETTING jobs.registry.retry.max_delay = '10ms'`,
      ],
      SYSTEM,
    );
    await assert.rejects(cut.query('ALTER VIRTUAL CLUSTER main CHECK TIMELINE', SYSTEM), { code: '57P02' });
    const [check] = await cut.query('SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER main', SYSTEM);
    assert.equal(check?.['state'], 'failed');
    assert.match(String(check?.['findings']), /process that did the materialize_point ended unexpectedly/);
    await cut.stop();
    await daemon.startAgain();
    assert.deepEqual(await leftovers(), []);
  });
});
