import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { TestDaemon } from '../harness/daemon.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system' };

/** Expects the statement to fail with this SQLSTATE, and gives the error. */
async function failure(run: Promise<unknown>, code: string): Promise<pg.DatabaseError> {
  const error = await run.then(
    () => assert.fail(`should have failed with ${code}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof pg.DatabaseError, String(error));
  assert.equal(error.code, code, error.message);
  return error;
}

/** False also for one that was closed meanwhile. */
function isSocket(path: string): boolean {
  try {
    return readlinkSync(path).startsWith('socket:');
  } catch {
    return false;
  }
}

describe('virtual clusters', () => {
  let daemon: TestDaemon;
  before(async () => {
    daemon = await TestDaemon.start();
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  const clusters = () => daemon.query('SHOW VIRTUAL CLUSTERS', SYSTEM);
  const names = async () => (await clusters()).map((row) => row['name']);

  test('a virtualized start has `system` and `main`, and plain connections land in `main`', async () => {
    assert.deepEqual(await clusters(), [
      { id: '1', name: 'system', data_state: 'ready', service_mode: 'shared' },
      { id: '3', name: 'main', data_state: 'ready', service_mode: 'shared' },
    ]);
    assert.deepEqual(await daemon.query('SHOW virtual_cluster_name'), [{ virtual_cluster_name: 'main' }]);
  });

  test('every way of naming a virtual cluster leads there', async () => {
    const base = `postgresql://root@127.0.0.1:${daemon.port}`;
    for (const url of [
      `${base}/defaultdb?options=-ccluster=system`,
      `${base}/defaultdb?options=-ccluster%3Dsystem`,
      `${base}/defaultdb?options=-c%20cluster%3Dsystem`,
      `${base}/defaultdb?options=--cluster%3Dsystem`,
      `${base}/defaultdb?options=-c%20search_path%3Dx%20-ccluster%3Dsystem`,
      `${base}/cluster:system/defaultdb`,
    ]) {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      assert.deepEqual(
        (await client.query('SHOW virtual_cluster_name')).rows,
        [{ virtual_cluster_name: 'system' }],
        url,
      );
      if (url.includes('search_path')) {
        assert.deepEqual((await client.query('SHOW search_path')).rows, [{ search_path: 'x' }]);
      }
      await client.end();
    }
  });

  test('an unknown virtual cluster and one without service are refused alike', async () => {
    const unknown = await failure(daemon.query('SELECT 1', { cluster: 'nope' }), '08004');
    assert.equal(unknown.message, 'service unavailable for target virtual cluster (nope)');
    await daemon.query('CREATE VIRTUAL CLUSTER resting', SYSTEM);
    await failure(daemon.query('SELECT 1', { cluster: 'resting' }), '08004');
    await daemon.query('ALTER VIRTUAL CLUSTER resting START SERVICE SHARED', SYSTEM);
    assert.deepEqual(await daemon.query('SELECT 1 AS one', { cluster: 'resting' }), [{ one: 1 }]);
    const client = await daemon.connect({ cluster: 'resting' });
    await daemon.query('ALTER VIRTUAL CLUSTER resting STOP SERVICE', SYSTEM);
    await assert.rejects(client.query('SELECT 1'));
    await failure(daemon.query('SELECT 1', { cluster: 'resting' }), '08004');
    assert.deepEqual(await daemon.query('SHOW VIRTUAL CLUSTER resting', SYSTEM), [
      { id: '4', name: 'resting', data_state: 'ready', service_mode: 'none' },
    ]);
    await daemon.query('DROP VIRTUAL CLUSTER resting IMMEDIATE', SYSTEM);
  });

  test('a thousand connections to an unknown name leave nothing behind', {
    skip: process.platform !== 'linux' && 'what a process holds is read from /proc',
  }, async () => {
    const http = /HTTP +(http:\/\/\S+)/.exec(daemon.output)?.[1] ?? '';
    const seriesCount = async () => {
      const text = await (await fetch(`${http}/_status/vars?cluster=system`)).text();
      return text.match(/^(?!nodejs_|process_)\w+\{/gm)?.length;
    };
    const socketCount = () =>
      readdirSync(`/proc/${daemon.pid}/fd`).filter((fd) => isSocket(`/proc/${daemon.pid}/fd/${fd}`)).length;
    const attempt = (round: number) =>
      Promise.all(
        Array.from({ length: 20 }, (_, k) =>
          failure(daemon.query('SELECT 1', { cluster: `no-${round}-${k}` }), '08004'),
        ),
      );
    const peakBytes = () =>
      Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]) * 1024;
    await attempt(0);
    const [series, sockets, bytes] = [await seriesCount(), socketCount(), peakBytes()];
    for (let round = 1; round <= 50; round += 1) await attempt(round);
    // The node has a few for itself, now and then.
    await waitFor('the connections to be gone', () => socketCount() < sockets + 20);
    assert.equal(await seriesCount(), series);
    const grownMiB = (peakBytes() - bytes) / 2 ** 20;
    assert.ok(grownMiB < 48, `they took ${grownMiB.toFixed(0)} MiB`);
  });

  test('create, rename, drop', async () => {
    await daemon.query('CREATE VIRTUAL CLUSTER one', SYSTEM);
    await failure(daemon.query('CREATE VIRTUAL CLUSTER one', SYSTEM), '42710');
    await daemon.query('CREATE VIRTUAL CLUSTER IF NOT EXISTS one', SYSTEM);
    await daemon.query('ALTER VIRTUAL CLUSTER one START SERVICE SHARED', SYSTEM);
    await daemon.query(['CREATE TABLE kept (a int)', 'INSERT INTO kept VALUES (1)'], { cluster: 'one' });
    const [before] = await daemon.query('SHOW VIRTUAL CLUSTER one', SYSTEM);
    await failure(daemon.query('ALTER VIRTUAL CLUSTER one RENAME TO main', SYSTEM), '42710');
    await daemon.query('ALTER VIRTUAL CLUSTER one RENAME TO two-b', SYSTEM);
    assert.deepEqual(await daemon.query('SHOW VIRTUAL CLUSTER two-b', SYSTEM), [
      { ...before, name: 'two-b' },
    ]);
    assert.deepEqual(await daemon.query('SELECT a FROM kept', { cluster: 'two-b' }), [{ a: 1 }]);
    await failure(daemon.query('SELECT 1', { cluster: 'one' }), '08004');
    const serving = await failure(daemon.query('DROP VIRTUAL CLUSTER two-b', SYSTEM), '55006');
    assert.match(String(serving.hint), /STOP SERVICE/);
    await daemon.query('ALTER VIRTUAL CLUSTER two-b STOP SERVICE', SYSTEM);
    const folder = join(daemon.store, 'vc', String(before?.['id']));
    await daemon.query('DROP VIRTUAL CLUSTER two-b', SYSTEM);
    assert.ok(!(await names()).includes('two-b'));
    assert.ok(existsSync(folder), 'a plain DROP keeps the data for gc.ttlseconds');
    await failure(daemon.query('DROP VIRTUAL CLUSTER two-b', SYSTEM), '42704');
    await daemon.query('DROP VIRTUAL CLUSTER IF EXISTS two-b', SYSTEM);
    await daemon.query('CREATE VIRTUAL CLUSTER gone', SYSTEM);
    const [gone] = await daemon.query('SHOW VIRTUAL CLUSTER gone', SYSTEM);
    await daemon.query('DROP VIRTUAL CLUSTER IF EXISTS gone IMMEDIATE', SYSTEM);
    assert.ok(!existsSync(join(daemon.store, 'vc', String(gone?.['id']))), 'IMMEDIATE removes at once');
  });

  test('`system` cannot be stopped, renamed or dropped', async () => {
    for (const action of [
      'ALTER VIRTUAL CLUSTER system STOP SERVICE',
      'ALTER VIRTUAL CLUSTER system RENAME TO x',
      'DROP VIRTUAL CLUSTER system',
    ]) {
      await failure(daemon.query(action, SYSTEM), '55000');
    }
  });

  test('capabilities are granted and revoked one by one and all together', async () => {
    await daemon.query('CREATE VIRTUAL CLUSTER capable', SYSTEM);
    const granted = async (name: string) =>
      (await daemon.query(`SHOW VIRTUAL CLUSTER ${name} WITH CAPABILITIES`, SYSTEM))
        .filter((row) => row['capability_value'] === 'true')
        .map((row) => row['capability_name']);
    assert.deepEqual(await granted('capable'), ['can_view_node_info', 'can_view_tsdb_metrics']);
    await daemon.query('ALTER VIRTUAL CLUSTER capable REVOKE ALL CAPABILITIES', SYSTEM);
    assert.deepEqual(await granted('capable'), []);
    await daemon.query('ALTER VIRTUAL CLUSTER capable GRANT CAPABILITY can_debug_process', SYSTEM);
    assert.deepEqual(await granted('capable'), ['can_debug_process']);
    await daemon.query('CREATE VIRTUAL CLUSTER alike LIKE capable', SYSTEM);
    assert.deepEqual(await granted('alike'), ['can_debug_process']);
    await daemon.query('ALTER VIRTUAL CLUSTER capable REVOKE CAPABILITY can_debug_process', SYSTEM);
    assert.deepEqual(await granted('capable'), []);
    await daemon.query('ALTER VIRTUAL CLUSTER capable GRANT ALL CAPABILITIES', SYSTEM);
    assert.equal((await granted('capable')).length, 6);
    await failure(daemon.query('ALTER VIRTUAL CLUSTER capable GRANT CAPABILITY can_fly', SYSTEM), '22023');
    await daemon.query(
      ['DROP VIRTUAL CLUSTER capable IMMEDIATE', 'DROP VIRTUAL CLUSTER alike IMMEDIATE'],
      SYSTEM,
    );
  });

  test('a capability guards something real: backups on the node', async () => {
    await daemon.query(
      ['CREATE VIRTUAL CLUSTER poor', 'ALTER VIRTUAL CLUSTER poor START SERVICE SHARED'],
      SYSTEM,
    );
    await failure(daemon.query("BACKUP INTO 'nodelocal://1/poor'", { cluster: 'poor' }), '42501');
    await daemon.query(
      ['ALTER VIRTUAL CLUSTER poor STOP SERVICE', 'DROP VIRTUAL CLUSTER poor IMMEDIATE'],
      SYSTEM,
    );
  });

  test('only admins of `system`, and holders of MANAGEVIRTUALCLUSTER, touch virtual clusters', async () => {
    await daemon.query('CREATE ROLE plain LOGIN', SYSTEM);
    await failure(daemon.query('SHOW VIRTUAL CLUSTERS', { ...SYSTEM, user: 'plain' }), '42501').catch(
      async () => {
        await failure(daemon.query('SHOW VIRTUAL CLUSTERS', { ...SYSTEM, user: 'plain' }), '28000');
      },
    );
    await daemon.query('CREATE ROLE second LOGIN IN ROLE admin', SYSTEM);
    assert.equal(
      (await daemon.query('SHOW VIRTUAL CLUSTERS', { ...SYSTEM, user: 'second' })).length >= 2,
      true,
    );
  });

  test('names that would leave a folder, carry quotes or are too long are refused', async () => {
    for (const name of [
      '"../evil"',
      '"a/b"',
      '"a b"',
      '"a\'b"',
      '"UPPER"',
      '"ünïcode"',
      `"${'x'.repeat(64)}"`,
      '""',
      '"-a"',
      '"."',
    ]) {
      const error = await daemon.query(`CREATE VIRTUAL CLUSTER ${name}`, SYSTEM).then(
        () => assert.fail(`accepted ${name}`),
        (reason: { code?: string; hint?: string }) => reason,
      );
      assert.match(String(error.code), /^(42602|42601)$/, name);
    }
    await daemon.query(`CREATE VIRTUAL CLUSTER "${'x'.repeat(63)}"`, SYSTEM);
    await daemon.query(`DROP VIRTUAL CLUSTER "${'x'.repeat(63)}" IMMEDIATE`, SYSTEM);
  });

  test('SHOW ... WITH REPLICATION STATUS has the documented columns', async () => {
    const client = await daemon.connect(SYSTEM);
    const { fields } = await client.query('SHOW VIRTUAL CLUSTERS WITH REPLICATION STATUS');
    assert.deepEqual(
      fields.map((field) => field.name),
      [
        'id',
        'name',
        'source_tenant_name',
        'source_cluster_uri',
        'retained_time',
        'replicated_time',
        'replication_lag',
        'failover_time',
        'status',
      ],
    );
    await client.end();
  });

  test('brackets make a row source, in both protocols, joined with tables of Postgres', async () => {
    const sql =
      "SELECT upper(v.name) AS name, v.id + $1::int8 AS more FROM [SHOW VIRTUAL CLUSTERS] AS v JOIN pg_database d ON d.datname = 'postgres' WHERE v.name = 'main'";
    const client = await daemon.connect(SYSTEM);
    for (let round = 0; round < 3; round += 1) {
      const { rows } = await client.query({ name: 'kept', text: sql, values: [10 + round] });
      assert.deepEqual(rows, [{ name: 'MAIN', more: String(13 + round) }]);
    }
    await daemon.query('CREATE VIRTUAL CLUSTER fresh', SYSTEM);
    const count = { name: 'count', text: 'SELECT count(*)::int AS n FROM [SHOW VIRTUAL CLUSTERS]' };
    const before = (await client.query(count)).rows[0]?.n;
    await daemon.query('DROP VIRTUAL CLUSTER fresh IMMEDIATE', SYSTEM);
    assert.equal(
      (await client.query(count)).rows[0]?.n,
      before - 1,
      'a prepared statement must not remember old rows',
    );
    assert.deepEqual((await client.query("SELECT '[SHOW JOBS]' AS text, (ARRAY[1,2])[1] AS first")).rows, [
      { text: '[SHOW JOBS]', first: 1 },
    ]);
    await client.end();
  });

  test('statements in and around transactions', async () => {
    const client = await daemon.connect(SYSTEM);
    const several = (await client.query(
      'SELECT 1 AS a; SHOW virtual_cluster_name; SELECT 2 AS b',
    )) as unknown as pg.QueryResult[];
    assert.deepEqual(
      several.map((result) => result.rows[0]),
      [{ a: 1 }, { virtual_cluster_name: 'system' }, { b: 2 }],
    );
    await client.query('BEGIN');
    assert.ok((await client.query('SHOW VIRTUAL CLUSTERS')).rows.length >= 2);
    await failure(client.query('CREATE VIRTUAL CLUSTER in_transaction'), '25001');
    await failure(client.query('SELECT 1'), '25P02');
    await failure(client.query('SHOW VIRTUAL CLUSTERS'), '25P02');
    await client.query('ROLLBACK');
    assert.deepEqual((await client.query('SELECT 1 AS fine')).rows, [{ fine: 1 }]);
    await client.end();
    assert.ok(!(await names()).includes('in_transaction'));
  });

  test('syntax errors point at the place and show the synopsis', async () => {
    const error = await failure(daemon.query('CREATE VIRTUAL CLUSTER', SYSTEM), '42601');
    assert.match(String(error.hint), /CREATE VIRTUAL CLUSTER/);
    const placed = await failure(daemon.query('ALTER VIRTUAL CLUSTER main JUMP', SYSTEM), '42601');
    assert.equal(Number(placed.position), 'ALTER VIRTUAL CLUSTER main '.length + 1);
    const old = await failure(
      daemon.query("BACKUP DATABASE a TO 'nodelocal://1/x'", { cluster: 'main' }),
      '0A000',
    );
    assert.match(`${old.message} ${old.hint}`, /INTO/);
  });
});

describe('settings', () => {
  let daemon: TestDaemon;
  before(async () => {
    daemon = await TestDaemon.start();
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  test('a setting of a virtual cluster changes there alone', async () => {
    await daemon.query("SET CLUSTER SETTING bulkio.backup.file_size = '64 MiB'", { cluster: 'main' });
    const inMain = await daemon.query('SHOW CLUSTER SETTING bulkio.backup.file_size', { cluster: 'main' });
    const inSystem = await daemon.query('SHOW CLUSTER SETTING bulkio.backup.file_size', SYSTEM);
    assert.deepEqual(
      [Object.values(inMain[0] ?? {}), Object.values(inSystem[0] ?? {})],
      [['64 MiB'], ['128 MiB']],
    );
    await daemon.query('RESET CLUSTER SETTING bulkio.backup.file_size', { cluster: 'main' });
    const reset = await daemon.query('SHOW CLUSTER SETTING bulkio.backup.file_size', { cluster: 'main' });
    assert.deepEqual(Object.values(reset[0] ?? {}), ['128 MiB']);
  });

  test('without admin nothing changes', async () => {
    await daemon.query('CREATE ROLE app LOGIN', { cluster: 'main' });
    await failure(
      daemon.query("SET CLUSTER SETTING bulkio.backup.file_size = '1 MiB'", { cluster: 'main', user: 'app' }),
      '42501',
    );
  });

  test('settings of the system are read-only or hidden elsewhere', async () => {
    const visible = await daemon.query('SHOW CLUSTER SETTING cluster.organization', { cluster: 'main' });
    assert.equal(visible.length, 1);
    for (const sql of [
      "SET CLUSTER SETTING cluster.organization = 'x'",
      "SET CLUSTER SETTING enterprise.license = 'x'",
    ]) {
      await failure(daemon.query(sql, { cluster: 'main' }), '42501');
    }
    const error = await failure(
      daemon.query("SET CLUSTER SETTING physical_replication.consumer.minimum_flush_interval = '1s'", {
        cluster: 'main',
      }),
      '42501',
    );
    assert.equal(error.message, 'cannot modify storage-level setting from virtual cluster');
    assert.equal(error.hint, 'Connect to the system interface and modify the cluster setting from there.');
  });

  test('the default target may name what does not exist yet', async () => {
    await daemon.query("SET CLUSTER SETTING server.controller.default_target_cluster = 'tomorrow'", SYSTEM);
    await failure(daemon.query('SELECT 1'), '08004');
    await daemon.query(
      ['CREATE VIRTUAL CLUSTER tomorrow', 'ALTER VIRTUAL CLUSTER tomorrow START SERVICE SHARED'],
      SYSTEM,
    );
    assert.deepEqual(await daemon.query('SHOW virtual_cluster_name'), [{ virtual_cluster_name: 'tomorrow' }]);
    await daemon.query("SET CLUSTER SETTING server.controller.default_target_cluster = 'main'", SYSTEM);
  });

  test('bad values and unknown names are refused', async () => {
    await failure(
      daemon.query("SET CLUSTER SETTING bulkio.backup.file_size = 'lots'", { cluster: 'main' }),
      '22023',
    );
    await failure(
      daemon.query("SET CLUSTER SETTING feature.backup.enabled = 'perhaps'", { cluster: 'main' }),
      '22023',
    );
    await failure(daemon.query("SET CLUSTER SETTING no.such.setting = '1'", { cluster: 'main' }), '42704');
  });

  test('the system interface refuses objects while the guard is up', async () => {
    const error = await failure(daemon.query('CREATE TABLE mistake (a int)', SYSTEM), '42501');
    assert.match(error.message, /blocked DDL from the system interface/);
    assert.match(String(error.hint), /sql\.restrict_system_interface\.enabled/);
    await failure(daemon.query('CREATE DATABASE mistake', SYSTEM), '42501');
    await daemon.query('SET CLUSTER SETTING sql.restrict_system_interface.enabled = false', SYSTEM);
    await daemon.query(['CREATE TABLE meant (a int)', 'DROP TABLE meant'], SYSTEM);
    await daemon.query('SET CLUSTER SETTING sql.restrict_system_interface.enabled = true', SYSTEM);
  });

  test('feature switches switch', async () => {
    await daemon.query('SET CLUSTER SETTING feature.backup.enabled = false', { cluster: 'main' });
    await assert.rejects(daemon.query("BACKUP INTO 'nodelocal://1/off'", { cluster: 'main' }));
    await daemon.query('SET CLUSTER SETTING feature.backup.enabled = true', { cluster: 'main' });
  });
});
