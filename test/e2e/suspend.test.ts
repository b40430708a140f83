import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';
import { scratchDirectory } from '../harness/scratch.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system', database: 'defaultdb' };
const MAIN = 3;

interface Refusal {
  readonly code: string;
}

describe('an idle virtual cluster', () => {
  let daemon: TestDaemon;
  let store: string;
  let httpPort: number;

  const system = (sql: string) => daemon.query(sql, SYSTEM);
  const inside = (sql: string) => daemon.query(sql, { cluster: 'main' });
  const start = async (fault?: string) => {
    daemon = await TestDaemon.start({
      store,
      flags: [`--http-addr=127.0.0.1:${httpPort}`],
      ...(fault === undefined ? {} : { environment: { ATOLL_TEST_FAULT_POINT: fault } }),
    });
  };

  async function shown(name = 'main'): Promise<Record<string, unknown>> {
    const [row] = await system(`SELECT * FROM [SHOW VIRTUAL CLUSTER ${name} WITH SUSPENSION]`);
    assert.ok(row !== undefined);
    return row;
  }

  async function untilSuspended(name = 'main'): Promise<Record<string, unknown>> {
    return waitFor(`${name} to be suspended`, async () => {
      const row = await shown(name);
      return row['service_mode'] === 'suspended' && row;
    });
  }

  async function untilFirstBase(id: number): Promise<void> {
    await waitFor('a first base', async () => {
      const files = await filesBelow(join(store, 'timeline', String(id), 'bases'));
      return files.some((file) => file.endsWith('/BACKUP_MANIFEST'));
    });
  }

  /** What the metrics tell of main. */
  async function figures(): Promise<Record<'suspended' | 'wakes' | 'age', number | undefined>> {
    const response = await fetch(`http://127.0.0.1:${httpPort}/_status/vars?cluster=system`);
    const text = await response.text();
    const figure = (name: string) => {
      const value = new RegExp(`^${name}\\{tenant="main"\\} (\\S+)$`, 'm').exec(text)?.[1];
      return value === undefined ? undefined : Number(value);
    };
    return {
      suspended: figure('virtual_cluster_suspended'),
      wakes: figure('virtual_cluster_wakes_count'),
      age: figure('timeline_vault_restorable_through_age_seconds'),
    };
  }

  /** Its only schedule runs next in so many seconds. */
  async function dueAgainIn(seconds: number): Promise<void> {
    await using cleanup = new AsyncDisposableStack();
    const guest = await daemon.connect({ cluster: 'main' }); // It stays awake meanwhile.
    cleanup.defer(() => guest.end());
    const node = new pg.Client({ host: join(store, 'run', String(MAIN)), user: 'atoll', database: 'system' });
    await node.connect();
    cleanup.defer(() => node.end());
    await node.query(`UPDATE public.scheduled_jobs SET next_run = now() + make_interval(secs => $1)`, [
      seconds,
    ]);
  }

  const isRunning = async (id = MAIN) => (await daemon.postmasters()).has(id);
  const values = async () => String((await inside('SELECT sum(n)::text AS sum FROM kept'))[0]?.['sum']);

  before(async () => {
    store = await scratchDirectory('atoll-test-');
    httpPort = await freePort();
    await start();
    await untilFirstBase(MAIN);
    await inside('CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n');
  });

  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
    await rm(store, { recursive: true, force: true });
  });

  it('is stopped, and started again for the next connection', async () => {
    await system(`ALTER VIRTUAL CLUSTER main SET SUSPEND AFTER '1s'`);
    const row = await untilSuspended();
    assert.equal(row['data_state'], 'ready');
    assert.ok(row['suspended_since'] instanceof Date);
    assert.equal(row['wakes_at'], null);
    assert.ok(!(await isRunning()));
    assert.deepEqual(await figures(), { suspended: 1, wakes: 0, age: 0 });
    assert.equal(await values(), '500500');
    const { suspended, wakes } = await figures();
    assert.deepEqual({ suspended, wakes }, { suspended: 0, wakes: 1 });
    assert.equal((await shown())['service_mode'], 'shared');
    assert.ok(await isRunning());
  });

  it('sleeps while others are used, and is had as it is now from its timeline', async () => {
    await inside('INSERT INTO kept VALUES (1)');
    const { suspended_since: since } = await untilSuspended();
    const [window] = await system('SHOW TIMELINE FOR VIRTUAL CLUSTER main');
    assert.ok(window?.['end_time'] instanceof Date && since instanceof Date && window['end_time'] >= since);
    await system(`CREATE VIRTUAL CLUSTER branch FROM VIRTUAL CLUSTER main`);
    await system(`CREATE VIRTUAL CLUSTER later FROM VIRTUAL CLUSTER main AS OF SYSTEM TIME '0s'`);
    assert.equal((await shown())['service_mode'], 'suspended', 'nobody had to wake it');
    for (const name of ['branch', 'later']) {
      await system(`ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`);
      const [row] = await daemon.query('SELECT sum(n)::text AS sum FROM kept', { cluster: name });
      assert.equal(row?.['sum'], '500501');
    }
    await system('ALTER VIRTUAL CLUSTER later STOP SERVICE');
    await system('DROP VIRTUAL CLUSTER later IMMEDIATE');
  });

  it('stays awake for who is connected', async () => {
    const client = await daemon.connect({ cluster: 'main' });
    await untilFirstBase(Number((await shown('branch'))['id']));
    await system(`ALTER VIRTUAL CLUSTER branch SET SUSPEND AFTER '1s'`);
    await untilSuspended('branch');
    // The other one was idle for longer, but for that connection.
    assert.equal((await shown())['service_mode'], 'shared');
    await client.end();
    await untilSuspended();
  });

  it('sleeps on when the daemon is killed, or stopped', async () => {
    await untilSuspended();
    await daemon.kill();
    await start();
    assert.equal((await shown())['service_mode'], 'suspended');
    assert.ok(!(await isRunning()));
    await daemon.stop();
    await start();
    assert.equal((await shown())['service_mode'], 'suspended');
    // Nobody but itself knows what it has set.
    const [ttl] = await system('SHOW CLUSTER SETTING gc.ttlseconds FOR VIRTUAL CLUSTER main');
    assert.deepEqual(Object.values(ttl ?? {}), ['14400']);
    assert.equal((await shown())['service_mode'], 'shared');
    assert.equal(await values(), '500501');
  });

  it('serves after the daemon was killed at any step of suspending or waking', async () => {
    for (const fault of ['suspend.stopped', 'suspend.recorded', 'wake.started']) {
      await daemon.kill(); // Quicker than an orderly stop, which is no part of this.
      await start(fault);
      const { pid } = daemon;
      // Asleep by now, or it falls asleep and is killed in doing so.
      if (fault === 'wake.started') {
        await untilSuspended();
        await inside('SELECT 1').catch(() => undefined);
      }
      await waitFor(`the daemon to be killed at ${fault}`, () => !isAlive(pid));
      await start();
      assert.equal(await values(), '500501', fault);
      await inside('UPDATE kept SET n = n');
      await untilSuspended();
      assert.equal(await values(), '500501', fault);
    }
  });

  it('is woken by its schedules', async () => {
    await inside(
      `CREATE SCHEDULE nightly FOR BACKUP INTO 'nodelocal://1/nightly' RECURRING '@yearly' FULL BACKUP ALWAYS`,
    );
    // On a slow machine the schedule is due before it sleeps: then later.
    for (let dueInS = 8; ; dueInS *= 3) {
      await dueAgainIn(dueInS);
      const { wakes_at: wakesAt } = await untilSuspended();
      assert.ok(wakesAt instanceof Date);
      if (wakesAt.getTime() < Date.now() + 3_600_000) break;
    }
    await waitFor('the schedule to wake it', async () => (await shown())['service_mode'] === 'shared');
    await untilSuspended();
    const jobs = await inside(`SELECT DISTINCT status FROM [SHOW JOBS] WHERE job_type = 'BACKUP'`);
    assert.deepEqual(jobs, [{ status: 'succeeded' }]);
  });

  it('is woken when it may sleep no more; what cannot be is refused', async () => {
    await untilSuspended();
    for (const [sql, code] of [
      [`ALTER VIRTUAL CLUSTER main SET SUSPEND AFTER '1ms'`, '22023'],
      [`ALTER VIRTUAL CLUSTER main SET SUSPEND AFTER 'soon'`, '22023'],
      [`ALTER VIRTUAL CLUSTER system SET SUSPEND AFTER '10m'`, '55000'],
      [`ALTER VIRTUAL CLUSTER nobody SET SUSPEND AFTER '10m'`, '42704'],
    ] as const) {
      await assert.rejects(system(sql), (error: Refusal) => error.code === code, sql);
    }
    assert.equal((await shown())['service_mode'], 'suspended');
    await system('ALTER VIRTUAL CLUSTER main SET SUSPEND AFTER OFF');
    const row = await shown();
    assert.deepEqual([row['service_mode'], row['suspend_after']], ['shared', null]);
    assert.ok(await isRunning());
    await system('ALTER VIRTUAL CLUSTER branch STOP SERVICE');
    assert.equal((await shown('branch'))['service_mode'], 'none');
    await system('ALTER VIRTUAL CLUSTER branch START SERVICE SHARED');
    assert.equal((await shown('branch'))['service_mode'], 'shared');
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
