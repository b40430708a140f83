/** Every column that SHOW BACKUP gives of a backup of a whole virtual cluster. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createCluster, dropCluster } from '../harness/clusters.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';

type Row = Record<string, unknown>;

const main = { cluster: 'main' } as const;
const bank = { cluster: 'main', database: 'bank' } as const;
const COLLECTION = "'nodelocal://1/bank'";
const CONTENTS = [
  'object_type', 'backup_type', 'start_time', 'end_time', 'size_bytes', 'rows', 'is_full_cluster', 'regions',
]; // biome-ignore format: a table of names
const canMount = process.getuid?.() === 0 && process.platform === 'linux';
const NAMES = ['database_name', 'parent_schema_name', 'object_name'];

describe('a backup of a whole virtual cluster', () => {
  let daemon: TestDaemon;
  before(async () => {
    daemon = await TestDaemon.start();
    await daemon.query(['CREATE DATABASE bank', 'CREATE ROLE teller'], main);
    await daemon.query(
      [
        'CREATE SCHEMA ledger',
        "CREATE TYPE ledger.state AS ENUM ('open', 'closed')",
        'CREATE TABLE ledger.accounts (id bigserial PRIMARY KEY, state ledger.state, note text)',
        "INSERT INTO ledger.accounts (state, note) SELECT 'open', md5(n::text) FROM generate_series(1, 1000) n",
        'CREATE VIEW ledger.open_accounts AS SELECT id FROM ledger.accounts WHERE state = $$open$$',
        'GRANT SELECT, INSERT ON ledger.accounts TO teller',
        'CREATE TABLE ledger.cache (note text) WITH (exclude_data_from_backup = true)',
        `BACKUP INTO ${COLLECTION}`,
        'ALTER TABLE ledger.accounts ADD COLUMN closed_at timestamptz',
        'CREATE INDEX by_note ON ledger.accounts (note)',
        `BACKUP INTO LATEST IN ${COLLECTION}`,
      ],
      bank,
    );
  });
  after(() => daemon[Symbol.asyncDispose]());

  async function show(what: string, options = ''): Promise<{ columns: string[]; rows: Row[] }> {
    const client = await daemon.connect(main);
    try {
      const result = await client.query<Row>(`SHOW BACKUP ${what} FROM LATEST IN ${COLLECTION} ${options}`);
      return { columns: result.fields.map(({ name }) => name), rows: result.rows };
    } finally {
      await client.end();
    }
  }

  const accounts = (rows: readonly Row[]) => rows.filter((row) => row['object_name'] === 'accounts');

  test('SCHEMAS WITH privileges gives definitions, owners and grants as of each backup', async () => {
    const { columns, rows } = await show('SCHEMAS', 'WITH privileges');
    assert.deepEqual(columns, [...NAMES, ...CONTENTS, 'create_statement', 'privileges', 'owner']);
    const [full = '', incremental = ''] = accounts(rows).map((row) => String(row['create_statement']));
    for (const text of [full, incremental]) assert.match(text, /CREATE TABLE ledger\.accounts \(/);
    assert.match(full, /PRIMARY KEY \(id\)/);
    assert.doesNotMatch(full, /closed_at|by_note/);
    assert.match(incremental, /closed_at timestamp with time zone/);
    assert.match(incremental, /CREATE INDEX by_note ON ledger\.accounts/);
    const view = rows.find((row) => row['object_name'] === 'open_accounts');
    assert.match(String(view?.['create_statement']), /CREATE VIEW ledger\.open_accounts/);
    const cache = rows.find((row) => row['object_name'] === 'cache');
    assert.match(String(cache?.['create_statement']), /SET \(exclude_data_from_backup = true\);/);
    const type = rows.find((row) => row['object_type'] === 'type');
    assert.match(String(type?.['create_statement']), /CREATE TYPE ledger\.state AS ENUM/);
    const [table] = accounts(rows);
    assert.deepEqual(
      [table?.['owner'], table?.['privileges']],
      ['root', 'GRANT INSERT, SELECT ON TABLE ledger.accounts TO teller;'],
    );
    for (const name of ['bank', 'defaultdb']) {
      const [database] = rows.filter(
        (row) => row['object_type'] === 'database' && row['object_name'] === name,
      );
      assert.equal(database?.['owner'], 'root', name);
    }
    assert.deepEqual((await show('SCHEMAS', 'WITH privileges')).rows, rows, 'told again, they are the same');
    // The scratch copy is gone.
    assert.deepEqual(new Set((await daemon.postmasters()).keys()), new Set([1, 3]));
  });

  test('WITH debug_ids gives the numbers that Postgres knows things by', async () => {
    const { columns, rows } = await show('', 'WITH debug_ids');
    assert.deepEqual(columns, [
      'database_name', 'database_id', 'parent_schema_name', 'parent_schema_id', 'object_name', 'object_id', ...CONTENTS,
    ]); // biome-ignore format: a table of names
    const [wanted] = await daemon.query(
      `SELECT d.oid::int8 AS database, n.oid::int8 AS schema, c.oid::int8 AS relation, t.oid::int8 AS type
        FROM pg_database d, pg_namespace n, pg_class c, pg_type t
        WHERE d.datname = 'bank' AND n.nspname = 'ledger' AND c.relname = 'accounts' AND t.typname = 'state'`,
      bank,
    );
    const ids = (name: string) => {
      const row = rows.find((each) => each['object_name'] === name);
      return [row?.['database_id'], row?.['parent_schema_id'], row?.['object_id']];
    };
    assert.deepEqual(ids('bank'), [null, null, wanted?.['database']]);
    assert.deepEqual(ids('ledger'), [wanted?.['database'], null, wanted?.['schema']]);
    assert.deepEqual(ids('accounts'), [wanted?.['database'], wanted?.['schema'], wanted?.['relation']]);
    assert.deepEqual(ids('state'), [wanted?.['database'], wanted?.['schema'], wanted?.['type']]);
  });

  test('FILES lists the objects of each backup, RANGES what they cover', async () => {
    const files = await show('FILES');
    assert.deepEqual(files.columns, [
      'path', 'backup_type', 'start_pretty', 'end_pretty', 'start_key', 'end_key', 'size_bytes', 'rows', 'locality', 'file_bytes',
    ]); // biome-ignore format: a table of names
    assert.deepEqual(new Set(files.rows.map((row) => row['backup_type'])), new Set(['full', 'incremental']));
    for (const row of files.rows) {
      const { size } = await stat(join(daemon.store, 'extern', 'bank', String(row['path'])));
      assert.equal(Number(row['file_bytes']), size, String(row['path']));
      assert.equal(String(row['path']).startsWith('incrementals/'), row['backup_type'] === 'incremental');
      const [begin, end] = [row['start_key'], row['end_key']];
      assert.ok(Buffer.isBuffer(begin) && Buffer.isBuffer(end) && Buffer.compare(begin, end) < 0);
      assert.ok(Number(row['size_bytes']) > 0);
    }
    assert.ok(files.rows.some((row) => /^\/wal\/[0-9A-F]+\/[0-9A-F]+$/.test(String(row['start_pretty']))));
    const ranges = await show('RANGES');
    assert.deepEqual(ranges.columns, ['start_pretty', 'end_pretty', 'start_key', 'end_key']);
    const [node] = await daemon.query("SELECT pg_relation_filepath('ledger.accounts') AS path", bank);
    const range = ranges.rows.find((row) => row['start_pretty'] === `/${String(node?.['path'])}/0`);
    assert.match(String(range?.['end_pretty']), new RegExp(`^/${String(node?.['path'])}[^/]*/\\d+$`));
    const starts = ranges.rows.map((row) => row['start_pretty']);
    assert.equal(new Set(starts).size, starts.length);
  });

  test('RESTORE WITH schema_only checks all of it and serves it without a row', async () => {
    await daemon.query(
      [
        'CREATE MATERIALIZED VIEW ledger.notes AS SELECT note FROM ledger.accounts',
        'CREATE TABLE ledger.entries (account bigint REFERENCES ledger.accounts, cents bigint)',
        'INSERT INTO ledger.entries SELECT id, id FROM ledger.accounts',
        'CREATE FUNCTION ledger.never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION $m$never$m$; END $$',
        'CREATE TRIGGER never BEFORE TRUNCATE ON ledger.entries EXECUTE FUNCTION ledger.never()',
        "SELECT lo_from_bytea(4711, 'large')",
        "BACKUP INTO 'nodelocal://1/empty'",
      ],
      bank,
    );
    await createCluster(daemon, 'empty');
    const empty = { cluster: 'empty', database: 'bank' } as const;
    const [job] = await daemon.query(
      "RESTORE FROM LATEST IN 'nodelocal://1/empty' WITH schema_only, verify_backup_table_data",
      { cluster: 'empty' },
    );
    assert.deepEqual(
      [job?.['status'], job?.['rows'], job?.['index_entries'], job?.['bytes']],
      ['succeeded', '0', '0', '0'],
    );
    const [counts] = await daemon.query(
      `SELECT (SELECT count(*) FROM ledger.accounts)::int AS accounts, (SELECT count(*) FROM ledger.entries)::int AS entries,
        (SELECT count(*) FROM pg_largeobject_metadata)::int AS large,
        (SELECT relispopulated FROM pg_class WHERE relname = 'notes') AS view,
        (SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'never') AS trigger,
        pg_total_relation_size('ledger.accounts') < 100000 AS is_small`,
      empty,
    );
    assert.deepEqual(counts, {
      accounts: 0, entries: 0, large: 0, view: false, trigger: 'O', is_small: true,
    }); // biome-ignore format: a table of values
    await daemon.query("INSERT INTO ledger.accounts (state) VALUES ('open')", empty);
    await dropCluster(daemon, 'empty');
    const [row] = await daemon.query('SELECT count(*)::int AS entries FROM ledger.entries', bank);
    assert.equal(row?.['entries'], 1000);
  });

  test('into a disk that is full, or may not be written, fails saying so; nothing is listed, all goes on', {
    skip: !canMount && 'NOT TESTED: file systems cannot be mounted here (needs root)',
  }, async () => {
    const disk = join(daemon.store, 'extern', 'disk');
    await mkdir(disk);
    const mount = (...options: string[]) => execFileSync('mount', [...options, disk]);
    const backUp = (to: string) =>
      daemon.query(`BACKUP INTO 'nodelocal://1/disk/${to}'`, main).then(
        () => assert.fail('there was room'),
        (error: { code: string; message: string }) => error,
      );
    mount('-t', 'tmpfs', '-o', 'size=1m', 'tmpfs');
    try {
      const full = await backUp('full');
      assert.equal(full.code, '53100', full.message);
      assert.match(full.message, /no space left for .* in nodelocal:\/\/1\/disk\/full/);
      assert.deepEqual(await daemon.query("SHOW BACKUPS IN 'nodelocal://1/disk/full'", main), []);
      // What was written of it is gone again: another's backup need not suffer.
      const left = await filesBelow(join(disk, 'full'));
      assert.deepEqual(
        left.filter((name) => /\.(pack|wal)$|BACKUP_MANIFEST$/.test(name)),
        [],
      );
      mount('-o', 'remount,ro');
      const locked = await backUp('locked');
      assert.equal(locked.code, '58030', locked.message);
      assert.match(
        locked.message,
        /^cannot write .* in nodelocal:\/\/1\/disk\/locked: its disk is read-only$/,
      );
      await daemon.query("SHOW BACKUPS IN 'nodelocal://1/disk/full'", main);
      mount('-o', 'remount,rw,size=512m');
      await daemon.query("BACKUP INTO 'nodelocal://1/disk/full'", main);
      assert.equal((await daemon.query("SHOW BACKUPS IN 'nodelocal://1/disk/full'", main)).length, 1);
      mount('-o', 'remount,ro');
      await daemon.query("SHOW BACKUP FROM LATEST IN 'nodelocal://1/disk/full' WITH check_files", main);
    } finally {
      execFileSync('umount', ['--lazy', disk]);
    }
    const [row] = await daemon.query('SELECT count(*)::int AS n FROM ledger.accounts', bank);
    assert.equal(row?.['n'], 1000);
  });

  test('every refusal of the reference has its code, its words and a hint, and changes nothing', async () => {
    await daemon.query('CREATE ROLE visitor LOGIN', main);
    await createCluster(daemon, 'vacant');
    const full = String((await daemon.query(`SHOW BACKUPS IN ${COLLECTION}`, main))[0]?.['path']);
    const at = (cluster: string) => ({ cluster });
    const vacant = at('vacant');
    const visitor = { cluster: 'main', user: 'visitor' };
    const into = "INTO 'nodelocal://1/refused'";
    const from = `FROM LATEST IN ${COLLECTION}`;
    const table: readonly (readonly [string, Parameters<TestDaemon['query']>[1], string, RegExp])[] = [
      ["BACKUP TO 'nodelocal://1/refused'", main, '0A000', /BACKUP ... INTO|INTO/],
      ["RESTORE FROM 'nodelocal://1/refused'", vacant, '0A000', /RESTORE FROM a URI is not supported, use RESTORE \.\.\. FROM \.\.\. IN/],
      ["SHOW BACKUP 'nodelocal://1/bank'", main, '0A000', /SHOW BACKUP of a URI is not supported, use SHOW BACKUP \.\.\. IN/],
      [`BACKUP ${into} WHERE a = 1`, main, '42601', /syntax error/],
      ["BACKUP INTO LATEST IN 'nodelocal://1/refused'", main, '42704', /path does not contain a completed latest backup/],
      ["BACKUP INTO '2001/01/01-000000.00' IN 'nodelocal://1/refused'", main, '42704', /^No full backup exists in "2001\/01\/01-000000\.00" to append an incremental backup to\. To take a full backup, remove the subdirectory/],
      [`BACKUP ${into} AS OF SYSTEM TIME '2000-01-01'`, main, '22023', /window|before|2000-01-01/],
      [`BACKUP ${into} AS OF SYSTEM TIME '2100-01-01'`, main, '22023', /cannot specify timestamp in the future/],
      [`BACKUP ${into} WITH encryption_passphrase = 'p', kms = 'aws:///k?REGION=r'`, main, '22023', /cannot have both encryption_passphrase and kms option set/],
      [`BACKUP ${into} WITH EXECUTION LOCALITY = 'region=moon'`, main, '55000', /region=moon/],
      ["BACKUP INTO ('nodelocal://1/a', 'nodelocal://1/b?COCKROACH_LOCALITY=region%3Dx')", main, '22023', /default/],
      ["BACKUP INTO ('nodelocal://1/a?COCKROACH_LOCALITY=default', 'nodelocal://1/b?COCKROACH_LOCALITY=a%3Db%2Cc%3Dd')", main, '22023', /tier must be in the form "key=value"/],
      ["BACKUP INTO 's3://b/x?AWS_ACCESS_KEY_ID=a&AWS_SECRET_ACCESS_KEY=b&aws_region=r'", main, '22023', /unknown S3 query parameters: aws_region/],
      ["BACKUP INTO LATEST IN 's3://b/x?AWS_ACCESS_KEY_ID=a&AWS_SECRET_ACCESS_KEY=b&S3_STORAGE_CLASS=GLACIER'", main, '0A000', /GLACIER/],
      ["BACKUP INTO 'https://example.com/x'", main, '0A000', /storage over https cannot hold backups/],
      [`BACKUP ${into}`, visitor, '42501', /^only users with the admin role or the BACKUP system privilege are allowed to perform full cluster backups$/],
      [`RESTORE ${from}`, visitor, '42501', /^only users with the admin role or the RESTORE system privilege are allowed to perform a cluster restore$/],
      [`RESTORE ${from}`, main, '55000', /^full cluster restore can only be run on a cluster with no tables or databases but found \d+ descriptors/],
      [`RESTORE ${from}`, at('system'), '0A000', /RESTORE of the system virtual cluster/],
      [`RESTORE FROM LATEST IN 'nodelocal://1/part'`, vacant, '55000', /^full cluster RESTORE can only be used on full cluster BACKUP files$/],
      [`RESTORE ${from} AS OF SYSTEM TIME '2001-01-01'`, vacant, '22023', /^invalid RESTORE timestamp: restoring to arbitrary time requires that BACKUP for requested time be created with 'revision_history' option\. nearest backup time\(s\) /],
      [`RESTORE ${from} WITH new_db_name = 'x'`, vacant, '22023', /new_db_name can only be used for RESTORE DATABASE with a single target database/],
      [`RESTORE ${from} WITH into_db = 'x'`, vacant, '22023', /into_db/],
      [`RESTORE ${from} WITH verify_backup_table_data`, vacant, '22023', /the schema_only option must be set/],
      [`RESTORE ${from} WITH EXECUTION LOCALITY = 'region=moon'`, vacant, '55000', /region=moon/],
      [`RESTORE ${from} WITH virtual_cluster_name = 'x'`, vacant, '0A000', /virtual_cluster_name/],
      [`RESTORE FROM 'nonsense' IN ${COLLECTION}`, vacant, '42704', /no completed backup in nonsense/],
      [`SHOW BACKUP FROM '/' IN ${COLLECTION}`, main, '22023', /not the path of a backup/],
      [`SHOW BACKUP FROM '${full}' IN 'nodelocal://1/refused'`, main, '42704', /no completed backup/],
      [`BACKUP ${into} WITH include_all_virtual_clusters`, at('system'), '0A000', /include_all_virtual_clusters/],
      ["CREATE SCHEDULE FOR BACKUP INTO 'nodelocal://1/bank' RECURRING '@daily'", main, '42710', /^backups already created in .*; to ignore existing backups, the schedule can be created with the 'ignore_existing_backups' option$/],
    ]; // biome-ignore format: a table of statements
    await daemon.query("BACKUP TABLE ledger.accounts INTO 'nodelocal://1/part'", bank);
    const jobs = async (cluster: string) => (await daemon.query('SHOW JOBS', { cluster })).length;
    const before = [await jobs('main'), await jobs('vacant'), await jobs('system')];
    const wrong: string[] = [];
    for (const [sql, options, code, message] of table) {
      const error = await daemon.query(sql, options).then(
        () => null,
        (thrown: { code: string; message: string; hint?: string }) => thrown,
      );
      const isRight = error?.code === code && message.test(error.message);
      // Of the last one the message itself says what to do.
      const needsHint = !['42601', '42501', '42710'].includes(code);
      if (isRight && (error.hint !== undefined || !needsHint)) continue;
      wrong.push(
        `${sql}: ${error === null ? 'not refused' : `${error.code} ${error.message} (${error.hint})`}`,
      );
    }
    assert.deepEqual(wrong, []);
    const inTransaction = await daemon.query(['BEGIN', `BACKUP ${into}`], main).then(
      () => assert.fail('it ran in a transaction'),
      (thrown: { code: string; message: string }) => thrown,
    );
    assert.match(
      inTransaction.message,
      /^BACKUP cannot be used inside a multi-statement transaction without DETACHED option$/,
    );
    for (const [feature, sql, cluster] of [
      ['backup', `BACKUP ${into}`, 'main'],
      ['restore', `RESTORE ${from}`, 'vacant'],
    ] as const) {
      await daemon.query(`SET CLUSTER SETTING feature.${feature}.enabled = false`, { cluster });
      await assert.rejects(daemon.query(sql, { cluster }), {
        message: `feature ${feature.toUpperCase()} was disabled by the database administrator`,
      });
      await daemon.query(`RESET CLUSTER SETTING feature.${feature}.enabled`, { cluster });
    }
    assert.deepEqual([await jobs('main'), await jobs('vacant'), await jobs('system')], before);
    assert.deepEqual(await daemon.query("SHOW BACKUPS IN 'nodelocal://1/refused'", main), []);
    await assert.rejects(stat(join(daemon.store, 'extern', 'refused')), { code: 'ENOENT' });
    await dropCluster(daemon, 'vacant');
  });

  test('the other options add their columns, and times fit each other', async () => {
    const checked = await show('', 'WITH check_files, restore_estimate, revision_start_time');
    assert.deepEqual(checked.columns.slice(NAMES.length + CONTENTS.length), [
      'file_bytes', 'restore_bytes', 'restore_replay_bytes', 'restore_seconds', 'revision_start_time',
    ]); // biome-ignore format: a table of names
    const [full, incremental] = accounts(checked.rows);
    assert.deepEqual([full?.['backup_type'], incremental?.['backup_type']], ['full', 'incremental']);
    assert.equal(full?.['start_time'], null);
    assert.deepEqual(incremental?.['start_time'], full?.['end_time']);
    assert.deepEqual([full?.['rows'], full?.['is_full_cluster']], ['1000', true]);
    for (const row of checked.rows) {
      if (row['object_type'] === 'table') continue;
      assert.deepEqual([row['size_bytes'], row['rows'], row['file_bytes']], [null, null, null]);
      if (row['object_type'] !== 'type') assert.equal(row['parent_schema_name'], null);
    }
    const skipped = await show('', 'WITH SKIP SIZE');
    assert.ok(skipped.rows.every((row) => row['size_bytes'] === null));
    const json = await show('', 'WITH as_json');
    assert.deepEqual(json.columns, ['manifest']);
    assert.equal(json.rows.length, 2);
  });
});
