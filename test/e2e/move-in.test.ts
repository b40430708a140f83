import assert from 'node:assert/strict';
import { chown, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import type pg from 'pg';
import { BareEngine, ownerOfTests } from '../harness/bare-engine.ts';
import { TestAuthority, writeCertificates } from '../harness/certificates.ts';
import { findDamage } from '../harness/oracle.ts';
import { Site } from '../harness/sites.ts';
import { inSteps } from '../harness/steps.ts';
import { TcpProxy } from '../harness/tcp-proxy.ts';
import { waitFor } from '../harness/wait.ts';

const SECRET = 's3cret-of-the-stream';
const PASSWORD = 'p4ssword-of-postgres';
const HBA = `local all postgres trust
local all all scram-sha-256
local replication all scram-sha-256
hostssl all,replication mover 127.0.0.0/8 scram-sha-256
`;
/** Of this machine alone, and of nobody else's server on it. */
const ADDRESS = `127.${100 + (process.pid % 100)}.${Math.trunc(process.pid / 100) % 256}.${1 + (process.ppid % 250)}`;
const ENCRYPTED = {
  listen_addresses: ADDRESS,
  ssl: 'on',
  ssl_cert_file: '../server.crt',
  ssl_key_file: '../server.key',
};
/** More than all statements together, and much less than the image. */
const MID_SCAN_BYTES = 4 * 1024 * 1024;

describe('moving in from a plain PostgreSQL server', () => {
  let source: BareEngine;
  let site: Site;
  /** Between the node and the server. */
  let network: TcpProxy;
  /** A moment that `past` can be taken back to. */
  let moment: string;

  const step = inSteps();

  /** As the server's superuser. */
  const there = async (sql: string, database = 'shop') =>
    source.use(database, async (client) => (await client.query<Record<string, unknown>>(sql)).rows);
  const write = (note: string) => there(`INSERT INTO orders (note) VALUES ('${note}')`);
  const notes = async (cluster: string) =>
    (await site.daemon.query('SELECT note FROM orders ORDER BY id', { cluster, database: 'shop' })).map(
      (row) => row['note'],
    );
  /** Encrypted, to a server whose certificate is verified. */
  const encryptedUri = (authority = 'ca.crt') =>
    `postgresql://mover:${SECRET}@${ADDRESS}:5432/postgres?sslmode=verify-full&sslrootcert=${join(source.directory, authority)}`;
  const uri = () => `postgresql://mover:${SECRET}@127.0.0.1:${network.port}/postgres?sslmode=disable`;
  const create = (name: string, from = uri()) =>
    `CREATE VIRTUAL CLUSTER ${name} FROM REPLICATION OF system ON '${from}'`;
  const slots = async () =>
    (await there('SELECT slot_name FROM pg_replication_slots')).map((row) => row['slot_name']);
  const status = async (name: string) =>
    (await site.system(`SHOW VIRTUAL CLUSTER ${name} WITH REPLICATION STATUS`))[0] ?? {};
  const whenIn = (name: string, state: string) =>
    waitFor(`${name} to be "${state}"`, async () => (await status(name))['status'] === state);
  /** Everything that was committed at the server so far has been replayed. */
  const whenCaughtUp = async (name: string) => {
    const [row] = await there('SELECT clock_timestamp() AS now');
    const { now } = row ?? {};
    await waitFor(`${name} to catch up`, async () => {
      const { replicated_time: time } = await status(name);
      return time instanceof Date && now instanceof Date && time > now;
    });
  };
  const serve = async (name: string) => {
    await whenIn(name, 'ready');
    await site.system(`ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`);
    await waitFor(`${name} to serve`, () => site.daemon.query('SELECT 1', { cluster: name }));
  };
  const assertSound = async (name: string) => {
    const { id } = await status(name);
    const options = { store: site.daemon.store, virtualClusterId: Number(id), database: 'shop' };
    assert.deepEqual(await findDamage(options), []);
  };

  before(async () => {
    source = await BareEngine.open({ superuser: 'postgres', settings: ENCRYPTED });
    const authority = await TestAuthority.make();
    await writeCertificates(source.directory, {
      'ca.crt': authority.certificate,
      'other-ca.crt': (await TestAuthority.make()).certificate,
      server: await authority.node([ADDRESS]),
    });
    const { uid, gid } = ownerOfTests();
    if (uid !== undefined && gid !== undefined) await chown(join(source.directory, 'server.key'), uid, gid);
    await writeFile(join(source.dataDirectory, 'pg_hba.conf'), HBA);
    await source.start();
    await there('CREATE DATABASE shop', 'postgres');
    await there(`CREATE ROLE mover LOGIN REPLICATION PASSWORD '${SECRET}'`);
    await there(`ALTER ROLE postgres PASSWORD '${PASSWORD}'; CREATE ROLE clerk LOGIN PASSWORD 'x'`);
    await there('CREATE TABLE orders (id serial PRIMARY KEY, note text); GRANT SELECT ON orders TO clerk');
    await there('CREATE TABLE stock AS SELECT i AS id, i % 7 AS kind FROM generate_series(1, 20000) i');
    await write('before the stream');
    network = await TcpProxy.start(() => join(source.directory, '.s.PGSQL.5432'));
    site = await Site.start({ flags: ['--virtualized-empty'] });
  });

  after(async () => {
    await site?.[Symbol.asyncDispose]();
    await network?.[Symbol.asyncDispose]();
    await source?.[Symbol.asyncDispose]();
  });

  step('is refused where it cannot be, and nothing is left', async () => {
    for (const [sql, code] of [
      [create('main').replace('OF system', 'OF shop'), '22023'],
      [`${create('main')} WITH READ VIRTUAL CLUSTER`, '0A000'],
      [create('main').replace(SECRET, 'wrong'), '28P01'],
      [create('main').replace('mover:', 'clerk:').replace(SECRET, 'x'), '42501'],
      // Of another CA; and whoever does not encrypt is not let in this way.
      [create('main', encryptedUri('other-ca.crt')), '08006'],
      [create('main', encryptedUri().replace('verify-full', 'disable')), '28000'],
    ] as const) {
      const refusal = await site.refusal(sql);
      assert.equal(refusal.code, code, refusal.message);
    }
    assert.deepEqual(await slots(), []);
    assert.equal((await site.system('SHOW VIRTUAL CLUSTERS')).length, 1);
  });

  step('keeps no log for what a daemon died in the middle of', async () => {
    for (const [point, slotsLeft] of [
      ['stream.recorded', 0],
      ['stream.reserved', 1],
    ] as const) {
      await site.restartToDieAt(point);
      await waitFor('the node to serve', () => site.system('SHOW VIRTUAL CLUSTERS'));
      await assert.rejects(site.system(create('main')));
      await site.daemon.ended();
      assert.equal((await slots()).length, slotsLeft, point);
      await site.afterDeath();
      await waitFor('the slot to be dropped', async () => (await slots()).length === 0);
      await waitFor('the node to serve', () => site.system('SHOW VIRTUAL CLUSTERS'));
      assert.equal((await site.system('SHOW VIRTUAL CLUSTERS')).length, 1, point);
    }
  });

  step('follows the server, whoever dies meanwhile', async () => {
    network.silentAtBytes = network.receivedBytes + MID_SCAN_BYTES;
    await site.system(create('main'));
    await waitFor('the middle of the scan', () => network.mode === 'silent');
    await site.daemon.kill();
    await source.stop('immediate');
    network.mode = 'refuse';
    await source.start();
    network.mode = 'pass';
    await site.daemon.startAgain();
    await whenIn('main', 'replicating');
    await site.system(create('past', encryptedUri()));
    await whenIn('past', 'replicating');
    assert.equal((await slots()).length, 2);
    await waitFor('one follower of each kind, encrypted and not', async () => {
      const followers = await there(
        `SELECT count(*) FILTER (WHERE ssl)::int AS yes, count(*) FILTER (WHERE NOT ssl)::int AS no
           FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) WHERE state = 'streaming'`,
      );
      return followers[0]?.['yes'] === 1 && followers[0]['no'] === 1;
    });
    await write('while it is followed');
    // Both ends, one after the other.
    await source.stop('immediate');
    await source.start();
    await site.daemon.kill();
    await site.daemon.startAgain();
    await write('after all have died');
    await whenCaughtUp('main');
  });

  step('rests, and goes on', async () => {
    await site.system('ALTER VIRTUAL CLUSTER main PAUSE REPLICATION');
    await write('in the pause');
    assert.equal((await status('main'))['status'], 'replication paused');
    await site.system('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
    await whenCaughtUp('main');
    for (const cluster of ['past', 'main']) {
      await waitFor(`a moment of ${cluster} that can be gone back to`, async () => {
        const { retained_time: retained } = await status(cluster);
        return retained instanceof Date;
      });
    }
    const [row] = await there('SELECT clock_timestamp()::text AS now');
    moment = String(row?.['now']);
    await write('behind the moment');
    await whenCaughtUp('past');
  });

  step('is refused what needs an Atoll at the other side', async () => {
    for (const [sql, code] of [
      ['ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST WITH DRAIN', '0A000'],
      ['ALTER VIRTUAL CLUSTER main SET REPLICATION READ VIRTUAL CLUSTER', '0A000'],
      ['ALTER VIRTUAL CLUSTER main START SERVICE SHARED', '55000'],
    ] as const) {
      assert.equal((await site.refusal(sql)).code, code, sql);
    }
    assert.equal((await status('main'))['status'], 'replicating');
  });

  step('is given up when it is paused for too long, and the server keeps nothing for it', async () => {
    await site.system(
      `SET CLUSTER SETTING physical_replication.consumer.pause_limit = '1s'`,
      'ALTER VIRTUAL CLUSTER past PAUSE REPLICATION',
    );
    await whenIn('past', 'replication error');
    await site.system('RESET CLUSTER SETTING physical_replication.consumer.pause_limit');
    await waitFor('the slot to be dropped', async () => (await slots()).length === 1);
    const job = () =>
      site.system(
        `SELECT status, error FROM [SHOW JOBS] WHERE description LIKE '%INTO VIRTUAL CLUSTER past %' ORDER BY job_id DESC LIMIT 1`,
      );
    await waitFor('its job to have failed for that reason', async () => {
      const [row] = await job();
      return row?.['status'] === 'failed' && /paused for longer/.test(String(row['error']));
    });
    await site.system('ALTER VIRTUAL CLUSTER past RESUME REPLICATION');
    await waitFor('that to be in vain', async () => {
      const [row] = await job();
      return row?.['status'] === 'failed' && /was dropped/.test(String(row['error']));
    });
    assert.equal((await status('past'))['status'], 'replication error');
    assert.equal((await status('main'))['status'], 'replicating');
  });

  step('goes back to a moment before', async () => {
    await site.system(`ALTER VIRTUAL CLUSTER past COMPLETE REPLICATION TO SYSTEM TIME '${moment}'`);
    await serve('past');
    assert.deepEqual((await notes('past')).slice(-1), ['in the pause']);
    await assertSound('past');
    assert.equal((await slots()).length, 1);
  });

  step('becomes a virtual cluster that has all that the server was told', async () => {
    await write('the last');
    // A server that stops in order has sent everything.
    await source.stop('fast');
    await site.system('ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST');
    await serve('main');
    await source.start();
    assert.deepEqual(await notes('main'), [
      'before the stream',
      'while it is followed',
      'after all have died',
      'in the pause',
      'behind the moment',
      'the last',
    ]);
    const [count] = await site.daemon.query('SELECT count(*)::int AS n FROM stock', {
      cluster: 'main',
      database: 'shop',
    });
    assert.equal(count?.['n'], 20_000);
    await assertSound('main');
  });

  step('serves whoever was the superuser, who is none any more', async () => {
    const options = { cluster: 'main', database: 'shop', user: 'postgres' };
    const [row] = await site.daemon.query(
      [
        'CREATE TABLE made_here (id int)',
        'ALTER TABLE orders ADD COLUMN more text',
        'CREATE ROLE helper LOGIN; GRANT SELECT ON orders TO helper',
        `ALTER ROLE clerk PASSWORD 'another'`,
        `SELECT rolsuper, pg_has_role('admin', 'MEMBER') AS is_admin FROM pg_roles WHERE rolname = current_user`,
      ],
      options,
    );
    assert.deepEqual(row, { rolsuper: false, is_admin: true });
    await assert.rejects(
      site.daemon.query(`COPY orders TO '/tmp/out'`, options),
      (error: unknown) => (error as pg.DatabaseError).code === '42501',
    );
  });

  step('has a timeline, backups and branches like any other', async () => {
    await site.system('ALTER VIRTUAL CLUSTER main GRANT CAPABILITY can_use_nodelocal_storage');
    await site.daemon.query(`BACKUP INTO 'nodelocal://1/moved'`, { cluster: 'main' });
    // Of before the move: its data is made that of a virtual cluster again.
    await site.system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    const before = `CREATE VIRTUAL CLUSTER branch FROM VIRTUAL CLUSTER main AS OF SYSTEM TIME '${moment}'`;
    await site.system(before);
    await serve('branch');
    assert.deepEqual((await notes('branch')).slice(-1), ['in the pause']);
    const refusal = await site.refusal(
      `ALTER VIRTUAL CLUSTER main START REPLICATION OF system ON '${uri()}'`,
    );
    assert.equal(refusal.code, '0A000', refusal.message);
  });
});
