import assert from 'node:assert/strict';
import { chmod, chown, mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import pg from 'pg';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';
import { scratchDirectory } from '../harness/scratch.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system', database: 'defaultdb' };
const MAIN = 3;
const ROWS = 200_000;

interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
}

/** Steps of the way back at which the daemon is killed, one after the other in one reset. */
const CUTS = ['reset.back_begun', 'reset.back_filled', 'reset.back_proved', 'reset.back_committed'] as const;

describe('a reset to a moment that cannot be recovered', () => {
  let daemon: TestDaemon;
  let store: string;
  let bad: string;
  let tablespace: string;

  const system = (sql: string) => daemon.query(sql, SYSTEM);
  const inside = (sql: string) => daemon.query(sql, { cluster: 'main' });
  const reset = () =>
    `ALTER VIRTUAL CLUSTER main RESET DATA TO VIRTUAL CLUSTER main AS OF SYSTEM TIME '${bad}'`;

  const bases = async () =>
    (await filesBelow(join(store, 'timeline', String(MAIN), 'bases')).catch(() => [])).filter((file) =>
      file.endsWith('/BACKUP_MANIFEST'),
    ).length;

  async function newestReset(): Promise<Record<string, unknown> | undefined> {
    const jobs = await system(
      `SELECT * FROM [SHOW JOBS] WHERE job_type = 'RESET DATA' ORDER BY created DESC`,
    );
    return jobs[0];
  }

  async function assertAsBefore(): Promise<void> {
    await system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    const [found] = await inside('SELECT sum(id)::text AS sum, count(*)::text AS count FROM kept');
    assert.deepEqual(found, { sum: String((-ROWS * (ROWS + 1)) / 2), count: String(ROWS) });
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
  }

  /** What nobody but the node may do, and what replay cannot do again once its folder is gone. */
  async function asNode(statement: string): Promise<void> {
    const client = new pg.Client({
      host: join(store, 'run', String(MAIN)),
      user: 'atoll',
      database: 'system',
    });
    await client.connect();
    try {
      await client.query(statement);
    } finally {
      await client.end();
    }
  }

  before(async () => {
    store = await scratchDirectory('atoll-test-');
    tablespace = await scratchDirectory('atoll-test-');
    daemon = await TestDaemon.start({ store });
    await waitFor('the first base', async () => (await bases()) >= 1);
    await inside(`CREATE TABLE kept AS SELECT generate_series(1, ${ROWS}) AS id`);
    const incarnation = (await readdir(join(store, 'vc', String(MAIN)))).find((name) =>
      /^[0-9a-f-]{36}$/.test(name),
    );
    const { uid, gid } = await stat(join(store, 'vc', String(MAIN), incarnation ?? ''));
    const location = join(tablespace, 'elsewhere');
    await mkdir(location);
    await chmod(tablespace, 0o711);
    await chown(location, uid, gid).catch(() => undefined); // Not as a normal user, whose it is.
    await asNode(`CREATE TABLESPACE elsewhere LOCATION '${location}'`);
    const [row] = await inside('SELECT clock_timestamp()::text AS at');
    bad = String(row?.['at']);
    await asNode('DROP TABLESPACE elsewhere');
    await rm(location, { recursive: true });
    // A base after it leads to the present past the log that cannot be replayed.
    await system(`ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING timeline.base.wal_size = '16 MiB'`);
    await inside('UPDATE kept SET id = -id');
    await waitFor('a second base', async () => (await bases()) >= 2);
    await system(`ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING timeline.base.wal_size = '10 GiB'`);
    // Longer than anybody waits: what cannot help is not waited for.
    await system(`SET CLUSTER SETTING jobs.registry.retry.initial_delay = '1h'`);
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
  });

  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
    await rm(store, { recursive: true, force: true });
    await rm(tablespace, { recursive: true, force: true });
  });

  it('says why at once, and has put the data back', async () => {
    await assert.rejects(system(reset()), (error: Refusal) => {
      assert.equal(error.code, '58000', error.message);
      assert.match(error.message, /^the data at [0-9A-F]+\/[0-9A-F]+ could not be recovered: /);
      assert.match(error.hint ?? '', /its data is what it was before/);
      return true;
    });
    const job = await newestReset();
    assert.equal(job?.['status'], 'failed');
    assert.match(String(job?.['error']), /could not be recovered/);
    await assertAsBefore();
  });

  it('puts the data back though the daemon is killed at each step of that', async () => {
    await daemon.stop();
    let isAsked = false;
    for (const cut of CUTS) {
      const started = await TestDaemon.start({ store, environment: { ATOLL_TEST_FAULT_POINT: cut } }).catch(
        (error: unknown) => {
          // Killed by its fault point before it listened.
          assert.match(String(error), /the daemon ended with null/);
          return null;
        },
      );
      if (started === null) continue;
      daemon = started;
      if (!isAsked) await system(reset()).catch(() => undefined);
      isAsked = true;
      await waitFor(`the daemon to be killed at ${cut}`, () => !isAlive(started.pid));
    }
    daemon = await TestDaemon.start({ store });
    await waitFor('the job to end', async () => (await newestReset())?.['status'] === 'failed');
    assert.match(String((await newestReset())?.['error']), /could not be recovered/);
    await assertAsBefore();
    const left = await readdir(join(store, 'vc', String(MAIN)));
    assert.deepEqual(
      left.filter((name) => /\.(begun|rewinding)$/.test(name)),
      [],
    );
  });

  it('can be made good by another reset when the way back fails too', async () => {
    await daemon.stop();
    // Each worker that makes the data anew is killed.
    daemon = await TestDaemon.start({
      store,
      environment: { ATOLL_TEST_FAULT_POINT: 'materialize.before_wal' },
    });
    const refused = await system(reset()).then(
      () => assert.fail('it cannot succeed'),
      (error: unknown) => error as Refusal, // What node-postgres throws.
    );
    assert.match(refused.message, /could not be recovered: .*; what it left was not taken back: /s);
    assert.equal((await newestReset())?.['status'], 'revert-failed');
    const again = /ALTER VIRTUAL CLUSTER main RESET DATA .* AS OF SYSTEM TIME '[^']+'/.exec(
      refused.hint ?? '',
    )?.[0];
    assert.ok(again !== undefined, refused.hint);
    await assert.rejects(system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED'), (error: Refusal) => {
      assert.equal(error.code, '55000');
      assert.match(error.hint ?? '', /RESET DATA/);
      return true;
    });
    await daemon.stop();
    daemon = await TestDaemon.start({ store });
    await system(again);
    await assertAsBefore();
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
