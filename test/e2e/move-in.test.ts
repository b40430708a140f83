import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BareEngine } from '../harness/bare-engine.ts';
import { findDamage } from '../harness/oracle.ts';
import { Site } from '../harness/sites.ts';
import { TcpProxy } from '../harness/tcp-proxy.ts';

const SECRET = 's3cret-of-the-stream';
const HBA = `local all postgres trust
local all all scram-sha-256
local replication all scram-sha-256
`;

describe('moving in from a plain PostgreSQL server', () => {
  let source: BareEngine;
  let site: Site;
  /** Between the node and the server. */
  let network: TcpProxy;

  let hasFailed = false;
  /** Each builds on the one before. */
  const step = (name: string, run: () => Promise<void>): void => {
    void it(name, async (t) => {
      if (hasFailed) return t.skip('an earlier step failed');
      hasFailed = true;
      await run();
      hasFailed = false;
    });
  };

  /** As the server's superuser. */
  const there = async (sql: string, database = 'shop') =>
    source.use(database, async (client) => (await client.query<Record<string, unknown>>(sql)).rows);
  const uri = (user = 'mover') =>
    `postgresql://${user}:${SECRET}@127.0.0.1:${network.port}/postgres?sslmode=disable`;
  const create = (user?: string) =>
    `CREATE VIRTUAL CLUSTER main FROM REPLICATION OF system ON '${uri(user)}'`;
  const slots = async () =>
    (await there('SELECT slot_name FROM pg_replication_slots')).map((row) => row['slot_name']);

  before(async () => {
    source = await BareEngine.open({ superuser: 'postgres' });
    await writeFile(join(source.dataDirectory, 'pg_hba.conf'), HBA);
    await source.start();
    await there('CREATE DATABASE shop', 'postgres');
    await there(`CREATE ROLE mover LOGIN REPLICATION PASSWORD '${SECRET}'`);
    await there(`CREATE ROLE clerk LOGIN PASSWORD 'p4ssword-of-clerk'`);
    await there(`ALTER ROLE postgres PASSWORD 'p4ssword-of-postgres'`);
    await there('CREATE TABLE orders (id serial PRIMARY KEY, note text); ALTER TABLE orders OWNER TO clerk');
    await there(
      'CREATE TABLE stock (id int PRIMARY KEY, left_over int); INSERT INTO stock SELECT i, i FROM generate_series(1, 20000) i',
    );
    await there(`INSERT INTO orders (note) VALUES ('before the stream')`);
    network = await TcpProxy.start(() => join(source.directory, '.s.PGSQL.5432'));
    site = await Site.start({ flags: ['--virtualized-empty'] });
  });

  after(async () => {
    await site?.[Symbol.asyncDispose]();
    await network?.[Symbol.asyncDispose]();
    await source?.[Symbol.asyncDispose]();
  });

  step('follows the server', async () => {
    await site.system(create());
    await site.whenIn('replicating');
    await there(`INSERT INTO orders (note) VALUES ('while it is followed')`);
  });

  step('becomes a virtual cluster', async () => {
    await site.system('ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST');
    await site.whenIn('ready');
    await site.system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    await site.whenServing();
    const notes = await site.daemon.query('SELECT note FROM orders ORDER BY id', {
      cluster: 'main',
      database: 'shop',
    });
    assert.deepEqual(
      notes.map((row) => row['note']),
      ['before the stream', 'while it is followed'],
    );
    assert.deepEqual(await slots(), []);
    const { id } = await site.status();
    const options = { store: site.daemon.store, virtualClusterId: Number(id), database: 'shop' };
    assert.deepEqual(await findDamage(options), []);
  });
});
