/** Every form of ALTER VIRTUAL CLUSTER that concerns replication, in the order in which an operator comes to need it. */
import assert from 'node:assert/strict';
import { after, before, describe } from 'node:test';
import { type Refusal, Site } from '../harness/sites.ts';
import { inSteps } from '../harness/steps.ts';
import { asNewerRelease, TcpProxy } from '../harness/tcp-proxy.ts';
import { waitFor } from '../harness/wait.ts';

const OPERATOR = { cluster: 'system', database: 'defaultdb', user: 'operator' };
const CLERK = { cluster: 'main', user: 'clerk' };
/** With it an image is larger than any log that is asked for in vain: rows that are too short to be compressed. */
const FILLER = `CREATE TABLE filler AS SELECT i, repeat('x', 1900) AS what FROM generate_series(1, 16000) i`;
const SEGMENT_BYTES = 16 * 1024 * 1024;
/** Of statements and their answers. */
const TALK_BYTES_MAX = 1024 * 1024;

describe('ALTER VIRTUAL CLUSTER, from the first failover to the failback', () => {
  let original: Site;
  let promoted: Site;
  /** Between the original primary and what was promoted, for the failback. */
  let network: TcpProxy;

  const step = inSteps();

  /** Nobody in what follows is an admin. */
  const operate = (site: Site, ...sql: string[]) => site.daemon.query(sql, OPERATOR);
  const refused = async (site: Site, sql: string, code: string) => {
    const refusal = await operate(site, sql).then(
      () => assert.fail(`${sql} was not refused`),
      (error: unknown) => error as Refusal, // What node-postgres throws.
    );
    assert.equal(refusal.code, code, `${sql}: ${refusal.message}`);
    return refusal;
  };
  const shown = async (site: Site, name = 'main') => {
    const [row] = await operate(site, `SHOW VIRTUAL CLUSTER ${name}`);
    return `${String(row?.['data_state'])}/${String(row?.['service_mode'])}`;
  };
  const capabilities = async (site: Site) => {
    const rows = await operate(site, 'SHOW VIRTUAL CLUSTER main WITH CAPABILITIES');
    return rows.filter((row) => row['capability_value'] === 'true').map((row) => row['capability_name']);
  };
  const schedules = (site: Site) =>
    site.main(`SELECT schedule_status FROM [SHOW SCHEDULES] WHERE label = 'nightly'`);
  const position = async (site: Site) => {
    const [row] = await site.main(`SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text AS bytes`);
    return Number(row?.['bytes']);
  };

  before(async () => {
    original = await Site.start();
    promoted = await Site.start({ flags: ['--virtualized-empty'] });
    network = await TcpProxy.start(() => promoted.daemon.port);
    for (const site of [original, promoted]) await site.system('CREATE USER operator');
    await original.system('ALTER VIRTUAL CLUSTER main GRANT ALL CAPABILITIES');
    await original.main(
      'CREATE TABLE diary (id serial PRIMARY KEY, what text)',
      `INSERT INTO diary (what) VALUES ('before the stream')`,
      FILLER,
      'ALTER TABLE diary CONFIGURE ZONE USING num_replicas = 7',
      `CREATE SCHEDULE nightly FOR BACKUP INTO 'nodelocal://1/nightly' RECURRING '@yearly' FULL BACKUP ALWAYS`,
      `CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1 dbname=d user=u password=p' PUBLICATION p
         WITH (connect = false, slot_name = 'feed')`,
      'ALTER SUBSCRIPTION feed ENABLE',
    );
    await original.asNode(`SELECT pg_create_logical_replication_slot('reader', 'pgoutput')`);
    await original.whenProtected();
  });

  after(async () => {
    await promoted?.[Symbol.asyncDispose]();
    await original?.[Symbol.asyncDispose]();
    await network?.[Symbol.asyncDispose]();
  });

  step('needs MANAGEVIRTUALCLUSTER, and nothing else', async () => {
    await original.system('GRANT SYSTEM VIEWJOB TO operator');
    await refused(original, 'ALTER VIRTUAL CLUSTER main STOP SERVICE', '42501');
    for (const site of [original, promoted])
      await site.system('GRANT SYSTEM MANAGEVIRTUALCLUSTER TO operator');
    assert.equal(await shown(original), 'ready/shared');
  });

  step('pauses and resumes a stream that was begun by way of an external connection', async () => {
    await promoted.system(
      `CREATE EXTERNAL CONNECTION old_site AS '${original.uri()}'`,
      'GRANT USAGE ON EXTERNAL CONNECTION old_site TO operator',
    );
    const create = (from: string) => `CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${from}'`;
    await operate(promoted, create('external://old_site'));
    await promoted.whenIn('replicating');
    const status = await promoted.status();
    assert.doesNotMatch(JSON.stringify(status), /s3cret/);
    await refused(promoted, create('old_site'), '42710');
    await operate(promoted, 'ALTER VIRTUAL CLUSTER main PAUSE REPLICATION');
    assert.equal(await shown(promoted), 'replication paused/none');
    await original.main(
      'ALTER TABLE diary ADD COLUMN mood text',
      'CREATE USER clerk',
      'GRANT SELECT ON diary TO clerk',
    );
    await operate(promoted, 'ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
    await promoted.whenIn('replicating');
    await promoted.whenCaughtUp(original);
    const askedMs = Date.now();
    const [lag] = await promoted.system(
      `SELECT (extract(epoch FROM replicated_time + replication_lag) * 1000)::float8 AS ms
         FROM [SHOW VIRTUAL CLUSTER main WITH REPLICATION STATUS]`,
    );
    const toldMs = Number(lag?.['ms']);
    assert.ok(toldMs >= askedMs - 1 && toldMs <= Date.now() + 1, 'the lag is now less the replicated time');
    await refused(promoted, 'ALTER VIRTUAL CLUSTER main START SERVICE SHARED', '55000');
  });

  step('completes replication, after which it is a job done and a virtual cluster of its own', async () => {
    const [job] = await promoted.system(
      `SELECT job_id FROM [SHOW JOBS] WHERE job_type = 'REPLICATION STREAM INGESTION'`,
    );
    const ended = promoted.system(`SHOW JOB WHEN COMPLETE ${String(job?.['job_id'])}`);
    const [row] = await operate(promoted, 'ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST');
    assert.match(String(row?.['failover_time']), /^\d{19}\.0{10}$/);
    assert.equal((await ended)[0]?.['status'], 'succeeded');
    assert.equal(await shown(promoted), 'ready/none');
    await assert.rejects(promoted.main('SELECT 1'), { code: '08004' });
    await operate(promoted, 'ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    assert.equal(await shown(promoted), 'ready/shared');
    await promoted.system(`SET CLUSTER SETTING server.controller.default_target_cluster = 'main'`);
    const [where] = await promoted.daemon.query('SHOW virtual_cluster_name', { user: 'clerk' });
    assert.deepEqual(where, { virtual_cluster_name: 'main' });
  });

  step('brings users, grants and definitions along, and nothing that works by itself', async () => {
    const rows = await promoted.daemon.query('SELECT what, mood FROM diary', CLERK);
    assert.deepEqual(rows, [{ what: 'before the stream', mood: null }]);
    await assert.rejects(promoted.daemon.query('DELETE FROM diary', CLERK), { code: '42501' });
    const [zone] = await promoted.main('SHOW ZONE CONFIGURATION FROM TABLE diary');
    assert.match(JSON.stringify(zone), /num_replicas = 7/);
    assert.deepEqual(await schedules(promoted), [{ schedule_status: 'PAUSED' }]);
    assert.deepEqual(await schedules(original), [{ schedule_status: 'ACTIVE' }]);
    await promoted.main(`RESUME SCHEDULES SELECT id FROM [SHOW SCHEDULES] WHERE label = 'nightly'`);
    assert.deepEqual(await schedules(promoted), [{ schedule_status: 'ACTIVE' }]);
    const reads = `SELECT subenabled AS fed FROM pg_subscription`;
    assert.deepEqual(await promoted.main(reads), [{ fed: false }]);
    assert.deepEqual(await original.main(reads), [{ fed: true }]);
    const slots = `SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical'`;
    assert.deepEqual(await promoted.asNode(slots), []);
    assert.deepEqual(await original.asNode(slots), [{ slot_name: 'reader' }]);
    // What is written there afterwards is nothing to do with this one.
    await original.main(`INSERT INTO diary (what) VALUES ('after the failover')`);
    assert.equal((await promoted.main('SELECT 1 FROM diary')).length, 1);
  });

  step('renames, and grants and revokes capabilities', async () => {
    await operate(promoted, 'ALTER VIRTUAL CLUSTER main RENAME TO renamed');
    await refused(promoted, 'ALTER VIRTUAL CLUSTER renamed RENAME TO system', '42710');
    assert.equal((await promoted.daemon.query('SELECT 1 FROM diary', { cluster: 'renamed' })).length, 1);
    await operate(promoted, 'ALTER VIRTUAL CLUSTER renamed RENAME TO main');
    await operate(promoted, 'ALTER VIRTUAL CLUSTER main GRANT ALL CAPABILITIES');
    assert.ok((await capabilities(promoted)).length > 3);
    await operate(promoted, 'ALTER VIRTUAL CLUSTER main REVOKE ALL CAPABILITIES');
    assert.deepEqual(await capabilities(promoted), []);
    await operate(promoted, 'ALTER VIRTUAL CLUSTER main GRANT CAPABILITY can_debug_process');
    assert.deepEqual(await capabilities(promoted), ['can_debug_process']);
    await operate(promoted, 'ALTER VIRTUAL CLUSTER main REVOKE CAPABILITY can_debug_process');
    assert.deepEqual(await capabilities(promoted), []);
  });

  step('starts replication the other way round, of nothing but what was written since', async () => {
    const start = `ALTER VIRTUAL CLUSTER main START REPLICATION OF main ON '${promoted.uri(network.port)}' WITH READ VIRTUAL CLUSTER`;
    await refused(original, start, '55006');
    const fork = Number(
      (
        await promoted.asNode(
          `SELECT (restart_lsn - '0/0'::pg_lsn)::text AS bytes FROM pg_replication_slots WHERE slot_name = 'atoll_fork'`,
        )
      )[0]?.['bytes'],
    );
    await promoted.main(`INSERT INTO diary (what) VALUES ('at the new primary')`);
    await operate(original, 'ALTER VIRTUAL CLUSTER main STOP SERVICE');
    const pass = network.rewrite;
    network.rewrite = asNewerRelease;
    const tooNew = await refused(original, start, '55000');
    assert.match(tooNew.message, /release 99\.9, newer/);
    assert.match(tooNew.hint ?? '', /upgrade/);
    assert.equal(await shown(original), 'ready/none');
    network.rewrite = pass;
    await operate(original, start);
    await original.whenIn('replicating');
    await waitFor('the reader', async () => (await shown(original, 'main-readonly')) === 'ready/shared');
    await original.whenCaughtUp(promoted);
    const rows = await original.daemon.query('SELECT what FROM diary ORDER BY id', {
      cluster: 'main-readonly',
    });
    assert.deepEqual(
      rows.map((row) => row['what']),
      ['before the stream', 'at the new primary'],
    );
    // Log is asked for from the beginning of a segment on, for the old timeline and for the new one.
    const log = (await position(promoted)) - fork;
    const moved = network.receivedBytes;
    assert.ok(
      moved < log + 2 * SEGMENT_BYTES + TALK_BYTES_MAX,
      `${moved} bytes have moved for ${log} of log`,
    );
  });

  step('completes it at a moment to come, serves, and stops', async () => {
    await operate(original, `ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO SYSTEM TIME '+10s'`);
    await original.whenIn('ready');
    await operate(original, 'ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    const rows = await original.main('SELECT what FROM diary ORDER BY id');
    assert.deepEqual(
      rows.map((row) => row['what']),
      ['before the stream', 'at the new primary'],
    );
    await operate(original, 'ALTER VIRTUAL CLUSTER main STOP SERVICE');
    assert.equal(await shown(original), 'ready/none');
    await assert.rejects(original.main('SELECT 1'), { code: '08004' });
    await operate(original, 'ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
  });

  step('is refused at once when what was written since the fork is kept no longer', async () => {
    await operate(promoted, 'ALTER VIRTUAL CLUSTER main STOP SERVICE');
    const start = `ALTER VIRTUAL CLUSTER main START REPLICATION OF main ON '${original.uri()}'`;
    await original.asNode(`SELECT pg_drop_replication_slot('atoll_fork')`);
    const refusal = await refused(promoted, start, '55000');
    assert.match(refusal.message, /no longer kept/);
    assert.equal(await shown(promoted), 'ready/none');
    const streams = await original.system(
      `SELECT 1 FROM [SHOW JOBS] WHERE job_type = 'REPLICATION STREAM PRODUCER' AND status = 'running'`,
    );
    assert.deepEqual(streams, []);
  });

  step('moves in what lives in a system virtual cluster, which cannot be gone back to', async () => {
    await original.system(
      'SET CLUSTER SETTING sql.restrict_system_interface.enabled = false',
      `CREATE TABLE ledger AS SELECT 'not virtualized' AS what`,
    );
    await operate(promoted, `CREATE VIRTUAL CLUSTER moved FROM REPLICATION OF system ON '${original.uri()}'`);
    await operate(promoted, 'ALTER VIRTUAL CLUSTER moved COMPLETE REPLICATION TO LATEST');
    await waitFor('it to be one of its own', async () => (await shown(promoted, 'moved')) === 'ready/none');
    await operate(promoted, 'ALTER VIRTUAL CLUSTER moved START SERVICE SHARED');
    const rows = await promoted.daemon.query('SELECT what FROM ledger', { cluster: 'moved' });
    assert.deepEqual(rows, [{ what: 'not virtualized' }]);
    const back = `ALTER VIRTUAL CLUSTER system START REPLICATION OF moved ON '${promoted.uri()}'`;
    await refused(original, back, '55000');
  });
});
