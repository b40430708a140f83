/** Backup schedules by psql's way in, on real backups, as the documents show them. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { TestDaemon } from '../harness/daemon.ts';
import { waitFor } from '../harness/wait.ts';

type Row = Record<string, unknown>;

const main = { cluster: 'main' } as const;

async function schedule(daemon: TestDaemon, id: string): Promise<Row> {
  const [row] = await daemon.query(`SELECT * FROM [SHOW SCHEDULE ${id}]`, main);
  assert.ok(row !== undefined);
  return row;
}

/** The jobs of a schedule, the newest first. */
async function jobsOf(daemon: TestDaemon, id: string): Promise<readonly Row[]> {
  return daemon.query(`SHOW JOBS FOR SCHEDULE ${id}`, main);
}

/** Numbers of 64 bits arrive as text. */
const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const isOver = (job: Row) => ['succeeded', 'failed', 'canceled'].includes(text(job['status']));

async function untilSucceeded(daemon: TestDaemon, id: string, count: number): Promise<Row> {
  const jobs = await waitFor(`${count} jobs of schedule ${id}`, async () => {
    const all = await jobsOf(daemon, id);
    return all.length >= count && all.every(isOver) && all;
  });
  for (const job of jobs) assert.equal(job['status'], 'succeeded', text(job['error']));
  const [newest] = jobs;
  assert.ok(newest !== undefined);
  return newest;
}

describe('backup schedules', () => {
  test('a weekly full and daily incremental backup of the app virtual cluster', async () => {
    await using daemon = await TestDaemon.start();
    await daemon.query(
      [
        'CREATE TABLE kept (id int PRIMARY KEY, text text)',
        "INSERT INTO kept SELECT i, 'row ' || i FROM generate_series(1, 1000) i",
      ],
      main,
    );
    const made = await daemon.query(
      `CREATE SCHEDULE schedule_label
    FOR BACKUP INTO 'nodelocal://1/backups/schedule_test'
        RECURRING '@daily';`,
      main,
    );
    assert.deepEqual(
      made.map((row) => [row['name'], row['status'], row['schedule']]),
      [
        ['schedule_label', 'PAUSED: Waiting for initial backup to complete', '@daily'],
        ['schedule_label', 'ACTIVE', '@weekly'],
      ],
    );
    assert.equal(made[0]?.['first_run'], null);
    assert.notEqual(made[1]?.['first_run'], null);
    const [incremental = '', full = ''] = made.map((row) => text(row['schedule_id']));

    await untilSucceeded(daemon, full, 1);
    await waitFor('the incremental one to be let go', async () => {
      return (await schedule(daemon, incremental))['schedule_status'] === 'ACTIVE';
    });

    // A branch brings the first base into the timeline store: from then on there is history to hold.
    await daemon.query('CREATE VIRTUAL CLUSTER branch FROM VIRTUAL CLUSTER main', { cluster: 'system' });

    // The full backup of the schedule is one like any other, and the incremental one is put on top of it.
    await daemon.query("INSERT INTO kept SELECT i, 'later ' || i FROM generate_series(1001, 1500) i", main);
    await daemon.query(`ALTER BACKUP SCHEDULE ${full} EXECUTE IMMEDIATELY`, main);
    const job = await untilSucceeded(daemon, incremental, 1);
    assert.match(text(job['description']), /IN 'nodelocal:\/\/1\/backups\/schedule_test'/);
    // It is of the very moment that it was due.
    const [whole] = await daemon.query(`SHOW JOB ${text(job['job_id'])}`, main);
    const asOf = /AS OF SYSTEM TIME '([^']+)'/.exec(text(whole?.['description']))?.[1];
    assert.ok(asOf !== undefined, text(whole?.['description']));
    const ends = await daemon.query(
      `SELECT DISTINCT end_time::text AS time, end_time = '${asOf}' AS is_due
        FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/backups/schedule_test'] ORDER BY 1 DESC`,
      main,
    );
    assert.deepEqual([ends.length, ends[0]?.['is_due'], ends[1]?.['is_due']], [2, true, false]);
    // What the next incremental builds upon is held in the timeline store.
    const pin = `schedule-${full}.pin`;
    const pins = async () =>
      (await readdir(daemon.store, { recursive: true })).filter((name) => name.endsWith(pin));
    await waitFor('the pin', async () => (await pins()).length === 1);
    const fulls = await daemon.query("SHOW BACKUPS IN 'nodelocal://1/backups/schedule_test'", main);
    assert.equal(fulls.length, 1);

    await daemon.query(
      [
        'CREATE VIRTUAL CLUSTER again',
        'ALTER VIRTUAL CLUSTER again GRANT ALL CAPABILITIES',
        'ALTER VIRTUAL CLUSTER again START SERVICE SHARED',
      ],
      { cluster: 'system' },
    );
    const again = { cluster: 'again' } as const;
    await daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/backups/schedule_test'", again);
    const [count] = await daemon.query('SELECT count(*)::int AS count FROM kept', again);
    assert.equal(count?.['count'], 1500);
    // Schedules are part of the backup, and wait for somebody to decide where they may write.
    const restored = await daemon.query('SHOW SCHEDULES', again);
    assert.deepEqual(
      restored.map((row) => [row['label'], row['schedule_status']]),
      [
        ['schedule_label', 'PAUSED'],
        ['schedule_label', 'PAUSED'],
      ],
    );
    assert.match(text(restored[0]?.['state']), /restored or failed over/);
    await daemon.query(`DROP SCHEDULE ${full}`, main);
    assert.deepEqual(await pins(), []);
    await daemon.stop();
  });

  test('a connection named for the storage, in a schedule and by hand', async () => {
    await using daemon = await TestDaemon.start();
    await daemon.query("CREATE EXTERNAL CONNECTION backup_s3 AS 'nodelocal://1/bucket'", main);
    await daemon.query("BACKUP INTO 'external://backup_s3/app'", main);
    const [shown] = await daemon.query("SHOW BACKUPS IN 'nodelocal://1/bucket/app'", main);
    assert.ok(shown !== undefined);
    const [made] = await daemon.query(
      "CREATE SCHEDULE IF NOT EXISTS nightly FOR BACKUP INTO 'external://backup_s3/nightly' RECURRING '@daily' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS first_run = 'now'",
      main,
    );
    await untilSucceeded(daemon, text(made?.['schedule_id']), 1);
    // Secrets are in no log, neither ours nor Postgres's.
    const secret = 'gehe1mnis';
    const uri = `postgresql://u:${secret}@h/d?sslpassword=${secret}`;
    for (const statement of [
      `CREATE EXTERNAL CONNECTION server AS '${uri}'`,
      `CREATE EXTERNAL CONNECTION server AS '${uri}'`,
      `CREATE EXTERNAL CONNECTION broken AS '${uri}' nonsense`,
      `CREATE SCHEDULE FOR BACKUP INTO 's3://b/p?AWS_SECRET_ACCESS_KEY=${secret}' RECURRING '@daily'`,
      "BACKUP INTO 'external://server/x'",
    ]) {
      const told = await daemon.query(statement, main).then(JSON.stringify, String);
      assert.ok(!told.includes(secret), statement);
    }
    const logs = (await readdir(daemon.store, { recursive: true })).filter((name) =>
      /(^|\/)[^/]*\.log$/.test(name),
    );
    assert.ok(logs.length >= 2, logs.join(', '));
    for (const log of logs)
      assert.ok(!(await readFile(join(daemon.store, log), 'utf8')).includes(secret), log);

    // As a table of a query, in both protocols.
    const client = await daemon.connect(main);
    const source = 'WITH x AS (SHOW SCHEDULES) SELECT id FROM x';
    assert.equal((await client.query(source)).rowCount, 1);
    const chosen = await client.query(`${source} WHERE label = $1`, ['nightly']);
    assert.deepEqual(chosen.rows, [{ id: made?.['schedule_id'] }]);
    const paused = await client.query(`PAUSE SCHEDULES ${source} WHERE label = $1`, ['nightly']);
    assert.equal(paused.command, 'PAUSE');
    assert.equal((await schedule(daemon, text(made?.['schedule_id'])))['schedule_status'], 'PAUSED');
    await client.end();
    const backups = await daemon.query("SHOW BACKUPS IN 'external://backup_s3/nightly'", main);
    assert.equal(backups.length, 1);
    await daemon.stop();
  });

  test('a daemon that is killed again and again runs each time once', async () => {
    await using daemon = await TestDaemon.start();
    await daemon.query('CREATE TABLE kept AS SELECT generate_series(1, 20000) AS id', main);
    const [made] = await daemon.query(
      "CREATE SCHEDULE s FOR BACKUP INTO 'nodelocal://1/killed' RECURRING '@yearly' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS first_run = 'now'",
      main,
    );
    const id = text(made?.['schedule_id']);
    const moments: readonly (readonly [string, (jobs: readonly Row[]) => boolean])[] = [
      ['when it was asked to run', () => true],
      ['when the job is there', (jobs) => !jobs.every(isOver)],
      ['when the job runs', (jobs) => jobs.some((job) => job['status'] === 'running')],
      ['when the job is over', (jobs) => jobs.length > 0 && jobs.every(isOver)],
    ];
    for (const [index, [moment, isNow]] of moments.entries()) {
      // Asked for again before it has begun, it would run once for both.
      await untilSucceeded(daemon, id, index + 1);
      await daemon.query(`ALTER BACKUP SCHEDULE ${id} EXECUTE FULL IMMEDIATELY`, main);
      await waitFor(moment, async () => isNow(await jobsOf(daemon, id)));
      await daemon.kill();
      await daemon.startAgain();
    }
    const jobs = await waitFor('all runs, each once', async () => {
      const all = await jobsOf(daemon, id);
      return all.length === moments.length + 1 && all.every(isOver) && all;
    });
    for (const job of jobs) assert.equal(job['status'], 'succeeded', text(job['error']));
    const [twice] = await daemon.query(
      `SELECT count(*)::int AS count FROM [SHOW JOBS FOR SCHEDULE ${id}] GROUP BY description HAVING count(*) > 1`,
      main,
    );
    assert.equal(twice, undefined);
    const backups = await daemon.query("SHOW BACKUPS IN 'nodelocal://1/killed'", main);
    assert.equal(backups.length, jobs.length);
    const nextRun = (await schedule(daemon, id))['next_run'];
    assert.ok(nextRun instanceof Date);
    assert.match(nextRun.toISOString(), /^\d{4}-01-01T00:00:00/);
    await daemon.stop();
  });
});
