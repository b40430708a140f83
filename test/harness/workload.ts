/**
 * Random work of every kind that Postgres keeps in a way of its own, repeatable by its seed. What a database holds is told by
 * `digestDatabase`, so that a copy of an earlier moment can be compared with what was seen then.
 */
import type pg from 'pg';

/** Numbers from a seed: mulberry32. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 to below 1. */
  roll(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.roll() * limit);
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }
}

/** Copied whenever a database is made. */
const PATTERN_DATABASE = 'pattern';
const PATTERN_ROWS = 2000;
const IN_DOUBT_MAX = 4;

const INDEX_KINDS = [
  '(note)',
  '(lower(note), id DESC)',
  'USING hash (id)',
  'USING gin (tags)',
  'USING gist (spot)',
  'USING spgist (spot)',
  'USING brin (id)',
  '(id) INCLUDE (note) WHERE id % 2 = 0',
];

/** One step after the other, each a list of statements; those between BEGIN and COMMIT are one transaction. */
export class Workload {
  readonly #dice: Dice;
  #tables: string[] = [];
  #databases: string[] = [];
  /** Names of transactions that were prepared and not ended. */
  #inDoubt: string[] = [];
  #next = 1;

  constructor({ seed }: { readonly seed: number }) {
    this.#dice = new Dice(seed);
  }

  /** What must be there before the first step. */
  begin(): readonly string[] {
    return [
      'CREATE SEQUENCE counter',
      `CREATE DATABASE ${PATTERN_DATABASE}`,
      'CREATE TABLE grouped (id int, at int) PARTITION BY RANGE (id)',
      'CREATE TABLE grouped_low PARTITION OF grouped FOR VALUES FROM (0) TO (500)',
      'CREATE TABLE grouped_high PARTITION OF grouped FOR VALUES FROM (500) TO (1000)',
      'CREATE UNLOGGED TABLE forgotten (id int PRIMARY KEY)',
      // Nothing else touches it: whoever is in doubt keeps locks.
      'CREATE TABLE doubtful (id int, of text)',
      'CREATE INDEX doubtful_id ON doubtful (id)',
      ...this.#createTable(),
      ...this.#createTable(),
      `CREATE MATERIALIZED VIEW extract AS SELECT id FROM ${this.#tables[0]}`,
    ];
  }

  next(): readonly string[] {
    const table = this.#dice.pick(this.#tables);
    const from = this.#dice.below(2000);
    const count = 50 + this.#dice.below(400);
    const steps: (() => readonly string[])[] = [
      () => [insertRows(table, { from: this.#dice.below(1_000_000), count })],
      () => [
        `UPDATE ${table} SET note = note || 'x', spot = point(id, ${from}) WHERE id % 37 = ${from % 37}`,
      ],
      () => [`DELETE FROM ${table} WHERE id % 23 = ${from % 23}`],
      () => [`INSERT INTO grouped SELECT n % 1000, n FROM generate_series(${from}, ${from + count}) n`],
      () => [
        `UPDATE ${table} SET big = repeat(md5(id::text || '${from}'), 300) WHERE id % 101 = ${from % 101}`,
      ],
      () => ['BEGIN', `TRUNCATE ${table}`, insertRows(table, { from, count }), 'COMMIT'],
      () => ['BEGIN', `UPDATE ${table} SET note = 'never'`, `TRUNCATE grouped`, 'ROLLBACK'],
      () => [
        'BEGIN',
        `SELECT count(*) FROM (SELECT 1 FROM ${table} WHERE id % 11 = 0 FOR KEY SHARE) locked`,
        'SAVEPOINT inner_part',
        `UPDATE ${table} SET note = 'shared' WHERE id % 11 = 0`,
        'COMMIT',
      ],
      () => [`VACUUM ${table}`],
      () => [`VACUUM (FREEZE, ANALYZE) ${table}`],
      () => [`VACUUM FULL ${table}`],
      () => [`CREATE INDEX index_${this.#next++} ON ${table} ${this.#dice.pick(INDEX_KINDS)}`],
      () => [`REINDEX TABLE ${table}`],
      () => [`ALTER TABLE ${table} ADD COLUMN extra_${this.#next++} int DEFAULT ${from}`],
      // The first is read by the materialized view.
      () => [`ALTER TABLE ${this.#tables.at(-1)} ALTER COLUMN id TYPE bigint`],
      () => (this.#tables.length < 8 ? this.#createTable() : this.#dropTable()),
      () => this.#rename(table),
      () => [`SELECT nextval('counter') FROM generate_series(1, ${count})`],
      () => [`SELECT lo_from_bytea(0, decode(repeat('${from % 10}a', ${count * 20}), 'hex'))`],
      () => ['SELECT lo_unlink(oid) FROM pg_largeobject_metadata LIMIT 1'],
      () => ['REFRESH MATERIALIZED VIEW extract'],
      () => [`INSERT INTO forgotten VALUES (${from}) ON CONFLICT DO NOTHING`],
      () => ['ALTER TABLE forgotten SET LOGGED', 'CHECKPOINT', 'ALTER TABLE forgotten SET UNLOGGED'],
      () => this.#cluster(table),
      () => [
        'BEGIN',
        'ALTER TABLE grouped DETACH PARTITION grouped_high',
        `INSERT INTO grouped_high VALUES (${500 + (from % 500)}, 0)`,
        'ALTER TABLE grouped ATTACH PARTITION grouped_high FOR VALUES FROM (500) TO (1000)',
        'COMMIT',
      ],
      () => this.#prepare(from),
      () => this.#prepare(from),
      () => this.#endPrepared(),
      () => ['CHECKPOINT'],
      () => this.#databaseStep(),
    ];
    return this.#dice.pick(steps)();
  }

  #createTable(): readonly string[] {
    const table = `work_${this.#next++}`;
    this.#tables = [...this.#tables, table];
    return [
      `CREATE TABLE ${table} (id int, note text, tags int[], spot point, big text STORAGE EXTERNAL)`,
      insertRows(table, { from: 0, count: 300 }),
      `CREATE INDEX ${table}_id ON ${table} (id)`,
    ];
  }

  #dropTable(): readonly string[] {
    const victim = this.#tables.at(-1);
    this.#tables = this.#tables.slice(0, -1);
    return [`DROP TABLE ${victim}`];
  }

  #rename(table: string): readonly string[] {
    const name = `work_${this.#next++}`;
    this.#tables = this.#tables.map((each) => (each === table ? name : each));
    return [`ALTER TABLE ${table} RENAME TO ${name}`];
  }

  #databaseStep(): readonly string[] {
    if (this.#databases.length > 1) {
      const victim = this.#databases[0];
      this.#databases = this.#databases.slice(1);
      return [`DROP DATABASE ${victim}`];
    }
    const name = `base_${this.#next++}`;
    this.#databases = [...this.#databases, name];
    const strategy = this.#dice.pick(['file_copy', 'wal_log']);
    return [`CREATE DATABASE ${name} TEMPLATE ${PATTERN_DATABASE} STRATEGY ${strategy}`];
  }

  #cluster(table: string): readonly string[] {
    const index = `index_${this.#next++}`;
    return [`CREATE INDEX ${index} ON ${table} (note)`, `CLUSTER ${table} USING ${index}`];
  }

  /** The name tells how many rows there are once it commits. */
  #prepare(from: number): readonly string[] {
    if (this.#inDoubt.length >= IN_DOUBT_MAX) return this.#endPrepared();
    const rows = 2 * (1 + (from % 40));
    const name = `doubt_${this.#next++}_${rows}`;
    this.#inDoubt = [...this.#inDoubt, name];
    return [
      'BEGIN',
      `INSERT INTO doubtful SELECT n, '${name}' FROM generate_series(1, ${2 * rows}) n`,
      'SAVEPOINT half',
      `DELETE FROM doubtful WHERE of = '${name}' AND id % 2 = 0`,
      'SAVEPOINT rest',
      `DELETE FROM doubtful WHERE of = '${name}'`,
      'ROLLBACK TO rest',
      `CREATE TABLE unborn_${this.#next++} AS SELECT n AS id FROM generate_series(1, ${rows}) n`,
      `PREPARE TRANSACTION '${name}'`,
    ];
  }

  #endPrepared(): readonly string[] {
    const [name] = this.#inDoubt;
    if (name === undefined) return ['CHECKPOINT'];
    this.#inDoubt = this.#inDoubt.slice(1);
    return [`${this.#dice.pick(['COMMIT', 'ROLLBACK'])} PREPARED '${name}'`];
  }
}

function insertRows(table: string, { from, count }: { from: number; count: number }): string {
  return `INSERT INTO ${table} (id, note, tags, spot, big)
    SELECT n, 'note ' || n, ARRAY[n % 7, n % 11], point(n % 100, n % 90),
        CASE WHEN n % 50 = 0 THEN repeat(md5(n::text), 200) END
      FROM generate_series(${from}, ${from + count}) n`;
}

/** Lines that tell all that a database holds and that is to survive: definitions, rows, large objects. */
export async function digestDatabase(client: pg.Client): Promise<readonly string[]> {
  const lines: string[] = [];
  const add = async (sql: string) => {
    const { rows } = await client.query<{ line: string }>(sql);
    lines.push(...rows.map(({ line }) => line));
  };
  await add(`SELECT 'in doubt ' || gid AS line FROM pg_prepared_xacts ORDER BY 1`);
  await add(`SELECT 'database ' || datname AS line FROM pg_database ORDER BY 1`);
  await add(`
    SELECT format('%s %s %s %s', c.relkind, c.oid::regclass, c.relpersistence, coalesce(pg_get_indexdef(i.indexrelid), '')) AS line
      FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
     WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1`);
  await add(`SELECT format('large object %s %s', oid, md5(lo_get(oid))) AS line
      FROM pg_largeobject_metadata ORDER BY oid`);
  const { rows: tables } = await client.query<{ name: string; ordered: boolean }>(`
    SELECT c.oid::regclass::text AS name, EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
             WHERE i.indrelid = c.oid AND x.relname LIKE '%\\_id') AS ordered
      FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'm')
       AND c.relpersistence = 'p' ORDER BY 1`);
  for (const { name, ordered } of tables) {
    await add(`SELECT format('rows of %s: %s %s', '${name}', count(*), sum(hashtextextended(t::text, 0)::numeric)) AS line
      FROM ${name} t`);
    await add(`SELECT format('count of %s: %s', '${name}', count(*)) AS line FROM ${name}`);
    if (ordered) await add(byIndex(name));
  }
  return lines;
}

/** The same rows by way of an index: one that lags behind its table gives others. */
function byIndex(name: string): string {
  return `SELECT format('ids of %s: %s %s', '${name}', count(*), sum(id)) AS line FROM ${name} WHERE id >= -1`;
}

/** The digest with the plans that Postgres chooses, with sequential scans only, and with indexes wherever there are any. */
export async function digestEveryWay(client: pg.Client): Promise<readonly (readonly string[])[]> {
  const ways = [
    'RESET ALL',
    'SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off',
    'RESET ALL; SET enable_seqscan = off',
  ];
  const digests: (readonly string[])[] = [];
  for (const way of ways) {
    await client.query(way);
    digests.push(await digestDatabase(client));
  }
  await client.query('RESET ALL');
  return digests;
}

/** To be called once, in the database `pattern`: what its copies hold. */
export async function fillPattern(client: pg.Client): Promise<void> {
  await client.query(
    `CREATE TABLE content AS SELECT n AS id, md5(n::text) AS note FROM generate_series(1, ${PATTERN_ROWS}) n`,
  );
  await client.query('CREATE INDEX content_id ON content (id)');
}

/** Names of the databases that were copied from `pattern`, as a digest tells them. */
export function copiesOfPattern(digest: readonly string[]): readonly string[] {
  return digest.flatMap((line) => /^database (base_\d+)$/.exec(line)?.[1] ?? []);
}

/** In a copy of `pattern`: one line for what is not as it should be. */
export async function checkPatternCopy(client: pg.Client): Promise<readonly string[]> {
  const { rows } = await client.query<{ rows: string; right: string }>(
    'SELECT count(*) AS rows, count(*) FILTER (WHERE note = md5(id::text)) AS right FROM content WHERE id > 0',
  );
  const { rows: found, right } = rows[0] ?? { rows: '', right: '' };
  const isWhole = Number(found) === PATTERN_ROWS && Number(right) === PATTERN_ROWS;
  return isWhole ? [] : [`${found} rows, ${right} of them right`];
}

/**
 * What can only be seen by changing the database, after it was recovered: unlogged tables are empty, and transactions in doubt
 * commit to all that they had done. One line for each thing that is not so.
 */
export async function findLosses(client: pg.Client): Promise<readonly string[]> {
  const losses: string[] = [];
  const count = async (sql: string) => Number((await client.query<{ n: string }>(sql)).rows[0]?.n);
  const { rows: unlogged } = await client.query<{ name: string }>(
    `SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r' AND relpersistence = 'u'`,
  );
  for (const { name } of unlogged) {
    if ((await count(`SELECT count(*) AS n FROM ${name}`)) !== 0) losses.push(`unlogged ${name} holds rows`);
    await client.query(`INSERT INTO ${name} VALUES (-1)`);
  }
  const { rows: inDoubt } = await client.query<{ gid: string }>('SELECT gid FROM pg_prepared_xacts');
  for (const { gid } of inDoubt) {
    await client.query(`COMMIT PREPARED '${gid}'`);
    const rows = await count(`SELECT count(*) AS n FROM doubtful WHERE of = '${gid}'`);
    if (rows !== Number(gid.split('_')[2])) losses.push(`${gid} committed ${rows} rows`);
  }
  return losses;
}

/** Values that Postgres logs ahead: a copy of a sequence may be so much further on. */
export const SEQUENCE_LOGGED_AHEAD = 32;

export async function readCounter(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ value: string }>('SELECT last_value AS value FROM counter');
  return Number(rows[0]?.value);
}
