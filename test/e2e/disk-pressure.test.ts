import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { TestDaemon } from '../harness/daemon.ts';
import { mountSmall, NO_SMALL_DISK, unmountSmall } from '../harness/small-disk.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system', database: 'defaultdb' };
const MIB = 1024 * 1024;
const FREE_MIN_MIB = 256;
/** Some 10 MiB more of main at a time, slower than they are noticed. */
const GROWTH_PAUSE_MS = 3000;

interface Refusal {
  readonly code: string;
}

const mounted = await mountSmall(1800);
const skip = mounted === null && NO_SMALL_DISK;

describe('a disk that gets full', { skip }, () => {
  const directory = mounted ?? '';
  const store = join(directory, 'store');
  const filler = join(directory, 'filler');
  let daemon: TestDaemon;

  const system = (sql: string) => daemon.query(sql, SYSTEM);
  const inside = (cluster: string, sql: string) => daemon.query(sql, { cluster });
  const freeMib = async () => {
    const { bavail, bsize } = await statfs(directory);
    return (bavail * bsize) / MIB;
  };

  /** Takes room until so much is left. */
  async function leave(megabytes: number): Promise<void> {
    const more = Math.floor((await freeMib()) - megabytes) * MIB;
    if (more <= 0) return;
    const held = await stat(filler).catch(() => ({ size: 0 }));
    execFileSync('fallocate', ['-l', String(held.size + more), filler]);
  }

  async function serviceOf(name: string): Promise<unknown> {
    const [row] = await system(`SELECT service_mode FROM [SHOW VIRTUAL CLUSTER ${name}]`);
    return row?.['service_mode'];
  }

  async function asNode(sql: string): Promise<Record<string, unknown>[]> {
    const client = new pg.Client({ host: join(store, 'run', '3'), user: 'atoll', database: 'system' });
    await client.connect();
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  }

  const slots = async () =>
    (await asNode(`SELECT slot_name FROM pg_replication_slots WHERE slot_name !~ '^atoll_'`)).length;

  const rows = async () => Number((await inside('main', 'SELECT count(*) AS n FROM kept'))[0]?.['n']);

  before(async () => {
    await mkdir(store);
    daemon = await TestDaemon.start({ store });
    await system(`SET CLUSTER SETTING timeline.disk.free_min = '${FREE_MIN_MIB} MiB'`);
    await system(`SET CLUSTER SETTING timeline.disk.ballast = '16 MiB'`);
    await system('CREATE VIRTUAL CLUSTER other');
    await system('ALTER VIRTUAL CLUSTER other START SERVICE SHARED');
    await inside('other', 'CREATE TABLE kept (n int)');
    await inside('main', 'CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n');
    // A first base begins a segment of log: later it would look like growth of somebody who does nothing.
    for (const name of ['main', 'other']) {
      await waitFor(`a base of ${name}`, async () => {
        const bases = await system(
          `SELECT 1 FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER ${name}] WHERE kind = 'base'`,
        );
        return bases.length > 0;
      });
    }
  });

  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
    for (const pid of (await daemon?.postmasters().catch(() => undefined))?.values() ?? []) {
      process.kill(pid, 'SIGQUIT');
    }
    await waitFor('nothing to be open on the small disk', async () => {
      await unmountSmall(directory);
      return true;
    });
  });

  it('gives up slots of tenants that keep log, and no others', async () => {
    await asNode(`SELECT pg_create_physical_replication_slot('idle', true)`);
    await inside('main', `CREATE TABLE churn AS SELECT md5(n::text) AS h FROM generate_series(1, 1000000) n`);
    await inside('main', 'DROP TABLE churn');
    // A slot begins where replay would begin.
    await asNode('CHECKPOINT');
    await asNode(`SELECT pg_create_physical_replication_slot('fresh', true)`);
    assert.equal(await slots(), 2);
    await leave(FREE_MIN_MIB * 2.5);
    await waitFor('the slot to be given up', async () => (await slots()) === 1);
    // The slot is gone first.
    await waitFor('word of it', async () =>
      /T3,main.*gave up replication slot "idle", which kept log/.test(
        await readFile(join(store, 'logs', 'atoll.log'), 'utf8'),
      ),
    );
    // A capture that happens to be under way holds one of its own beside the vault's.
    const own = await asNode(`SELECT slot_name FROM pg_replication_slots WHERE slot_name = 'atoll_vault'`);
    assert.equal(own.length, 1);
  });

  it('lets whoever takes the last room write no more, and nobody else', async () => {
    await leave(FREE_MIN_MIB * 0.9);
    let grownMs = Number.NEGATIVE_INFINITY;
    await waitFor('main to be read-only', async () => {
      // Windows give way meanwhile: what that frees is taken as well.
      await leave(FREE_MIN_MIB * 0.4);
      if ((await serviceOf('main')) === 'read-only') return true;
      // What it had grown before it was measured does not count.
      if (performance.now() - grownMs < GROWTH_PAUSE_MS) return false;
      await inside('main', 'INSERT INTO kept SELECT generate_series(1, 100000)').catch(() => undefined);
      grownMs = performance.now();
      return false;
    });
    assert.equal(await serviceOf('other'), 'shared');
    await inside('other', 'INSERT INTO kept VALUES (1)');
    await system('CREATE ROLE somebody');
    assert.ok((await rows()) >= 1000);
    const client = await daemon.connect({ cluster: 'main' });
    for (const sql of [
      'INSERT INTO kept VALUES (0)',
      'SET default_transaction_read_only = off; INSERT INTO kept VALUES (0)',
      'BEGIN READ WRITE; INSERT INTO kept VALUES (0)',
      'CREATE TABLE more (n int)',
    ]) {
      await assert.rejects(client.query(sql), (error: Refusal) => /^(25006|0A000)$/.test(error.code), sql);
      await client.query('ROLLBACK');
    }
    await client.end();
  });

  it('stays so when the daemon is killed', async () => {
    await daemon.kill();
    daemon = await TestDaemon.start({ store });
    assert.equal(await serviceOf('main'), 'read-only');
    await assert.rejects(
      inside('main', 'INSERT INTO kept VALUES (0)'),
      (error: Refusal) => error.code === '25006',
    );
    // Its server is started anew, too.
    const pid = (await daemon.postmasters()).get(3);
    assert.ok(pid !== undefined);
    process.kill(pid, 'SIGQUIT');
    await waitFor(
      'another server',
      async () => (await daemon.postmasters()).get(3) !== pid && (await rows()) > 0,
    );
    await assert.rejects(
      inside('main', 'INSERT INTO kept VALUES (0)'),
      (error: Refusal) => error.code === '25006',
    );
  });

  it('gives the ballast back when next to nothing is left', async () => {
    const ballast = join(store, 'ballast');
    assert.ok(existsSync(ballast));
    await waitFor('the ballast to be given back', async () => {
      if (!existsSync(ballast)) return true;
      // Others make room meanwhile.
      await leave(FREE_MIN_MIB / 16);
      return false;
    });
  });

  it('lets everybody write again when there is room', async () => {
    const before = await rows();
    await rm(filler);
    await waitFor('main to be writable', async () => (await serviceOf('main')) === 'shared');
    await inside('main', 'INSERT INTO kept VALUES (0)');
    assert.equal(await rows(), before + 1);
    await waitFor('the ballast to be kept again', () => existsSync(join(store, 'ballast')));
    // Its log goes on where it was, so that what is written now can be had back, too.
    await waitFor('its log to be received', async () => {
      const states = await system(
        `SELECT state FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER main] WHERE kind = 'log'`,
      );
      return states.some(({ state }) => state === 'receiving');
    });
    await system('CREATE VIRTUAL CLUSTER branch FROM VIRTUAL CLUSTER main');
    await system('ALTER VIRTUAL CLUSTER branch START SERVICE SHARED');
    const [row] = await inside('branch', 'SELECT count(*) AS n FROM kept');
    assert.equal(Number(row?.['n']), before + 1);
    assert.match(await readFile(join(store, 'logs', 'atoll.log'), 'utf8'), /T3,main.*it may write again/);
  });
});
