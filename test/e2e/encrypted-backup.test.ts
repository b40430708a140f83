/** Encrypted backups of moments, by schedules and with their history: what only a whole node does. Statements are in `control/encryption.test.ts`. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createCluster, dropCluster } from '../harness/clusters.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { AwsKmsServer } from '../harness/kms-servers.ts';
import { filesBelow } from '../harness/oracle.ts';
import { waitFor } from '../harness/wait.ts';

const SECRET = 'a secret of this test';
const ROW = 'row-that-nobody-reads';

describe('encrypted backups', () => {
  let daemon: TestDaemon;
  let kms: AwsKmsServer;
  const main = (sql: string | readonly string[]) => daemon.query(sql, { cluster: 'main' });

  before(async () => {
    kms = await AwsKmsServer.start('key');
    daemon = await TestDaemon.start();
    await main([
      'CREATE TABLE diary (id serial PRIMARY KEY, note text)',
      `INSERT INTO diary (note) SELECT '${ROW}' FROM generate_series(1, 500)`,
    ]);
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    await kms[Symbol.asyncDispose]();
  });

  /** Nothing in a collection tells of the data, neither in pages nor in log. */
  async function requireClosed(collection: string): Promise<void> {
    const folder = join(daemon.store, 'extern', collection);
    const paths = await filesBelow(folder);
    assert.ok(paths.some((path) => path.endsWith('.wal')) && paths.some((path) => path.endsWith('.pack')));
    for (const path of paths) {
      const content = await readFile(join(folder, path));
      const isOpen = /ENCRYPTION-INFO|BACKUP-LOCK|metadata\//.test(path);
      assert.equal(content.subarray(0, 8).toString('latin1') === 'ATOLSEAL', !isOpen, path);
      assert.ok(!content.includes(ROW) && !content.includes('diary'), path);
    }
  }

  async function untilSucceeded(schedule: string): Promise<void> {
    const jobs = await waitFor(`a job of schedule ${schedule} to be over`, async () => {
      const all = await main(`SHOW JOBS FOR SCHEDULE ${schedule}`);
      return all.length > 0 && all.every(({ finished }) => finished !== null) && all;
    });
    for (const { status, error } of jobs) assert.equal(status, 'succeeded', String(error));
  }

  async function countIn(collection: string, keys: string, asOf = ''): Promise<string> {
    await createCluster(daemon, 'copy');
    await daemon.query(`RESTORE FROM LATEST IN '${collection}'${asOf} WITH ${keys}`, { cluster: 'copy' });
    const [row] = await daemon.query('SELECT count(*)::text AS n FROM diary', { cluster: 'copy' });
    await dropCluster(daemon, 'copy');
    return String(row?.['n']);
  }

  test('of a moment, with their history, lead to every moment since', async () => {
    const keys = `encryption_passphrase = '${SECRET}'`;
    await main(`BACKUP INTO 'nodelocal://1/history' WITH revision_history, ${keys}`);
    await main('INSERT INTO diary (note) SELECT note FROM diary');
    const [between] = await main('SELECT clock_timestamp()::text AS at');
    await main('DELETE FROM diary WHERE id % 2 = 0');
    await main(
      `BACKUP INTO LATEST IN 'nodelocal://1/history' WITH OPTIONS (revision_history = 'true', verify, ${keys})`,
    );
    await requireClosed('history');
    for (const variant of ['FILES', 'SCHEMAS']) {
      const show = `SHOW BACKUP ${variant} FROM LATEST IN 'nodelocal://1/history'`;
      assert.ok((await main(`${show} WITH ${keys}`)).length > 0, variant);
      await assert.rejects(main(show), /is encrypted/);
    }
    assert.equal(await countIn('nodelocal://1/history', keys), '500');
    const asOf = ` AS OF SYSTEM TIME '${String(between?.['at'])}'`;
    assert.equal(await countIn('nodelocal://1/history', keys, asOf), '1000');
  });

  test('are taken by schedules, whose keys nobody is shown', async () => {
    const keys = `kms = '${kms.uri('key')}'`;
    const schedules = await main(
      `CREATE SCHEDULE closed FOR BACKUP INTO 'nodelocal://1/closed' WITH ${keys}
         RECURRING '@hourly' FULL BACKUP '@daily' WITH SCHEDULE OPTIONS first_run = 'now'`,
    );
    const [incremental = '', full = ''] = schedules.map((row) => String(row['schedule_id']));
    await untilSucceeded(full);
    await waitFor('the incremental half to be let go', async () => {
      const [row] = await main(`SHOW SCHEDULE ${incremental}`);
      return row?.['schedule_status'] === 'ACTIVE';
    });
    await main(`ALTER BACKUP SCHEDULE ${incremental} EXECUTE IMMEDIATELY`);
    await untilSucceeded(incremental);
    const ends = await main(
      `SELECT DISTINCT end_time FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/closed' WITH ${keys}]`,
    );
    assert.ok(ends.length >= 2, 'a full one and what was added to it');
    await requireClosed('closed');
    const shown = JSON.stringify([
      schedules,
      await main('SHOW SCHEDULES'),
      await main('SHOW JOBS'),
      await main('SELECT * FROM system.scheduled_jobs'),
    ]);
    assert.match(shown, /redacted/);
    assert.doesNotMatch(shown, /AKIATEST|awsSecret/);
    assert.equal(await countIn('nodelocal://1/closed', keys), '500');
  });

  test('leave no secret in the log', () => {
    assert.doesNotMatch(daemon.output, new RegExp(`${SECRET}|AKIATEST|awsSecret`));
  });
});
