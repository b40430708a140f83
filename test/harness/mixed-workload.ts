import type { BareEngine } from './bare-engine.ts';

/** Settings under which everything that the workload does is possible and logged as on our instances. */
export const MIXED_WORKLOAD_SETTINGS = {
  wal_level: 'logical',
  summarize_wal: 'on',
  max_prepared_transactions: 10,
  autovacuum: 'off',
  max_wal_size: '1GB',
  // The workload says where checkpoints are.
  checkpoint_timeout: '1h',
} as const;

/** A number that stands for `seed`, evenly spread below `below`. */
export function spread(seed: number, below: number): number {
  const mixed = Math.imul(seed ^ (seed >>> 15), 0x2c1b_3c6d);
  return ((mixed ^ (mixed >>> 12)) >>> 0) % below;
}

/** Tables, indexes of every kind, extensions: what `changeMixed` changes. */
export async function createMixed(engine: BareEngine): Promise<void> {
  await engine.use('postgres', async (client) => {
    await client.query(`
      CREATE EXTENSION pg_walinspect; CREATE EXTENSION pageinspect; CREATE EXTENSION pg_visibility; CREATE EXTENSION bloom;
      CREATE TABLE account (id int PRIMARY KEY, balance int, filler text, place point, tags int[], span int4range);
      INSERT INTO account SELECT i, i, repeat('x', 50), point(i, i % 7), ARRAY[i % 10, i % 13], int4range(i, i + 5)
        FROM generate_series(1, 3000) i;
      CREATE INDEX account_hash ON account USING hash (balance);
      CREATE INDEX account_gist ON account USING gist (place);
      CREATE INDEX account_spgist ON account USING spgist (place);
      CREATE INDEX account_gin ON account USING gin (tags);
      CREATE INDEX account_brin ON account USING brin (id) WITH (pages_per_range = 4, autosummarize = on);
      CREATE INDEX account_bloom ON account USING bloom (id, balance);
      CREATE TABLE document (id int, body text);
      ALTER TABLE document ALTER body SET STORAGE EXTERNAL;
      CREATE TABLE doomed AS SELECT i, md5(i::text) FROM generate_series(1, 2000) i;
      CREATE TABLE shrinking AS SELECT i, repeat('y', 100) AS filler FROM generate_series(1, 3000) i;
      CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, filler text);
      INSERT INTO unlogged SELECT i, 'u' FROM generate_series(1, 500) i;
      CREATE SEQUENCE counter;
      CREATE MATERIALIZED VIEW summary AS SELECT balance % 10 AS kind, count(*) FROM account GROUP BY 1;
      CREATE TABLE parted (id int, filler text) PARTITION BY RANGE (id);
      CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (1000);
      CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (1000) TO (2000);
    `);
  });
}

/** One round of everything that leaves its mark in the log; rounds differ by their number. */
export async function changeMixed(engine: BareEngine, round: number): Promise<void> {
  await engine.use('postgres', async (client) => {
    const base = round * 10_000;
    const query = (text: string) => client.query(text);
    await query(`INSERT INTO account SELECT i, i, repeat('z', 40), point(i, i % 5), ARRAY[i % 11], int4range(i, i + 9)
      FROM generate_series(${base + 10_000}, ${base + 10_400 + spread(round, 300)}) i`);
    await query(`UPDATE account SET balance = balance + 1, tags = tags || ${round}, place = point(balance, 3)
      WHERE id % 37 = ${spread(round + 7, 37)}`);
    await query(`DELETE FROM account WHERE id % 41 = ${spread(round + 3, 41)}`);
    await query(`INSERT INTO document SELECT i, repeat(md5(i::text), ${2000 + spread(round, 3000)})
      FROM generate_series(${base}, ${base + 4}) i`);
    await query(`INSERT INTO parted SELECT i, 'p' FROM generate_series(${spread(round, 500)}, 1600, 7) i`);
    await query(`SELECT nextval('counter') FROM generate_series(1, 100)`);
    await query('REFRESH MATERIALIZED VIEW summary');
    await subtransactions(query, base);
    await rolledBack(query, base);
    await preparedTransactions(query, base);
    await query(`CREATE TABLE made_${round} AS SELECT i, md5(i::text) FROM generate_series(1, 1500) i`);
    await query(`CREATE INDEX ON made_${round} (md5)`);
    await query(`DROP TABLE IF EXISTS "made_${round - 2}"`);
    await query(`TRUNCATE doomed; INSERT INTO doomed SELECT i, 'd' FROM generate_series(1, 700) i`);
    // Only an empty end of the file is given back.
    await query(`DELETE FROM shrinking WHERE i > ${Math.max(3000 - 400 * (round + 1), 200)}`);
    await query('VACUUM (TRUNCATE) shrinking');
    await query(
      `INSERT INTO shrinking SELECT i, repeat('w', 60) FROM generate_series(1, ${spread(round, 200)}) i`,
    );
    await query(`INSERT INTO unlogged SELECT i, 'v' FROM generate_series(${base + 1000}, ${base + 1100}) i`);
    await query(round % 2 === 0 ? 'VACUUM FREEZE account' : 'VACUUM ANALYZE');
    if (round % 3 === 1) await query('CLUSTER account USING account_pkey');
    if (round % 3 === 2) await query('REINDEX TABLE account');
    await query(`CREATE UNLOGGED TABLE unlogged_${round} (id int PRIMARY KEY)`);
    await query(`SELECT pg_logical_emit_message(true, 'test', repeat('m', ${spread(round, 100_000)}))`);
    await query(`CREATE DATABASE copied_${round} STRATEGY file_copy`);
    await query(`CREATE DATABASE logged_${round} STRATEGY wal_log`);
    await query(`DROP DATABASE IF EXISTS "copied_${round - 1}"`);
    if (round % 2 === 1) await query('SELECT pg_switch_wal()');
    await query('SELECT count(*) FROM account');
  });
  await multixacts(engine, round);
  await engine.use(`copied_${round}`, (client) =>
    client.query(`CREATE TABLE inside AS SELECT i FROM generate_series(1, 500) i`),
  );
}

type Query = (text: string) => Promise<unknown>;

async function subtransactions(query: Query, base: number): Promise<void> {
  await query('BEGIN');
  for (let index = 0; index < 70; index++) {
    await query(`SAVEPOINT s; INSERT INTO account (id) VALUES (${base + 5000 + index})`);
    await query(index % 10 === 9 ? 'ROLLBACK TO s' : 'RELEASE s');
  }
  await query('COMMIT');
}

async function rolledBack(query: Query, base: number): Promise<void> {
  await query(`BEGIN; CREATE TABLE never AS SELECT i FROM generate_series(1, 900) i;
    INSERT INTO account (id) VALUES (${base + 6000}); ROLLBACK`);
}

async function preparedTransactions(query: Query, base: number): Promise<void> {
  await query(`BEGIN; INSERT INTO account (id) VALUES (${base + 6001}); SAVEPOINT one; DELETE FROM doomed; SAVEPOINT two;
    INSERT INTO account (id) VALUES (${base + 6002}); DROP TABLE IF EXISTS "made_${base / 10_000 - 3}"; PREPARE TRANSACTION 'first ${base}'`);
  await query(`BEGIN; CREATE TABLE unborn_${base} (id int); PREPARE TRANSACTION 'second ${base}'`);
  await query(`COMMIT PREPARED 'first ${base}'`);
  await query(`ROLLBACK PREPARED 'second ${base}'`);
}

/** Several transactions lock the same rows. */
async function multixacts(engine: BareEngine, round: number): Promise<void> {
  const clients = await Promise.all([1, 2, 3].map(() => engine.connect('postgres')));
  for (const client of clients) {
    await client.query('BEGIN');
    await client.query(`SELECT id FROM account WHERE id % 101 = ${spread(round, 101)} FOR KEY SHARE`);
  }
  await clients[0]?.query(`UPDATE account SET balance = balance + 1 WHERE id % 101 = ${spread(round, 101)}`);
  for (const client of clients) {
    await client.query('COMMIT');
    await client.end();
  }
}
