import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { BackupRig } from '../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { assertLedger, Ledger } from '../../test/harness/ledger.ts';
import { countWithDefaultPlans, digestTables, findDamage } from '../../test/harness/oracle.ts';
import type { Instance } from '../instance/index.ts';
import type { BackupSummary } from './contract.ts';
import { DATA_DIRECTORY_FOLDERS } from './data-directory/rules.ts';

const ROOT = { user: 'root', database: 'defaultdb' };

/** Relations of every kind that is kept in another way. */
const SCHEMA = `
  CREATE TABLE plain (id int PRIMARY KEY, note text);
  INSERT INTO plain SELECT n, repeat('note ' || n, 20) FROM generate_series(1, 20000) n;
  DELETE FROM plain WHERE id % 10 = 0;
  UPDATE plain SET note = 'changed' WHERE id % 10 = 1;
  CREATE INDEX plain_note ON plain (left(note, 20));
  CREATE INDEX plain_hash ON plain USING hash (id);
  CREATE TABLE toasted (id int, big text STORAGE EXTERNAL);
  INSERT INTO toasted SELECT n, repeat(md5(n::text), 2000) FROM generate_series(1, 50) n;
  CREATE TABLE part (id int, at date) PARTITION BY RANGE (at);
  CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
  INSERT INTO part SELECT n, '2020-01-01'::date + n FROM generate_series(1, 300) n;
  CREATE UNLOGGED TABLE forgotten (id int PRIMARY KEY);
  INSERT INTO forgotten SELECT generate_series(1, 1000);
  CREATE TABLE nothing (id int);
  CREATE TYPE mood AS ENUM ('sad', 'glad');
  CREATE SCHEMA "odd ""name";
  CREATE TABLE "odd ""name"."ünïcode" (m mood);
  INSERT INTO "odd ""name"."ünïcode" VALUES ('glad');
  CREATE SEQUENCE counter START 42; SELECT nextval('counter');
  CREATE VIEW plain_view AS SELECT id FROM plain;
  CREATE MATERIALIZED VIEW plain_copy AS SELECT id FROM plain WHERE id < 100;
  VACUUM (FREEZE) plain;`;

/** Definitions and files that change while a backup runs: rewrites, truncations, drops, whole databases. */
async function churn(connect: () => Promise<pg.Client>, until: AbortSignal): Promise<void> {
  const client = await connect();
  try {
    for (let turn = 0; !until.aborted; turn++) {
      await client.query(`CREATE TABLE churn_${turn} AS SELECT n FROM generate_series(1, 5000) n`);
      await client.query(`ALTER TABLE churn_${turn} ADD PRIMARY KEY (n)`);
      if (turn % 2 === 0) await client.query(`TRUNCATE churn_${turn}`);
      if (turn % 3 === 0) await client.query(`DROP TABLE churn_${turn}`);
      await client.query('VACUUM FULL account');
      if (turn % 4 === 0) await client.query(`CREATE DATABASE churn_db_${turn}`);
      if (turn % 8 === 0) await client.query(`DROP DATABASE churn_db_${turn}`);
    }
  } finally {
    await client.end();
  }
}

async function connectTo(instance: Instance, login = ROOT): Promise<pg.Client> {
  const client = new pg.Client({ host: instance.socketDirectory, ...login });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

describe('a backup of a virtual cluster that is written to', () => {
  let rig: BackupRig;
  let summary: BackupSummary;
  let restored: Instance;
  let floor: ReadonlyMap<number, number>;
  let ceiling: ReadonlyMap<number, number>;

  before(async () => {
    rig = await BackupRig.open();
    for (const statement of SCHEMA.split(';\n'))
      await withTenant(rig.source, ROOT, (client) => client.query(statement));
    await withTenant(rig.source, ROOT, (client) => client.query('CREATE DATABASE second'));
    await withTenant(rig.source, { ...ROOT, database: 'second' }, (client) =>
      client.query('CREATE TABLE only_here AS SELECT 7 AS seven'),
    );
    const stop = new AbortController();
    await using ledger = await Ledger.start({ connect: () => connectTo(rig.source), writers: 3 });
    const churning = churn(() => connectTo(rig.source), stop.signal);
    try {
      const progress: number[] = [];
      floor = ledger.acknowledged();
      summary = await rig.backup({ onProgress: ({ fraction }) => progress.push(fraction) });
      ceiling = ledger.acknowledged();
      assert.ok(progress.length > 0 && progress.every((each) => each >= 0 && each <= 1));
    } finally {
      stop.abort();
      await churning;
    }
    await ledger.stop();
    const target = await rig.beginTarget();
    const result = await rig.materialize(target, summary);
    assert.deepEqual(result.summary, summary);
    restored = await rig.serve(target, result);
  });

  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  it('holds whole transactions, all that were acknowledged before it and none of after it', async () => {
    await withTenant(restored, ROOT, (client) => assertLedger(client, { floor, ceiling }));
  });

  it('holds every row of tables that did not change', async () => {
    const unchanged = (table: string) => !/ledger|account|churn|forgotten/.test(table);
    const digests = async (instance: Instance, database: string) => {
      const all = await withTenant(instance, { ...ROOT, database }, digestTables);
      return all.filter(({ table }) => unchanged(table));
    };
    for (const database of ['defaultdb', 'second']) {
      const expected = await digests(rig.source, database);
      assert.ok(expected.length > 0);
      assert.deepEqual(await digests(restored, database), expected);
    }
    const [forgotten] = (
      await withTenant(restored, ROOT, (client) => client.query('SELECT count(*)::int FROM forgotten'))
    ).rows;
    assert.deepEqual(forgotten, { count: 0 });
    const { rows } = await withTenant(restored, ROOT, (client) =>
      client.query(`SELECT nextval('counter')::int AS n`),
    );
    assert.ok(rows[0].n > 42);
  });

  it('is undamaged below what queries show', async () => {
    for (const database of ['defaultdb', 'second']) {
      const findings = await findDamage({
        store: rig.store.directory,
        virtualClusterId: restored.identity.virtualClusterId,
        database,
      });
      assert.deepEqual(findings, []);
    }
    await withTenant(restored, ROOT, async (client) => {
      const counts = await countWithDefaultPlans(client);
      for (const { table, rows } of await digestTables(client)) assert.equal(counts.get(table), rows, table);
    });
  });

  it('tells what is in it', () => {
    const find = (name: string) => summary.objects.find((object) => object.name === name);
    assert.deepEqual(find('plain'), {
      ...find('plain'),
      database: 'defaultdb',
      schema: 'public',
      kind: 'table',
      rows: 18_000n,
    });
    assert.ok((find('toasted')?.sizeBytes ?? 0n) > 50n * 64_000n, 'the size of a table includes its toast');
    assert.equal(find('toasted')?.rows, 50n);
    assert.equal(find('part_1')?.rows, 300n);
    assert.equal(find('part')?.rows, 0n);
    assert.equal(find('plain_copy')?.rows, 90n);
    assert.deepEqual([find('mood')?.kind, find('mood')?.rows], ['type', null]);
    assert.deepEqual([find('odd "name')?.kind, find('ünïcode')?.schema], ['schema', 'odd "name']);
    assert.deepEqual(find('second'), {
      ...find('second'),
      database: null,
      schema: null,
      name: 'second',
      kind: 'database',
      sizeBytes: null,
      rows: summary.objects.reduce(
        (sum, object) => sum + (object.database === 'second' ? (object.rows ?? 0n) : 0n),
        0n,
      ),
    });
    assert.ok((find('second')?.rows ?? 0n) > 0n);
    for (const internal of ['system', 'template1', 'pg_class'])
      assert.equal(find(internal), undefined, internal);
    // What the writers had added by then varies; the tables that do not change are there for certain.
    assert.ok(summary.rows >= 18_000n + 50n + 300n + 90n, `${summary.rows} rows`);
    assert.ok(summary.indexEntries >= 18_000n * 3n, `${summary.indexEntries} index entries`);
    assert.equal(summary.virtualClusterName, 'main');
    assert.equal(summary.incarnation, rig.source.identity.incarnation);
    assert.ok(summary.bytes > 20_000_000n && summary.storedBytes < summary.bytes);
  });

  it('is listed, and read back without a worker', async () => {
    const options = {
      collection: rig.collection,
      subdirectory: summary.subdirectory,
      key: rig.key,
      signal: NEVER,
    };
    assert.deepEqual(await rig.reader.list(rig.collection, { signal: NEVER }), [summary.subdirectory]);
    assert.equal(await rig.reader.latest(rig.collection, { signal: NEVER }), summary.subdirectory);
    assert.deepEqual(await rig.reader.summary(options), summary);
    assert.deepEqual(await rig.reader.missingFiles(options), []);
  });

  it('leaves nothing behind in the source', async () => {
    const rows = await rig.source.withSystemClient(
      (client) =>
        client.query(`SELECT (SELECT count(*) FROM pg_replication_slots)::text AS slots,
                             (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'atoll backup')::text AS sessions`),
      { signal: NEVER },
    );
    assert.deepEqual(rows, [{ slots: '0', sessions: '0' }]);
  });

  it('materializes what Postgres needs, for its own user only, again when asked again', async () => {
    const target = await rig.beginTarget();
    const first = await rig.materialize(target, summary);
    const second = await rig.materialize(target, summary);
    assert.deepEqual(second.summary, first.summary);
    const names = await readdir(target.targetDirectory, { recursive: true });
    for (const folder of DATA_DIRECTORY_FOLDERS) assert.ok(names.includes(folder), folder);
    for (const name of [
      'postmaster.pid',
      'postgresql.conf',
      'postgresql.auto.conf',
      'pg_hba.conf',
      'pg_ident.conf',
    ]) {
      assert.ok(!names.includes(name), name);
    }
    for (const name of ['.', ...names]) {
      const status = await stat(join(target.targetDirectory, name));
      assert.equal(status.mode & 0o777, status.isDirectory() ? 0o700 : 0o600, name);
      if (target.uid !== null) assert.equal(status.uid, target.uid, name);
    }
    const { virtualClusterId, incarnation } = target;
    await rig.store.host.abandonIncarnation({ virtualClusterId, incarnation });
  });
});
