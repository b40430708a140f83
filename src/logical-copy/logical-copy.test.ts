import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { BareEngine } from '../../test/harness/bare-engine.ts';
import { skipWithoutFile } from '../../test/harness/programs.ts';
import { ICINGA_SCHEMA_PATH, PUBLIC_SCHEMAS } from '../../test/harness/public-schemas.ts';
import { systemClock } from '../daemon/clock.ts';
import { CopySource, CopyTarget, SKIP_NOTHING } from './index.ts';
import type { CopyDescription, CopyPattern, CopyRows } from './contract.ts';
import { EVERYTHING, FINGERPRINT_OF_ROWS } from './testing-everything.ts';

const { signal } = new AbortController();
const options = { clock: systemClock(), rng: { bytes: (length: number) => randomBytes(length) }, signal };
const ROLES = `create role reader login bypassrls; grant pg_read_all_data to reader; alter role reader set lo_compat_privileges = on;
  create role tenant; create role maker login; grant tenant to maker`;

describe('a logical copy', () => {
  let engine: BareEngine;

  before(async () => {
    engine = await BareEngine.open({ settings: { max_connections: 20 } });
    await engine.start();
    await engine.use('postgres', async (client) => {
      await client.query(ROLES);
      await client.query('create database origin template template0');
    });
    await engine.use('origin', (client) => client.query(EVERYTHING));
  });
  after(() => engine[Symbol.asyncDispose]());

  test('of a whole database is the same database', async () => {
    await using source = await openSource('origin');
    const copy = await source.describe({ kind: 'database' });
    await engine.use('postgres', (client) =>
      client.query('create database again template template0 owner maker'),
    );
    const restored = await restoreInto('again', copy, source);
    assert.ok(restored.rows > 450n, `${restored.rows} rows`);
    assert.deepEqual(restored.skipped, []);
    assert.deepEqual(await digestOf('again'), await digestOf('origin'));
    assert.deepEqual(await definitionsOf('again'), await definitionsOf('origin'));
  });

  /** Schemas of real software, with what their own functions put into them. */
  const SOFTWARE: Readonly<
    Record<string, { readonly fill: string; readonly tables: readonly string[]; readonly one: CopyPattern }>
  > = {
    'pg-boss': {
      fill: `select pgboss.create_queue('mail', '{"policy": "standard"}'::json);
        insert into pgboss.job (name, data) select 'mail', jsonb_build_object('n', n) from generate_series(1, 50) n`,
      tables: ['pgboss.job', 'pgboss.queue', 'pgboss.version', 'pgboss.schedule'],
      one: { schema: 'pgboss', name: 'job' },
    },
    'graphile-worker': {
      fill: `select graphile_worker.add_job('task', json_build_object('n', n), queue_name := 'q' || n % 3) from generate_series(1, 30) n`,
      tables: [
        'graphile_worker._private_jobs',
        'graphile_worker._private_job_queues',
        'graphile_worker._private_tasks',
      ],
      one: { schema: 'graphile_worker', name: '_private_job_queues' },
    },
    icinga: {
      // Its tables are the public schema's, and it has functions of its own.
      fill: `insert into icinga_instances (instance_name) select 'node ' || n from generate_series(1, 3) n;
        insert into icinga_objects (instance_id, objecttype_id, name1) select n % 3, n % 14, 'host ' || n from generate_series(1, 200) n;
        insert into icinga_hosts (instance_id, host_object_id, alias, icon_image) select 1, n, 'Host ' || n, '' from generate_series(1, 40) n;
        insert into icinga_statehistory (object_id, state_time, state) select n, from_unixtime(1700000000 + n), n % 4 from generate_series(1, 100) n`,
      tables: [
        'public.icinga_instances',
        'public.icinga_objects',
        'public.icinga_hosts',
        'public.icinga_statehistory',
        'public.icinga_dbversion',
      ],
      one: { schema: 'public', name: 'icinga_statehistory' },
    },
  };

  for (const [software, { fill, tables, one }] of Object.entries(SOFTWARE)) {
    const isMissing = software === 'icinga' && skipWithoutFile(ICINGA_SCHEMA_PATH);
    test(`of ${software} is the same, whole and by table`, { skip: isMissing }, async () => {
      const schema = await PUBLIC_SCHEMAS[software as keyof typeof PUBLIC_SCHEMAS]();
      await makeDatabases(`${software} origin`, `${software} whole`, `${software} table`);
      await engine.use(`${software} origin`, (client) => client.query(schema));
      await engine.use(`${software} origin`, (client) => client.query(fill));
      await using source = await openSource(`${software} origin`);
      await restoreInto(`${software} whole`, await source.describe({ kind: 'database' }), source);
      const digest = (database: string) => digestOf(database, digestSql(tables));
      assert.deepEqual(await digest(`${software} whole`), await digest(`${software} origin`));
      const names = (all: readonly string[]) => all.map(withoutNamesOfNotNull);
      assert.deepEqual(
        names(await definitionsOf(`${software} whole`)),
        names(await definitionsOf(`${software} origin`)),
      );

      const table = await source.describe({ kind: 'tables', patterns: [one] });
      const skip = { ...SKIP_NOTHING, foreignKeys: true, functions: true };
      const restored = await restoreInto(`${software} table`, table, source, { skip });
      assert.ok(restored.rows > 0n, 'rows were copied');
      const sql = digestSql([`${one.schema}.${one.name}`]);
      assert.deepEqual(await digestOf(`${software} table`, sql), await digestOf(`${software} origin`, sql));
    });
  }

  test('of tables brings their types, partitions and sequences, and nothing else', async () => {
    await using source = await openSource('origin');
    const patterns = [
      { schema: 'app', name: 'event' },
      { schema: 'app', name: 'item' },
      // Values of `regclass` name it, and can be made only where it is.
      { schema: 'app', name: 'owner' },
    ];
    const copy = await source.describe({ kind: 'tables', patterns });
    const made = copy.entries.flatMap(({ object, home, id }) =>
      object !== null && home === id ? [object.identity] : [],
    );
    assert.deepEqual(made.toSorted(), [
      'app',
      'app.event',
      'app.event_2024',
      'app.event_rest',
      'app.event_rest_other',
      'app.event_rest_x',
      'app.item',
      'app.item_id_seq',
      'app.mood',
      'app.owner',
      'app.owner_id_seq',
      'app.pair',
      'app.positive',
      'app.span',
      'hstore',
      'pg_trgm',
    ]);
    await makeDatabases('some tables');
    const skip = { ...SKIP_NOTHING, sequences: true, functions: true };
    await assert.rejects(restoreInto('some tables', copy, source), { code: 'object_missing' });
    const restored = await restoreInto('some tables', copy, source, { skip });
    assert.equal(restored.rows, 455n);
    const sql = digestSql(['app.event', 'app.item', 'app.owner']);
    assert.deepEqual(await digestOf('some tables', sql), await digestOf('origin', sql));
    const again = await engine.use('some tables', (client) =>
      client.query('select number from app.item where number is null'),
    );
    assert.equal(again.rowCount, 0, 'values stay when the default that made them goes');
  });

  test('of a table brings the extension by which its key compares', async () => {
    await makeDatabases('keyed', 'keyed elsewhere');
    await engine.use('keyed', (client) =>
      client.query(`create extension btree_gist; create table booked (room int, during tstzrange, primary key (room, during without overlaps));
        insert into booked values (1, '[2024-01-01,2024-02-01)')`),
    );
    await using source = await openSource('keyed');
    const copy = await source.describe({ kind: 'tables', patterns: [{ schema: 'public', name: 'booked' }] });
    assert.equal((await restoreInto('keyed elsewhere', copy, source)).rows, 1n);
    assert.deepEqual(await definitionsOf('keyed elsewhere'), await definitionsOf('keyed'));
  });

  test('of a database without an encoding has the same bytes, where there is none either', async () => {
    await engine.use('postgres', async (client) => {
      for (const name of ['bytes', 'bytes again']) {
        await client.query(
          `create database "${name}" template template0 encoding 'SQL_ASCII' locale_provider libc locale 'C' owner maker`,
        );
      }
    });
    await engine.use('bytes', async (client) => {
      await client.query(`set client_encoding = 'SQL_ASCII'`);
      await client.query(`create table binary_rows (a text); insert into binary_rows values (E'\\xff\\xfe'), ('plain');
        create table text_rows (a text, kind regtype); insert into text_rows values (E'\\xe4', 'int4')`);
    });
    const bytes = `select encode(convert_to(a, 'SQL_ASCII'), 'hex') as bytes from binary_rows
      union all select encode(convert_to(a, 'SQL_ASCII'), 'hex') from text_rows`;
    await using source = await openSource('bytes');
    const copy = await source.describe({ kind: 'database' });
    assert.deepEqual(copy.tables.map(({ format }) => format).toSorted(), ['binary', 'text']);
    await restoreInto('bytes again', copy, source);
    assert.deepEqual(await digestOf('bytes again', bytes), await digestOf('bytes', bytes));
    await makeDatabases('of an encoding');
    await assert.rejects(restoreInto('of an encoding', copy, source), {
      code: 'copy_failed',
      message: /cannot copy rows into .* invalid byte sequence for encoding "UTF8": 0xff/,
    });
  });

  test('whose policies are for a role that is not there is refused before any row is copied', async () => {
    await makeDatabases('policies', 'policies again');
    await engine.use('policies', (client) =>
      client.query(`create role "Role of a policy"; create table t (id int); alter table t enable row level security;
        create policy first on t to "Role of a policy", public using (true); create policy p on t to "Role of a policy" using (true)`),
    );
    await using source = await openSource('policies');
    const copy = await source.describe({ kind: 'tables', patterns: [{ schema: 'public', name: 't' }] });
    await engine.use('postgres', (client) => client.query(`alter role "Role of a policy" rename to other`));
    await assert.rejects(restoreInto('policies again', copy, source), {
      code: 'object_missing',
      message: 'cannot restore "public.t" without role "Role of a policy", which policies of it are for',
    });
    await engine.use('postgres', (client) => client.query(`alter role other rename to "Role of a policy"`));
    await restoreInto('policies again', copy, source);
    assert.deepEqual(await definitionsOf('policies again'), await definitionsOf('policies'));
  });

  test('leaves out publications that only a superuser can make, and says so', async () => {
    await makeDatabases('published', 'not published');
    await engine.use('published', (client) =>
      client.query(`create table t (id int primary key); insert into t values (1); create publication "all for all tables" for all tables;
        comment on publication "all for all tables" is 'all'; create publication part for table t, tables in schema public; create publication one for table t`),
    );
    await using source = await openSource('published');
    const restored = await restoreInto('not published', await source.describe({ kind: 'database' }), source);
    assert.deepEqual(
      [
        restored.rows,
        restored.skipped.map((what) => /^publication .*: only a superuser can make it$/.test(what)),
      ],
      [1n, [true, true]],
    );
    const left = await digestOf(
      'not published',
      `select p.pubname, r.prrelid::regclass::text as "table", puballtables from pg_publication p left join pg_publication_rel r on r.prpubid = p.oid order by 1`,
    );
    assert.deepEqual(left, [
      { pubname: 'one', table: 't', puballtables: false },
      { pubname: 'part', table: 't', puballtables: false },
    ]);
  });

  test('meets types of the same name: equal ones are used, others refused', async () => {
    await using source = await openSource('origin');
    const copy = await source.describe({ kind: 'tables', patterns: [{ schema: 'app', name: 'typed' }] });
    await makeDatabases('equal types', 'other types');
    const types = (labels: string) =>
      `create schema app authorization maker; create type app.mood as enum (${labels}); alter type app.mood owner to maker`;
    await engine.use('equal types', (client) => client.query(types(`'sad', 'it''s "fine"', 'happy'`)));
    await engine.use('other types', (client) => client.query(types(`'happy', 'sad'`)));
    await restoreInto('equal types', copy, source);
    await assert.rejects(restoreInto('other types', copy, source), {
      code: 'object_exists',
      message: /type "app.mood" in database "other types" is not compatible/,
    });
    await assert.rejects(restoreInto('equal types', copy, source), {
      code: 'table_exists',
      message: 'relation "app.typed" already exists in database "equal types"',
    });
  });

  test('that fails leaves nothing', async () => {
    await using source = await openSource('origin');
    const copy = await source.describe({ kind: 'tables', patterns: [{ schema: 'app', name: 'typed' }] });
    await makeDatabases('nothing');
    const broken: CopyRows = {
      async *rowsOf() {
        yield (async function* () {
          yield Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');
        })();
      },
      largeObject: () => source.largeObject(0),
    };
    await assert.rejects(restoreInto('nothing', copy, broken), { code: 'data_corrupt' });
    const { rows } = await engine.use('nothing', (client) =>
      client.query("select from pg_namespace where nspname = 'app'"),
    );
    assert.deepEqual(rows, []);
  });

  test('whose tables somebody changes is tried again later, not waited for without end', async () => {
    await using source = await openSource('origin', { lockWaitMsMax: 100 });
    await engine.use('origin', async (client) => {
      await client.query('begin');
      await client.query('lock table app.owner in access exclusive mode');
      await assert.rejects(source.describe({ kind: 'database' }), { code: 'timed_out' });
      await client.query('rollback');
    });
    const copy = await source.describe({ kind: 'database' });
    assert.ok(copy.tables.some(({ name }) => name === 'owner'));
  });

  async function makeDatabases(...names: string[]): Promise<void> {
    for (const name of names) {
      await engine.use('postgres', (client) =>
        client.query(`create database "${name}" template template0 owner maker`),
      );
    }
  }

  async function openSource(database: string, more = {}): Promise<CopySource> {
    const endpoint = { socketDirectory: engine.directory, database, role: 'reader' };
    return CopySource.open(endpoint, { ...options, ...more });
  }

  async function restoreInto(database: string, copy: CopyDescription, source: CopyRows, changes = {}) {
    await using target = await CopyTarget.open(
      { socketDirectory: engine.directory, database, role: 'maker' },
      { signal },
    );
    return await target.restore(copy, {
      rows: source,
      options: {
        schemaOnly: false,
        skip: SKIP_NOTHING,
        owner: null,
        onProgress: () => undefined,
        signal,
        ...changes,
      },
    });
  }

  async function definitionsOf(database: string): Promise<readonly string[]> {
    await using source = await openSource(database);
    const { entries } = await source.describe({ kind: 'database' });
    return entries.map(({ sql }) => sql);
  }

  async function digestOf(database: string, sql = FINGERPRINT_OF_ROWS): Promise<readonly unknown[]> {
    return engine.use(database, async (client) => (await client.query<object>(sql)).rows);
  }
});

/**
 * pg_dump leaves out the name of a NOT NULL when it is the one that Postgres would choose. Postgres chooses another when a table made before
 * has that name already.
 */
function withoutNamesOfNotNull(sql: string): string {
  return sql.replaceAll(/ CONSTRAINT \S+ NOT NULL/g, ' NOT NULL');
}

/** Count and content of each table. */
function digestSql(tables: readonly string[]): string {
  return tables
    .map(
      (table) =>
        `select '${table}' as name, count(*), md5(string_agg(r::text, chr(10) order by r::text)) from ${table} r`,
    )
    .join(' union all ');
}
