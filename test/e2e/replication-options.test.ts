import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import pg from 'pg';
import { findDamage } from '../harness/oracle.ts';
import { type Refusal, Site } from '../harness/sites.ts';
import { inSteps } from '../harness/steps.ts';
import { asNewerRelease, TcpProxy } from '../harness/tcp-proxy.ts';
import { waitFor } from '../harness/wait.ts';

const READER = { cluster: 'main-readonly' };
/** More than all statements together, and much less than the image. */
const MID_SCAN_BYTES = 4 * 1024 * 1024;
/** For a failover time that is not known yet. */
const STATEMENT_WAITS_MS = 60_000;
const MORE_SCAN_BYTES = 10 * 1024 * 1024;

describe('what a replication stream can be asked for', () => {
  let primary: Site;
  let standby: Site;
  /** Between the standby and its primary. */
  let network: TcpProxy;

  const step = inSteps();

  const read = (sql: string, site = standby) => site.daemon.query(sql, READER);
  const refused = (sql: string, code: string, site = standby) =>
    assert.rejects(read(sql, site), (error: unknown) => {
      assert.equal((error as Refusal).code, code, `${sql}: ${(error as Refusal).message}`);
      return true;
    });
  const shown = async (name: string, site = standby) => {
    const rows = await site.system('SHOW VIRTUAL CLUSTERS');
    const row = rows.find((each) => each['name'] === name);
    return row === undefined ? undefined : `${String(row['data_state'])}/${String(row['service_mode'])}`;
  };
  const whenShown = (name: string, state: string | undefined, site = standby) =>
    waitFor(`${name} to be ${state ?? 'gone'}`, async () => (await shown(name, site)) === state);
  const notes = (client: pg.Client) => client.query<{ note: string }>('SELECT note FROM diary ORDER BY id');
  const write = (note: string, site = primary) => site.main(`INSERT INTO diary (note) VALUES ('${note}')`);
  const whenRead = (client: pg.Client, note: string) =>
    waitFor(`"${note}" to be read`, async () => (await notes(client)).rows.at(-1)?.note === note);
  const producer = async () =>
    (
      await primary.system(
        `SELECT status FROM [SHOW JOBS] WHERE job_type = 'REPLICATION STREAM PRODUCER' ORDER BY job_id DESC LIMIT 1`,
      )
    )[0]?.['status'];
  /** What statements tell beside their results. */
  const create = () =>
    `CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${primary.uri(network.port)}'`;

  const figure = async (name: string, site = standby) => {
    const [, http = ''] = [...site.daemon.output.matchAll(/HTTP +http:\/\/(\S+)/g)].at(-1) ?? [];
    const text = await (await fetch(`http://${http}/_status/vars?cluster=system`)).text();
    const sample = new RegExp(`^physical_replication_${name}\\{[^}]*tenant="main"[^}]*\\} (\\S+)`, 'm').exec(
      text,
    );
    return sample === null ? undefined : Number(sample[1]);
  };
  /** Nothing that was promoted is damaged where queries would not notice. */
  const assertSound = async (site: Site) => {
    const { id } = await site.status();
    const options = { store: site.daemon.store, virtualClusterId: Number(id), database: 'defaultdb' };
    assert.deepEqual(await findDamage(options), []);
  };

  before(async () => {
    primary = await Site.start();
    standby = await Site.start({ flags: ['--virtualized-empty'] });
    network = await TcpProxy.start(() => primary.daemon.port);
    await primary.main('CREATE TABLE diary (id serial PRIMARY KEY, note text)', 'CREATE USER clerk');
    await primary.main('GRANT SELECT ON diary TO clerk');
    await write('before the stream');
  });

  after(async () => {
    await standby?.[Symbol.asyncDispose]();
    await primary?.[Symbol.asyncDispose]();
    await network?.[Symbol.asyncDispose]();
  });

  step('is refused where it cannot be, and nothing is left', async () => {
    const refusals = [
      ["WITH RETENTION = 'soon'", '22023'],
      ["WITH READ VIRTUAL CLUSTER, RETENTION = '-1h'", '22023'],
      ["WITH OPTIONS (EXPIRATION WINDOW = '0s')", '22023'],
    ] as const;
    for (const [options, code] of refusals) {
      assert.equal((await standby.refusal(`${create()} ${options}`)).code, code, options);
    }
    await standby.system('CREATE VIRTUAL CLUSTER "main-readonly"');
    assert.equal((await standby.refusal(`${create()} WITH READ VIRTUAL CLUSTER`)).code, '42710');
    const plain = 'ALTER VIRTUAL CLUSTER main-readonly';
    for (const [sql, code] of [
      [`${plain} PAUSE REPLICATION`, '55000'],
      [`${plain} RESUME REPLICATION`, '55000'],
      [`${plain} COMPLETE REPLICATION TO LATEST`, '55000'],
      [`${plain} SET REPLICATION RETENTION = '1h'`, '55000'],
      [`${plain} SET REPLICATION READ VIRTUAL CLUSTER`, '55000'],
      [`${plain} SET REPLICATION SOURCE EXPIRATION WINDOW = '1h'`, '55000'],
      [`${plain} SET REPLICATION SOURCE EXPIRATION WINDOW = 'never'`, '22023'],
      ['ALTER VIRTUAL CLUSTER nobody PAUSE REPLICATION', '42704'],
      ['ALTER VIRTUAL CLUSTER system PAUSE REPLICATION', '55000'],
      [`ALTER VIRTUAL CLUSTER system START REPLICATION OF main ON '${primary.uri()}'`, '55000'],
      [create().replace(' main ', ' main LIKE nobody '), '42704'],
    ] as const) {
      assert.equal((await standby.refusal(sql)).code, code, sql);
    }
    await standby.system('DROP VIRTUAL CLUSTER "main-readonly" IMMEDIATE');
    assert.equal(await shown('main'), undefined);
    assert.equal(await producer(), undefined);
  });

  step('is refused of a source of a newer release, which then keeps no log', async () => {
    const pass = network.rewrite;
    network.rewrite = asNewerRelease;
    const refusal = await standby.refusal(create());
    assert.equal(refusal.code, '55000', refusal.message);
    assert.match(refusal.message, /release 99\.9, newer than/);
    assert.match(refusal.hint ?? '', /upgrade the standby first/);
    network.rewrite = pass;
    assert.equal(await shown('main'), undefined);
    assert.equal(await producer(), 'succeeded');
    const slots = await primary.asNode(
      `SELECT 1 FROM pg_replication_slots WHERE slot_name LIKE 'atoll_stream_%'`,
    );
    assert.deepEqual(slots, []);
  });

  /** The daemons of both sides are killed in the middle of the scan, one after the other: what has come does not come again. */
  const goOnThoughKilled = async () => {
    for (const site of [standby, primary]) {
      await site.daemon.kill();
      network.mode = 'refuse';
      network.silentAtBytes = network.receivedBytes + MORE_SCAN_BYTES;
      network.mode = 'pass';
      await site.daemon.startAgain();
      await waitFor('the scan to go on', () => network.mode === 'silent');
    }
    network.mode = 'refuse';
    network.mode = 'pass';
    const [, kept] = await waitFor('the scan to end', async () => {
      const log = await readFile(join(standby.daemon.store, 'logs', 'atoll.log'), 'utf8');
      return /initial scan has gone on: (\d+) bytes were here/.exec(log) ?? undefined;
    });
    assert.ok(Number(kept) > MID_SCAN_BYTES, `${kept} bytes were kept`);
  };

  step('waits for the initial scan', async () => {
    network.silentAtBytes = network.receivedBytes + MID_SCAN_BYTES;
    await standby.system(`${create()} WITH RETENTION = '2h', READ VIRTUAL CLUSTER`);
    await waitFor('the scan to be under way', () => network.mode === 'silent');
    assert.equal(await shown('main'), 'initializing replication/none');
    await waitFor('the scan to be measured', async () => ((await figure('scanning_ranges')) ?? 0) > 0);
    assert.equal(await shown('main-readonly'), 'add/none');
    await refused('SELECT 1', '08004');
    const start = 'ALTER VIRTUAL CLUSTER main-readonly START SERVICE SHARED';
    assert.equal((await standby.refusal(start)).code, '55000');
    const again = 'ALTER VIRTUAL CLUSTER main SET REPLICATION READ VIRTUAL CLUSTER';
    assert.equal((await standby.refusal(again)).code, '55000');
    await goOnThoughKilled();
    // Nothing to go back to is claimed before there is.
    const { retained_time: from, replicated_time: to } = await standby.whenIn('replicating');
    assert.ok(from === null || (from instanceof Date && to instanceof Date && from <= to));
    await whenShown('main-readonly', 'ready/shared');
    assert.equal(await shown('main'), 'replicating/none');
    assert.equal(await figure('scanning_ranges'), 0);
    assert.ok(((await figure('logical_bytes')) ?? 0) > MID_SCAN_BYTES);
    await waitFor('what is behind to be measured', async () => (await figure('behind_bytes')) !== undefined);
    await waitFor('the replicated time to go on', async () => {
      return ((await figure('resolved_events_ingested')) ?? 0) > 2;
    });
    await waitFor('what arrives to be measured', async () => {
      const names = [
        'events_ingested',
        'flushes',
        'flush_hist_nanos_count',
        'flush_wait_nanos',
        'receive_wait_nanos',
        'commit_latency_count',
      ];
      const figures = await Promise.all(names.map((name) => figure(name)));
      return figures.every((value) => value !== undefined && value > 0);
    });
    assert.notEqual(await figure('admit_latency_count'), undefined);
    assert.equal(await figure('failover_progress'), 0);
    assert.equal(await figure('status'), 1);
    assert.ok(((await figure('producer_held_bytes', primary)) ?? -1) >= 0);
    assert.equal(await figure('status', primary), undefined);
    // Said again, it is so already.
    await standby.system(again);
  });

  step('shows what the primary writes, without connecting anew, to users of the primary', async () => {
    const client = await standby.daemon.connect({ ...READER, user: 'clerk' });
    const { rows } = await client.query('SHOW virtual_cluster_name');
    assert.deepEqual(rows, [{ virtual_cluster_name: 'main-readonly' }]);
    await write('while it is read');
    await whenRead(client, 'while it is read');
    await assert.rejects(client.query('SELECT * FROM pg_authid'), { code: '42501' });
    await client.end();
    await primary.main('CREATE USER newcomer');
    await waitFor('the newcomer to get in', () =>
      standby.daemon.query('SELECT 1', { ...READER, user: 'newcomer' }),
    );
    await assert.rejects(standby.daemon.query('SELECT 1', { ...READER, user: 'stranger' }), {
      code: '28000',
    });
  });

  step('changes nothing, whoever asks', async () => {
    for (const sql of [
      `INSERT INTO diary (note) VALUES ('x')`,
      'UPDATE diary SET note = note',
      'DELETE FROM diary',
      'CREATE TABLE mine ()',
      'ALTER TABLE diary ADD COLUMN more int',
      'DROP TABLE diary',
      'CREATE USER somebody',
      'GRANT ALL ON diary TO clerk',
      'SELECT * FROM diary FOR UPDATE',
      `BACKUP INTO 'nodelocal://1/b'`,
      `RESTORE FROM LATEST IN 'nodelocal://1/b'`,
      `CREATE SCHEDULE FOR BACKUP INTO 'nodelocal://1/b' RECURRING '@daily'`,
      `CREATE EXTERNAL CONNECTION c AS 'nodelocal://1/b'`,
      `SET CLUSTER SETTING sql.defaults.statement_timeout = '1s'`,
      'CANCEL JOB 1',
    ]) {
      await refused(sql, '25006');
    }
    for (const sql of ['SHOW VIRTUAL CLUSTERS', 'ALTER VIRTUAL CLUSTER main START SERVICE SHARED']) {
      await refused(sql, '42501');
    }
    assert.deepEqual(await read('SHOW SCHEDULES'), []);
    assert.equal((await read('SHOW CLUSTER SETTING jobs.retention_time')).length, 1);
    const options = '-ccluster=main-readonly';
    const how = { replication: 'true' }; // Not among the types of `pg`; it stands in the start-up message.
    const port = standby.daemon.port;
    const follower = new pg.Client({ ...how, host: '127.0.0.1', port, user: 'root', options });
    follower.on('error', () => undefined);
    await assert.rejects(follower.connect());
    for (const [sql, code] of [
      ['CREATE VIRTUAL CLUSTER x FROM VIRTUAL CLUSTER main-readonly', '55000'],
      ['CREATE REPLICATION STREAM OF VIRTUAL CLUSTER main-readonly', '55000'],
      ['ALTER VIRTUAL CLUSTER main-readonly RENAME TO other', '55000'],
      ['ALTER VIRTUAL CLUSTER main-readonly COMPLETE REPLICATION TO LATEST', '55000'],
      [`ALTER VIRTUAL CLUSTER main-readonly SET REPLICATION RETENTION = '1h'`, '55000'],
      ['ALTER VIRTUAL CLUSTER main-readonly START SERVICE EXTERNAL', '42601'],
      ['DROP VIRTUAL CLUSTER main-readonly', '55006'],
    ] as const) {
      assert.equal((await standby.refusal(sql)).code, code, sql);
    }
  });

  step('goes out of service and comes back, and survives its daemon', async () => {
    const client = await standby.daemon.connect(READER);
    await standby.system('ALTER VIRTUAL CLUSTER main-readonly STOP SERVICE');
    await assert.rejects(client.query('SELECT 1'));
    await client.end().catch(() => undefined);
    await refused('SELECT 1', '08004');
    assert.equal(await shown('main-readonly'), 'ready/none');
    await standby.daemon.kill();
    await standby.daemon.startAgain();
    await standby.whenIn('replicating');
    await standby.whenCaughtUp(primary);
    assert.equal(await shown('main-readonly'), 'ready/none');
    await standby.system('ALTER VIRTUAL CLUSTER main-readonly START SERVICE SHARED');
    assert.equal((await read('SELECT 1 AS one'))[0]?.['one'], 1);
    await standby.daemon.kill();
    await standby.daemon.startAgain();
    await waitFor('the reader to serve', () => read('SELECT 1'));
  });

  step('is read on while replication is paused, as it was then', async () => {
    await standby.system('ALTER VIRTUAL CLUSTER main PAUSE REPLICATION');
    await write('while it is paused');
    const count = async () => (await read('SELECT count(*)::int AS n FROM diary'))[0]?.['n'];
    assert.equal(await count(), 2);
    await standby.daemon.stop();
    await standby.daemon.startAgain();
    await waitFor('the reader to serve', () => read('SELECT 1'));
    assert.equal(await count(), 2);
    assert.equal(await shown('main'), 'replication paused/none');
    const add = 'ALTER VIRTUAL CLUSTER main SET REPLICATION READ VIRTUAL CLUSTER';
    assert.equal((await standby.refusal(add)).code, '55000');
    await standby.system('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
    await standby.whenCaughtUp(primary);
    assert.equal(await count(), 3);
  });

  step('goes by the name of what it reads', async () => {
    await standby.system('ALTER VIRTUAL CLUSTER main RENAME TO copy');
    assert.equal(await shown('copy-readonly'), 'ready/shared');
    await standby.daemon.query('SELECT 1', { cluster: 'copy-readonly' });
    await standby.system('ALTER VIRTUAL CLUSTER copy RENAME TO main');
    assert.equal(await shown('main-readonly'), 'ready/shared');
  });

  step('goes on when the primary is given more connections, workers and all', async () => {
    await primary.system(
      'ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING instance.max_connections = 150',
      'ALTER VIRTUAL CLUSTER main STOP SERVICE',
      'ALTER VIRTUAL CLUSTER main START SERVICE SHARED',
    );
    await write('with more connections');
    await standby.whenCaughtUp(primary);
    const [row] = await waitFor('the reader to serve', () => read('SHOW max_connections'));
    assert.ok(Number(row?.['max_connections']) > 150, JSON.stringify(row));
    assert.equal((await standby.status())['status'], 'replicating');
  });

  step('can be failed over within the window that is asked for, as it is changed', async () => {
    await standby.whenProtected();
    const windowMs = async () => {
      const { retained_time: from, replicated_time: to } = await standby.status();
      return from instanceof Date && to instanceof Date ? to.getTime() - from.getTime() : undefined;
    };
    await waitFor('a window of more than a second', async () => ((await windowMs()) ?? 0) > 1500);
    await standby.system(`ALTER VIRTUAL CLUSTER main SET REPLICATION RETENTION = '1s'`);
    // A microsecond less, which is rounded away.
    await waitFor('a window of a second', async () => ((await windowMs()) ?? 0) <= 1000);
    const late = `ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '-1h'`;
    assert.equal((await standby.refusal(late)).code, '22023');
    await standby.system(`ALTER VIRTUAL CLUSTER main SET REPLICATION RETENTION = '2h'`);
    await waitFor('the window there was', async () => ((await windowMs()) ?? 0) > 1500);
    const none = `ALTER VIRTUAL CLUSTER system SET REPLICATION RETENTION = '2h'`;
    assert.equal((await standby.refusal(none)).code, '55000');
  });

  step('ends with the failover to the latest', async () => {
    const client = await standby.daemon.connect(READER);
    await standby.whenCaughtUp(primary);
    const complete = 'ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST';
    // A promotion ends with a checkpoint: without its process it does not end.
    const [row] = await standby.asNode(
      `SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'`,
    );
    const checkpointer = Number(row?.['pid']);
    process.kill(checkpointer, 'SIGSTOP');
    // Whatever becomes of the test, it shall not stand still for ever.
    const patience = AbortSignal.timeout(60_000);
    const release = () => process.kill(checkpointer, 'SIGCONT');
    patience.addEventListener('abort', release);
    try {
      assert.match(await standby.noticesOf(complete), /main-readonly/);
      const { failover_time: time } = await standby.whenIn('replication failing over');
      assert.match(String(time), /^\d{19}\.0{10}$/);
      for (const sql of [
        complete,
        `ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '+1h'`,
        'ALTER VIRTUAL CLUSTER main PAUSE REPLICATION',
      ]) {
        assert.equal((await standby.refusal(sql)).code, '55000', sql);
      }
    } finally {
      patience.removeEventListener('abort', release);
      release();
    }
    await standby.whenIn('ready');
    await assert.rejects(client.query(`INSERT INTO diary (note) VALUES ('too early')`));
    await client.end().catch(() => undefined);
    assert.equal(await shown('main-readonly'), undefined);
    await refused('SELECT 1', '08004');
    await standby.system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    await assertSound(standby);
    const rows = await standby.main('SELECT note FROM diary ORDER BY id');
    assert.deepEqual(
      rows.map((row) => row['note']),
      ['before the stream', 'while it is read', 'while it is paused', 'with more connections'],
    );
  });

  step('comes with a failback, too, and ends with a failover to a moment', async () => {
    await primary.whenProtected();
    await primary.system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    await primary.system(
      `ALTER VIRTUAL CLUSTER main START REPLICATION OF main ON '${standby.uri()}' WITH READ VIRTUAL CLUSTER`,
    );
    await primary.whenIn('replicating');
    await whenShown('main-readonly', 'ready/shared', primary);
    const client = await primary.daemon.connect(READER);
    await write('at the new primary', standby);
    await whenRead(client, 'at the new primary');
    await client.end();
    await primary.system(
      'ALTER VIRTUAL CLUSTER main-readonly STOP SERVICE',
      'DROP VIRTUAL CLUSTER main-readonly',
    );
    assert.equal(await shown('main-readonly', primary), undefined);
    assert.equal((await primary.status())['status'], 'replicating');
    await primary.system('ALTER VIRTUAL CLUSTER main SET REPLICATION READ VIRTUAL CLUSTER');
    assert.equal(await shown('main-readonly', primary), 'ready/shared');
    assert.equal((await read('SELECT count(*)::int AS n FROM diary', primary))[0]?.['n'], 5);
    await primary.system(`ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '+5s'`);
    await primary.whenIn('ready');
    assert.equal(await shown('main-readonly', primary), undefined);
    await primary.system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    await assertSound(primary);
    await standby.system('ALTER VIRTUAL CLUSTER main STOP SERVICE', 'DROP VIRTUAL CLUSTER main IMMEDIATE');
  });

  step('keeps log for its consumer for as long as either side says', async () => {
    const source = (window: string) =>
      `ALTER VIRTUAL CLUSTER main SET REPLICATION SOURCE EXPIRATION WINDOW = '${window}'`;
    assert.equal((await primary.refusal(source('1h'))).code, '55000');
    await standby.system(`${create()} WITH READ VIRTUAL CLUSTER, EXPIRATION WINDOW = '1h'`);
    await standby.whenIn('replicating');
    await primary.system(source('30h'));
    await standby.system('ALTER VIRTUAL CLUSTER main PAUSE REPLICATION');
    await primary.system(source('1s'));
    await waitFor('the producer to be cancelled', async () => (await producer()) === 'canceled');
    await standby.system('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
    await standby.whenIn('replication error');
    // What there is can still be read.
    assert.equal((await read('SELECT count(*)::int AS n FROM diary'))[0]?.['n'], 5);
    const told = await standby.noticesOf('DROP VIRTUAL CLUSTER IF EXISTS main IMMEDIATE');
    assert.match(told, /main-readonly/);
    assert.equal(await shown('main-readonly'), undefined);
    await standby.system(
      'CREATE VIRTUAL CLUSTER model',
      'ALTER VIRTUAL CLUSTER model GRANT CAPABILITY can_use_nodelocal_storage',
      `ALTER VIRTUAL CLUSTER model SET CLUSTER SETTING jobs.retention_time = '77h'`,
      create().replace(' main ', ' main LIKE model '),
      create().replace(' main ', ' IF NOT EXISTS main '),
    );
    await standby.whenIn('replicating');
    const [held] = await standby.system(
      `SELECT capability_value AS v FROM [SHOW VIRTUAL CLUSTER main WITH CAPABILITIES] WHERE capability_name = 'can_use_nodelocal_storage'`,
    );
    assert.equal(held?.['v'], 'true');
    const [kept] = await standby.system('SHOW CLUSTER SETTING jobs.retention_time FOR VIRTUAL CLUSTER main');
    assert.match(JSON.stringify(kept), /77/);
    await standby.system(`ALTER VIRTUAL CLUSTER main SET REPLICATION EXPIRATION WINDOW = '1ms'`);
    await standby.whenIn('replication error');
    await waitFor('the producer to be cancelled', async () => (await producer()) === 'canceled');
  });

  step('fails back by a copy of everything when no base leads back, and keeps what it replaces', async () => {
    const young = (sql: string, site: Site) => site.daemon.query(sql, { cluster: 'young' });
    const whenYoungIs = (state: string, site: Site) => whenShown('young', state, site);
    await primary.system(
      'CREATE VIRTUAL CLUSTER young',
      'ALTER VIRTUAL CLUSTER young SET CLUSTER SETTING timeline.enabled = false',
      'ALTER VIRTUAL CLUSTER young START SERVICE SHARED',
    );
    await young('CREATE TABLE diary AS SELECT 1 AS day', primary);
    await standby.system(`CREATE VIRTUAL CLUSTER young FROM REPLICATION OF young ON '${primary.uri()}'`);
    // During the initial scan, too, the time is told, unless it takes longer than a statement waits.
    const askedMs = performance.now();
    const [told] = await standby.system('ALTER VIRTUAL CLUSTER young COMPLETE REPLICATION TO LATEST');
    const isLate = performance.now() - askedMs >= STATEMENT_WAITS_MS;
    assert.match(String(told?.['failover_time']), isLate ? /./ : /^\d{19}\.0{10}$/);
    await whenYoungIs('ready/none', standby);
    await standby.system('ALTER VIRTUAL CLUSTER young START SERVICE SHARED');
    await young('INSERT INTO diary VALUES (2)', standby);
    await young('INSERT INTO diary VALUES (-2)', primary);
    await primary.system('ALTER VIRTUAL CLUSTER young STOP SERVICE');
    const notices = await primary.noticesOf(
      `ALTER VIRTUAL CLUSTER young START REPLICATION OF young ON '${standby.uri()}'`,
    );
    assert.match(notices, /all data is copied/);
    await whenYoungIs('replicating/none', primary);
    await primary.system('ALTER VIRTUAL CLUSTER young COMPLETE REPLICATION TO LATEST');
    await whenYoungIs('ready/none', primary);
    await primary.system('ALTER VIRTUAL CLUSTER young START SERVICE SHARED');
    const days = 'SELECT string_agg(day::text, $$ $$ ORDER BY day) AS days FROM diary';
    assert.deepEqual(await young(days, primary), [{ days: '1 2' }]);
    const [salvage] = await primary.system('SHOW SALVAGE FOR VIRTUAL CLUSTER young');
    await primary.system(
      String(salvage?.['open_with']),
      'ALTER VIRTUAL CLUSTER "young-salvage" START SERVICE SHARED',
    );
    assert.deepEqual(await primary.daemon.query(days, { cluster: 'young-salvage' }), [{ days: '-2 1' }]);
  });
});
