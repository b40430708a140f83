/** RESTORE of databases, tables and users out of backups of a whole virtual cluster: as a user meets it. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { EVERYTHING, FINGERPRINT_OF_ROWS } from '../../src/logical-copy/testing-everything.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { waitFor } from '../harness/wait.ts';

const WHOLE = "'nodelocal://1/whole'";

/** Waits in every session that builds its index, for as long as there is a database of that name. */
const SLOW = [
  `CREATE FUNCTION waits(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
    WHILE current_setting('application_name') = 'atoll copy' AND EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = 'hold')
      LOOP PERFORM pg_catalog.pg_sleep(0.05); END LOOP; RETURN n; END$$`,
  'CREATE TABLE patient AS SELECT n FROM generate_series(1, 10) n',
  'CREATE INDEX ON patient (waits(n))',
];

describe('parts of a backup of everything', () => {
  let daemon: TestDaemon;
  const sql = (text: string | readonly string[], database = 'defaultdb', user = 'root') =>
    daemon.query(text, { cluster: 'main', database, user });

  async function refusal(text: string, options: { database?: string; user?: string } = {}) {
    return sql(text, options.database, options.user).then(
      () => assert.fail(`${text} was not refused`),
      (error: unknown) => error as { code: string; message: string; hint?: string }, // What node-postgres throws.
    );
  }

  /** What only a restore that goes on may have. */
  async function leftovers(): Promise<readonly string[]> {
    const rows = await sql(`SELECT rolname AS name FROM pg_roles WHERE rolname ~ '^atoll_(copy|check|reader_)'
      UNION ALL SELECT datname FROM pg_database WHERE datname LIKE 'atoll_restore%'`);
    const copies = await readdir(join(daemon.store, 'vc', '3'));
    const sockets = await readdir(join(daemon.store, 'run'));
    return [
      ...rows.map(({ name }) => String(name)),
      ...copies.filter((name) => name.endsWith('.scratch')),
      ...sockets.filter((name) => name.startsWith('3s')),
    ];
  }

  const digest = async (table: string, database?: string) =>
    (
      await sql(
        `SELECT count(*)::int AS rows, coalesce(sum(hashtextextended(t::text, 0)), 0)::text AS digest FROM ${table} t`,
        database,
      )
    )[0];

  before(async () => {
    daemon = await TestDaemon.start();
    await sql([
      'CREATE DATABASE origin',
      'CREATE DATABASE slow',
      'CREATE DATABASE elsewhere',
      `CREATE ROLE clerk LOGIN PASSWORD 'of the clerk' CONNECTION LIMIT 7 VALID UNTIL '2100-01-01'`,
      'CREATE ROLE clerks',
      'GRANT clerks TO clerk WITH ADMIN OPTION',
      'CREATE SCHEMA shop',
      `CREATE TABLE shop.orders (id serial PRIMARY KEY, note text) PARTITION BY RANGE (id);
       CREATE TABLE shop.first PARTITION OF shop.orders FOR VALUES FROM (0) TO (500);
       CREATE TABLE shop.rest PARTITION OF shop.orders FOR VALUES FROM (500) TO (100000);
       INSERT INTO shop.orders (note) SELECT repeat(md5(n::text), 100) FROM generate_series(1, 1000) n;
       GRANT SELECT ON shop.orders TO clerk`,
      'CREATE TABLE b AS SELECT n, $$old$$ AS note FROM generate_series(1, 3000) n',
      'CREATE TABLE stage AS SELECT n, $$new$$ AS note FROM generate_series(1, 4000) n',
      'CREATE TABLE other AS SELECT n FROM generate_series(1, 1000) n',
    ]);
    await sql([EVERYTHING], 'origin');
    await sql(SLOW, 'slow');
    await sql(`BACKUP INTO ${WHOLE} WITH revision_history`);
  });
  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  test('a database comes back under another name, and belongs to who restored it', async () => {
    const [restored] = await sql(
      `RESTORE DATABASE origin FROM LATEST IN ${WHOLE} WITH new_db_name = 'again'`,
    );
    assert.equal(restored?.['status'], 'succeeded');
    assert.ok(Number(restored['rows']) > 450, String(restored['rows']));
    // What is not logged is in no image.
    await sql('TRUNCATE app.quick', 'origin');
    assert.deepEqual(await sql(FINGERPRINT_OF_ROWS, 'again'), await sql(FINGERPRINT_OF_ROWS, 'origin'));
    const [owner] = await sql(
      `SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = 'again'`,
    );
    assert.equal(owner?.['owner'], 'root');
    const [job] = await sql(
      `SELECT description, status FROM [SHOW JOBS] WHERE job_type = 'RESTORE' AND job_id = ${String(restored['job_id'])}`,
    );
    assert.match(
      String(job?.['description']),
      /^RESTORE DATABASE origin FROM '\/\d{4}\/.* WITH OPTIONS \(new_d/,
    );
    assert.deepEqual(await leftovers(), []);
  });

  test('a table comes back with its partitions and its sequence, without grants', async () => {
    const expected = await digest('shop.orders');
    const [restored] = await sql(`RESTORE shop.* FROM LATEST IN ${WHOLE} WITH into_db = 'elsewhere'`);
    assert.equal(Number(restored?.['rows']), 1000);
    assert.deepEqual(await digest('shop.orders', 'elsewhere'), expected);
    const [facts] = await sql(
      `SELECT nextval('shop.orders_id_seq') > 1000 AS goes_on, relacl IS NULL AS is_bare, relowner::regrole::text AS owner
         FROM pg_class WHERE oid = 'shop.orders'::regclass`,
      'elsewhere',
    );
    assert.deepEqual(facts, { goes_on: true, is_bare: true, owner: 'root' });
    const [tables] = await sql(
      `SELECT string_agg(tablename, ',' ORDER BY tablename) AS names FROM pg_tables WHERE schemaname IN ('public', 'shop')`,
      'elsewhere',
    );
    assert.equal(tables?.['names'], 'first,orders,rest', 'nothing else came along');
    const taken = await refusal(
      `RESTORE TABLE shop.orders FROM LATEST IN ${WHOLE} WITH into_db = 'elsewhere'`,
    );
    assert.equal(taken.code, '42P07');
    assert.deepEqual(await digest('shop.orders', 'elsewhere'), expected);
    assert.deepEqual(await leftovers(), []);
  });

  test('names are those of the moment', async () => {
    const [between] = await sql('SELECT clock_timestamp()::text AS at, count(*) FROM b');
    await sql([
      'UPDATE stage SET note = $$changed$$ WHERE n % 10 = 0',
      'BEGIN',
      'ALTER TABLE b RENAME TO b_old',
      'ALTER TABLE stage RENAME TO b',
      'COMMIT',
      'ALTER TABLE shop.orders DETACH PARTITION shop.first',
    ]);
    const swapped = [await digest('b'), await digest('shop.orders')];
    await sql(`BACKUP INTO LATEST IN ${WHOLE} WITH revision_history`);
    await sql(['CREATE DATABASE before_it', 'CREATE DATABASE after_it']);
    await sql(
      `RESTORE TABLE b FROM LATEST IN ${WHOLE} AS OF SYSTEM TIME '${String(between?.['at'])}' WITH into_db = 'before_it'`,
    );
    assert.deepEqual(await digest('b', 'before_it'), await digest('b_old'));
    await sql(
      `RESTORE TABLE defaultdb.public.b, shop.orders FROM LATEST IN ${WHOLE} WITH into_db = 'after_it'`,
    );
    assert.deepEqual([await digest('b', 'after_it'), await digest('shop.orders', 'after_it')], swapped);
    const unknown = await refusal(
      `RESTORE TABLE b_old FROM LATEST IN ${WHOLE} AS OF SYSTEM TIME '${String(between?.['at'])}' WITH into_db = 'after_it'`,
    );
    assert.equal(unknown.code, '42P01');
    assert.match(
      unknown.message,
      /table "public.b_old" does not exist in database "defaultdb" of the backup/,
    );
    assert.deepEqual(await leftovers(), []);
  });

  test('what cannot be is refused, and changes nothing', async () => {
    for (const [statement, code, message] of [
      [`RESTORE DATABASE origin FROM LATEST IN ${WHOLE}`, '42710', /database "origin" already exists/],
      [
        `RESTORE DATABASE nowhere FROM LATEST IN ${WHOLE}`,
        '3D000',
        /database "nowhere" does not exist in the backup/,
      ],
      [
        `RESTORE TABLE nothing FROM LATEST IN ${WHOLE}`,
        '42P01',
        /table "public.nothing" does not exist in database "defaultdb"/,
      ],
      [
        `RESTORE TABLE other FROM LATEST IN ${WHOLE}`,
        '42P07',
        /"public.other" already exists|"other" already exists/,
      ],
      [
        `RESTORE TABLE other FROM LATEST IN ${WHOLE} WITH into_db = 'nowhere'`,
        '3D000',
        /"nowhere" needs to exist/,
      ],
      ...['other', 'system.users'].map(
        (table) =>
          [
            `RESTORE TABLE ${table} FROM LATEST IN ${WHOLE} WITH into_db = 'system'`,
            '22023',
            /database "system" belongs to the virtual cluster itself/,
          ] as const,
      ),
      ...['', 'x'.repeat(64)].map(
        (name) =>
          [
            `RESTORE DATABASE slow FROM LATEST IN ${WHOLE} WITH new_db_name = '${name}'`,
            '42602',
            /cannot be the name of a database/,
          ] as const,
      ),
      [
        `RESTORE DATABASE origin, slow FROM LATEST IN ${WHOLE} WITH new_db_name = 'x'`,
        '22023',
        /single target database/,
      ],
    ] as const) {
      const refused = await refusal(statement);
      assert.deepEqual(
        [refused.code, message.test(refused.message)],
        [code, true],
        `${statement}: ${refused.message}`,
      );
    }
    assert.deepEqual(await leftovers(), []);
  });

  test('who may restore', async () => {
    await sql([
      'CREATE ROLE part LOGIN',
      'CREATE ROLE whole LOGIN',
      'GRANT SYSTEM RESTORE TO whole',
      'GRANT SYSTEM EXTERNALIOIMPLICITACCESS TO part, whole',
      'CREATE DATABASE granted',
      'GRANT RESTORE ON DATABASE granted TO part',
    ]);
    const table = `RESTORE TABLE other FROM LATEST IN ${WHOLE} WITH into_db = 'granted'`;
    const database = `RESTORE DATABASE slow FROM LATEST IN ${WHOLE} WITH new_db_name = 'of_whole', schema_only, verify_backup_table_data`;
    assert.equal((await refusal(table, { user: 'whole' })).code, '42501');
    assert.equal((await refusal(database, { user: 'part' })).code, '42501');
    assert.equal(
      (await refusal(`RESTORE SYSTEM USERS FROM LATEST IN ${WHOLE}`, { user: 'whole' })).code,
      '42501',
    );
    await sql(table, 'defaultdb', 'part');
    const [definitions] = await sql(database, 'defaultdb', 'whole');
    assert.equal(definitions?.['rows'], '0');
    assert.deepEqual(await digest('patient', 'of_whole'), { rows: 0, digest: '0' });
    const [owner] = await sql(`SELECT tableowner FROM pg_tables WHERE tablename = 'other'`, 'granted');
    assert.equal(owner?.['tableowner'], 'part');
    assert.deepEqual(await leftovers(), []);
  });

  test('users come back with their options and memberships; those that are here stay as they are', async () => {
    await sql([
      'ALTER ROLE root SET work_mem = $$5MB$$',
      'DROP OWNED BY clerk',
      'DROP ROLE clerk',
      'ALTER ROLE clerks LOGIN',
    ]);
    const [restored] = await sql(`RESTORE SYSTEM USERS FROM LATEST IN ${WHOLE}`);
    assert.equal(restored?.['rows'], '1');
    const roles = await sql(`SELECT rolname, rolcanlogin, rolconnlimit, rolvaliduntil::date::text AS until
      FROM pg_roles WHERE rolname LIKE 'clerk%' ORDER BY rolname`);
    assert.deepEqual(roles, [
      { rolname: 'clerk', rolcanlogin: true, rolconnlimit: 7, until: '2100-01-01' },
      { rolname: 'clerks', rolcanlogin: true, rolconnlimit: -1, until: null },
    ]);
    const [member] = await sql(
      `SELECT admin_option FROM pg_auth_members WHERE roleid = 'clerks'::regrole AND member = 'clerk'::regrole`,
    );
    assert.deepEqual(member, { admin_option: true });
    assert.match(await verifierOf('clerk'), /^SCRAM-SHA-256\$/);

    // To look at, they come as rows.
    const rows = `RESTORE system.users, system.role_members FROM LATEST IN ${WHOLE}`;
    assert.equal((await refusal(rows)).code, '22023');
    await sql(`${rows} WITH into_db = 'elsewhere'`);
    assert.deepEqual(
      await sql(
        `SELECT username, "hashedPassword", "isRole" FROM users WHERE username LIKE 'clerk%' ORDER BY 1`,
        'elsewhere',
      ),
      [
        { username: 'clerk', hashedPassword: 'redacted', isRole: false },
        { username: 'clerks', hashedPassword: null, isRole: true },
      ],
    );
    assert.deepEqual(await sql(`SELECT "isAdmin" FROM role_members WHERE member = 'clerk'`, 'elsewhere'), [
      { isAdmin: true },
    ]);
    assert.equal((await refusal(`${rows} WITH into_db = 'elsewhere'`)).code, '42P07');
    assert.equal(
      (await refusal(`RESTORE system.jobs FROM LATEST IN ${WHOLE} WITH into_db = 'elsewhere'`)).code,
      '0A000',
    );
    assert.deepEqual(await leftovers(), []);
  });

  /** As somebody who may use whatever the bootstrap superuser may. */
  async function verifierOf(role: string): Promise<string> {
    const client = new pg.Client({ host: join(daemon.store, 'run', '3'), user: 'atoll', database: 'system' });
    await client.connect();
    try {
      const { rows } = await client.query<{ rolpassword: string }>(
        'SELECT rolpassword FROM pg_authid WHERE rolname = $1',
        [role],
      );
      return rows[0]?.rolpassword ?? '';
    } finally {
      await client.end();
    }
  }

  test('canceled, paused or killed in the midst, it leaves nothing, and goes on', async () => {
    const statement = `RESTORE DATABASE slow FROM LATEST IN ${WHOLE}`;
    const begin = async (name: string) => {
      await sql('CREATE DATABASE hold');
      const [job] = await sql(`${statement} WITH detached, new_db_name = '${name}'`);
      await waitFor('the index to be built', async () => {
        const rows = await sql(
          `SELECT FROM pg_stat_activity WHERE application_name = 'atoll copy' AND query LIKE '%INDEX%'`,
        );
        return rows.length > 0;
      });
      assert.ok((await leftovers()).length >= 3, 'a role, a database and a copy');
      return String(job?.['job_id']);
    };
    const statusOf = async (id: string) => (await sql(`SELECT status FROM [SHOW JOB ${id}]`))[0]?.['status'];
    const until = (id: string, status: string) =>
      waitFor(`job ${id} to be ${status}`, async () => (await statusOf(id)) === status);

    const canceled = await begin('never');
    await sql(`CANCEL JOB ${canceled}`);
    await until(canceled, 'canceled');
    assert.deepEqual(await leftovers(), []);
    await sql('DROP DATABASE hold');

    const paused = await begin('later');
    await sql(`PAUSE JOB ${paused}`);
    await until(paused, 'paused');
    assert.ok(
      (await leftovers()).every((name) => !name.endsWith('.scratch')),
      'no copy waits',
    );
    await sql(['DROP DATABASE hold', `RESUME JOB ${paused}`]);
    await until(paused, 'succeeded');
    assert.deepEqual(await digest('patient', 'later'), await digest('patient', 'slow'));
    assert.deepEqual(await leftovers(), []);

    const killed = await begin('survivor');
    await daemon.kill();
    await daemon.startAgain();
    await waitFor('the virtual cluster to serve', () =>
      sql('DROP DATABASE hold').then(
        () => true,
        () => false,
      ),
    );
    await until(killed, 'succeeded');
    assert.deepEqual(await digest('patient', 'survivor'), await digest('patient', 'slow'));
    assert.deepEqual(await leftovers(), []);
    const names = await sql(
      `SELECT datname FROM pg_database WHERE datname IN ('never', 'later', 'survivor') ORDER BY 1`,
    );
    assert.deepEqual(names, [{ datname: 'later' }, { datname: 'survivor' }]);
  });
});
