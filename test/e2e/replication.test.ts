import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';
import pg from 'pg';
import { TestDaemon } from '../harness/daemon.ts';
import { assertLedger, Ledger } from '../harness/ledger.ts';
import { countWithDefaultPlans, digestTables, findDamage } from '../harness/oracle.ts';
import { inSteps } from '../harness/steps.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system', database: 'defaultdb' };

interface Refusal {
  readonly code: string;
  readonly message: string;
}

describe('replication of a virtual cluster into another physical cluster', () => {
  let primary: TestDaemon;
  let standby: TestDaemon;

  const onStandby = (sql: string) => standby.query(sql, SYSTEM);
  const onPrimary = (sql: string) => primary.query(sql, SYSTEM);
  const uriOf = (daemon: TestDaemon, user = 'replicator') => {
    const query = 'options=-ccluster=system&sslmode=disable';
    return `postgresql://${user}:s3cret-of-the-stream@127.0.0.1:${daemon.port}/defaultdb?${query}`;
  };
  const statusOf = async (daemon: TestDaemon) =>
    (await daemon.query('SHOW VIRTUAL CLUSTER main WITH REPLICATION STATUS', SYSTEM))[0] ?? {};
  const whenIn = (daemon: TestDaemon, state: string) =>
    waitFor(`main to be "${state}"`, async () => {
      const status = await statusOf(daemon);
      return status['status'] === state ? status : undefined;
    });
  const refusal = (sql: string, daemon = standby): Promise<Refusal> =>
    daemon.query(sql, SYSTEM).then(
      () => assert.fail(`${sql} was not refused`),
      (error: unknown) => error as Refusal, // What node-postgres throws.
    );
  /** Everything that was committed on the primary so far has been replayed. */
  const caughtUp = async (from = primary, to = standby) => {
    const [now] = await from.query('SELECT clock_timestamp() AS now', { cluster: 'main' });
    await waitFor('the follower to catch up', async () => {
      const { replicated_time: time } = await statusOf(to);
      return time instanceof Date && now?.['now'] instanceof Date && time > now['now'];
    });
  };

  const step = inSteps();

  /** What was promoted is sound, also where queries would not notice. */
  const assertSound = async (daemon: TestDaemon) => {
    const { id } = await statusOf(daemon);
    const options = { store: daemon.store, virtualClusterId: Number(id), database: 'defaultdb' };
    assert.deepEqual(await findDamage(options), []);
    const client = await daemon.connect({ cluster: 'main' });
    const [digests, counts] = [await digestTables(client), await countWithDefaultPlans(client)];
    await client.end();
    for (const { table, rows } of digests) assert.equal(counts.get(table), rows, table);
    return digests;
  };

  before(async () => {
    primary = await TestDaemon.start();
    standby = await TestDaemon.start({ flags: ['--virtualized-empty'] });
    await onPrimary(`CREATE USER replicator WITH PASSWORD 's3cret-of-the-stream'`);
    await primary.query(`CREATE TABLE diary (id serial PRIMARY KEY, what text); CREATE USER reader`, {
      cluster: 'main',
    });
    await primary.query(`INSERT INTO diary (what) VALUES ('before the stream')`, { cluster: 'main' });
  });

  after(async () => {
    await standby?.[Symbol.asyncDispose]();
    await primary?.[Symbol.asyncDispose]();
  });

  step('is refused, and changes nothing, where it cannot be', async () => {
    const create = (uri: string, of = 'main') =>
      refusal(`CREATE VIRTUAL CLUSTER main FROM REPLICATION OF ${of} ON '${uri}'`);
    const unprivileged = await create(uriOf(primary));
    assert.equal(unprivileged.code, '28000');
    await onPrimary('GRANT SYSTEM VIEWJOB TO replicator');
    const without = await create(uriOf(primary));
    assert.equal(without.code, '42501');
    assert.match(without.message, /REPLICATION/);
    await onPrimary('GRANT SYSTEM REPLICATION TO replicator');
    assert.equal((await create(uriOf(primary), 'nobody')).code, '42704');
    assert.equal((await create(uriOf(primary).replace('-ccluster=system', '-ccluster=main'))).code, '22023');
    assert.equal((await create('nodelocal://1/a')).code, '22023');
    assert.equal((await create('nothing')).code, '42704');
    assert.equal((await create(uriOf(primary).replace('disable', 'verify-full'))).code, '22023');
    assert.equal((await create(uriOf(primary).replace('disable', 'require'))).code, '08006');
    assert.equal(
      (await create('postgresql://replicator@127.0.0.1:1?options=-ccluster=system')).code,
      '08006',
    );
    assert.equal((await create(uriOf(standby, 'root'))).code, '42704');
    assert.deepEqual(
      (await onStandby('SHOW VIRTUAL CLUSTERS')).map((row) => row['name']),
      ['system'],
    );
    const left = await onPrimary(
      `SELECT 1 FROM [SHOW JOBS] WHERE job_type LIKE 'REPLICATION%' AND status = 'running'`,
    );
    assert.deepEqual(left, []);
  });

  /** Waits for a base: without one there is nothing to go back to. */
  const whenProtected = (daemon: TestDaemon) =>
    waitFor('a base', async () => {
      const bases = await daemon.query(
        `SELECT 1 FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER main] WHERE kind = 'base'`,
        SYSTEM,
      );
      return bases.length > 0;
    });

  step('begins with an image, follows, and serves nobody', async () => {
    await onStandby(`CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${uriOf(primary)}'`);
    const status = await whenIn(standby, 'replicating');
    assert.equal(status['source_tenant_name'], 'main');
    assert.equal(status['source_cluster_uri'], `postgresql://replicator@127.0.0.1:${primary.port}?redacted`);
    const [shown] = await onStandby(`SELECT * FROM [SHOW VIRTUAL CLUSTERS] WHERE name = 'main'`);
    assert.deepEqual([shown?.['data_state'], shown?.['service_mode']], ['replicating', 'none']);
    await assert.rejects(standby.query('SELECT 1', { cluster: 'main' }), { code: '08004' });
    assert.equal((await refusal('ALTER VIRTUAL CLUSTER main START SERVICE SHARED')).code, '55000');
    await whenProtected(primary);
    const jobOf = async (daemon: TestDaemon, type: string) =>
      (await daemon.query(`SELECT status FROM [SHOW JOBS] WHERE job_type = '${type}'`, SYSTEM))[0]?.[
        'status'
      ];
    assert.equal(await jobOf(standby, 'REPLICATION STREAM INGESTION'), 'running');
    assert.equal(await jobOf(primary, 'REPLICATION STREAM PRODUCER'), 'running');
  });

  step('lets whoever may follow do nothing else', async () => {
    const follower = async (user: string, replication: string) => {
      const how = { replication }; // Not among the types of `pg`; it stands in the start-up message.
      const options = '-ccluster=main -cauthority=system';
      const client = new pg.Client({
        ...how,
        host: '127.0.0.1',
        port: primary.port,
        user,
        database: 'x',
        options,
      });
      client.on('error', () => undefined);
      await client.connect();
      return client;
    };
    await primary.query(['CREATE USER spy', 'GRANT SYSTEM VIEWJOB TO spy'], SYSTEM);
    await assert.rejects(follower('spy', 'true'), { code: '42501' });
    await assert.rejects(follower('replicator', 'database'), { code: '0A000' });
    const client = await follower('replicator', 'true');
    const { rows } = await client.query('IDENTIFY_SYSTEM');
    assert.equal(rows.length, 1);
    for (const command of [
      "BASE_BACKUP (TARGET 'server', TARGET_DETAIL '/tmp/stolen')",
      'CREATE_REPLICATION_SLOT mine PHYSICAL',
      'DROP_REPLICATION_SLOT atoll_vault',
      'START_REPLICATION SLOT atoll_vault PHYSICAL 0/1000000',
      'START_REPLICATION 0/1000000',
      'SELECT 1',
      'SHOW port; DROP_REPLICATION_SLOT atoll_vault',
    ]) {
      await assert.rejects(client.query(command), { code: '42501' }, command);
    }
    await client.end();
  });

  step('lets the replicated time go on, also of an idle source', async () => {
    await caughtUp();
    const first = await statusOf(standby);
    await waitFor('the replicated time to go on', async () => {
      const { replicated_time: time } = await statusOf(standby);
      return (time as Date) > (first['replicated_time'] as Date);
    });
  });

  step('fails over to the latest, with exactly what was replicated', async () => {
    await using ledger = await Ledger.start({
      connect: () => primary.connect({ cluster: 'main' }),
      writers: 3,
    });
    await waitFor('some commits', () => ledger.commits > 100);
    // The follower now has a moment to stop at, which the failover comes before.
    await onStandby(`ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '+1h'`);
    await whenIn(standby, 'replication pending failover');
    const floor = ledger.acknowledged();
    await caughtUp();
    await waitFor('more commits', () => ledger.commits > 150);
    const [row] = await onStandby('ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST');
    const ceiling = ledger.acknowledged();
    assert.match(String(row?.['failover_time']), /^\d{19}\.0{10}$/);
    await whenIn(standby, 'ready');
    const kept = await standby
      .query('SELECT source_uri FROM public.replication_streams', {
        database: 'system',
        cluster: 'system',
      })
      .catch((error: unknown) => error as Refusal);
    assert.equal((kept as Refusal).code, '42501');
    await onStandby('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    const client = await standby.connect({ cluster: 'main' });
    await assertLedger(client, { floor, ceiling });
    await assertSound(standby);
    const { rows } = await client.query('SELECT what FROM diary');
    assert.deepEqual(rows, [{ what: 'before the stream' }]);
    await client.query(`INSERT INTO diary (what) VALUES ('written at the standby')`);
    await client.end();
    await ledger.stop();
    const [still] = await primary.query('SELECT count(*)::int AS n FROM diary', { cluster: 'main' });
    assert.equal(still?.['n'], 1);
    const [producer] = await onPrimary(
      `SELECT status FROM [SHOW JOBS] WHERE job_type = 'REPLICATION STREAM PRODUCER' ORDER BY job_id DESC LIMIT 1`,
    );
    assert.equal(producer?.['status'], 'succeeded');
  });

  step('fails back, keeping apart what only the old primary has', async () => {
    await standby.query(
      [
        `CREATE USER replicator WITH PASSWORD 's3cret-of-the-stream'`,
        'GRANT SYSTEM REPLICATION TO replicator',
      ],
      SYSTEM,
    );
    await primary.query(
      `INSERT INTO diary (what) VALUES ('lost: written at the old primary after the failover')`,
      {
        cluster: 'main',
      },
    );
    const start = (of = 'main') =>
      `ALTER VIRTUAL CLUSTER main START REPLICATION OF ${of} ON '${uriOf(standby)}'`;
    assert.equal((await refusal(start(), primary)).code, '55006');
    await onPrimary('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    await onStandby('CREATE VIRTUAL CLUSTER stranger');
    await onStandby('ALTER VIRTUAL CLUSTER stranger START SERVICE SHARED');
    assert.equal((await refusal(start('stranger'), primary)).code, '55000');
    await onPrimary(start());
    await whenIn(primary, 'replicating');
    await whenProtected(standby); // So that it can come back to where the histories will part.
    await standby.query(`INSERT INTO diary (what) VALUES ('written at the standby, later')`, {
      cluster: 'main',
    });
    await caughtUp(standby, primary);
    const [row] = await onPrimary('ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST');
    assert.match(String(row?.['failover_time']), /^\d{19}\.0{10}$/);
    await whenIn(primary, 'ready');
    await onPrimary('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    const read = `SELECT string_agg(what, ', ' ORDER BY id) AS all FROM diary`;
    const [there] = await standby.query(read, { cluster: 'main' });
    const [here] = await primary.query(read, { cluster: 'main' });
    assert.equal(here?.['all'], 'before the stream, written at the standby, written at the standby, later');
    assert.deepEqual(here, there);
    assert.deepEqual(await assertSound(primary), await assertSound(standby));
    const [salvage] = await onPrimary('SHOW SALVAGE FOR VIRTUAL CLUSTER main');
    await onPrimary(String(salvage?.['open_with']));
    await onPrimary('ALTER VIRTUAL CLUSTER "main-salvage" START SERVICE SHARED');
    const [lost] = await primary.query(read, { cluster: 'main-salvage' });
    const only = 'lost: written at the old primary after the failover';
    assert.equal(lost?.['all'], `before the stream, ${only}`);
    await onPrimary('ALTER VIRTUAL CLUSTER "main-salvage" STOP SERVICE');
    await onPrimary('DROP VIRTUAL CLUSTER "main-salvage" IMMEDIATE');
  });

  step('goes to and fro: the standby follows its old primary again', async () => {
    await onStandby('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    await onStandby(`ALTER VIRTUAL CLUSTER main START REPLICATION OF main ON '${uriOf(primary)}'`);
    await whenIn(standby, 'replicating');
    await caughtUp();
  });

  step('stands still while it is paused, and loses nothing', async () => {
    await onStandby('ALTER VIRTUAL CLUSTER main PAUSE REPLICATION');
    const paused = await whenIn(standby, 'replication paused');
    await primary.query(`INSERT INTO diary (what) VALUES ('while paused')`, { cluster: 'main' });
    const later = await statusOf(standby);
    assert.deepEqual(later['replicated_time'], paused['replicated_time']);
    await onStandby('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
    await whenIn(standby, 'replicating');
    await caughtUp();
  });

  step('goes on after either daemon, or the follower, was killed', async () => {
    await standby.kill();
    await standby.startAgain();
    await whenIn(standby, 'replicating');
    await caughtUp();
    await primary.kill();
    await primary.startAgain();
    await waitFor('the primary to serve', () => primary.query('SELECT 1', { cluster: 'main' }));
    await caughtUp();
    const pid = (await standby.postmasters()).get(3);
    assert.ok(pid !== undefined);
    process.kill(pid, 'SIGKILL');
    await caughtUp();
  });

  step('fails over to a moment that is still to come, exactly', async () => {
    const insert = (what: string) =>
      primary.query(`INSERT INTO diary (what) VALUES ('${what}')`, { cluster: 'main' });
    const [row] = await onStandby(`ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '+1h'`);
    assert.match(String(row?.['failover_time']), /^\d{19}/);
    const pending = await whenIn(standby, 'replication pending failover');
    assert.equal(pending['failover_time'], row?.['failover_time']);
    const [at] = await primary.query(`SELECT (clock_timestamp() + interval '10s')::text AS at`, {
      cluster: 'main',
    });
    await onStandby(`ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '${String(at?.['at'])}'`);
    await insert('before the moment');
    await waitFor('the moment', async () => {
      const [now] = await primary.query(`SELECT clock_timestamp() > '${String(at?.['at'])}' AS past`, {
        cluster: 'main',
      });
      return now?.['past'] === true;
    });
    await insert('after the moment');
    await whenIn(standby, 'ready');
    await onStandby('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    const rows = await standby.query('SELECT what FROM diary ORDER BY id DESC LIMIT 2', { cluster: 'main' });
    assert.deepEqual(rows, [{ what: 'before the moment' }, { what: 'while paused' }]);
    await assertSound(standby);
    await onStandby('ALTER VIRTUAL CLUSTER main STOP SERVICE');
  });

  step('fails over to a moment that has passed, exactly', async () => {
    await onStandby(`DROP VIRTUAL CLUSTER main IMMEDIATE`);
    await onStandby(`CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${uriOf(primary)}'`);
    await whenIn(standby, 'replicating');
    await whenProtected(standby);
    await primary.query(`INSERT INTO diary (what) VALUES ('still wanted')`, { cluster: 'main' });
    const [at] = await primary.query(`SELECT clock_timestamp()::text AS at`, { cluster: 'main' });
    await primary.query(`INSERT INTO diary (what) VALUES ('a mistake')`, { cluster: 'main' });
    await caughtUp();
    assert.equal(
      (await refusal(`ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '-3h'`)).code,
      '22023',
    );
    await onStandby(`ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '${String(at?.['at'])}'`);
    await whenIn(standby, 'ready');
    await onStandby('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    const rows = await standby.query('SELECT what FROM diary ORDER BY id DESC LIMIT 1', { cluster: 'main' });
    assert.deepEqual(rows, [{ what: 'still wanted' }]);
    await assertSound(standby);
    await onStandby('ALTER VIRTUAL CLUSTER main STOP SERVICE');
  });

  step('keeps log no longer for a consumer that is not heard of, which then has to begin anew', async () => {
    await onStandby(`DROP VIRTUAL CLUSTER main IMMEDIATE`);
    const create = `CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${uriOf(primary)}'`;
    await onStandby(create);
    await whenIn(standby, 'replicating');
    await onStandby('ALTER VIRTUAL CLUSTER main PAUSE REPLICATION');
    await onPrimary(`SET CLUSTER SETTING physical_replication.producer.expiration_window = '1s'`);
    await waitFor('the producer to be cancelled', async () => {
      const [job] = await onPrimary(
        `SELECT status FROM [SHOW JOBS] WHERE job_type = 'REPLICATION STREAM PRODUCER' ORDER BY job_id DESC LIMIT 1`,
      );
      return job?.['status'] === 'canceled';
    });
    const slots = await primary.query(
      `SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'atoll_stream_%'`,
      { cluster: 'main' },
    );
    assert.deepEqual(slots, []);
    await onPrimary('RESET CLUSTER SETTING physical_replication.producer.expiration_window');
    await onStandby('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
    await whenIn(standby, 'replication error');
    await onStandby('DROP VIRTUAL CLUSTER main IMMEDIATE');
    await onStandby(create);
    await whenIn(standby, 'replicating');
  });

  step(
    'gives up a source that is gone, and fails over to what there is, though it is killed meanwhile',
    async () => {
      await onStandby(`SET CLUSTER SETTING physical_replication.consumer.retry_window = '2s'`);
      await primary.query(`INSERT INTO diary (what) VALUES ('the last')`, { cluster: 'main' });
      await caughtUp();
      await primary.stop();
      await whenIn(standby, 'replication error');
      await onStandby('ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST');
      await standby.kill();
      await standby.startAgain();
      await whenIn(standby, 'ready');
      await onStandby('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
      const rows = await standby.query('SELECT what FROM diary ORDER BY id DESC LIMIT 1', {
        cluster: 'main',
      });
      assert.deepEqual(rows, [{ what: 'the last' }]);
      await assertSound(standby);
    },
  );

  step('tells no secret anywhere', () => {
    for (const { output } of [primary, standby]) assert.doesNotMatch(output, /s3cret/);
  });
});
