import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { NEVER, withTenant } from '../../../test/harness/instance-store.ts';
import { TimelineRig } from '../../../test/harness/timeline-rig.ts';
import { Dice, Workload } from '../../../test/harness/workload.ts';
import { SEED } from '../../../test/harness/seed.ts';
import { isAppError } from '../../base/index.ts';
import type { AddedFiles, ImagePart, RelationPattern, TimelinePoint } from '../../timeline/index.ts';
import type { PartTarget } from './part-target.ts';
import { type PartOptions, type ServedPart, withPart } from './with-part.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
/** Rows of a table that takes more pages than what happens afterwards. */
const ROWS = 5000;

/** More points and longer work when somebody asks for it. */
const POINTS = Number(process.env['ATOLL_TEST_POINTS'] ?? 3);
const STEPS = Number(process.env['ATOLL_TEST_STEPS'] ?? 120);

let rig: TimelineRig;
before(async () => {
  rig = await TimelineRig.open();
});
after(async () => {
  await rig[Symbol.asyncDispose]();
});

const sql = (text: string, database = 'defaultdb') =>
  withTenant(rig.source, { ...ROOT, database }, (client) => client.query(text));

const table = (name: string): RelationPattern => ({ schema: 'public', name });
const tablesOf = (inDatabase: string, ...relations: RelationPattern[]): PartTarget => ({
  kind: 'tables',
  database: inDatabase,
  relations,
});
const tables = (...relations: RelationPattern[]) => tablesOf('defaultdb', ...relations);
const database = (...names: string[]): PartTarget => ({ kind: 'databases', names });

/** Count and content, so that wrong rows of the right number are found. */
const digestOf = (relation: string) =>
  `SELECT count(*)::int AS rows, coalesce(sum(hashtextextended(r::text, 0)), 0)::text AS digest FROM ${relation} r`;

async function present(relation: string, inDatabase = 'defaultdb'): Promise<unknown> {
  const { rows } = await sql(digestOf(relation), inDatabase);
  return rows[0];
}

/** A position that all log up to is in the timeline of. */
async function now(): Promise<TimelinePoint> {
  const lsn = await rig.position();
  await rig.receive();
  return rig.point(lsn);
}

interface Run {
  readonly part: ServedPart;
  readonly rounds: readonly (readonly AddedFiles[])[];
  readonly readBytes: readonly bigint[];
}

async function serve<T>(
  at: TimelinePoint,
  target: PartTarget,
  use: (run: Run) => Promise<T>,
  variation: Partial<PartOptions<T>> & { isProved?: boolean } = {},
): Promise<T> {
  const rounds: (readonly AddedFiles[])[] = [];
  const readBytes: bigint[] = [];
  const { isProved = true, ...rest } = variation;
  return withPart<T>({
    instanceHost: rig.rig.store.host,
    virtualClusterId: rig.source.identity.virtualClusterId,
    target,
    write: (part, directory) => write(at, { part, directory, readBytes, isProved }),
    use: (part) => use({ part, rounds, readBytes }),
    onAgain: (added) => rounds.push(added),
    signal: NEVER,
    ...rest,
  });
}

async function write(
  point: TimelinePoint,
  options: {
    part: ImagePart;
    directory: { dataDirectory: string; uid: number | null };
    readBytes: bigint[];
    isProved: boolean;
  },
) {
  const { part, directory, readBytes, isProved } = options;
  const {
    recovery,
    coverage,
    readBytes: read,
  } = await rig.worker.materializePoint(
    {
      store: rig.location,
      point,
      incarnations: rig.incarnations,
      key: rig.rig.key,
      targetDirectory: directory.dataDirectory,
      uid: directory.uid,
      part,
    },
    { onProgress: () => undefined, signal: NEVER },
  );
  assert.ok(coverage !== undefined && coverage !== null && read !== undefined);
  readBytes.push(read);
  return { recovery, coverage: isProved ? coverage : null };
}

async function read(
  part: ServedPart,
  options: { database?: string; sql: string; settings?: string },
): Promise<unknown> {
  const client = new pg.Client({
    host: part.socketDirectory,
    user: part.reader,
    database: options.database ?? 'defaultdb',
    options: options.settings,
  });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(options.sql)).rows[0];
  } finally {
    await client.end();
  }
}

/** What a table of the part holds. */
async function held(
  part: ServedPart,
  relation: string,
  inDatabase = 'defaultdb',
  settings?: string,
): Promise<unknown> {
  return read(part, {
    database: inDatabase,
    sql: digestOf(relation),
    ...(settings === undefined ? {} : { settings }),
  });
}

describe('a part of an image', () => {
  it('is what bears the name at the moment that is restored', async () => {
    await sql(
      `CREATE TABLE b (id int PRIMARY KEY, note text); INSERT INTO b SELECT i, 'old' FROM generate_series(1, ${ROWS}) i`,
    );
    await sql(
      `CREATE TABLE stage (id int PRIMARY KEY, note text); INSERT INTO stage SELECT i, repeat('new', 20) FROM generate_series(1, ${ROWS * 2}) i`,
    );
    await rig.captureBase();
    await sql(
      `UPDATE stage SET note = 'changed' WHERE id % 100 = 0; INSERT INTO stage SELECT -i, 'more' FROM generate_series(1, 80) i`,
    );
    await sql('BEGIN; ALTER TABLE b RENAME TO b_old; ALTER TABLE stage RENAME TO b; COMMIT');
    const expected = await present('b');
    const at = await now();
    await serve(at, tables(table('b')), async ({ part, rounds }) => {
      assert.deepEqual(await held(part, 'b'), expected);
      assert.equal(rounds.length, 1, 'the image was guessed by the name it had then');
      await assert.rejects(held(part, 'b_old'), { code: '58P01' }, 'nothing else can be read');
    });
    await serve(
      at,
      tables(table('b')),
      async ({ part }) => {
        const wrong = await held(part, 'b').catch(() => 'unreadable');
        assert.notDeepEqual(wrong, expected, 'without the proof the control is found out');
      },
      { isProved: false },
    );
    await sql('DROP TABLE b, b_old');
  });

  it('has the partitions of that moment', async () => {
    await sql(`CREATE TABLE p (id int, note text) PARTITION BY RANGE (id);
      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10000);
      CREATE TABLE p2 (id int, note text);
      INSERT INTO p SELECT i, 'first' FROM generate_series(1, ${ROWS}) i;
      INSERT INTO p2 SELECT 10000 + i, 'second' FROM generate_series(1, ${ROWS}) i`);
    await rig.captureBase();
    await sql(
      `ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10000) TO (20000); DELETE FROM p WHERE id % 10 = 0`,
    );
    const attached = await present('p');
    const first = await now();
    await sql('ALTER TABLE p DETACH PARTITION p1');
    const detached = [await present('p'), await present('p1')];
    const second = await now();
    await serve(first, tables(table('p')), async ({ part }) => {
      assert.deepEqual(await held(part, 'p'), attached);
    });
    await serve(second, tables(table('p')), async ({ part }) => {
      assert.deepEqual(await held(part, 'p'), detached[0]);
      await assert.rejects(held(part, 'p1'), { code: '58P01' });
    });
    await serve(second, tables(table('p1'), table('p')), async ({ part }) => {
      assert.deepEqual([await held(part, 'p'), await held(part, 'p1')], detached);
    });
    await sql('DROP TABLE p, p1');
  });

  it('is in the database that bears the name at that moment', async () => {
    await sql('CREATE DATABASE shop');
    await sql('CREATE DATABASE attic');
    await sql(
      `CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT i, 'shop' FROM generate_series(1, ${ROWS}) i`,
      'shop',
    );
    await sql(
      `CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT i, 'attic' FROM generate_series(1, ${ROWS}) i`,
      'attic',
    );
    await rig.captureBase();
    await sql('ALTER DATABASE shop RENAME TO bazaar');
    await sql('ALTER DATABASE attic RENAME TO shop');
    await sql(`DELETE FROM t WHERE id % 3 = 0`, 'shop');
    const expected = [await present('t', 'shop'), await present('t', 'bazaar')];
    const at = await now();
    await serve(at, tablesOf('shop', table('t')), async ({ part, rounds }) => {
      assert.deepEqual(await held(part, 't', 'shop'), expected[0]);
      assert.ok(rounds.length > 0);
    });
    await serve(at, database('bazaar', 'shop'), async ({ part }) => {
      assert.deepEqual([await held(part, 't', 'shop'), await held(part, 't', 'bazaar')], expected);
    });
    await assert.rejects(
      serve(at, database('attic'), () => Promise.resolve()),
      (error) => isAppError(error, 'database_not_found') && /"attic"/.test(error.message),
    );
  });

  it('is followed to where a database was copied from without a word in the log', async () => {
    await sql('CREATE DATABASE origin');
    await sql(
      `CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 500) i;
       ALTER TABLE t ALTER note SET STORAGE EXTERNAL; CREATE TABLE other AS SELECT generate_series(1, ${ROWS}) AS id`,
      'origin',
    );
    await rig.captureBase();
    await sql('DELETE FROM t WHERE id % 7 = 0', 'origin');
    await sql('CREATE DATABASE copied TEMPLATE origin STRATEGY FILE_COPY');
    await sql('CREATE DATABASE logged TEMPLATE copied STRATEGY WAL_LOG');
    await sql('CREATE DATABASE again TEMPLATE copied STRATEGY FILE_COPY');
    await sql('DROP DATABASE origin');
    await sql('DELETE FROM t WHERE id % 5 = 0', 'again');
    const expected = [
      await present('t', 'again'),
      await present('t', 'logged'),
      await present('other', 'copied'),
    ];
    const at = await now();
    await serve(at, tablesOf('again', table('t')), async ({ part, rounds }) => {
      assert.deepEqual(await held(part, 't', 'again'), expected[0]);
      assert.equal(rounds.length, 2, 'its catalogs, then its table');
      await assert.rejects(held(part, 'other', 'again'), { code: '58P01' });
    });
    await serve(at, tablesOf('logged', table('t')), async ({ part, rounds }) => {
      assert.deepEqual(await held(part, 't', 'logged'), expected[1]);
      assert.equal(rounds.length, 0, 'all of it is in the log');
    });
    await serve(at, database('copied'), async ({ part }) => {
      assert.deepEqual(await held(part, 'other', 'copied'), expected[2]);
    });
    for (const name of ['copied', 'logged', 'again']) await sql(`DROP DATABASE ${name}`);
  });

  it('may lie in files that came to be after the image was made', async () => {
    await sql(`CREATE TABLE emptied (id serial PRIMARY KEY, note text); INSERT INTO emptied (note) SELECT 'old' FROM generate_series(1, ${ROWS});
      CREATE TABLE rewritten (id int PRIMARY KEY, note text); INSERT INTO rewritten SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 1000) i;
      CREATE UNLOGGED TABLE forgotten (id int); INSERT INTO forgotten SELECT generate_series(1, 100)`);
    await rig.captureBase();
    await sql(`TRUNCATE emptied; INSERT INTO emptied (note) SELECT 'new' FROM generate_series(1, 10)`);
    await sql('DELETE FROM rewritten WHERE id % 2 = 0');
    await sql('VACUUM FULL rewritten');
    await sql(
      'CREATE TABLE born AS SELECT i AS id, repeat(md5(i::text), 300) AS note FROM generate_series(1, 300) i',
    );
    await sql('REINDEX TABLE emptied');
    // Nobody has decided on it yet, and it has locked the table.
    await sql("BEGIN; TRUNCATE born; PREPARE TRANSACTION 'undecided'");
    const names = ['emptied', 'rewritten', 'born'];
    const at = await now();
    await sql("ROLLBACK PREPARED 'undecided'");
    const expected = await Promise.all(names.map((name) => present(name)));
    const wanted = tables(...names.map((name) => table(name)), table('forgotten'));
    await serve(at, wanted, async ({ part, rounds }) => {
      assert.deepEqual(await Promise.all(names.map((name) => held(part, name))), expected);
      assert.deepEqual(await held(part, 'forgotten'), { rows: 0, digest: '0' });
      const { last } = (await read(part, { sql: 'SELECT last_value::int AS last FROM emptied_id_seq' })) as {
        last: number;
      };
      assert.ok(last >= ROWS + 10, `${last}`);
      assert.equal(rounds.length, 0);
    });
    await sql('DROP TABLE emptied, rewritten, born, forgotten');
  });

  it('holds what was written and rewritten all the time, whatever else there was', async () => {
    await sql(`CREATE TABLE kept (id int PRIMARY KEY, n int, note text); INSERT INTO kept SELECT i, 0, repeat('x', i % 3000) FROM generate_series(1, 2000) i;
      CREATE TABLE noise (id int PRIMARY KEY, n int, note text); INSERT INTO noise SELECT i, 0, md5(i::text) FROM generate_series(1, ${ROWS * 4}) i;
      CREATE INDEX ON noise USING gin (to_tsvector('simple', note)); CREATE INDEX ON noise USING brin (id); CREATE INDEX ON kept USING hash (note)`);
    await rig.captureBase();
    for (let step = 0; step < 5; step++) {
      await sql(
        `UPDATE noise SET n = n + 1, note = md5(note) WHERE id % 5 = ${step}; DELETE FROM noise WHERE id % 17 = ${step}`,
      );
      await sql(
        `UPDATE kept SET n = n + 1 WHERE id % 3 = ${step % 3}; INSERT INTO kept SELECT -i * 10 - ${step}, i, repeat(md5(i::text), 80) FROM generate_series(1, 50) i`,
      );
      await sql(step % 2 === 0 ? 'VACUUM kept, noise' : 'CHECKPOINT');
    }
    await sql('TRUNCATE noise');
    const expected = await present('kept');
    const at = await now();
    await serve(at, tables(table('kept')), async ({ part, rounds }) => {
      assert.equal(rounds.length, 0);
      assert.deepEqual(await held(part, 'kept'), expected);
      assert.deepEqual(
        await held(part, 'kept', 'defaultdb', '-c enable_seqscan=off -c enable_bitmapscan=off'),
        expected,
      );
      await assert.rejects(held(part, 'noise'), { code: '58P01' });
    });
  });

  it('reads little of a large image', async () => {
    await sql(`CREATE TABLE small (id int PRIMARY KEY, note text); INSERT INTO small SELECT i, md5(i::text) FROM generate_series(1, 2000) i;
      CREATE TABLE large (id int PRIMARY KEY, note text);
      INSERT INTO large SELECT i, md5(random()::text) || md5(random()::text) || md5(random()::text) FROM generate_series(1, 200000) i`);
    const { base } = await rig.captureBase();
    const at = await now();
    const bytesOf = async (target: PartTarget) =>
      serve(at, target, async ({ readBytes, rounds }) => {
        assert.equal(rounds.length, 0);
        return readBytes.reduce((sum, bytes) => sum + bytes, 0n);
      });
    const [small, large] = [await bytesOf(tables(table('small'))), await bytesOf(tables(table('large')))];
    assert.ok(base.storedBytes > 15_000_000n, `${base.storedBytes}`);
    assert.ok(small < base.storedBytes / 6n, `${small} of ${base.storedBytes} bytes for a small table`);
    assert.ok(large > small * 4n, `${large} bytes for the large table`);
    await sql('DROP TABLE small, large');
  });

  it('does not wait for another', async () => {
    await sql('CREATE TABLE one AS SELECT 1 AS n; CREATE TABLE two AS SELECT 2 AS n');
    await rig.captureBase();
    const at = await now();
    const first = Promise.withResolvers<void>();
    const second = Promise.withResolvers<void>();
    await Promise.all([
      serve(at, tables(table('one')), async ({ part }) => {
        first.resolve();
        await second.promise;
        assert.equal(((await held(part, 'one')) as { rows: number }).rows, 1);
        await assert.rejects(held(part, 'two'), { code: '58P01' });
      }),
      serve(at, tables(table('two')), async ({ part }) => {
        second.resolve();
        await first.promise;
        assert.equal(((await held(part, 'two')) as { rows: number }).rows, 1);
      }),
    ]);
  });

  it('must have been there at that moment', async () => {
    await rig.captureBase();
    const before = await now();
    await sql('CREATE TABLE later (id int)');
    for (const [target, message] of [
      [tables(table('later')), /table "public.later" does not exist in database "defaultdb" of the backup/],
      [tables({ schema: 'later', name: null }), /table "later\.\*" does not exist/],
      [tablesOf('nowhere', table('t')), /database "nowhere" does not exist in the backup/],
      [database('system'), /database "system" does not exist in the backup/],
    ] as const) {
      await assert.rejects(
        serve(before, target, () => Promise.resolve()),
        (error) => isAppError(error, 'table_not_found', 'database_not_found') && message.test(error.message),
      );
    }
  });
});

/** What there was at a moment: of each table that can be asked for, by its name then. */
interface Seen {
  readonly at: TimelinePoint;
  readonly tables: readonly { readonly database: string; readonly name: string; readonly digest: unknown }[];
}

async function see(): Promise<Seen> {
  const at = await now();
  const names = async (inDatabase: string) =>
    (
      await sql(
        `SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'm') AND relpersistence = 'p'`,
        inDatabase,
      )
    ).rows.map(({ name }: { name: string }) => name);
  const databases = await sql(
    `SELECT datname AS name FROM pg_database WHERE datname = 'pattern' OR datname LIKE 'base\\_%'`,
  );
  const tables: Seen['tables'][number][] = [];
  for (const inDatabase of ['defaultdb', ...databases.rows.map(({ name }: { name: string }) => name)]) {
    for (const name of await names(inDatabase)) {
      tables.push({ database: inDatabase, name, digest: await present(`public.${name}`, inDatabase) });
    }
  }
  return { at, tables };
}

describe(`any table at any moment, work of seed ${SEED}`, () => {
  it('is what it was, whatever happened to files and names', async () => {
    const workload = new Workload({ seed: SEED });
    const dice = new Dice(SEED + 1);
    const moments: Seen[] = [];
    await withTenant(rig.source, ROOT, async (client) => {
      const run = async (statements: readonly string[]) => {
        for (const statement of statements) await client.query(statement);
      };
      await run(workload.begin());
      await sql(
        `CREATE TABLE t AS SELECT n, repeat(md5(n::text), 100) AS note FROM generate_series(1, 300) n`,
        'pattern',
      );
      for (let step = 0; step < STEPS; step++) {
        await run(workload.next());
        if (step === Math.trunc(STEPS / 4)) await rig.captureBase();
        if (step > STEPS / 4 && (dice.roll() < 0.1 || step === STEPS - 1)) moments.push(await see());
      }
    });
    for (let count = 0; count < POINTS; count++) {
      const { at, tables: there } = dice.pick(moments);
      const { database: inDatabase, name, digest } = dice.pick(there);
      const what = `seed ${SEED}: ${inDatabase}.${name} at ${at.lsn}`;
      await serve(at, tablesOf(inDatabase, table(name)), async ({ part }) => {
        for (const settings of ['-c enable_seqscan=on', '-c enable_seqscan=off -c enable_bitmapscan=off']) {
          assert.deepEqual(await held(part, `public.${name}`, inDatabase, settings), digest, what);
        }
      });
    }
  });
});
