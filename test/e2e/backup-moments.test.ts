/** Backups of a moment, revision history, and what can be known of a restore before it: as a user meets them. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { BareEngine } from '../harness/bare-engine.ts';
import { createCluster, dropCluster } from '../harness/clusters.ts';
import { ATOLL, TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';
import { waitFor } from '../harness/wait.ts';

type Row = Record<string, unknown>;

const C = "'nodelocal://1/moments'";
const run = promisify(execFile);

describe('backups of a moment', () => {
  let daemon: TestDaemon;
  const main = (sql: string | readonly string[]) => daemon.query(sql, { cluster: 'main' });
  const moments: string[] = [];

  async function write(note: string): Promise<void> {
    await main(`INSERT INTO diary (note) VALUES ('${note}')`);
    const [row] = await main('SELECT clock_timestamp()::text AS at');
    moments.push(String(row?.['at']));
  }

  async function notesOf(cluster: string): Promise<string> {
    const [row] = await daemon.query("SELECT string_agg(note, ',' ORDER BY id) AS notes FROM diary", {
      cluster,
    });
    return String(row?.['notes']);
  }

  const endOf = async (collection: string) =>
    String(
      (await main(`SELECT max(end_time)::text AS at FROM [SHOW BACKUP FROM LATEST IN ${collection}]`))[0]?.[
        'at'
      ],
    );

  async function refusal(
    sql: string,
    cluster = 'main',
  ): Promise<{ code: string; message: string; hint: string }> {
    return daemon.query(sql, { cluster }).then(
      () => assert.fail(`${sql} was not refused`),
      (error: unknown) => error as { code: string; message: string; hint: string }, // What node-postgres throws.
    );
  }

  before(async () => {
    daemon = await TestDaemon.start();
    await main([
      'CREATE TABLE diary (id serial PRIMARY KEY, note text)',
      'CREATE TABLE other AS SELECT 1 AS a',
    ]);
    await write('first');
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  test('with revision history lead to every moment since the full one', async () => {
    // There may be no base yet: then one is captured first.
    const [full] = await main(`BACKUP INTO ${C} WITH revision_history`);
    assert.equal(full?.['status'], 'succeeded');
    await write('second');
    await main("UPDATE diary SET note = 'FIRST' WHERE note = 'first'");
    await write('third');
    await main(`BACKUP INTO LATEST IN ${C} WITH OPTIONS (revision_history = 'true', verify)`);
    const layers = await main(
      `SELECT DISTINCT backup_type, start_time, end_time, revision_start_time
         FROM [SHOW BACKUP FROM LATEST IN ${C} WITH revision_start_time] ORDER BY end_time`,
    );
    assert.deepEqual(
      layers.map((row) => row['backup_type']),
      ['full', 'incremental'],
    );
    assert.deepEqual(layers[1]?.['revision_start_time'], layers[0]?.['end_time']);
    assert.ok(layers[0]?.['revision_start_time'] instanceof Date);
    for (const [asOf, notes] of [
      [moments[1], 'first,second'],
      [undefined, 'FIRST,second,third'],
    ] as const) {
      await createCluster(daemon, 'past');
      const clause = asOf === undefined ? '' : ` AS OF SYSTEM TIME '${asOf}'`;
      await daemon.query(`RESTORE FROM LATEST IN ${C}${clause}`, { cluster: 'past' });
      assert.equal(await notesOf('past'), notes);
      await dropCluster(daemon, 'past');
    }
  });

  test('are of the moment that is named, in every way of naming it', async () => {
    const [times] = await main(
      `SELECT clock_timestamp()::text AS text,
              ((extract(epoch FROM clock_timestamp()) * 1000000)::int8 * 1000)::text AS decimal`,
    );
    await write('fourth');
    for (const [index, asOf] of [
      `'${String(times?.['text'])}'`,
      `${String(times?.['decimal'])}.0000000001`,
    ].entries()) {
      await main(`BACKUP INTO 'nodelocal://1/form${index}' AS OF SYSTEM TIME ${asOf}`);
    }
    assert.equal(await endOf("'nodelocal://1/form0'"), times?.['text']);
    const client = await daemon.connect({ cluster: 'main' });
    await client.query("BACKUP INTO 'nodelocal://1/form2' AS OF SYSTEM TIME $1", ['-1s']);
    await client.end();
    const [late] = await main(
      `SELECT clock_timestamp() - max(end_time) > interval '1 second' AS is_late
         FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/form2']`,
    );
    assert.equal(late?.['is_late'], true);
    await createCluster(daemon, 'named');
    await daemon.query("RESTORE FROM LATEST IN 'nodelocal://1/form0'", { cluster: 'named' });
    assert.equal(await notesOf('named'), 'FIRST,second,third');
    await dropCluster(daemon, 'named');
  });

  test('are put on top of earlier ones, and of nothing later', async () => {
    const [row] = await main('SELECT clock_timestamp()::text AS at');
    await write('fifth');
    await main(`BACKUP INTO LATEST IN 'nodelocal://1/form0' AS OF SYSTEM TIME '${String(row?.['at'])}'`);
    assert.equal(await endOf("'nodelocal://1/form0'"), row?.['at']);
    const backwards = await refusal(
      `BACKUP INTO LATEST IN 'nodelocal://1/form0' AS OF SYSTEM TIME '${moments[2]}'`,
    );
    assert.equal(backwards.code, '22023');
    assert.match(backwards.message, /cannot build on backup .*, which ends at/);
    const between = await refusal(`RESTORE FROM LATEST IN 'nodelocal://1/form0' AS OF SYSTEM TIME '-1us'`);
    assert.match(
      between.message,
      /^invalid RESTORE timestamp: restoring to arbitrary time requires that BACKUP/,
    );
    const at = String.raw`\d{4}-\d\d-\d\d [\d:.]+\+00`;
    assert.match(String(between.hint), new RegExp(`^it can be restored to ${at}; ${at}: SHOW BACKUP`));
  });

  test('are refused for moments outside the window, and to come', async () => {
    const early = await refusal(`BACKUP INTO 'nodelocal://1/none' AS OF SYSTEM TIME '-10h'`);
    assert.equal(early.code, '22023');
    assert.match(early.message, /the window is from \d{4}-\d\d-\d\d .* to \d{4}-/);
    const late = await refusal(`BACKUP INTO 'nodelocal://1/none' AS OF SYSTEM TIME '2999-01-01'`);
    assert.equal(late.code, '22023');
    assert.match(late.message, /cannot specify timestamp in the future/);
    assert.equal((await refusal(`BACKUP INTO 'nodelocal://1/none' AS OF SYSTEM TIME 'soon'`)).code, '22007');
    assert.deepEqual(await main("SHOW BACKUPS IN 'nodelocal://1/none'"), []);
  });

  test('of a schedule are of the time they were due', async () => {
    const [{ schedule_id: id } = {}] = await main(
      "CREATE SCHEDULE due FOR BACKUP INTO 'nodelocal://1/due' RECURRING '@daily' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS first_run = 'now'",
    );
    const job = await waitFor('the scheduled backup', async () => {
      const [first] = await main(`SELECT job_id, status FROM [SHOW JOBS FOR SCHEDULE ${String(id)}]`);
      return first?.['status'] === 'succeeded' && first['job_id'];
    });
    const [described] = await main(`SELECT description FROM [SHOW JOB ${String(job)}]`);
    const asOf = /AS OF SYSTEM TIME '([^']+)'/.exec(String(described?.['description']))?.[1];
    assert.ok(asOf !== undefined, JSON.stringify(described));
    const [same] = await main(
      `SELECT max(end_time) = '${asOf}'::timestamptz AS same FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/due']`,
    );
    assert.equal(same?.['same'], true);
    await main(`DROP SCHEDULE ${String(id)}`);
  });

  test('tell beforehand what a restore would do, and do nothing', async () => {
    await createCluster(daemon, 'dry');
    const dry = (sql: string) => daemon.query(sql, { cluster: 'dry' });
    const [plan] = await dry(`RESTORE FROM LATEST IN ${C} AS OF SYSTEM TIME '${moments[1]}' WITH dry_run`);
    assert.equal(plan?.['backup_type'], 'incremental');
    assert.equal(
      Number(plan?.['as_of']),
      Date.parse(String(moments[1])),
      'in milliseconds, as clients read it',
    );
    assert.equal(Number(plan?.['databases']), 2);
    assert.ok(Number(plan?.['bytes_to_write']) > 1_000_000 && Number(plan?.['estimated_seconds']) > 0);
    assert.deepEqual(await dry("SELECT 1 FROM [SHOW JOBS] WHERE job_type = 'RESTORE'"), []);
    assert.deepEqual(await dry("SELECT 1 FROM pg_class WHERE relname = 'diary'"), []);
    assert.equal((await refusal(`RESTORE FROM LATEST IN ${C} WITH dry_run`, 'main')).code, '55000');
    const [shown] = await main(
      `SELECT restore_bytes, restore_seconds, object_name FROM [SHOW BACKUP FROM LATEST IN ${C} WITH restore_estimate] LIMIT 1`,
    );
    assert.ok(Number(shown?.['restore_bytes']) > 0 && Number(shown?.['restore_seconds']) > 0);
    const manifests = await main(`SHOW BACKUP FROM LATEST IN ${C} WITH as_json`);
    const [first] = manifests.map((row: Row) => row['manifest'] as { entryCounts: { rows: string } });
    assert.equal(manifests.length, 2);
    assert.ok(BigInt(first?.entryCounts.rows ?? '') > 0n);
    await dropCluster(daemon, 'dry');
  });

  test('are restored from where a job was paused, and need nothing again that was done', async () => {
    const system = (sql: string) => daemon.query(sql, { cluster: 'system', database: 'defaultdb' });
    await main("BACKUP INTO 'nodelocal://1/paused'");
    await createCluster(daemon, 'slow');
    await system("SET CLUSTER SETTING jobs.debug.pausepoints = 'restore.before_publishing_descriptors'");
    const paused = await refusal("RESTORE FROM LATEST IN 'nodelocal://1/paused'", 'slow');
    assert.equal(paused.code, '55000', paused.message);
    const id = /^job (\d+) was paused/.exec(paused.message)?.[1];
    assert.ok(id !== undefined, paused.message);
    await system('RESET CLUSTER SETTING jobs.debug.pausepoints');
    await rm(join(daemon.store, 'extern', 'paused'), { recursive: true });
    await system(`RESUME JOB ${id}`);
    await waitFor('the restore to end', async () => {
      const [job] = await system(`SELECT status FROM [SHOW JOB ${id}]`);
      return ['succeeded', 'failed'].includes(String(job?.['status'])) && job;
    });
    assert.equal(await notesOf('slow'), await notesOf('main'));
    await dropCluster(daemon, 'slow');
  });

  test('become data directories of an ordinary PostgreSQL, without a cluster', async () => {
    await using engine = await BareEngine.open();
    const to = join(engine.directory, 'restored');
    const restore = (...more: readonly string[]) =>
      run(ATOLL, [
        'restore',
        'nodelocal://1/moments',
        `--external-io-dir=${join(daemon.store, 'extern')}`,
        `--cluster-key-file=${join(daemon.store, 'cluster-key')}`,
        `--owner=${execFileSync('id', ['-un'], { encoding: 'utf8' }).trim()}`,
        `--to=${to}`,
        ...more,
      ]);
    const { stdout: plan } = await restore(`--as-of=${moments[1]}`, '--plan');
    assert.match(plan, /virtual cluster\s+main\n.*as of\s+\d{4}-.*databases\s+defaultdb, postgres\n/s);
    await assert.rejects(filesBelow(to), { code: 'ENOENT' });
    await restore(`--as-of=${moments[1]}`);
    await assert.rejects(restore(), /is not empty/);
    if (process.getuid?.() === 0) execFileSync('chown', ['-R', 'nobody', to]);
    await engine.start({ dataDirectory: to });
    const notes = await engine.use(
      'defaultdb',
      async (client) => (await client.query('SELECT note FROM diary ORDER BY id')).rows,
    );
    assert.deepEqual(notes, [{ note: 'first' }, { note: 'second' }]);
    // It is an ordinary server: it can be stopped and started, and written to.
    await engine.use('defaultdb', (client) => client.query("INSERT INTO diary (note) VALUES ('free')"));
    await engine.stop('fast');
    await engine.start({ dataDirectory: to });
    assert.equal(
      (await engine.use('defaultdb', async (client) => (await client.query('SELECT 1 FROM diary')).rows))
        .length,
      3,
    );
    await engine.stop('fast');
    await rm(to, { recursive: true });
  });
});
