/** Backups of databases and tables as they were at a moment: as a user meets them. */
import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';
import { waitFor } from '../harness/wait.ts';

describe('backups of databases and tables at a moment', () => {
  let daemon: TestDaemon;
  const sql = (text: string | readonly string[], database = 'defaultdb') =>
    daemon.query(text, { cluster: 'main', database });

  async function refusal(text: string, database?: string) {
    return sql(text, database).then(
      () => assert.fail(`${text} was not refused`),
      (error: unknown) => error as { code: string; message: string; hint?: string }, // What node-postgres throws.
    );
  }

  const now = async () => String((await sql('SELECT clock_timestamp()::text AS at'))[0]?.['at']);

  const endOf = async (collection: string) =>
    (
      await sql(
        `SELECT max(end_time)::text AS at FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/${collection}']`,
      )
    )[0]?.['at'];

  /** What only a backup that goes on may have. */
  async function leftovers(): Promise<readonly string[]> {
    const rows = await sql(
      `SELECT rolname AS name FROM pg_roles WHERE rolname ~ '^atoll_(copy|check|reader_)'`,
    );
    const copies = await readdir(join(daemon.store, 'vc', '3'));
    return [...rows.map(({ name }) => String(name)), ...copies.filter((name) => name.endsWith('.scratch'))];
  }

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

  before(async () => {
    daemon = await TestDaemon.start();
    await sql('CREATE DATABASE shop');
    await sql(
      [
        'CREATE TABLE orders (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off)',
        `INSERT INTO orders SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 20000) n`,
        'VACUUM (FREEZE) orders',
        'CREATE TABLE stage (id int PRIMARY KEY, note text)',
        `INSERT INTO stage VALUES (1, 'staged')`,
        'CREATE TABLE quiet (id int)',
        'INSERT INTO quiet VALUES (1)',
      ],
      'shop',
    );
    // A moment can be had from the first base on.
    await sql(`BACKUP INTO 'nodelocal://1/first-base' WITH revision_history`);
  });
  after(() => daemon?.[Symbol.asyncDispose]());

  const digest = async (database: string, orders = 'orders') =>
    (
      await sql(
        `SELECT (SELECT count(*)::int FROM ${orders}) AS rows,
          (SELECT coalesce(sum(hashtextextended(o::text, 0)), 0)::text FROM ${orders} o) AS content,
          (SELECT string_agg(note, ',' ORDER BY id) FROM stage) AS stage, (SELECT string_agg(id::text, ',' ORDER BY id) FROM quiet) AS quiet`,
        database,
      )
    )[0];

  test('hold what there was, under the names it had, and go on from one moment to the next', async () => {
    const writer = await daemon.connect({ cluster: 'main', database: 'shop' });
    await writer.query('BEGIN');
    await writer.query('INSERT INTO quiet VALUES (2)');
    const expected = await digest('shop');
    const first = await now();
    await sql(["UPDATE stage SET note = 'changed'"], 'shop');
    const [full] = await sql(`BACKUP DATABASE shop INTO 'nodelocal://1/shop' AS OF SYSTEM TIME '${first}'`);
    assert.equal(full?.['status'], 'succeeded');
    assert.equal(Number(full['rows']), 20_002);
    assert.equal(await endOf('shop'), first);
    // Written before the first moment, committed after it.
    await writer.query('COMMIT');
    await writer.end();
    await sql('DELETE FROM orders WHERE id = 20000', 'shop');
    const later = await digest('shop');
    const second = await now();
    await sql(['ALTER TABLE orders RENAME TO orders_old', 'DROP TABLE quiet'], 'shop');
    await sql(`BACKUP DATABASE shop INTO LATEST IN 'nodelocal://1/shop' AS OF SYSTEM TIME '${second}'`);
    assert.equal(await endOf('shop'), second);
    // The present comes on top of a moment.
    await sql(`BACKUP DATABASE shop INTO LATEST IN 'nodelocal://1/shop'`);
    const sizes = await packBytes('shop');
    for (const bytes of sizes.slice(1)) {
      assert.ok(bytes < (sizes[0] ?? 0) / 2, `one of five ranges has changed: ${sizes.join()}`);
    }
    const states = [
      [first, 'at_first', expected],
      [second, 'at_second', later],
    ] as const;
    for (const [at, database, state] of states) {
      await sql(
        `RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/shop' AS OF SYSTEM TIME '${at}' WITH new_db_name = '${database}'`,
      );
      assert.deepEqual(await digest(database), state);
    }
    await sql(`RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/shop' WITH new_db_name = 'at_last'`);
    assert.deepEqual(await sql('SELECT count(*)::int AS n FROM orders_old', 'at_last'), [{ n: 19_999 }]);
    // What was dropped since is found, for it was there then.
    await sql(
      `BACKUP TABLE shop.public.quiet, shop.public.orders INTO 'nodelocal://1/dropped' AS OF SYSTEM TIME '${second}'`,
    );
    const [restored] = await sql(
      `RESTORE TABLE shop.public.quiet FROM LATEST IN 'nodelocal://1/dropped'`,
      'shop',
    );
    assert.equal(Number(restored?.['rows']), 2);
    assert.deepEqual(await leftovers(), []);
  });

  test('bring back a database that was dropped', async () => {
    await sql('CREATE DATABASE gone');
    await sql('CREATE TABLE t AS SELECT generate_series(1, 10) AS id', 'gone');
    const at = await now();
    // DROP DATABASE takes the files away before it commits: a moment is told from it by a commit in between.
    await sql(['CREATE TABLE between_them (a int)', 'DROP DATABASE gone']);
    await sql(`BACKUP DATABASE gone INTO 'nodelocal://1/gone' AS OF SYSTEM TIME '${at}'`);
    await sql(`RESTORE DATABASE gone FROM LATEST IN 'nodelocal://1/gone'`);
    assert.deepEqual(await sql('SELECT count(*)::int AS n FROM t', 'gone'), [{ n: 10 }]);
    assert.equal((await refusal(`BACKUP DATABASE nowhere INTO 'nodelocal://1/none'`)).code, '3D000');
    const never = await refusal(
      `BACKUP DATABASE nowhere INTO 'nodelocal://1/none' AS OF SYSTEM TIME '${at}'`,
    );
    assert.equal(never.code, '3D000');
    assert.match(never.message, /database "nowhere" does not exist in the virtual cluster at/);
  });

  test('take a moment in every form, and refuse what is none of the timeline', async () => {
    const [decimal] = await sql(
      `SELECT ((extract(epoch FROM clock_timestamp()) * 1000000)::int8 * 1000)::text || '.0000000000' AS at`,
    );
    await sql(
      `BACKUP TABLE stage INTO 'nodelocal://1/decimal' AS OF SYSTEM TIME ${String(decimal?.['at'])}`,
      'shop',
    );
    const client = await daemon.connect({ cluster: 'main', database: 'shop' });
    await client.query(`BACKUP TABLE stage INTO 'nodelocal://1/interval' AS OF SYSTEM TIME $1`, ['-10ms']);
    await client.end();
    const [late] = await sql(
      `SELECT max(end_time) < clock_timestamp() - interval '10 ms' AS is_late FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/interval']`,
    );
    assert.equal(late?.['is_late'], true);
    const at = await now();
    const none = `INTO 'nodelocal://1/none' AS OF SYSTEM TIME`;
    for (const [statement, code, message] of [
      [`BACKUP DATABASE shop ${none} '-10h'`, '22023', /the window is from/],
      [`BACKUP DATABASE shop ${none} '2999-01-01'`, '22023', /cannot specify timestamp in the future/],
      [`BACKUP TABLE stage ${none} 'soon'`, '22007', /soon/],
      [
        `BACKUP TABLE nowhere ${none} '${at}'`,
        '42P01',
        /table "public.nowhere" does not exist in database "shop" of the virtual cluster at/,
      ],
      [
        `BACKUP DATABASE shop INTO LATEST IN 'nodelocal://1/shop' AS OF SYSTEM TIME '-1h'`,
        '22023',
        /the window is from|cannot build on backup/,
      ],
    ] as const) {
      const error = await refusal(statement, 'shop');
      assert.equal(error.code, code, `${statement}: ${error.message}`);
      assert.match(error.message, message);
    }
    assert.deepEqual(await sql(`SHOW BACKUPS IN 'nodelocal://1/none'`), []);
    assert.deepEqual(await leftovers(), []);
  });

  test('with revision history lead to every moment, and hold files of nobody else', async () => {
    await sql(['CREATE DATABASE ledgers']);
    await sql(
      ['CREATE TABLE ledger (id serial PRIMARY KEY, note text)', `INSERT INTO ledger (note) VALUES ('one')`],
      'ledgers',
    );
    const take = (into: string) =>
      sql(`BACKUP TABLE ledger INTO ${into}'nodelocal://1/ledger' WITH revision_history`, 'ledgers');
    const [full] = await take('');
    assert.equal(full?.['status'], 'succeeded');
    const moments: string[] = [];
    for (const change of [
      `INSERT INTO ledger (note) VALUES ('two')`,
      `UPDATE ledger SET note = upper(note)`,
      'TRUNCATE ledger',
      // Another table bears the name from here on.
      `CREATE TABLE fresh (id serial PRIMARY KEY, note text); INSERT INTO fresh (note) VALUES ('swapped');
       ALTER TABLE ledger RENAME TO ledger_old; ALTER TABLE fresh RENAME TO ledger`,
    ]) {
      await sql(change, 'ledgers');
      moments.push(await now());
    }
    await take('LATEST IN ');
    await sql(`INSERT INTO ledger (note) VALUES ('last')`, 'ledgers');
    await take('LATEST IN ');
    for (const [index, expected] of ['one,two', 'ONE,TWO', null, 'swapped', 'swapped,last'].entries()) {
      await sql(`CREATE DATABASE then_${index}`);
      const at = moments[index];
      const asOf = at === undefined ? '' : ` AS OF SYSTEM TIME '${at}'`;
      await sql(
        `RESTORE TABLE ledgers.public.ledger FROM LATEST IN 'nodelocal://1/ledger'${asOf} WITH into_db = 'then_${index}'`,
      );
      const [row] = await sql(
        `SELECT string_agg(note, ',' ORDER BY id) AS notes FROM ledger`,
        `then_${index}`,
      );
      assert.equal(row?.['notes'], expected, `moment ${index}`);
    }
    const shown =
      await sql(`SELECT object_name, object_type, is_full_cluster, revision_start_time IS NULL AS bare
      FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/ledger' WITH revision_start_time] WHERE object_type = 'table'`);
    assert.deepEqual(
      [...new Set(shown.map((row) => JSON.stringify(row)))],
      [JSON.stringify({ object_name: 'ledger', object_type: 'table', is_full_cluster: false, bare: false })],
    );
    const [whole = 0] = await packBytes('first-base');
    const [part = 0] = await packBytes('ledger');
    assert.ok(part > 0 && part < whole / 2, `${part} of ${whole} bytes`);
    for (const [statement, code, message] of [
      [`RESTORE FROM LATEST IN 'nodelocal://1/ledger'`, '55000', /full cluster RESTORE can only be used/],
      [
        `RESTORE DATABASE ledgers FROM LATEST IN 'nodelocal://1/ledger' WITH new_db_name = 'x'`,
        '55000',
        /does not hold the complete database "ledgers"/,
      ],
      [
        `RESTORE TABLE ledgers.public.ledger_old FROM LATEST IN 'nodelocal://1/ledger'`,
        '42P01',
        /is not in backup/,
      ],
    ] as const) {
      const error = await refusal(statement);
      assert.equal(error.code, code, error.message);
      assert.match(error.message, message);
    }
    // Rows do not go on from files: a backup of another form begins a chain of its own.
    await sql(`BACKUP TABLE ledger INTO LATEST IN 'nodelocal://1/ledger'`, 'ledgers');
    assert.equal((await sql(`SHOW BACKUPS IN 'nodelocal://1/ledger'`)).length, 2);
    await sql(['CREATE ROLE clerk LOGIN', 'GRANT SYSTEM EXTERNALIOIMPLICITACCESS TO clerk']);
    await sql('GRANT BACKUP ON TABLE ledger TO clerk', 'ledgers');
    const asClerk = { cluster: 'main', database: 'ledgers', user: 'clerk' };
    await assert.rejects(
      daemon.query(`BACKUP TABLE ledger INTO 'nodelocal://1/clerk' WITH revision_history`, asClerk),
      { code: '42501', message: /keeps the log of the whole virtual cluster/ },
    );
    assert.deepEqual(await leftovers(), []);
  });

  test('of a schedule are of the time they were due', async () => {
    const [{ schedule_id: id } = {}] = await sql(
      `CREATE SCHEDULE due FOR BACKUP DATABASE shop INTO 'nodelocal://1/due' RECURRING '@daily' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS first_run = 'now'`,
    );
    const job = await waitFor('the scheduled backup', async () => {
      const [first] = await sql(`SELECT job_id, status FROM [SHOW JOBS FOR SCHEDULE ${String(id)}]`);
      return first?.['status'] === 'succeeded' && first['job_id'];
    });
    const [described] = await sql(`SELECT description FROM [SHOW JOB ${String(job)}]`);
    const asOf = /AS OF SYSTEM TIME '([^']+)'/.exec(String(described?.['description']))?.[1];
    assert.ok(asOf !== undefined, JSON.stringify(described));
    const [same] = await sql(
      `SELECT max(end_time) = '${asOf}'::timestamptz AS same FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/due']`,
    );
    assert.equal(same?.['same'], true);
    await sql(`DROP SCHEDULE ${String(id)}`);
  });
});
