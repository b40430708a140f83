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
