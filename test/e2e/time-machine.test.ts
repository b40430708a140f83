import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TestDaemon } from '../harness/daemon.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system', database: 'defaultdb' };

interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
}

describe('the time machine', () => {
  let daemon: TestDaemon;

  const system = (sql: string) => daemon.query(sql, SYSTEM);
  const inside = (cluster: string, ...sql: string[]) => daemon.query(sql, { cluster });
  const now = async () => String((await inside('main', 'SELECT clock_timestamp()::text AS at'))[0]?.['at']);

  async function refusal(
    sql: string,
    options: { cluster?: string; user?: string } = SYSTEM,
  ): Promise<Refusal> {
    return daemon.query(sql, options).then(
      () => assert.fail(`${sql} was not refused`),
      (error: unknown) => error as Refusal, // What node-postgres throws.
    );
  }

  async function notices(sql: string): Promise<string[]> {
    const client = await daemon.connect(SYSTEM);
    const heard: string[] = [];
    client.on('notice', (notice) =>
      heard.push(`${notice.message} / ${(notice as { hint?: string }).hint ?? ''}`),
    );
    await client.query(sql);
    await client.end();
    return heard;
  }

  async function rowsOf(cluster: string): Promise<string> {
    const [row] = await inside(
      cluster,
      `SELECT coalesce(string_agg(what, ',' ORDER BY id), '') AS all FROM diary`,
    );
    return String(row?.['all']);
  }

  before(async () => {
    daemon = await TestDaemon.start();
    await inside('main', 'CREATE TABLE diary (id serial PRIMARY KEY, what text)');
    await inside('main', `INSERT INTO diary (what) VALUES ('first')`);
  });

  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  it('makes a branch of what there is now, capturing a base when there is none', async () => {
    await system('CREATE VIRTUAL CLUSTER dev FROM VIRTUAL CLUSTER main');
    const [listed] = await system(`SELECT * FROM [SHOW VIRTUAL CLUSTERS] WHERE name = 'dev'`);
    assert.deepEqual([listed?.['data_state'], listed?.['service_mode']], ['ready', 'none']);
    await system('ALTER VIRTUAL CLUSTER dev START SERVICE SHARED');
    assert.equal(await rowsOf('dev'), 'first');
    await inside('dev', `INSERT INTO diary (what) VALUES ('only in dev')`);
    assert.equal(await rowsOf('main'), 'first');
    const identifiers = await Promise.all(
      ['main', 'dev'].map((cluster) => inside(cluster, 'SELECT system_identifier FROM pg_control_system()')),
    );
    assert.notDeepEqual(identifiers[0], identifiers[1]);
  });

  it('captures one first base for all who ask for it at once', async () => {
    await system('CREATE VIRTUAL CLUSTER young');
    await system('ALTER VIRTUAL CLUSTER young START SERVICE SHARED');
    await inside('young', `CREATE TABLE diary (id int, what text)`);
    await inside('young', `INSERT INTO diary VALUES (1, 'first')`);
    const names = ['left', 'middle', 'right'];
    await Promise.all(
      names.map(async (name) => {
        // What is written meanwhile begins new segments, so that the log of one base ends before another begins.
        await inside('young', `SELECT pg_logical_emit_message(false, 'fill', repeat(' ', 20000000))`);
        await system(`CREATE VIRTUAL CLUSTER ${name} FROM VIRTUAL CLUSTER young`);
      }),
    );
    const bases = await system(`SELECT * FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER young] WHERE kind = 'base'`);
    assert.equal(bases.length, 1);
    for (const name of names) {
      await system(`ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`);
      assert.equal(await rowsOf(name), 'first');
    }
    for (const name of [...names, 'young']) {
      await system(`ALTER VIRTUAL CLUSTER ${name} STOP SERVICE`);
      await system(`DROP VIRTUAL CLUSTER ${name} IMMEDIATE`);
    }
  });

  it('makes a branch of any moment since', async () => {
    await inside('main', `INSERT INTO diary (what) VALUES ('second')`);
    const between = await now();
    const [{ at } = { at: '' }] = await inside(
      'main',
      `INSERT INTO diary (what) VALUES ('third') RETURNING clock_timestamp()::text AS at`,
    );
    await inside('main', `DELETE FROM diary`);
    // A moment within a transaction is before its commit, be it by microseconds.
    await system(`CREATE VIRTUAL CLUSTER eve FROM VIRTUAL CLUSTER main AS OF SYSTEM TIME '${String(at)}'`);
    await system('ALTER VIRTUAL CLUSTER eve START SERVICE SHARED');
    assert.equal(await rowsOf('eve'), 'first,second');
    await system('ALTER VIRTUAL CLUSTER eve STOP SERVICE');
    await system('DROP VIRTUAL CLUSTER eve IMMEDIATE');
    await system(`CREATE VIRTUAL CLUSTER yesterday FROM VIRTUAL CLUSTER main AS OF SYSTEM TIME '${between}'`);
    await system('ALTER VIRTUAL CLUSTER yesterday START SERVICE SHARED');
    assert.equal(await rowsOf('yesterday'), 'first,second');
    assert.equal(await rowsOf('main'), '');
  });

  it('gives a branch no part in the subscriptions of its source, and says so', async () => {
    await inside(
      'main',
      `CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1 dbname=d user=u password=p' PUBLICATION p
         WITH (connect = false, slot_name = 'feed')`,
    );
    await inside('main', 'ALTER SUBSCRIPTION feed ENABLE');
    const heard = await notices('CREATE VIRTUAL CLUSTER mute FROM VIRTUAL CLUSTER main');
    assert.ok(
      heard.some((notice) => /disabled in virtual cluster "mute": subscription "feed"/.test(notice)),
      heard.join(),
    );
    await system('ALTER VIRTUAL CLUSTER mute START SERVICE SHARED');
    const enabled = (cluster: string) => inside(cluster, 'SELECT subenabled FROM pg_subscription');
    assert.deepEqual(await enabled('mute'), [{ subenabled: false }]);
    assert.deepEqual(await enabled('main'), [{ subenabled: true }]);
    await inside('main', 'ALTER SUBSCRIPTION feed DISABLE');
    await inside('main', 'ALTER SUBSCRIPTION feed SET (slot_name = NONE)');
    await inside('main', 'DROP SUBSCRIPTION feed');
    await system('ALTER VIRTUAL CLUSTER mute STOP SERVICE');
    await system('DROP VIRTUAL CLUSTER mute IMMEDIATE');
  });

  it('takes data back in its own place, and undoes that', async () => {
    await inside('main', `INSERT INTO diary (what) VALUES ('good')`);
    const good = await now();
    await inside('main', `UPDATE diary SET what = 'bad'`);
    const refused = await refusal(
      `ALTER VIRTUAL CLUSTER main RESET DATA TO VIRTUAL CLUSTER main AS OF SYSTEM TIME '${good}'`,
    );
    assert.equal(refused.code, '55006');
    assert.match(refused.hint ?? '', /STOP SERVICE/);
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    const [undo] = await notices(
      `ALTER VIRTUAL CLUSTER main RESET DATA TO VIRTUAL CLUSTER main AS OF SYSTEM TIME '${good}'`,
    );
    const position = /AS OF SYSTEM TIME '([^']+)'/.exec(undo ?? '')?.[1];
    assert.ok(position !== undefined, undo);
    await system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    assert.equal(await rowsOf('main'), 'good');
    await inside('main', `INSERT INTO diary (what) VALUES ('after the reset')`);
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    await system(
      `ALTER VIRTUAL CLUSTER main RESET DATA TO VIRTUAL CLUSTER main AS OF SYSTEM TIME '${position}'`,
    );
    // Until then the life that begins here has no base.
    await system('ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING timeline.enabled = false');
    await system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    assert.equal(await rowsOf('main'), 'bad');
  });

  it('takes backups of the life after a reset, which soon has a base', async () => {
    const early = await now();
    await inside('main', `INSERT INTO diary (what) VALUES ('worse still')`);
    const [written] = await inside('main', 'SELECT pg_current_wal_insert_lsn()::text AS lsn');
    await system('ALTER VIRTUAL CLUSTER main RESET CLUSTER SETTING timeline.enabled');
    // Consistent from behind that commit on: the moment before it is only in the life that was left.
    await waitFor('a base of the present life', async () => {
      const bases = await system(
        `SELECT 1 FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER main]
          WHERE kind = 'base' AND start_lsn::pg_lsn >= '${String(written?.['lsn'])}'`,
      );
      return bases.length > 0;
    });
    const backup = (options: string) => inside('main', `BACKUP INTO 'nodelocal://1/reset' ${options}`);
    const late = await now();
    await inside('main', `INSERT INTO diary (what) VALUES ('in no backup of what was')`);
    const [refused] = await Promise.allSettled([backup(`AS OF SYSTEM TIME '${early}'`)]);
    assert.ok(refused.status === 'rejected', 'no base leads to that moment');
    const { code, hint } = refused.reason as Refusal;
    assert.deepEqual([code, /SHOW TIMELINE/.test(hint ?? '')], ['22023', true]);
    await inside('main', 'CREATE DATABASE read_back');
    const contents = async () => {
      await inside(
        'main',
        `RESTORE TABLE diary FROM LATEST IN 'nodelocal://1/reset' WITH into_db = 'read_back'`,
      );
      const client = await daemon.connect({ cluster: 'main', database: 'read_back' });
      const { rows } = await client.query<{ what: string }>('SELECT what FROM diary ORDER BY id');
      await client.query('DROP TABLE diary');
      await client.end();
      return rows.map(({ what }) => what);
    };
    await backup(`AS OF SYSTEM TIME '${late}'`);
    assert.deepEqual(await contents(), ['bad', 'worse still']);
    await backup('WITH revision_history');
    assert.deepEqual(await contents(), ['bad', 'worse still', 'in no backup of what was']);
    await inside('main', 'DROP DATABASE read_back');
  });

  it('takes data back once more before it has served', async () => {
    await inside('main', `DELETE FROM diary`, `INSERT INTO diary (what) VALUES ('bad'), ('better')`);
    const better = await now();
    await inside('main', `INSERT INTO diary (what) VALUES ('worse')`);
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    const reset = (asOf: string) =>
      system(`ALTER VIRTUAL CLUSTER main RESET DATA TO VIRTUAL CLUSTER main AS OF SYSTEM TIME '${asOf}'`);
    await reset(better);
    await reset('0s');
    await system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    assert.equal(await rowsOf('main'), 'bad,better');
    await inside('main', `INSERT INTO diary (what) VALUES ('worst')`);
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    await reset('0s');
    // It serves, and nothing is committed: what lies before is found in the life before it.
    await system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    assert.equal(await rowsOf('main'), 'bad,better,worst');
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    await reset(better);
    await system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    assert.equal(await rowsOf('main'), 'bad,better');
    await inside('main', `DELETE FROM diary WHERE what = 'better'`);
  });

  it('shows what there is to go back to', async () => {
    await system('CREATE VIRTUAL CLUSTER fresh');
    const [nothing, ...others] = await system('SHOW TIMELINE FOR VIRTUAL CLUSTER fresh');
    assert.deepEqual([nothing?.['kind'], nothing?.['state'], others], ['window', 'no base yet', []]);
    const early = await refusal(
      `ALTER VIRTUAL CLUSTER fresh RESET DATA TO VIRTUAL CLUSTER fresh AS OF SYSTEM TIME '-1s'`,
    );
    assert.equal(early.code, '22023');
    const rows = await system('SHOW TIMELINE FOR VIRTUAL CLUSTER main');
    const kinds = rows.map((row) => row['kind']);
    assert.equal(kinds.filter((kind) => kind === 'window').length, 1);
    assert.ok(kinds.filter((kind) => kind === 'log').length >= 3, 'a life for each reset');
    assert.ok(kinds.includes('base'));
    const [window] = rows;
    assert.ok(window?.['start_time'] instanceof Date && window['end_time'] instanceof Date);
    assert.ok(window['start_time'] <= window['end_time'], JSON.stringify(rows, null, 1));
    const retention = await system('SHOW TIMELINE RETENTION FOR VIRTUAL CLUSTER main');
    const [shownWindow, ...heldByWhat] = retention;
    assert.deepEqual([shownWindow?.['action'], shownWindow?.['kind']], ['keep', 'window']);
    assert.match(String(shownWindow?.['reason']), /^moments since .* stay restorable$/);
    assert.ok(
      heldByWhat.some((row) => row['action'] === 'keep' && row['kind'] === 'base' && row['reason'] !== ''),
    );
    const received = rows.find((row) => row['kind'] === 'log' && row['id'] === window['id']);
    assert.equal(received?.['state'], 'receiving');
  });

  it('goes on with a branch when the daemon is killed', async () => {
    const client = await daemon.connect(SYSTEM);
    const going = client
      .query('CREATE VIRTUAL CLUSTER stubborn FROM VIRTUAL CLUSTER main')
      .catch(() => undefined);
    const job = `SELECT status FROM [SHOW JOBS] WHERE description LIKE '%stubborn%'`;
    await waitFor('the job to be recorded', async () => (await system(job)).length > 0);
    await daemon.kill();
    await going;
    await client.end().catch(() => undefined);
    await daemon.startAgain();
    await waitFor('the job to succeed', async () => (await system(job))[0]?.['status'] === 'succeeded');
    await system('ALTER VIRTUAL CLUSTER stubborn START SERVICE SHARED');
    assert.equal(await rowsOf('stubborn'), await rowsOf('main'));
  });

  it('keeps what was dropped, and gives it back', async () => {
    await inside('yesterday', 'ALTER RANGE default CONFIGURE ZONE USING gc.ttlseconds = 12345');
    await system('ALTER VIRTUAL CLUSTER yesterday STOP SERVICE');
    await system('DROP VIRTUAL CLUSTER yesterday');
    assert.deepEqual(await system(`SELECT * FROM [SHOW VIRTUAL CLUSTERS] WHERE name = 'yesterday'`), []);
    const [dropped] = await system(
      `SELECT * FROM [SHOW VIRTUAL CLUSTERS WITH DROPPED] WHERE name = 'yesterday'`,
    );
    assert.equal(dropped?.['data_state'], 'dropped');
    assert.ok(dropped?.['kept_until'] instanceof Date && dropped['dropped'] instanceof Date);
    // Its own window counts, which nobody can ask it for while it is out of service.
    assert.equal(dropped['kept_until'].getTime() - dropped['dropped'].getTime(), 12_345_000);
    await system('CREATE VIRTUAL CLUSTER yesterday');
    assert.equal((await refusal('ALTER VIRTUAL CLUSTER yesterday UNDROP')).code, '42710');
    await system('DROP VIRTUAL CLUSTER yesterday IMMEDIATE');
    await system('ALTER VIRTUAL CLUSTER yesterday UNDROP');
    await system('ALTER VIRTUAL CLUSTER yesterday START SERVICE SHARED');
    assert.equal(await rowsOf('yesterday'), 'first,second');
    const [{ id } = { id: '' }] = await system(
      `SELECT id FROM [SHOW VIRTUAL CLUSTERS] WHERE name = 'yesterday'`,
    );
    const store = join(daemon.store, 'timeline', String(id));
    assert.ok(existsSync(store));
    await system('ALTER VIRTUAL CLUSTER yesterday STOP SERVICE');
    await system('DROP VIRTUAL CLUSTER yesterday IMMEDIATE');
    assert.ok(!existsSync(store), 'IMMEDIATE takes the timeline along');
    assert.equal((await refusal('ALTER VIRTUAL CLUSTER yesterday UNDROP')).code, '42704');
  });

  it('refuses what it cannot do, and changes nothing', async () => {
    const before = await system('SHOW VIRTUAL CLUSTERS');
    const branch = (source: string, asOf: string) =>
      refusal(`CREATE VIRTUAL CLUSTER never FROM VIRTUAL CLUSTER ${source} AS OF SYSTEM TIME '${asOf}'`);
    assert.equal((await branch('main', '-1h')).code, '22023', 'before the window');
    assert.match((await branch('main', '-1h')).message, /the window is from/);
    assert.equal((await branch('main', '1h')).code, '22023', 'in the future');
    assert.equal((await branch('main', 'soon')).code, '22007');
    assert.equal((await branch('nobody', '-1s')).code, '42704');
    assert.equal((await branch('system', '-1s')).code, '0A000');
    const create = 'CREATE VIRTUAL CLUSTER never FROM VIRTUAL CLUSTER main';
    assert.equal((await refusal(create, { cluster: 'main' })).code, '42501', 'in an app virtual cluster');
    await system('CREATE ROLE somebody LOGIN');
    await system('GRANT SYSTEM VIEWJOB TO somebody');
    assert.equal((await refusal(create, { ...SYSTEM, user: 'somebody' })).code, '42501', 'without privilege');
    assert.equal((await refusal('SHOW TIMELINE FOR VIRTUAL CLUSTER nobody')).code, '42704');
    const elsewhere = `ALTER VIRTUAL CLUSTER dev RESET DATA TO VIRTUAL CLUSTER main AS OF SYSTEM TIME '-1s'`;
    assert.equal((await refusal(elsewhere)).code, '0A000');
    const ofSystem = `ALTER VIRTUAL CLUSTER system RESET DATA TO VIRTUAL CLUSTER system AS OF SYSTEM TIME '-1s'`;
    assert.equal((await refusal(ofSystem)).code, '55000');
    assert.deepEqual(await system('SHOW VIRTUAL CLUSTERS'), before);
  });
});

describe('a reset that never gets through', () => {
  it('leaves the data as it was, whatever it had changed already', async () => {
    // Every attempt of the worker is killed in the midst of putting pages back.
    const environment = { ATOLL_TEST_FAULT_POINT: 'rewind.before_log' };
    await using daemon = await TestDaemon.start({ environment });
    const system = (sql: string) => daemon.query(sql, SYSTEM);
    await system(`SET CLUSTER SETTING jobs.registry.retry.initial_delay = '10ms'`);
    await daemon.query('CREATE TABLE kept AS SELECT generate_series(1, 10000) AS id', { cluster: 'main' });
    await system('CREATE VIRTUAL CLUSTER first FROM VIRTUAL CLUSTER main');
    const [{ at } = { at: '' }] = await daemon.query('SELECT clock_timestamp()::text AS at', {
      cluster: 'main',
    });
    await daemon.query('UPDATE kept SET id = -id', { cluster: 'main' });
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    await assert.rejects(
      system(
        `ALTER VIRTUAL CLUSTER main RESET DATA TO VIRTUAL CLUSTER main AS OF SYSTEM TIME '${String(at)}'`,
      ),
      (error: Refusal) => error.code === '57P02',
    );
    const [job] = await system(`SELECT * FROM [SHOW JOBS] WHERE job_type = 'RESET DATA'`);
    assert.equal(job?.['status'], 'failed');
    await system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    const [sum] = await daemon.query('SELECT sum(id)::text AS sum FROM kept', { cluster: 'main' });
    assert.equal(sum?.['sum'], String((-10_000 * 10_001) / 2));
  });
});

describe('a reset that is cut off', () => {
  it('is finished by the last of several daemons that are killed at each step of it', async () => {
    const cut = await TestDaemon.start({
      environment: { ATOLL_TEST_FAULT_POINT: 'rewind.before_control_file' },
    });
    try {
      await cut.query(`SET CLUSTER SETTING jobs.registry.retry.initial_delay = '1s'`, SYSTEM);
      await cut.query('CREATE TABLE kept AS SELECT generate_series(1, 10000) AS id', { cluster: 'main' });
      await cut.query('CREATE VIRTUAL CLUSTER first FROM VIRTUAL CLUSTER main', SYSTEM);
      const [{ at } = { at: '' }] = await cut.query('SELECT clock_timestamp()::text AS at', {
        cluster: 'main',
      });
      await cut.query('UPDATE kept SET id = -id', { cluster: 'main' });
      await cut.query('ALTER VIRTUAL CLUSTER main STOP SERVICE', SYSTEM);
      const client = await cut.connect(SYSTEM);
      const reset = `ALTER VIRTUAL CLUSTER main RESET DATA TO VIRTUAL CLUSTER main AS OF SYSTEM TIME '${String(at)}'`;
      const cutOff = client.query(reset).catch(() => undefined);
      const jobIs = async (daemon: TestDaemon, status: string) => {
        const [job] = await daemon.query(
          `SELECT status FROM [SHOW JOBS] WHERE job_type = 'RESET DATA'`,
          SYSTEM,
        );
        return job?.['status'] === status;
      };
      await waitFor('the worker to be killed', () => jobIs(cut, 'retry-running'));
      for (const statement of [
        'ALTER VIRTUAL CLUSTER main START SERVICE SHARED',
        'DROP VIRTUAL CLUSTER main',
      ]) {
        await assert.rejects(
          cut.query(statement, SYSTEM),
          (error: Refusal) => error.code === '55006' && /being taken back in time by job/.test(error.message),
        );
      }
      await cut.kill();
      await cutOff;
      await client.end().catch(() => undefined);
      for (const point of ['reset.filled', 'reset.proved', 'reset.committed']) {
        const environment = { ATOLL_TEST_FAULT_POINT: point };
        await TestDaemon.start({ store: cut.store, environment }).then(
          async (again) => {
            await again.ended();
          },
          // Killed by its fault point before it listened.
          (error: unknown) => assert.match(String(error), /the daemon ended with null/, point),
        );
      }
      await using next = await TestDaemon.start({ store: cut.store });
      await waitFor('the job to succeed', () => jobIs(next, 'succeeded'));
      await next.query('ALTER VIRTUAL CLUSTER main START SERVICE SHARED', SYSTEM);
      const [sum] = await next.query('SELECT sum(id)::text AS sum FROM kept', { cluster: 'main' });
      assert.equal(sum?.['sum'], String((10_000 * 10_001) / 2));
    } finally {
      await cut[Symbol.asyncDispose]();
    }
  });
});
