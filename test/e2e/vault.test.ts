import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { createCluster } from '../harness/clusters.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { vaultPids } from '../harness/vault-rig.ts';
import { waitFor } from '../harness/wait.ts';

const MAIN_ID = 3;

let daemon: TestDaemon;
let httpPort = 0;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

before(async () => {
  httpPort = await freePort();
  daemon = await TestDaemon.start({ flags: [`--http-addr=127.0.0.1:${httpPort}`] });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
});

/** Figures of a virtual cluster, by name without the common beginning. */
async function figures(tenant: string): Promise<Map<string, number>> {
  const response = await fetch(`http://127.0.0.1:${httpPort}/_status/vars?cluster=system`);
  const found = new Map<string, number>();
  for (const line of (await response.text()).split('\n')) {
    const match = /^timeline_vault_(\w+)\{tenant="([^"]+)"\} (\S+)$/.exec(line);
    if (match?.[2] === tenant) found.set(match[1] ?? '', Number(match[3]));
  }
  return found;
}

function incarnations(id: number): string[] {
  return readdirSync(join(daemon.store, 'timeline', String(id), 'wal'));
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

describe('the vault of a node', () => {
  test('receives the log of every virtual cluster, and its figures tell', async () => {
    await daemon.query('CREATE TABLE t AS SELECT generate_series(1, 20000) n', { cluster: 'main' });
    const main = await waitFor('log to be received', async () => {
      const found = await figures('main');
      return (found.get('received_bytes') ?? 0) > 500_000 && found;
    });
    assert.equal(main.get('receiving'), 1);
    assert.equal(main.get('gaps'), 0);
    assert.equal(main.get('out_of_room'), 0);
    assert.equal(main.get('clock_steps_count'), 0);
    assert.ok((main.get('stored_bytes') ?? 0) > 0);
    assert.equal((await figures('system')).get('receiving'), 1);
    await waitFor('time to be known', async () => {
      const age = (await figures('main')).get('restorable_through_age_seconds');
      return age !== undefined && age < 60;
    });
  });

  test('has a slot that tenants cannot touch', async () => {
    const [slot] = await daemon.query(
      `SELECT active, restart_lsn IS NOT NULL AS reserved FROM pg_replication_slots WHERE slot_name = 'atoll_vault'`,
      { cluster: 'main' },
    );
    assert.deepEqual(slot, { active: true, reserved: true });
    for (const sql of [
      `SELECT pg_drop_replication_slot('atoll_vault')`,
      `SELECT pg_replication_slot_advance('atoll_vault', pg_current_wal_lsn())`,
      `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'atoll_vault'`,
    ]) {
      await assert.rejects(daemon.query(sql, { cluster: 'main' }), { code: '42501' }, sql);
    }
  });

  test('keeps its place among those who stream', async () => {
    const node = new pg.Client({ host: join(daemon.store, 'run', '3'), user: 'atoll', database: 'system' });
    await node.connect();
    await node.query('ALTER ROLE root REPLICATION');
    const connectionString = daemon.url({ cluster: 'main' });
    const streams: pg.Client[] = [];
    const open = async () => {
      const client = new pg.Client({ connectionString, replication: 'database' } as pg.ClientConfig);
      client.on('error', () => undefined);
      await client.connect();
      streams.push(client);
    };
    for (let count = 0; count < 8; count++) await open();
    await assert.rejects(open(), { code: '53300' });
    const [slot] = await daemon.query(
      `SELECT active FROM pg_replication_slots WHERE slot_name = 'atoll_vault'`,
      { cluster: 'main' },
    );
    assert.deepEqual(slot, { active: true });
    for (const client of streams) await client.end();
    await node.query('ALTER ROLE root NOREPLICATION');
    await node.end();
  });

  test('heeds a changed limit while it receives', async () => {
    const system = (sql: string) => daemon.query(sql, { cluster: 'system' });
    const isOutOfRoom = async () => (await figures('main')).get('out_of_room');
    await system(`ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING timeline.size_max = '64 MiB'`);
    await daemon.query('CREATE TABLE much AS SELECT md5(n::text) AS h FROM generate_series(1, 1000000) n', {
      cluster: 'main',
    });
    await waitFor('the vault to stop', async () => {
      if ((await isOutOfRoom()) === 1) return true;
      // A base that is captured meanwhile lets log before it go.
      await daemon.query('INSERT INTO much SELECT md5(n::text) FROM generate_series(1, 200000) n', {
        cluster: 'main',
      });
      return false;
    });
    await system('ALTER VIRTUAL CLUSTER main RESET CLUSTER SETTING timeline.size_max');
    await waitFor('the vault to go on', async () => (await isOutOfRoom()) === 0);
    await daemon.query('DROP TABLE much', { cluster: 'main' });
  });

  test('ends with a daemon that is killed, and the next one goes on without a gap', async () => {
    const [pid] = vaultPids(daemon.pid);
    assert.ok(pid !== undefined);
    await daemon.kill();
    await waitFor('the vault to end', () => !isAlive(pid));
    await daemon.startAgain();
    await daemon.query('INSERT INTO t SELECT generate_series(1, 20000)', { cluster: 'main' });
    const main = await waitFor('log to be received', async () => {
      const found = await figures('main');
      return (found.get('received_bytes') ?? 0) > 500_000 && found;
    });
    assert.equal(main.get('gaps'), 0);
    assert.equal(incarnations(MAIN_ID).length, 1);
  });

  test('begins anew for what RESTORE brings, and keeps what was before', async () => {
    await daemon.query(`BACKUP INTO 'nodelocal://1/vault'`, { cluster: 'main' });
    await createCluster(daemon, 'second');
    const [row] = await daemon.query('SELECT id FROM [SHOW VIRTUAL CLUSTER second]', { cluster: 'system' });
    const id = Number(row?.['id']);
    const former = await waitFor('the first incarnation', () => incarnations(id)[0]);
    await daemon.query(`RESTORE FROM LATEST IN 'nodelocal://1/vault'`, { cluster: 'second' });
    const both = await waitFor(
      'another incarnation',
      () => incarnations(id).length === 2 && incarnations(id),
    );
    assert.ok(both.includes(former));
    const current = both.find((each) => each !== former) ?? '';
    const path = join(daemon.store, 'timeline', String(id), 'wal', current, 'incarnation.json');
    const record = JSON.parse(readFileSync(path, 'utf8')) as {
      body: { timelines: { timelineId: number }[] };
    };
    assert.ok((record.body.timelines[0]?.timelineId ?? 0) > 1);
    await daemon.query('CREATE TABLE after_restore (n int)', { cluster: 'second' });
    await waitFor('its log to be received', async () => (await figures('second')).get('receiving') === 1);
    const kept = readFileSync(
      join(daemon.store, 'timeline', String(id), 'wal', former, 'incarnation.json'),
      'utf8',
    );
    assert.match(kept, /"timelineId": 1/);
    assert.doesNotMatch(kept, /"timelineId": 2/);
  });

  test('lets go when service stops, and takes up again when it starts', async () => {
    await daemon.query('ALTER VIRTUAL CLUSTER second STOP SERVICE', { cluster: 'system' });
    assert.equal((await figures('second')).size, 0);
    await daemon.query('ALTER VIRTUAL CLUSTER second START SERVICE SHARED', { cluster: 'system' });
    assert.equal((await figures('second')).get('receiving'), 1);
    assert.equal(await daemon.stop(), 0);
  });
});
