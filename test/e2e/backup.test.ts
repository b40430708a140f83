import assert from 'node:assert/strict';
import { open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createCluster, digestCluster, dropCluster } from '../harness/clusters.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { assertLedger, Ledger } from '../harness/ledger.ts';
import { digestTables, filesBelow, findDamage } from '../harness/oracle.ts';
import { runProgram, skipWithout } from '../harness/programs.ts';
import { waitFor } from '../harness/wait.ts';

const BACKUP_COLUMNS = ['job_id', 'status', 'fraction_completed', 'rows', 'index_entries', 'bytes'];

async function idOf(daemon: TestDaemon, cluster: string): Promise<number> {
  const [row] = await daemon.query(`SELECT id FROM [SHOW VIRTUAL CLUSTER ${cluster}]`, { cluster: 'system' });
  return Number(row?.['id']);
}

describe('backup and restore of a virtual cluster', () => {
  test('a gigabyte under load, lost, restored into a new virtual cluster', {
    skip: skipWithout('pgbench'),
  }, async () => {
    await using daemon = await TestDaemon.start();
    const url = daemon.url({ cluster: 'main' });
    const init = await runProgram('pgbench', ['-i', '-s', '70', '-q', url]);
    assert.equal(init.status, 0, init.stderr);
    const load = runProgram('pgbench', ['-n', '-c', '4', '-T', '3600', url]);
    await using ledger = await Ledger.start({
      connect: () => daemon.connect({ cluster: 'main' }),
      writers: 2,
    });
    await waitFor('some commits', () => ledger.commits > 50);

    const floor = ledger.acknowledged();
    const client = await daemon.connect({ cluster: 'main' });
    const result = await client.query("BACKUP INTO 'nodelocal://1/big'");
    const ceiling = ledger.acknowledged();
    assert.deepEqual(
      result.fields.map((field) => field.name),
      BACKUP_COLUMNS,
    );
    assert.equal(result.rows[0]?.status, 'succeeded');
    assert.equal(Number(result.rows[0]?.fraction_completed), 1);
    assert.ok(Number(result.rows[0]?.rows) > 7_000_000, `rows: ${result.rows[0]?.rows}`);
    assert.ok(Number(result.rows[0]?.bytes) > 1_000_000_000, `bytes: ${result.rows[0]?.bytes}`);
    const size = await client.query<{ bytes: string }>("SELECT pg_database_size('defaultdb') AS bytes");
    assert.ok(Number(size.rows[0]?.bytes) > 1_000_000_000);
    await client.end();

    await ledger.stop();
    await dropCluster(daemon, 'main'); // Ends pgbench too: its server is gone.
    assert.notEqual((await load).status, 0);

    await createCluster(daemon, 'rescue');
    const restorer = await daemon.connect({ cluster: 'rescue' });
    const restored = await restorer.query("RESTORE FROM LATEST IN 'nodelocal://1/big'");
    assert.deepEqual(
      restored.fields.map((field) => field.name),
      BACKUP_COLUMNS,
    );
    assert.equal(restored.rows[0]?.status, 'succeeded');
    const check = await restorer.query('SELECT 1 AS one'); // The session survived the exchange of its server.
    assert.deepEqual(check.rows, [{ one: 1 }]);
    await restorer.end();

    const reader = await daemon.connect({ cluster: 'rescue' });
    await assertLedger(reader, { floor, ceiling });
    const balances = await reader.query<{ same: boolean }>(`
      SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
         AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
         AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS same`);
    assert.equal(balances.rows[0]?.same, true);
    await reader.end();
    await digestCluster(daemon, 'rescue');
    const id = await idOf(daemon, 'rescue');
    assert.deepEqual(
      await findDamage({ store: daemon.store, virtualClusterId: id, database: 'defaultdb' }),
      [],
    );
    await daemon.query('CREATE TABLE written_afterwards AS SELECT 1 AS a', { cluster: 'rescue' });
  });

  test('everything in a virtual cluster comes back: databases, roles, grants, settings, large objects', async () => {
    await using daemon = await TestDaemon.start();
    await daemon.query(
      [
        "CREATE ROLE app LOGIN PASSWORD 'secret'",
        'CREATE DATABASE bank',
        // Every virtual cluster is made with it; one that is restored has what there was.
        'DROP DATABASE postgres',
        'CREATE EXTENSION hstore',
        "ALTER ROLE app SET work_mem = '7MB'",
        "SET CLUSTER SETTING bulkio.backup.file_size = '16 MiB'",
      ],
      { cluster: 'main' },
    );
    await daemon.query(
      [
        "CREATE TYPE mood AS ENUM ('fine', 'tired')",
        'CREATE TABLE customers (id bigserial PRIMARY KEY, name text UNIQUE, mood mood, photo bytea)',
        "INSERT INTO customers (name, mood, photo) SELECT 'c' || n, 'fine', convert_to(repeat(md5(n::text), 500), 'UTF8') FROM generate_series(1, 2000) n",
        'CREATE UNLOGGED TABLE scratch (a int)',
        'INSERT INTO scratch VALUES (1)',
        'CREATE MATERIALIZED VIEW names AS SELECT name FROM customers',
        'GRANT SELECT ON customers TO app',
        "SELECT lo_from_bytea(4711, 'large')",
        'DELETE FROM customers WHERE id % 3 = 0',
        'VACUUM customers',
      ],
      { cluster: 'main', database: 'bank' },
    );
    const client = await daemon.connect({ cluster: 'main', database: 'bank' });
    const wanted = (await digestTables(client)).filter(({ table }) => table !== 'public.scratch');
    await client.end();
    await daemon.query("BACKUP INTO 'nodelocal://self/all'", { cluster: 'main' });
    await createCluster(daemon, 'copy');
    await daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/all'", { cluster: 'copy' });

    const copy = await daemon.connect({ cluster: 'copy', database: 'bank' });
    assert.deepEqual(
      (await digestTables(copy)).filter(({ table }) => table !== 'public.scratch'),
      wanted,
    );
    assert.deepEqual((await copy.query('SELECT * FROM scratch')).rows, [], 'unlogged tables come back empty');
    assert.equal((await copy.query('SELECT count(*)::int AS n FROM names')).rows[0]?.n, 2000);
    assert.equal((await copy.query("SELECT convert_from(lo_get(4711), 'UTF8') AS t")).rows[0]?.t, 'large');
    assert.equal(
      (await copy.query("SELECT has_table_privilege('app', 'customers', 'SELECT') AS may")).rows[0]?.may,
      true,
    );
    assert.deepEqual((await copy.query("SELECT rolconfig FROM pg_roles WHERE rolname = 'app'")).rows, [
      { rolconfig: ['work_mem=7MB'] },
    ]);
    assert.equal((await copy.query('SHOW CLUSTER SETTING bulkio.backup.file_size')).rows.length, 1);
    assert.deepEqual(
      (await copy.query('SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1')).rows,
      ['bank', 'defaultdb', 'system'].map((datname) => ({ datname })),
    );
    await copy.end();
    const id = await idOf(daemon, 'copy');
    assert.deepEqual(await findDamage({ store: daemon.store, virtualClusterId: id, database: 'bank' }), []);

    // Both go on by themselves, each with its own history.
    await daemon.query('INSERT INTO customers (name) VALUES ($$only in main$$)', {
      cluster: 'main',
      database: 'bank',
    });
    const there = await daemon.query("SELECT 1 FROM customers WHERE name = 'only in main'", {
      cluster: 'copy',
      database: 'bank',
    });
    assert.deepEqual(there, []);
    // The restored virtual cluster can be backed up in turn, into a collection of its own.
    await daemon.query("BACKUP INTO 'nodelocal://1/of-the-copy'", { cluster: 'copy' });
    await assert.rejects(daemon.query("BACKUP INTO 'nodelocal://1/all'", { cluster: 'copy' }), {
      code: '55000',
    });
  });
});

describe('collections', () => {
  let daemon: TestDaemon;
  const extern = () => join(daemon.store, 'extern');
  before(async () => {
    daemon = await TestDaemon.start();
    await daemon.query(
      [
        'CREATE TABLE t (a int PRIMARY KEY, b text)',
        "INSERT INTO t SELECT n, repeat('x', 50) FROM generate_series(1, 5000) n",
      ],
      { cluster: 'main' },
    );
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  test('SHOW BACKUPS and SHOW BACKUP tell what is there', async () => {
    await daemon.query("BACKUP INTO 'nodelocal://1/shown'", { cluster: 'main' });
    await daemon.query("BACKUP INTO 'nodelocal://1/shown'", { cluster: 'main' });
    const backups = await daemon.query("SHOW BACKUPS IN 'nodelocal://1/shown'", { cluster: 'main' });
    assert.equal(backups.length, 2);
    for (const { path } of backups) assert.match(String(path), /^\/\d{4}\/\d\d\/\d\d-\d{6}\.\d\d$/);
    const client = await daemon.connect({ cluster: 'main' });
    const show = await client.query("SHOW BACKUP FROM LATEST IN 'nodelocal://1/shown'");
    assert.deepEqual(show.fields.map((field) => field.name), [
      'database_name', 'parent_schema_name', 'object_name', 'object_type', 'backup_type',
      'start_time', 'end_time', 'size_bytes', 'rows', 'is_full_cluster', 'regions',
    ]); // biome-ignore format: a table of names
    const table = show.rows.find((row) => row.object_name === 't');
    assert.deepEqual(
      [
        table?.database_name,
        table?.parent_schema_name,
        table?.object_type,
        table?.backup_type,
        Number(table?.rows),
        table?.is_full_cluster,
      ],
      ['defaultdb', 'public', 'table', 'full', 5000, true],
    );
    const older = await client.query('SHOW BACKUP FROM $1 IN $2', [
      backups[0]?.['path'],
      'nodelocal://1/shown',
    ]);
    assert.ok(older.rows.length > 0);
    await client.end();
    await assert.rejects(
      daemon.query("SHOW BACKUP FROM LATEST IN 'nodelocal://1/empty'", { cluster: 'main' }),
      {
        code: '42704',
      },
    );
  });

  test('the manifest appears last and only in complete backups', async () => {
    await daemon.query("BACKUP INTO 'nodelocal://1/layout'", { cluster: 'main' });
    const files = await filesBelow(join(extern(), 'layout'));
    assert.ok(
      files.some((name) => /^\d{4}\/\d\d\/\d\d-\d{6}\.\d\d\/BACKUP_MANIFEST$/.test(name)),
      files.join('\n'),
    );
    assert.ok(files.some((name) => name.startsWith('metadata/latest/LATEST-')));
    assert.ok(files.some((name) => name.endsWith('.pack')));
    assert.deepEqual(
      files.filter((name) => /tmp|partial/i.test(name)),
      [],
    );
  });

  test('one flipped byte in any object makes RESTORE refuse and name it, and changes nothing', async () => {
    await daemon.query("BACKUP INTO 'nodelocal://1/flipped'", { cluster: 'main' });
    await createCluster(daemon, 'victim');
    const files = (await filesBelow(join(extern(), 'flipped'))).filter((name) =>
      /MANIFEST$|\.pack$|wal\//.test(name),
    );
    assert.ok(files.length >= 3, files.join('\n'));
    for (const name of files) {
      const path = join(extern(), 'flipped', name);
      const whole = await readFile(path);
      for (const at of [Math.floor(whole.length / 3), whole.length - 5]) {
        const bad = Buffer.from(whole);
        bad[at] = (bad[at] ?? 0) ^ 0x10;
        await writeFile(path, bad);
        const failure = await daemon
          .query("RESTORE FROM LATEST IN 'nodelocal://1/flipped'", { cluster: 'victim' })
          .then(
            () => assert.fail(`restored with a flipped byte ${at} in ${name}`),
            (error: { code?: string; message: string }) => error,
          );
        assert.ok(
          ['XX001', '42501'].includes(String(failure.code)),
          `${name}: ${failure.code} ${failure.message}`,
        );
        assert.match(failure.message, new RegExp(String(name.split('/').pop())), failure.message);
      }
      await writeFile(path, whole);
    }
    assert.deepEqual(
      await daemon.query("SELECT count(*)::int AS n FROM pg_class WHERE relname = 't'", {
        cluster: 'victim',
      }),
      [{ n: 0 }],
    );
    await daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/flipped'", { cluster: 'victim' });
    assert.deepEqual(await daemon.query('SELECT count(*)::int AS n FROM t', { cluster: 'victim' }), [
      { n: 5000 },
    ]);
    await dropCluster(daemon, 'victim');
  });

  test('a truncated or missing object is found', async () => {
    await daemon.query("BACKUP INTO 'nodelocal://1/holes'", { cluster: 'main' });
    await createCluster(daemon, 'victim2');
    const files = (await filesBelow(join(extern(), 'holes'))).filter((name) => name.endsWith('.pack'));
    const path = join(extern(), 'holes', String(files[0]));
    const whole = await readFile(path);
    await using handle = await open(path, 'r+');
    await handle.truncate(whole.length - 100);
    await assert.rejects(
      daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/holes'", { cluster: 'victim2' }),
      {
        code: 'XX001',
      },
    );
    await rm(path);
    await assert.rejects(
      daemon.query("SHOW BACKUP FROM LATEST IN 'nodelocal://1/holes' WITH check_files", { cluster: 'main' }),
      /The following files are missing from the backup:/,
    );
    await assert.rejects(
      daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/holes'", { cluster: 'victim2' }),
    );
    await dropCluster(daemon, 'victim2');
  });

  test('a restore into a virtual cluster that holds something is refused', async () => {
    await daemon.query("BACKUP INTO 'nodelocal://1/onto'", { cluster: 'main' });
    await assert.rejects(daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/onto'", { cluster: 'main' }), {
      code: '55000',
      message:
        /full cluster restore can only be run on a cluster with no tables or databases but found \d+ descriptors/,
    });
    await assert.rejects(daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/onto'", { cluster: 'system' }), {
      code: '0A000',
    });
  });

  test('paths that try to leave the external directory, and other schemes, are refused', async () => {
    for (const uri of [
      'nodelocal://1/../../etc',
      'nodelocal://1/a/../../b',
      'nodelocal://1/%2e%2e/b',
      'nodelocal://2/elsewhere',
      'http://example.com/backup',
      'file:///etc/passwd',
      'nonsense',
    ]) {
      await assert.rejects(
        daemon.query(`BACKUP INTO '${uri}'`, { cluster: 'main' }),
        (error: { code?: string }) => ['22023', '0A000'].includes(String(error.code)),
        uri,
      );
    }
  });

  test('a backup survives the death of the daemon: the job is taken up again', async () => {
    await daemon.query(
      'CREATE TABLE bulk AS SELECT n, repeat(md5(n::text), 20) AS filler FROM generate_series(1, 200000) n',
      {
        cluster: 'main',
      },
    );
    const [job] = await daemon.query("BACKUP INTO 'nodelocal://1/taken-up' WITH detached", {
      cluster: 'main',
    });
    await daemon.kill();
    await daemon.startAgain();
    const status = await waitFor('the job to end', async () => {
      const [row] = await daemon.query(`SHOW JOB ${String(job?.['job_id'])}`, { cluster: 'main' });
      return ['succeeded', 'failed', 'canceled'].includes(String(row?.['status'])) && row;
    });
    assert.equal(status['status'], 'succeeded', String(status['error']));
    await createCluster(daemon, 'taken');
    await daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/taken-up'", { cluster: 'taken' });
    assert.deepEqual(await daemon.query('SELECT count(*)::int AS n FROM bulk', { cluster: 'taken' }), [
      { n: 200_000 },
    ]);
  });
});
