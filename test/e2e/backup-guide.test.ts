/**
 * The documentation of BACKUP, and of backup and restore of virtual clusters, example by example in its order: the statements are as they are
 * written there, with a folder of the node for the storage service. Each builds on those before.
 */
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import { createCluster, digestCluster, dropCluster } from '../harness/clusters.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';
import { inSteps } from '../harness/steps.ts';
import { waitFor } from '../harness/wait.ts';

const BACKUP_S3 = "'external://backup_s3'";
const COLUMNS = ['job_id', 'status', 'fraction_completed', 'rows', 'index_entries', 'bytes'];

interface Asked {
  readonly database?: string;
  readonly user?: string;
  readonly cluster?: string;
}

describe('the documentation of BACKUP', () => {
  const step = inSteps();
  let daemon: TestDaemon;

  const sql = (text: string | readonly string[], asked: Asked = {}) =>
    daemon.query(text, { cluster: 'main', ...asked });

  async function refusal(text: string, asked: Asked = {}): Promise<{ code: string; message: string }> {
    return sql(text, asked).then(
      () => assert.fail(`${text} was not refused`),
      (error: unknown) => error as { code: string; message: string }, // What node-postgres throws.
    );
  }

  /** `database.schema.table` of the newest full backup and what is on top of it, or of another one. */
  async function tablesIn(collection: string, subdirectory = 'LATEST'): Promise<readonly string[]> {
    const rows = await sql(
      `SELECT DISTINCT concat_ws('.', database_name, parent_schema_name, object_name) AS name
        FROM [SHOW BACKUP FROM ${subdirectory} IN ${collection}] WHERE object_type = 'table' AND database_name <> 'system' ORDER BY 1`,
    );
    return rows.map(({ name }) => String(name));
  }

  const pathsIn = async (collection: string) =>
    (await sql(`SHOW BACKUPS IN ${collection}`)).map(({ path }) => String(path));

  const extern = (...names: string[]) => join(daemon.store, 'extern', ...names);

  before(async () => {
    daemon = await TestDaemon.start();
    await sql([
      "CREATE EXTERNAL CONNECTION backup_s3 AS 'nodelocal://1/backup_s3'",
      ...['bank', 'employees', 'movr', 'test_db'].map((name) => `CREATE DATABASE ${name}`),
      'CREATE ROLE "user" LOGIN',
      'CREATE SCHEMA test_schema',
      'CREATE TABLE test_schema.one (a int)',
      'CREATE TABLE test_schema.two (a int)',
      'CREATE TABLE elsewhere (a int)',
      "SET CLUSTER SETTING bulkio.backup.file_size = '16 MiB'",
    ]);
    await sql(
      [
        'CREATE TABLE customers (id int PRIMARY KEY, name text UNIQUE)',
        "INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 50) n",
        'CREATE TABLE accounts (id int PRIMARY KEY, customer int REFERENCES customers, balance int)',
        'INSERT INTO accounts SELECT n, n, 100 FROM generate_series(1, 50) n',
        'CREATE VIEW rich AS SELECT id FROM accounts WHERE balance > 10',
        'CREATE SEQUENCE numbers',
        "CREATE TABLE numbered (id int DEFAULT nextval('numbers'))",
        'CREATE SCHEMA bank',
        'CREATE TABLE bank.vault (a int)',
        'CREATE TABLE cache (a text) WITH (exclude_data_from_backup = true)',
        "INSERT INTO cache VALUES ('computed again')",
      ],
      { database: 'bank' },
    );
    await sql('CREATE TABLE people AS SELECT n AS id FROM generate_series(1, 7) n', {
      database: 'employees',
    });
    await sql('CREATE TABLE rides (a int)', { database: 'movr' });
    await sql('CREATE TABLE "table" (a int)', { database: 'test_db' });
    // `AS OF SYSTEM TIME '-10s'` is of what was there ten seconds ago.
    const [made] = await sql('SELECT clock_timestamp()::text AS at');
    await waitFor('all of it to be ten seconds old, and in the window', async () => {
      const [age] = await sql(`SELECT clock_timestamp() - '${String(made?.['at'])}' > '10s' AS is_old`);
      if (age?.['is_old'] !== true) return false;
      const told = await sql("BACKUP DATABASE movr INTO 'nodelocal://1/first' AS OF SYSTEM TIME '-10s'").then(
        () => 'taken',
        ({ code, message }: { code: string; message: string }) => `${code} ${message}`,
      );
      assert.match(told, /^taken$|^22023 .*the window is from/);
      return told === 'taken';
    });
  });
  after(() => daemon[Symbol.asyncDispose]());

  // Required privileges.

  step('GRANT ... TO user', async () => {
    await sql('GRANT SYSTEM BACKUP TO user;');
    await sql('GRANT BACKUP ON DATABASE test_db TO user;');
    await sql('GRANT BACKUP ON TABLE test_db."table" TO user;');
    await sql('GRANT USAGE ON EXTERNAL CONNECTION backup_s3 TO user');
    const asUser = { user: 'user', database: 'test_db' };
    await sql(`BACKUP DATABASE test_db INTO ${BACKUP_S3};`, asUser);
    await sql(`BACKUP TABLE test_db."table" INTO ${BACKUP_S3};`, asUser);
    assert.equal((await refusal('SELECT * FROM "table"', asUser)).code, '42501');
    // Privileges do not cascade, and say what is missing.
    assert.equal((await refusal(`BACKUP DATABASE bank INTO ${BACKUP_S3}`, asUser)).code, '42501');
    assert.equal((await refusal(`BACKUP TABLE bank.customers INTO ${BACKUP_S3}`, asUser)).code, '42501');
  });

  // Parameters.

  step('an arbitrary string as the subdirectory', async () => {
    const statement = "BACKUP INTO 'my-own-name' IN 'nodelocal://1/arbitrary'";
    const refused = await refusal(statement);
    assert.match(
      refused.message,
      /^No full backup exists in "my-own-name" to append an incremental backup to/,
    );
    const setting = 'bulkio.backup.deprecated_full_backup_with_subdir.enabled';
    await sql(`SET CLUSTER SETTING ${setting} = true`);
    const [taken] = await sql(statement);
    assert.equal(taken?.['status'], 'succeeded');
    await sql(`RESET CLUSTER SETTING ${setting}`);
    assert.deepEqual(await pathsIn("'nodelocal://1/arbitrary'"), [], 'it is never shown');
    assert.ok(
      (await tablesIn("'nodelocal://1/arbitrary'", "'my-own-name'")).includes('bank.public.customers'),
    );
  });

  step('COCKROACH_LOCALITY, and query parameters in lower case', async () => {
    const places = ['default', 'region%3Dus-east'].map(
      (locality, index) => `'nodelocal://1/place${index}?COCKROACH_LOCALITY=${locality}'`,
    );
    await sql(`BACKUP DATABASE movr INTO (${places.join(', ')})`);
    const lower = "CREATE EXTERNAL CONNECTION lower AS 's3://bucket/x?auth=implicit'";
    assert.match((await refusal(lower)).message, /unknown .*query parameters/);
  });

  // Options.

  for (const option of ['revision_history', "revision_history = 'true'", "revision_history = 'false'"]) {
    step(`WITH ${option}`, async () => {
      await sql(`BACKUP INTO 'nodelocal://1/history' WITH ${option}`);
      const [row] = await sql(
        "SELECT bool_or(revision_start_time IS NOT NULL) AS kept FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/history' WITH revision_start_time]",
      );
      assert.equal(row?.['kept'], !option.includes('false'));
    });
  }

  step('WITH encryption_passphrase', async () => {
    const passphrase = 'p'.repeat(5000);
    await sql(
      `BACKUP DATABASE bank INTO 'nodelocal://1/closed' WITH encryption_passphrase = '${passphrase}'`,
    );
    const show = "SHOW BACKUP FROM LATEST IN 'nodelocal://1/closed'";
    for (const without of [show, `${show} WITH encryption_passphrase = 'wrong'`]) await refusal(without);
    assert.ok((await sql(`${show} WITH encryption_passphrase = '${passphrase}'`)).length > 5);
    await sql(
      `RESTORE TABLE bank.customers FROM LATEST IN 'nodelocal://1/closed' WITH into_db = 'movr', encryption_passphrase = '${passphrase}'`,
    );
    assert.deepEqual(await sql('SELECT count(*)::int AS n FROM customers', { database: 'movr' }), [
      { n: 50 },
    ]);
    await sql('DROP TABLE customers', { database: 'movr' });
  });

  step("WITH EXECUTION LOCALITY = 'region=us-west-1a,cloud=aws'", async () => {
    const nowhere = await refusal(
      "BACKUP INTO 'nodelocal://1/nowhere' WITH EXECUTION LOCALITY = 'region=us-west-1a,cloud=aws'",
    );
    assert.equal(nowhere.code, '55000');
    assert.match(nowhere.message, /region=us-west-1a,cloud=aws/);
  });

  // Object dependencies.

  step('a view without the table that it depends on, and the skip options', async () => {
    await sql('BACKUP rich, accounts, numbered INTO $$nodelocal://1/dependent$$', { database: 'bank' });
    await sql("BACKUP rich INTO 'nodelocal://1/view'", { database: 'bank' });
    assert.deepEqual(await tablesIn("'nodelocal://1/view'"), ['bank.public.rich']);
    for (const [table, from, option] of [
      ['rich', 'view', 'skip_missing_views'],
      ['accounts', 'dependent', 'skip_missing_foreign_keys'],
      ['numbered', 'dependent', 'skip_missing_sequences'],
    ] as const) {
      const statement = `RESTORE TABLE bank.${table} FROM LATEST IN 'nodelocal://1/${from}' WITH into_db = 'employees'`;
      assert.match((await refusal(statement)).message, new RegExp(`\\(or "${option}" option\\)$`));
      const [restored] = await sql(`${statement}, ${option}`);
      assert.equal(restored?.['status'], 'succeeded');
    }
    await sql(['DROP TABLE accounts', 'DROP TABLE numbered'], { database: 'employees' });
  });

  // Viewing and controlling backup jobs.

  step('PAUSE JOB, RESUME JOB, CANCEL JOB', async () => {
    const begin = async (to: string) => {
      await sql("SET CLUSTER SETTING jobs.debug.pausepoints = 'backup.before.flow'");
      const [row] = await sql(`BACKUP INTO 'nodelocal://1/${to}' WITH DETACHED`);
      const id = String(row?.['job_id']);
      await untilJob(id, 'paused');
      await sql('RESET CLUSTER SETTING jobs.debug.pausepoints');
      assert.deepEqual(await pathsIn(`'nodelocal://1/${to}'`), [], 'without a manifest it is no backup');
      return id;
    };
    const resumed = await begin('resumed');
    await sql(`RESUME JOB ${resumed}`);
    await untilJob(resumed, 'succeeded');
    const files = await filesBelow(extern('resumed'));
    assert.equal(files.filter((name) => name.endsWith('/BACKUP_MANIFEST')).length, 1);
    const canceled = await begin('canceled');
    await sql(`CANCEL JOB ${canceled}`);
    await untilJob(canceled, 'canceled');
    assert.deepEqual(await pathsIn("'nodelocal://1/canceled'"), []);
    await sql(`SELECT * FROM [SHOW JOBS] WHERE job_id IN (${resumed}, ${canceled})`);
  });

  async function untilJob(id: string, status: string): Promise<void> {
    await waitFor(`job ${id} to be ${status}`, async () => {
      const [job] = await sql(`SELECT status, error FROM [SHOW JOB ${id}]`);
      assert.ok(job !== undefined && job['status'] !== 'failed', String(job?.['error']));
      return job['status'] === status;
    });
  }

  // Examples.

  const examples: readonly (readonly [string, readonly string[], Asked?])[] = [
    [
      `BACKUP DATABASE bank INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`,
      [
        'bank.bank.vault',
        ...['accounts', 'cache', 'customers', 'numbered', 'numbers', 'rich'].map(
          (name) => `bank.public.${name}`,
        ),
      ],
    ],
    [
      `BACKUP DATABASE bank, employees INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`,
      [
        'bank.bank.vault',
        ...['accounts', 'cache', 'customers', 'numbered', 'numbers', 'rich'].map(
          (name) => `bank.public.${name}`,
        ),
        'employees.public.people',
      ],
    ],
    [`BACKUP bank.customers INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`, ['bank.public.customers']],
    [
      `BACKUP bank.customers, bank.accounts INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`,
      ['bank.public.accounts', 'bank.public.customers'],
    ],
    [
      `BACKUP test_schema.* INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`,
      ['defaultdb.test_schema.one', 'defaultdb.test_schema.two'],
    ],
    [
      `BACKUP defaultdb.test_schema.* INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`,
      ['defaultdb.test_schema.one', 'defaultdb.test_schema.two'],
      { database: 'movr' },
    ],
    // A schema of the current database comes before a database of that name.
    [`BACKUP bank.* INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`, ['bank.bank.vault'], { database: 'bank' }],
    [
      `BACKUP bank.* INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`,
      [
        'bank.bank.vault',
        ...['accounts', 'cache', 'customers', 'numbered', 'numbers', 'rich'].map(
          (name) => `bank.public.${name}`,
        ),
      ],
      { database: 'movr' },
    ],
  ];

  step(`BACKUP INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`, async () => {
    const client = await daemon.connect({ cluster: 'main' });
    const result = await client.query<Record<string, unknown>>(
      `BACKUP INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`,
    );
    await client.end();
    assert.deepEqual(
      result.fields.map(({ name }) => name),
      COLUMNS,
    );
    const [row] = result.rows;
    assert.deepEqual([row?.['status'], row?.['fraction_completed']], ['succeeded', 1]);
    const tables = await tablesIn(BACKUP_S3);
    for (const name of ['bank.public.rich', 'defaultdb.test_schema.one', 'employees.public.people'])
      assert.ok(tables.includes(name), tables.join());
    const [late] = await sql(
      `SELECT clock_timestamp() - max(end_time) >= '10s' AS is_late FROM [SHOW BACKUP FROM LATEST IN ${BACKUP_S3}]`,
    );
    assert.equal(late?.['is_late'], true);
  });

  for (const [statement, tables, asked] of examples) {
    step(`${statement}${asked === undefined ? '' : ` in ${asked.database}`}`, async () => {
      const [row] = await sql(statement, asked);
      assert.equal(row?.['status'], 'succeeded');
      assert.deepEqual(await tablesIn(BACKUP_S3), tables);
    });
  }

  step(`BACKUP INTO LATEST IN ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`, async () => {
    const latest = `BACKUP INTO LATEST IN ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`;
    // What is newest holds other targets: the whole virtual cluster has to be backed up first.
    assert.match(
      (await refusal(latest)).message,
      /previous backup does not contain the whole virtual cluster/,
    );
    await sql(`BACKUP INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`);
    await sql(latest);
    const fulls = await pathsIn(BACKUP_S3);
    const subdirectory = fulls.at(-1) ?? '';
    await sql(`BACKUP INTO '${subdirectory}' IN ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`);
    await sql(`BACKUP INTO '${subdirectory.slice(1)}' IN ${BACKUP_S3} AS OF SYSTEM TIME '-10s';`);
    assert.deepEqual(await pathsIn(BACKUP_S3), fulls, 'only full backups are listed');
    const layers = await sql(
      `SELECT DISTINCT backup_type, start_time, end_time FROM [SHOW BACKUP FROM LATEST IN ${BACKUP_S3}] ORDER BY end_time`,
    );
    assert.deepEqual(
      layers.map((layer) => layer['backup_type']),
      ['full', 'incremental', 'incremental', 'incremental'],
    );
    const manifests = (await filesBelow(extern('backup_s3', 'incrementals', subdirectory))).filter((name) =>
      /^\d{8}\/\d{6}\.\d\d\/BACKUP_MANIFEST$/.test(name),
    );
    assert.equal(manifests.length, 3);
  });

  step('WITH incremental_location', async () => {
    const elsewhere = "WITH incremental_location = 'nodelocal://1/explicit_incrementals_URI'";
    await sql(`BACKUP INTO LATEST IN ${BACKUP_S3} AS OF SYSTEM TIME '-10s' ${elsewhere}`);
    const [full = ''] = (await pathsIn(BACKUP_S3)).slice(-1);
    await stat(extern('explicit_incrementals_URI', 'incrementals', full)).catch(() =>
      stat(extern('explicit_incrementals_URI', full)),
    );
    await sql(`SHOW BACKUP FROM LATEST IN ${BACKUP_S3} ${elsewhere}`);
  });

  step(`BACKUP INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s' WITH DETACHED;`, async () => {
    const statement = `BACKUP INTO ${BACKUP_S3} AS OF SYSTEM TIME '-10s' WITH DETACHED;`;
    const client = await daemon.connect({ cluster: 'main' });
    const result = await client.query<Record<string, unknown>>(statement);
    assert.deepEqual(
      result.fields.map(({ name }) => name),
      ['job_id'],
    );
    await untilJob(String(result.rows[0]?.['job_id']), 'succeeded');
    await client.end();
  });

  step('a backup within a transaction, which runs when that commits, and only then', async () => {
    const client = await daemon.connect({ cluster: 'main' });
    const begin = async () => {
      const { rows } = await client.query<Record<string, unknown>>({
        text: 'BACKUP DATABASE movr INTO $1 WITH DETACHED',
        values: ['external://backup_s3/transactions'],
      });
      return String(rows[0]?.['job_id']);
    };
    await client.query('BEGIN');
    const undone = await begin();
    await client.query('ROLLBACK');
    await untilJob(undone, 'canceled');
    await client.query('BEGIN; SAVEPOINT s');
    const inSavepoint = await begin();
    await client.query('ROLLBACK TO s');
    const { rows } = await client.query<Record<string, unknown>>(
      "BACKUP TABLE movr.rides INTO 'external://backup_s3/transactions' WITH DETACHED",
    );
    await untilJob(inSavepoint, 'canceled');
    // Paused and resumed it waits still.
    const kept = String(rows[0]?.['job_id']);
    await sql([`PAUSE JOB ${kept}`]);
    await untilJob(kept, 'paused');
    await sql([`RESUME JOB ${kept}`]);
    assert.deepEqual(await pathsIn("'external://backup_s3/transactions'"), []);
    await client.query('COMMIT');
    await untilJob(kept, 'succeeded');
    assert.deepEqual(await tablesIn("'external://backup_s3/transactions'"), ['movr.public.rides']);
    await client.query('BEGIN');
    await assert.rejects(client.query(`BACKUP INTO ${BACKUP_S3}`), { code: '25001' });
    await client.query('ROLLBACK');
    const waits = await client.query<Record<string, unknown>>(
      `BACKUP DATABASE movr INTO ${BACKUP_S3} WITH detached = false`,
    );
    assert.equal(waits.rows[0]?.['status'], 'succeeded');
    await client.end();
  });

  step('a storage class, where there are none', async () => {
    const { code, message } = await refusal(
      "BACKUP DATABASE movr INTO 'nodelocal://1/movr?S3_STORAGE_CLASS=INTELLIGENT_TIERING' AS OF SYSTEM TIME '-10s'",
    );
    assert.deepEqual([code, /S3_STORAGE_CLASS/.test(message)], ['22023', true], message);
  });

  // Virtual clusters: backup and restore.

  step('a schedule of the app virtual cluster', async () => {
    const asUser = { user: 'user' };
    const made = await sql(
      `CREATE SCHEDULE schedule_label
    FOR BACKUP INTO ${BACKUP_S3.replace(/'$/, "/schedule_test'")}
        RECURRING '@daily';`,
      asUser,
    );
    assert.deepEqual(
      made.map((row) => [
        row['name'],
        row['status'],
        row['first_run'] !== null,
        row['schedule'],
        row['backup_stmt'],
      ]),
      [
        [
          'schedule_label',
          'PAUSED: Waiting for initial backup to complete',
          false,
          '@daily',
          "BACKUP INTO LATEST IN 'external://backup_s3/schedule_test' WITH OPTIONS (detached)",
        ],
        [
          'schedule_label',
          'ACTIVE',
          true,
          '@weekly',
          "BACKUP INTO 'external://backup_s3/schedule_test' WITH OPTIONS (detached)",
        ],
      ],
    );
    await waitFor('the incremental one to be let go', async () => {
      const [row] = await sql(`SHOW SCHEDULE ${String(made[0]?.['schedule_id'])}`, asUser);
      return row?.['schedule_status'] === 'ACTIVE';
    });
    for (const row of made) await sql(`DROP SCHEDULE ${String(row['schedule_id'])}`, asUser);
  });

  step("BACKUP INTO 'external://backup_s3/app' AS OF SYSTEM TIME '-10s';", async () => {
    await sql("BACKUP INTO 'external://backup_s3/app' AS OF SYSTEM TIME '-10s';", { user: 'user' });
    await sql('CREATE ROLE stranger LOGIN');
    await sql('GRANT USAGE ON EXTERNAL CONNECTION backup_s3 TO stranger');
    const refused = await refusal("BACKUP INTO 'external://backup_s3/app' AS OF SYSTEM TIME '-10s';", {
      user: 'stranger',
    });
    assert.equal(refused.code, '42501');
    // A backup holds that virtual cluster alone.
    assert.ok((await tablesIn("'nodelocal://1/backup_s3/app'")).includes('bank.public.customers'));
  });

  step("BACKUP INTO 'external://backup_s3/system' AS OF SYSTEM TIME '-10s';", async () => {
    const system = { cluster: 'system' };
    await sql(
      [
        'CREATE ROLE "user" LOGIN',
        'GRANT SYSTEM BACKUP TO user',
        "CREATE EXTERNAL CONNECTION backup_s3 AS 'nodelocal://1/backup_s3'",
        'GRANT USAGE ON EXTERNAL CONNECTION backup_s3 TO user',
      ],
      system,
    );
    const statement = (place: string) =>
      `BACKUP INTO 'external://backup_s3/${place}' AS OF SYSTEM TIME '-10s';`;
    await waitFor('the system virtual cluster to have a window', async () => {
      const told = await sql(statement('system'), { ...system, user: 'user' }).then(
        () => 'taken',
        ({ code, message }: { code: string; message: string }) => `${code} ${message}`,
      );
      assert.match(told, /^taken$|^22023 .*the window is from/);
      return told === 'taken';
    });
    // Each collection's URI must be unique.
    assert.equal((await refusal(statement('app'), system)).code, '55000');
    const rows = await sql("SHOW BACKUP FROM LATEST IN 'nodelocal://1/backup_s3/system'", system);
    assert.ok(rows.length > 0 && !rows.some(({ object_name: name }) => name === 'customers'));
  });

  step("RESTORE FROM LATEST IN 'external://backup_s3/app';", async () => {
    const expected = await digestCluster(daemon, 'main');
    await createCluster(daemon, 'restored');
    const asUser = { cluster: 'restored', user: 'user' };
    await sql(
      [
        'CREATE ROLE "user" LOGIN',
        "CREATE EXTERNAL CONNECTION backup_s3 AS 'nodelocal://1/backup_s3'",
        'GRANT USAGE ON EXTERNAL CONNECTION backup_s3 TO user',
      ],
      { cluster: 'restored' },
    );
    const statement = "RESTORE FROM LATEST IN 'external://backup_s3/app';";
    assert.equal((await refusal(statement, asUser)).code, '42501');
    await sql('GRANT SYSTEM RESTORE TO user', { cluster: 'restored' });
    const [row] = await sql(statement, asUser);
    assert.equal(row?.['status'], 'succeeded');
    assert.deepEqual(await digestCluster(daemon, 'restored'), expected);
    const there = { cluster: 'restored', database: 'bank' };
    // Rows that are kept out of backups are not there; settings, users and what they may are.
    assert.deepEqual(await sql('SELECT * FROM cache', there), []);
    const setting = 'SHOW CLUSTER SETTING bulkio.backup.file_size';
    assert.deepEqual(await sql(setting, there), await sql(setting));
    const grants = (cluster: string) => sql('SHOW SYSTEM GRANTS FOR user', { cluster });
    assert.deepEqual(await grants('restored'), await grants('main'));
    assert.equal(
      (await refusal("RESTORE FROM LATEST IN 'external://backup_s3/app'", { ...there, user: 'root' })).code,
      '55000',
    );
    await dropCluster(daemon, 'restored');
  });

  step('restores of a database and of a table to the same app virtual cluster', async () => {
    await sql('DROP TABLE accounts CASCADE', { database: 'bank' });
    await sql("RESTORE TABLE bank.accounts FROM LATEST IN 'external://backup_s3/app'");
    assert.deepEqual(await sql('SELECT count(*)::int AS n FROM accounts', { database: 'bank' }), [{ n: 50 }]);
    await sql('DROP DATABASE employees');
    await sql("RESTORE DATABASE employees FROM LATEST IN 'external://backup_s3/app'");
    assert.deepEqual(await sql('SELECT count(*)::int AS n FROM people', { database: 'employees' }), [
      { n: 7 },
    ]);
  });
});
