import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { after, before, describe, test } from 'node:test';
import { EVERYTHING, FINGERPRINT_OF_ROWS } from '../../src/logical-copy/testing-everything.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';

const SECRETS = ['password-of-somebody', 'somebody_else', 'row-of-another-table', 'another_table'];

describe('backups of databases and tables', () => {
  let daemon: TestDaemon;
  const sql = (text: string | readonly string[], database = 'defaultdb') =>
    daemon.query(text, { cluster: 'main', database });

  before(async () => {
    daemon = await TestDaemon.start();
    await sql([
      'CREATE DATABASE origin',
      `CREATE ROLE somebody_else LOGIN PASSWORD 'password-of-somebody'`,
      'CREATE SCHEMA shop',
      'CREATE TABLE shop.customers (id int PRIMARY KEY, name text)',
      `INSERT INTO shop.customers SELECT n, 'customer ' || n FROM generate_series(1, 1000) n`,
      'CREATE TABLE shop.another_table (secret text)',
      `INSERT INTO shop.another_table VALUES ('row-of-another-table')`,
      'GRANT SELECT ON shop.another_table TO somebody_else',
    ]);
    await sql([EVERYTHING], 'origin');
  });
  after(() => daemon[Symbol.asyncDispose]());

  /** Everything in the collection, packs and manifests expanded. */
  async function contentOf(collection: string): Promise<string> {
    const folder = join(daemon.store, 'extern', collection);
    const contents: string[] = [];
    for (const name of await filesBelow(folder)) {
      const bytes = await readFile(join(folder, name));
      contents.push(bytes.toString('latin1'), ...expanded(bytes));
    }
    return contents.join('\n');
  }

  test('of a database hold all of it, and give it back under another name', async () => {
    const [backup] = await sql(`BACKUP DATABASE origin INTO 'nodelocal://1/database'`);
    assert.equal(backup?.['status'], 'succeeded');
    assert.ok(Number(backup['rows']) > 450, String(backup['rows']));
    const [restored] = await sql(
      `RESTORE DATABASE origin FROM LATEST IN 'nodelocal://1/database' WITH new_db_name = 'again'`,
    );
    assert.equal(restored?.['rows'], backup['rows']);
    assert.deepEqual(await sql(FINGERPRINT_OF_ROWS, 'again'), await sql(FINGERPRINT_OF_ROWS, 'origin'));
    const [owner] = await sql(
      `SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = 'again'`,
    );
    assert.equal(owner?.['owner'], 'root');
    assert.deepEqual(await leftOvers(), []);
    await assert.rejects(sql(`RESTORE DATABASE origin FROM LATEST IN 'nodelocal://1/database'`), {
      code: '42710',
      message: 'database "origin" already exists',
    });
  });

  test('of a table hold nothing of others', async () => {
    const [backup] = await sql(`BACKUP TABLE shop.customers INTO 'nodelocal://1/table'`);
    assert.equal(Number(backup?.['rows']), 1000);
    const content = await contentOf('table');
    assert.match(content, /customer 999/);
    for (const secret of SECRETS) assert.ok(!content.includes(secret), `${secret} is in the collection`);
    assert.doesNotMatch(content, /SCRAM-SHA-256/);
  });

  test('of a table give it back, to who restores it', async () => {
    await sql(['CREATE DATABASE elsewhere']);
    const [restored] = await sql(
      `RESTORE TABLE shop.customers FROM LATEST IN 'nodelocal://1/table' WITH into_db = 'elsewhere'`,
    );
    assert.equal(Number(restored?.['rows']), 1000);
    const [digest] = await sql(
      `SELECT count(*)::int AS n, min(tableowner) AS owner FROM shop.customers, pg_tables WHERE tablename = 'customers'`,
      'elsewhere',
    );
    assert.deepEqual(digest, { n: 1000, owner: 'root' });
    await assert.rejects(sql(`RESTORE TABLE shop.customers FROM LATEST IN 'nodelocal://1/table'`), {
      code: '42P07',
      message: /relation "shop.customers" already exists/,
    });
    assert.deepEqual(await leftOvers(), []);
  });

  test('name tables as the reference does: schemas before databases', async () => {
    await sql(['CREATE DATABASE shop', 'CREATE TABLE elsewhere_only (id int)']);
    await sql(['CREATE TABLE in_database (id int)', 'INSERT INTO in_database VALUES (1), (2)'], 'shop');
    const tables = async (collection: string) =>
      (
        await sql(
          `SELECT * FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/${collection}'] WHERE object_type = 'table'`,
        )
      ).map(({ database_name: database, parent_schema_name: schema, object_name: name }) =>
        [database, schema, name].join('.'),
      );
    await sql(`BACKUP shop.* INTO 'nodelocal://1/by-schema'`);
    assert.deepEqual(await tables('by-schema'), ['defaultdb.shop.another_table', 'defaultdb.shop.customers']);
    await sql(`BACKUP shop.* INTO 'nodelocal://1/by-database'`, 'postgres');
    assert.deepEqual(await tables('by-database'), ['shop.public.in_database']);
    await sql(`BACKUP defaultdb.shop.* INTO 'nodelocal://1/in-full'`, 'postgres');
    assert.deepEqual(await tables('in-full'), ['defaultdb.shop.another_table', 'defaultdb.shop.customers']);
    await sql(`BACKUP DATABASE shop, origin INTO 'nodelocal://1/two'`);
    const databases =
      await sql(`SELECT DISTINCT database_name FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/two']
      WHERE database_name IS NOT NULL ORDER BY 1`);
    assert.deepEqual(
      databases.map(({ database_name: name }) => name),
      ['origin', 'shop'],
    );
    await assert.rejects(sql(`BACKUP TABLE nowhere INTO 'nodelocal://1/nothing'`), {
      code: '42P01',
      message: /relation "public.nowhere" does not exist/,
    });
  });

  test('are shown with all their objects, what makes them, and whose they are', async () => {
    const rows = await sql(`SHOW BACKUP SCHEMAS FROM LATEST IN 'nodelocal://1/table' WITH privileges`);
    assert.deepEqual(
      rows.map((row) => [
        row['object_name'],
        row['object_type'],
        row['owner'],
        row['is_full_cluster'],
        Number(row['rows']),
      ]),
      [
        ['defaultdb', 'database', 'root', false, 0],
        ['shop', 'schema', 'root', false, 0],
        ['customers', 'table', 'root', false, 1000],
      ],
    );
    assert.match(
      String(rows[2]?.['create_statement']),
      /CREATE TABLE shop.customers \(.*PRIMARY KEY \(id\)/s,
    );
    await sql(`BACKUP INTO 'nodelocal://1/whole'`);
    await assert.rejects(sql(`SHOW BACKUP SCHEMAS FROM LATEST IN 'nodelocal://1/whole'`), { code: '0A000' });
  });

  test('refuse what contradicts itself', async () => {
    const from = `FROM LATEST IN 'nodelocal://1/database'`;
    const refusals: readonly (readonly [string, string, RegExp])[] = [
      [
        `RESTORE DATABASE origin ${from} WITH into_db = 'x'`,
        '22023',
        /cannot use into_db option when restoring database/,
      ],
      [
        `RESTORE TABLE app.owner ${from} WITH new_db_name = 'x'`,
        '22023',
        /new_db_name can only be used for RESTORE DATABASE with a single target/,
      ],
      [`RESTORE DATABASE a, b ${from} WITH new_db_name = 'x'`, '22023', /single target database/],
      [`RESTORE DATABASE nowhere ${from}`, '3D000', /database "nowhere" is not in backup/],
      [
        `RESTORE TABLE origin.app.owner ${from} WITH into_db = 'nowhere'`,
        '3D000',
        /"nowhere"/,
      ],
      [`RESTORE TABLE origin.app.nothing ${from}`, '42P01', /table "origin.app.nothing" is not in backup/],
      [
        `RESTORE DATABASE origin ${from} WITH verify_backup_table_data`,
        '22023',
        /the schema_only option must be set/,
      ],
      [`RESTORE ${from}`, '55000', /full cluster RESTORE can only be used on full cluster BACKUP files/],
      [
        `RESTORE DATABASE defaultdb FROM LATEST IN 'nodelocal://1/table'`,
        '55000',
        /does not hold the complete database "defaultdb"/,
      ],
      [
        `BACKUP DATABASE shop INTO LATEST IN 'nodelocal://1/table'`,
        '55000',
        /previous backup does not contain database "shop"/,
      ],
      [
        `BACKUP INTO LATEST IN 'nodelocal://1/table'`,
        '55000',
        /previous backup does not contain the whole virtual cluster/,
      ],
      [
        `BACKUP DATABASE system INTO 'nodelocal://1/nothing'`,
        '22023',
        /belongs to the virtual cluster itself/,
      ],
      [
        `BACKUP DATABASE shop INTO 'nodelocal://1/nothing' AS OF SYSTEM TIME '-1s'`,
        '0A000',
        /AS OF SYSTEM TIME/,
      ],
    ];
    for (const [statement, code, message] of refusals) {
      await assert.rejects(sql(statement), { code, message }, statement);
    }
    assert.deepEqual(await leftOvers(), []);
  });

  test('can be proved without rows', async () => {
    const [restored] = await sql(
      `RESTORE DATABASE origin FROM LATEST IN 'nodelocal://1/database' WITH new_db_name = 'bare', schema_only, verify_backup_table_data`,
    );
    assert.equal(Number(restored?.['rows']), 0);
    const [counted] = await sql('SELECT count(*)::int AS n FROM app.owner', 'bare');
    assert.equal(counted?.['n'], 0);
  });

  test('give back tables without what they refer to, when asked to', async () => {
    await sql(['CREATE DATABASE ties', 'CREATE DATABASE alone']);
    await sql(
      [
        'CREATE TABLE parent (id int PRIMARY KEY)',
        'CREATE SEQUENCE numbers',
        "CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2'",
        'CREATE TABLE fk (id int REFERENCES parent, note text)',
        "CREATE TABLE sq (id int DEFAULT nextval('numbers'), note text)",
        'CREATE TABLE fn (id int DEFAULT twice(1) CHECK (twice(id) > 0), note text)',
        'CREATE INDEX ON fn (twice(id))',
        'CREATE VIEW vw AS SELECT id FROM parent',
        'CREATE TABLE own (id serial)',
        `INSERT INTO fn (note) VALUES ('one')`,
      ],
      'ties',
    );
    await sql(`BACKUP DATABASE ties INTO 'nodelocal://1/ties'`);
    await sql(`BACKUP TABLE public.own_id_seq INTO 'nodelocal://1/sequence'`, 'ties');
    const cases: readonly (readonly [string, string, RegExp, string])[] = [
      [
        'fk',
        'ties',
        /cannot restore table "public.fk" without referenced table "public.parent" \(or "skip_missing_foreign_keys" option\)/,
        'skip_missing_foreign_keys',
      ],
      [
        'sq',
        'ties',
        /without referenced sequence "public.numbers" \(or "skip_missing_sequences" option\)/,
        'skip_missing_sequences',
      ],
      [
        'fn',
        'ties',
        /without referenced function "public.twice\(integer\)" \(or "skip_missing_udfs" option\)/,
        'skip_missing_udfs',
      ],
      [
        'own_id_seq',
        'sequence',
        /without referenced owner table "public.own" \(or "skip_missing_sequence_owners" option\)/,
        'skip_missing_sequence_owners',
      ],
      [
        'vw',
        'ties',
        /cannot restore view "public.vw" without restoring referenced object "public.parent" \(or "skip_missing_views" option\)/,
        'skip_missing_views',
      ],
    ];
    for (const [table, collection, message, option] of cases) {
      const statement = `RESTORE TABLE ties.public.${table} FROM LATEST IN 'nodelocal://1/${collection}' WITH into_db = 'alone'`;
      await assert.rejects(sql(statement), { code: '55000', message }, table);
      await sql(`${statement}, ${option}`);
    }
    const made = await sql(
      `SELECT c.relname, pg_get_expr(d.adbin, d.adrelid) AS "default",
        (SELECT count(*)::int FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype <> 'n') AS constraints,
        (SELECT count(*)::int FROM pg_index i WHERE i.indrelid = c.oid) AS indexes
      FROM pg_class c LEFT JOIN pg_attrdef d ON d.adrelid = c.oid
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind <> 'i' ORDER BY 1`,
      'alone',
    );
    const bare = { default: null, constraints: 0, indexes: 0 };
    assert.deepEqual(
      made,
      ['fk', 'fn', 'own_id_seq', 'sq'].map((relname) => ({ relname, ...bare })),
    );
    const functions = await sql(
      `SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace`,
      'alone',
    );
    assert.deepEqual(functions, []);
    assert.deepEqual(await sql('SELECT id, note FROM fn', 'alone'), [{ id: 2, note: 'one' }]);
    assert.deepEqual(await leftOvers(), []);
  });

  /** Roles and databases that only a copy under way may have. */
  async function leftOvers() {
    return sql(`SELECT rolname AS name FROM pg_roles WHERE rolname LIKE 'atoll_copy%'
      UNION ALL SELECT datname FROM pg_database WHERE datname LIKE 'atoll_restore%'`);
  }
});

const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);

/** Whatever zstd frames are found in the bytes. */
function expanded(bytes: Buffer): string[] {
  const found: string[] = [];
  for (let at = bytes.indexOf(ZSTD_MAGIC); at >= 0; at = bytes.indexOf(ZSTD_MAGIC, at + 1)) {
    try {
      found.push(zstdDecompressSync(bytes.subarray(at)).toString('latin1'));
    } catch {
      // Bytes that look like the beginning of a frame.
    }
  }
  return found;
}
