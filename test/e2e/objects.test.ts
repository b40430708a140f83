import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { after, before, describe, test } from 'node:test';
import { EVERYTHING, FINGERPRINT_OF_ROWS } from '../../src/logical-copy/testing-everything.ts';
import { createCluster, dropCluster } from '../harness/clusters.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';
import { waitFor } from '../harness/wait.ts';

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
    await sql('CREATE DATABASE shop');
    await sql(['CREATE TABLE in_database (id int)', 'INSERT INTO in_database VALUES (1), (2)'], 'shop');
    await sql([
      'ALTER DATABASE origin CONNECTION LIMIT 50',
      'ALTER DATABASE origin SET default_transaction_read_only = on',
    ]);
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
    const client = await daemon.connect({ cluster: 'main' });
    const heard: unknown[] = [];
    client.on('notice', ({ message }) => heard.push(message));
    const { rows } = await client.query<Record<string, unknown>>(
      `BACKUP DATABASE origin INTO 'nodelocal://1/database'`,
    );
    await client.end();
    const [backup] = rows;
    assert.equal(backup?.['status'], 'succeeded');
    assert.deepEqual(heard, [], 'its rows were counted');
    assert.ok(Number(backup['rows']) > 450, String(backup['rows']));
    const [restored] = await sql(
      `RESTORE DATABASE origin FROM LATEST IN 'nodelocal://1/database' WITH new_db_name = 'again'`,
    );
    assert.equal(restored?.['rows'], backup['rows']);
    assert.deepEqual(await sql(FINGERPRINT_OF_ROWS, 'again'), await sql(FINGERPRINT_OF_ROWS, 'origin'));
    const [owner] = await sql(
      `SELECT pg_get_userbyid(datdba) AS owner, datconnlimit FROM pg_database WHERE datname = 'again'`,
    );
    assert.deepEqual(owner, { owner: 'root', datconnlimit: 50 });
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

  test('hold no rows of tables that are kept out of them, and keep them so', async () => {
    await sql([
      'CREATE DATABASE kept',
      'CREATE ROLE keeper LOGIN',
      'GRANT CREATE ON DATABASE kept TO keeper',
    ]);
    const client = await daemon.connect({ cluster: 'main', database: 'kept' });
    try {
      // Obeys the transaction it is in, and the order of a text of several statements.
      await client.query('BEGIN');
      await client.query('CREATE TABLE undone (a int) WITH (exclude_data_from_backup = true)');
      await client.query('ROLLBACK');
      await client.query(`CREATE TABLE cached (id int PRIMARY KEY, note text) WITH (fillfactor = 70, exclude_data_from_backup);
        INSERT INTO cached SELECT n, 'row-of-the-cache' FROM generate_series(1, 100) n;
        CREATE TABLE whole (id int); INSERT INTO whole VALUES (1), (2);
        CREATE TABLE parted (id int) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (9);
        INSERT INTO parted VALUES (1);
        ALTER TABLE parted SET (exclude_data_from_backup = true);
        CREATE TABLE back AS SELECT 1 AS id; ALTER TABLE back SET (exclude_data_from_backup = true, fillfactor = 50);
        ALTER TABLE back RESET (exclude_data_from_backup);
        CREATE TABLE referred (id int PRIMARY KEY); CREATE TABLE refers (id int REFERENCES referred)`);
      const [options] = (
        await client.query(
          `SELECT reloptions FROM pg_class WHERE relname IN ('cached', 'back') ORDER BY relname`,
        )
      ).rows as { reloptions: string[] }[];
      assert.deepEqual(options?.reloptions, ['fillfactor=50']);
      for (const [statement, code] of [
        ['ALTER TABLE nowhere SET (exclude_data_from_backup = true)', '42P01'],
        ['ALTER TABLE whole SET (exclude_data_from_backup = maybe)', '42601'],
        ['CREATE TABLE whole (a int) WITH (exclude_data_from_backup = true)', '42P07'],
        ['ALTER TABLE referred SET (exclude_data_from_backup = true)', '55000'],
      ] as const) {
        await assert.rejects(client.query(statement), { code }, statement);
      }
      await client.query('ALTER TABLE IF EXISTS nowhere SET (exclude_data_from_backup = true)');
    } finally {
      await client.end();
    }
    await assert.rejects(
      daemon.query('ALTER TABLE whole SET (exclude_data_from_backup = true)', {
        cluster: 'main',
        database: 'kept',
        user: 'keeper',
      }),
      { code: '42501', message: /must be owner of table whole/ },
    );
    await assert.rejects(
      daemon.query('CREATE TABLE mistaken (a int) WITH (exclude_data_from_backup = true)', {
        cluster: 'system',
      }),
      { code: '42501', message: 'blocked DDL from the system interface' },
    );
    const counts = async (database: string) =>
      (
        await sql(
          `SELECT (SELECT count(*)::int FROM cached) AS cached, (SELECT count(*)::int FROM whole) AS whole,
            (SELECT count(*)::int FROM parted) AS parted, (SELECT count(*)::int FROM back) AS back`,
          database,
        )
      )[0];
    const [backup] = await sql(`BACKUP DATABASE kept INTO 'nodelocal://1/kept'`);
    assert.equal(Number(backup?.['rows']), 3);
    assert.doesNotMatch(await contentOf('kept'), /row-of-the-cache/);
    await sql(`RESTORE DATABASE kept FROM LATEST IN 'nodelocal://1/kept' WITH new_db_name = 'kept_again'`);
    assert.deepEqual(await counts('kept_again'), { cached: 0, whole: 2, parted: 0, back: 1 });
    const [shown] = await sql(
      `SELECT create_statement FROM [SHOW BACKUP SCHEMAS FROM LATEST IN 'nodelocal://1/kept'] WHERE object_name = 'cached'`,
    );
    assert.match(
      String(shown?.['create_statement']),
      /ALTER TABLE public.cached SET \(exclude_data_from_backup = true\);/,
    );
    // What was restored is kept out again: of its own backups, and of what is restored out of a backup of everything.
    await sql(
      [`INSERT INTO cached SELECT 1000, 'row-of-the-cache'`, 'INSERT INTO parted VALUES (2)'],
      'kept_again',
    );
    const [again] = await sql(`BACKUP DATABASE kept_again INTO 'nodelocal://1/kept-again'`);
    assert.equal(Number(again?.['rows']), 3);
    await sql(
      [
        `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'`,
        'CREATE TRIGGER stop BEFORE TRUNCATE ON cached EXECUTE FUNCTION no()',
        'ALTER TABLE cached ENABLE ALWAYS TRIGGER stop',
      ],
      'kept_again',
    );
    await sql(`BACKUP INTO 'nodelocal://1/kept-whole'`);
    await sql(
      `RESTORE DATABASE kept_again FROM LATEST IN 'nodelocal://1/kept-whole' WITH new_db_name = 'kept_third'`,
    );
    assert.deepEqual(await counts('kept_third'), { cached: 0, whole: 2, parted: 0, back: 1 });
    await createCluster(daemon, 'all-again');
    await daemon.query(`RESTORE FROM LATEST IN 'nodelocal://1/kept-whole'`, { cluster: 'all-again' });
    const [all] = await daemon.query(
      `SELECT (SELECT count(*)::int FROM cached) AS cached, (SELECT count(*)::int FROM parted) AS parted, (SELECT count(*)::int FROM whole) AS whole,
        (SELECT tgenabled FROM pg_trigger WHERE tgname = 'stop') AS "trigger"`,
      { cluster: 'all-again', database: 'kept_again' },
    );
    assert.deepEqual(all, { cached: 0, parted: 0, whole: 2, trigger: 'A' });
    await dropCluster(daemon, 'all-again');
    assert.deepEqual(await leftOvers(), []);
  });

  test('are made again by what SHOW CREATE TABLE says', async () => {
    const made = [
      'CREATE SCHEMA "My shop"',
      `CREATE TYPE "My shop".mood AS ENUM ('good', 'bad')`,
      `CREATE TABLE "My shop"."Wares" (id int GENERATED BY DEFAULT AS IDENTITY (START WITH 5 CYCLE), "a name" text COLLATE "C" DEFAULT 'it''s',
         price numeric(10, 2) NOT NULL CHECK (price > 0), double numeric GENERATED ALWAYS AS (price * 2) STORED, gone int,
         mood "My shop".mood DEFAULT 'good', tags text[], PRIMARY KEY (id), CONSTRAINT "Unique" UNIQUE (mood, price) DEFERRABLE)
         WITH (fillfactor = 70, toast.autovacuum_enabled = off, exclude_data_from_backup = true)`,
      'ALTER TABLE "My shop"."Wares" DROP COLUMN gone',
      'CREATE UNIQUE INDEX "Odd ON ONLY" ON "My shop"."Wares" (lower("a name") DESC) WHERE id > 3',
      `CREATE TABLE parent (id int NOT NULL, note text, CHECK (id > 0)); CREATE TABLE child (more int) INHERITS (parent)`,
      'CREATE UNLOGGED TABLE plain (); CREATE SEQUENCE counting AS smallint INCREMENT BY -2 CACHE 3',
      `CREATE TABLE parted (id int GENERATED ALWAYS AS IDENTITY, place text, PRIMARY KEY (id, place)) PARTITION BY LIST (place);
       CREATE TABLE part PARTITION OF parted FOR VALUES IN ('a', 'b'); CREATE INDEX parted_place ON parted (place)`,
      `CREATE TABLE refers (id int, place text, ware int REFERENCES "My shop"."Wares" ON DELETE CASCADE,
         FOREIGN KEY (id, place) REFERENCES parted)`,
      `CREATE VIEW seen WITH (security_barrier = true) AS SELECT id, note AS "What" FROM parent`,
      'CREATE MATERIALIZED VIEW kept AS SELECT id FROM parent; CREATE INDEX ON kept (id)',
    ];
    const names = [
      '"My shop"."Wares"',
      'parent',
      'child',
      'plain',
      'counting',
      'parted',
      'part',
      'refers',
      'seen',
      'kept',
    ];
    await sql(['CREATE DATABASE made', 'CREATE DATABASE made_again']);
    // A foreign key to a table keeps its data in: the mark may only come first.
    await sql(made, 'made');
    await sql(made.slice(0, 2), 'made_again');
    const shown = new Map<string, unknown>();
    for (const name of names) {
      const [row] = await sql(`SHOW CREATE TABLE ${name}`, 'made');
      assert.equal(row?.['table_name'], name);
      shown.set(name, row['create_statement']);
      await sql(String(row['create_statement']), 'made_again');
    }
    for (const [name, statement] of shown) {
      const [row] = await sql(`SHOW CREATE TABLE ${name}`, 'made_again');
      assert.equal(row?.['create_statement'], statement);
    }
    assert.match(
      String(shown.get('"My shop"."Wares"')),
      /WITH \(exclude_data_from_backup = true, fillfactor='70'/,
    );
    // What Postgres itself knows of the two is the same.
    const facts = `SELECT string_agg(concat_ws('|', c.relname, a.attname, a.atttypid::regtype, a.attnotnull, a.attidentity, a.attgenerated,
        a.attislocal, c.relpersistence, c.reloptions, (SELECT count(*) FROM pg_index WHERE indrelid = c.oid),
        (SELECT count(*) FROM pg_constraint WHERE conrelid = c.oid)), E'\n' ORDER BY c.relname, a.attname) AS facts
      FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      WHERE c.relnamespace IN ('public'::regnamespace, '"My shop"'::regnamespace)`;
    assert.deepEqual(await sql(facts, 'made_again'), await sql(facts, 'made'));
    const [elsewhere] = await sql('SELECT table_name FROM [SHOW CREATE TABLE made.public.parent]');
    assert.equal(elsewhere?.['table_name'], 'made.public.parent');
    await assert.rejects(sql('SHOW CREATE TABLE nowhere', 'made'), { code: '42P01' });
    await assert.rejects(sql('SHOW CREATE TABLE pg_catalog.pg_class', 'made'), { code: '42P01' });
    await assert.rejects(sql('SHOW CREATE TABLE nowhere.public.t'), { code: '3D000' });
    await sql('CREATE ROLE onlooker LOGIN', 'made');
    const asOnlooker = () =>
      daemon.query('SHOW CREATE TABLE parent', { cluster: 'main', database: 'made', user: 'onlooker' });
    await assert.rejects(asOnlooker(), { code: '42501', message: 'permission denied for table parent' });
    await sql('GRANT INSERT (note) ON parent TO onlooker', 'made');
    assert.equal((await asOnlooker()).length, 1);
  });

  test('are shown with all their objects, what makes them, and whose they are', async () => {
    const rows = await sql(`SHOW BACKUP SCHEMAS FROM LATEST IN 'nodelocal://1/table' WITH privileges`);
    // Whoever reads for a backup holds something for as long.
    assert.ok(rows.every((row) => !/TO atoll_/.test(String(row['privileges']))));
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
  });

  test('refuse what contradicts itself', async () => {
    const from = `FROM LATEST IN 'nodelocal://1/database'`;
    await sql(['CREATE DATABASE shut', 'ALTER DATABASE shut ALLOW_CONNECTIONS false']);
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
      [`RESTORE DATABASE origin ${from} WITH new_db_name = ''`, '42602', /cannot be the name of a database/],
      [
        `RESTORE TABLE origin.app.owner ${from} WITH into_db = 'template1'`,
        '22023',
        /database "template1" belongs to the virtual cluster itself/,
      ],
      [`RESTORE TABLE origin.app.owner ${from} WITH into_db = 'nowhere'`, '3D000', /"nowhere"/],
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
        `BACKUP TABLE shop.customers, shop.another_table INTO LATEST IN 'nodelocal://1/table'`,
        '55000',
        /previous backup does not contain table "defaultdb.shop.another_table"/,
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
        `BACKUP TABLE nowhere INTO 'nodelocal://1/nothing'`,
        '42P01',
        /relation "public.nowhere" does not exist/,
      ],
      [`BACKUP nowhere.* INTO 'nodelocal://1/nothing'`, '42P01', /there is no schema "nowhere"/],
      [
        `BACKUP DATABASE shut INTO 'nodelocal://1/nothing'`,
        '55000',
        /^database "shut" is not currently accepting connections$/,
      ],
    ];
    for (const [statement, code, message] of refusals) {
      await assert.rejects(sql(statement), { code, message }, statement);
    }
    // Nothing was written for it, not even whose the collection is.
    await assert.rejects(stat(join(daemon.store, 'extern', 'nothing')), { code: 'ENOENT' });
    assert.deepEqual(await leftOvers(), []);
  });

  test('are tried before they have succeeded, when asked to', async () => {
    const [proved] = await sql(`BACKUP DATABASE shop, origin INTO 'nodelocal://1/proved' WITH verify`);
    assert.equal(proved?.['status'], 'succeeded');
    assert.ok(Number(proved['rows']) > 450);
    await sql(['CREATE SCHEMA tried', 'CREATE TABLE tried.parent (id int PRIMARY KEY)']);
    await sql([
      'CREATE TABLE tried.child (id int REFERENCES tried.parent)',
      'INSERT INTO tried.parent VALUES (1)',
      'INSERT INTO tried.child VALUES (1)',
    ]);
    await sql(`BACKUP TABLE tried.child INTO 'nodelocal://1/proved-table' WITH verify`);
    await sql(`BACKUP TABLE tried.child INTO 'nodelocal://1/proved-history' WITH verify, revision_history`);
    // It can be written, but not restored: what its check says now is not true of the rows that are there.
    await sql(['CREATE DATABASE broken']);
    await sql(
      [
        `CREATE FUNCTION is_fine(n int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'`,
        'CREATE TABLE checked (id int CHECK (is_fine(id)))',
        'INSERT INTO checked VALUES (1)',
        `CREATE OR REPLACE FUNCTION is_fine(n int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT n > 1'`,
      ],
      'broken',
    );
    await assert.rejects(sql(`BACKUP DATABASE broken INTO 'nodelocal://1/broken' WITH verify`), {
      code: 'XX001',
      message: /was written, but a trial restore of it failed: .*checked/,
    });
    assert.deepEqual(await sql(`SELECT datname FROM pg_database WHERE datname LIKE 'atoll_verify%'`), []);
    assert.deepEqual(await leftOvers(), []);
  });

  test('tell what a restore would do, and do nothing', async () => {
    const jobs = () => sql(`SELECT count(*)::int AS n FROM [SHOW JOBS] WHERE job_type = 'RESTORE'`);
    const before = await jobs();
    const dry = async (targets: string, from: string) =>
      (
        await sql(
          `RESTORE ${targets} FROM LATEST IN 'nodelocal://1/${from}' WITH dry_run, into_db = 'postgres'`,
        )
      )[0];
    const table = await dry('TABLE shop.customers', 'table');
    assert.deepEqual(
      [
        table?.['backup_type'],
        table?.['databases'],
        table?.['tables'],
        table?.['rows'],
        table?.['bytes_to_replay'],
      ],
      ['full', '0', '1', '1000', '0'],
    );
    assert.ok(Number(table?.['bytes_to_write']) > 10_000 && Number(table?.['estimated_seconds']) > 0);
    const [database] = await sql(
      `RESTORE DATABASE origin FROM LATEST IN 'nodelocal://1/database' WITH new_db_name = 'other', dry_run`,
    );
    assert.equal(database?.['databases'], '1');
    assert.ok(Number(database['tables']) > 10);
    // Whatever a restore refuses is refused, out of backups of everything as well, and before there is a job.
    await sql(`BACKUP INTO 'nodelocal://1/everything'`);
    for (const collection of ['table', 'everything']) {
      for (const option of ['', ' WITH dry_run']) {
        await assert.rejects(
          sql(`RESTORE TABLE shop.customers FROM LATEST IN 'nodelocal://1/${collection}'${option}`),
          { code: '42P07', message: 'relation "shop.customers" already exists in database "defaultdb"' },
        );
      }
    }
    assert.deepEqual(await jobs(), before);
    assert.ok(Number((await dry('TABLE shop.customers', 'everything'))?.['bytes_to_replay']) > 0);
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

  test('read again only what has changed', async () => {
    await sql(['CREATE DATABASE growing']);
    await sql(
      [
        'CREATE TABLE big (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off)',
        'INSERT INTO big SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 60000) n',
        // Pages are marked when they are looked at first, and so change. VACUUM leaves that where somebody has an old snapshot.
        'VACUUM (FREEZE) big',
        'SELECT count(*) FROM big',
        'CREATE TABLE open_ended (id int)',
        "CREATE TYPE mood AS ENUM ('low', 'high')",
        'CREATE TABLE moods (mood mood)',
        "INSERT INTO moods VALUES ('low')",
        'CREATE UNLOGGED TABLE quick (id int)',
      ],
      'growing',
    );
    // Written before the backup begins, and committed after it: the log of later does not tell of it.
    const writer = await daemon.connect({ cluster: 'main', database: 'growing' });
    await writer.query('BEGIN');
    await writer.query('INSERT INTO open_ended SELECT generate_series(1, 10)');
    await sql(`BACKUP DATABASE growing INTO 'nodelocal://1/growing'`);
    await writer.query('COMMIT');
    await writer.end();
    const states: unknown[] = [];
    const digest = async (database: string) =>
      sql(
        `SELECT (SELECT md5(string_agg(b::text, ',' ORDER BY id)) FROM big b) AS big, (SELECT count(*) FROM big) AS n,
          (SELECT count(*) FROM open_ended) AS open_ended, (SELECT string_agg(mood::text, ',') FROM moods) AS moods,
          (SELECT count(*) FROM quick) AS quick`,
        database,
      );
    const changes = [
      ['UPDATE big SET note = note || 1 WHERE id = 5', 'INSERT INTO quick SELECT generate_series(1, 5)'],
      ['DELETE FROM big WHERE id > 59990', "ALTER TYPE mood RENAME VALUE 'low' TO 'deep'"],
      ['INSERT INTO big SELECT n FROM generate_series(70000, 70010) n'],
      ['VACUUM FULL big', 'TRUNCATE open_ended'],
    ];
    const ends: unknown[] = [];
    for (const statements of changes) {
      await sql(statements, 'growing');
      const [backup] = await sql(`BACKUP DATABASE growing INTO LATEST IN 'nodelocal://1/growing'`);
      states.push(await digest('growing'));
      const [last] = await sql(
        `SELECT max(end_time)::text AS at FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/growing']`,
      );
      ends.push(last?.['at']);
      assert.equal(backup?.['status'], 'succeeded');
    }
    const sizes = await packBytes('growing');
    const shares = sizes.map((bytes) => bytes / (sizes[0] ?? 0));
    assert.ok((shares[1] ?? 1) < 0.3, `a changed row: ${shares.join()}`);
    assert.ok((shares[2] ?? 0) > 0.9, `another label, which all rows may hold: ${shares.join()}`);
    assert.ok((shares[3] ?? 1) < 0.3, `appended rows: ${shares.join()}`);
    for (const [index, at] of ends.entries()) {
      await sql(
        `RESTORE DATABASE growing FROM LATEST IN 'nodelocal://1/growing' AS OF SYSTEM TIME '${String(at)}' WITH new_db_name = 'grown_${index}'`,
      );
      assert.deepEqual(await digest(`grown_${index}`), states[index], `state ${index}`);
    }
  });

  /** Of the packs of each backup of a chain, the full one's first. */
  async function packBytes(collection: string): Promise<readonly number[]> {
    const folder = join(daemon.store, 'extern', collection);
    const sizes = new Map<string, number>();
    for (const name of (await filesBelow(folder)).toSorted()) {
      const backup = /^(.+)\/data\/[^/]+\.pack$/.exec(name)?.[1];
      if (backup === undefined) continue;
      sizes.set(backup, (sizes.get(backup) ?? 0) + (await stat(join(folder, name))).size);
    }
    return [...sizes].toSorted(([left], [right]) => (left < right ? -1 : 1)).map(([, bytes]) => bytes);
  }

  test('leave nothing of a restore that is cancelled, and end one that was cut off', async () => {
    await sql(['CREATE DATABASE gated']);
    await sql(
      [
        `CREATE FUNCTION gate(n int) RETURNS bool LANGUAGE plpgsql AS
          'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN true; END'`,
        'CREATE SCHEMA made',
        'CREATE TABLE made.gated (id int CHECK (public.gate(id)))',
        'INSERT INTO made.gated SELECT generate_series(1, 500)',
      ],
      'gated',
    );
    await sql(`BACKUP TABLE made.gated INTO 'nodelocal://1/gated'`, 'gated');
    await sql(['DROP SCHEMA made CASCADE'], 'gated');
    const begin = async () => {
      const holder = await daemon.connect({ cluster: 'main', database: 'gated' });
      await holder.query('SELECT pg_advisory_lock(42)');
      const [{ job_id: id } = {}] = await sql(
        `RESTORE TABLE made.gated FROM LATEST IN 'nodelocal://1/gated' WITH detached`,
        'gated',
      );
      await waitFor('the restore to wait for the gate', async () => {
        const waiting = await sql(`SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`);
        return waiting.length > 0;
      });
      return { holder, id: String(id) };
    };
    const cancelled = await begin();
    await sql(`CANCEL JOB ${cancelled.id}`);
    await sql(`SELECT * FROM [SHOW JOB WHEN COMPLETE ${cancelled.id}]`);
    await cancelled.holder.end();
    assert.deepEqual(await sql(`SELECT nspname FROM pg_namespace WHERE nspname = 'made'`, 'gated'), []);
    assert.deepEqual(await leftOvers(), []);

    const cut = await begin();
    await daemon.kill();
    await cut.holder.end().catch(() => undefined);
    await daemon.startAgain();
    const [job] = await sql(`SELECT status FROM [SHOW JOB WHEN COMPLETE ${cut.id}]`);
    assert.equal(job?.['status'], 'succeeded');
    assert.deepEqual(await sql('SELECT count(*)::int AS n FROM made.gated', 'gated'), [{ n: 500 }]);
    assert.deepEqual(await leftOvers(), []);
  });

  test('are restored from where a job was paused: databases that are complete are not made again', async () => {
    await sql(['CREATE DATABASE quick_one', 'CREATE DATABASE slow_one']);
    await sql('CREATE TABLE t AS SELECT generate_series(1, 100) AS id', 'quick_one');
    await sql(
      [
        // Whoever restores it waits for as long as there is a database of that name.
        `CREATE FUNCTION waits(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
          WHILE current_setting('application_name') = 'atoll copy' AND EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = 'hold')
            LOOP PERFORM pg_catalog.pg_sleep(0.05); END LOOP; RETURN n; END$$`,
        'CREATE TABLE patient AS SELECT 1 AS n',
        'CREATE INDEX ON patient (waits(n))',
      ],
      'slow_one',
    );
    await sql(`BACKUP DATABASE quick_one, slow_one INTO 'nodelocal://1/pair'`);
    await sql(['DROP DATABASE quick_one', 'DROP DATABASE slow_one', 'CREATE DATABASE hold']);
    const [{ job_id: id } = {}] = await sql(
      `RESTORE DATABASE quick_one, slow_one FROM LATEST IN 'nodelocal://1/pair' WITH detached`,
    );
    await waitFor('the second database to wait', async () => {
      const waiting = await sql(
        `SELECT FROM pg_stat_activity WHERE application_name = 'atoll copy' AND query ILIKE 'create index%patient%' AND state = 'active'`,
      );
      return waiting.length > 0;
    });
    const oidOf = async (like: string) =>
      (await sql(`SELECT oid FROM pg_database WHERE datname LIKE '${like}'`))[0]?.['oid'];
    const first = await oidOf('atoll\\_restore\\_%\\_0');
    assert.ok(first !== undefined);
    await sql(`PAUSE JOB ${String(id)}`);
    await waitFor('the job to be paused', async () => {
      const [job] = await sql(`SELECT status FROM [SHOW JOB ${String(id)}]`);
      return job?.['status'] === 'paused';
    });
    await sql(['DROP DATABASE hold', `RESUME JOB ${String(id)}`]);
    const [job] = await sql(`SELECT status FROM [SHOW JOB WHEN COMPLETE ${String(id)}]`);
    assert.equal(job?.['status'], 'succeeded');
    assert.equal(await oidOf('quick\\_one'), first, 'it is the one that was made before the pause');
    assert.deepEqual(await sql('SELECT count(*)::int AS n FROM t', 'quick_one'), [{ n: 100 }]);
    assert.deepEqual(await sql('SELECT waits(n) AS n FROM patient', 'slow_one'), [{ n: 1 }]);
    assert.deepEqual(await leftOvers(), []);
  });

  test('ask for the privileges of the documents, and run nothing with more', async () => {
    await sql([
      'CREATE DATABASE granted',
      'CREATE ROLE clerk LOGIN',
      'GRANT SYSTEM EXTERNALIOIMPLICITACCESS TO clerk',
      'REVOKE CREATE ON DATABASE granted FROM PUBLIC',
    ]);
    await sql(
      [
        'CREATE SCHEMA kept',
        'CREATE TABLE kept.theirs (secret text)',
        `INSERT INTO kept.theirs VALUES ('unread')`,
        // Tries, when it is restored, to read what only root may.
        `CREATE FUNCTION kept.peek(n int) RETURNS bool LANGUAGE plpgsql AS
          'BEGIN IF has_table_privilege(''kept.theirs'', ''SELECT'') THEN RAISE ''peeked''; END IF; RETURN true; END'`,
        'CREATE TABLE kept.ours (id int)',
        'INSERT INTO kept.ours SELECT generate_series(1, 10)',
        'ALTER TABLE kept.ours ADD CHECK (kept.peek(id)) NOT VALID',
      ],
      'granted',
    );
    const clerk = (text: string) =>
      daemon.query(text, { cluster: 'main', database: 'granted', user: 'clerk' });
    const take = `BACKUP TABLE kept.ours INTO 'nodelocal://1/granted'`;
    await assert.rejects(clerk(take), { code: '42501' });
    await sql(['GRANT BACKUP ON TABLE kept.ours TO clerk'], 'granted');
    await clerk(take);
    await assert.rejects(clerk(`BACKUP TABLE kept.theirs INTO 'nodelocal://1/granted-not'`), {
      code: '42501',
    });
    await assert.rejects(clerk(`BACKUP DATABASE granted INTO 'nodelocal://1/granted-not'`), {
      code: '42501',
    });

    await sql(['DROP TABLE kept.ours'], 'granted');
    const give = `RESTORE TABLE kept.ours FROM LATEST IN 'nodelocal://1/granted'`;
    await assert.rejects(clerk(give), { code: '42501' });
    await sql(['GRANT RESTORE ON DATABASE granted TO clerk'], 'granted');
    const [restored] = await clerk(give);
    assert.equal(Number(restored?.['rows']), 10);
    const [owner] = await sql(
      `SELECT tableowner, has_schema_privilege('clerk', 'kept', 'CREATE') AS schema, has_database_privilege('clerk', 'granted', 'CREATE') AS database
        FROM pg_tables WHERE tablename = 'ours'`,
      'granted',
    );
    assert.deepEqual(owner, { tableowner: 'clerk', schema: false, database: false });
    await assert.rejects(
      clerk(`RESTORE DATABASE granted FROM LATEST IN 'nodelocal://1/database' WITH new_db_name = 'x'`),
      {
        code: '42501',
      },
    );
    assert.deepEqual(await leftOvers(), []);
  });

  /** Roles and databases that only a copy under way may have. */
  async function leftOvers() {
    return sql(`SELECT rolname AS name FROM pg_roles WHERE rolname LIKE 'atoll_copy%'
      UNION ALL SELECT datname FROM pg_database WHERE datname LIKE 'atoll_restore%'`);
  }
});

describe('a restore of tables whose worker dies when all is made', () => {
  test('finds that out, and is done', async () => {
    await using daemon = await TestDaemon.start({
      environment: { ATOLL_TEST_FAULT_POINT: 'objects.committed' },
    });
    const sql = (text: string | readonly string[]) => daemon.query(text, { cluster: 'main' });
    await sql([
      `SET CLUSTER SETTING jobs.registry.retry.initial_delay = '10ms'`,
      'CREATE TABLE t AS SELECT generate_series(1, 100) AS id',
      `BACKUP TABLE t INTO 'nodelocal://1/t'`,
      'DROP TABLE t',
    ]);
    const [restored] = await sql(`RESTORE TABLE t FROM LATEST IN 'nodelocal://1/t'`);
    assert.deepEqual([restored?.['status'], Number(restored?.['rows'])], ['succeeded', 100]);
    assert.deepEqual(await sql('SELECT count(*)::int AS n FROM t'), [{ n: 100 }]);
    assert.deepEqual(await sql(`SELECT rolname FROM pg_roles WHERE rolname LIKE 'atoll_copy%'`), []);
  });
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
