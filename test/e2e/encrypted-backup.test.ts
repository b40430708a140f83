/** Encrypted backups of moments, by schedules and with their history: what only a whole node does. Statements are in `control/encryption.test.ts`. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { createCluster, dropCluster } from '../harness/clusters.ts';
import { CloudTokenServer } from '../harness/cloud-tokens.ts';
import { ATOLL, TestDaemon } from '../harness/daemon.ts';
import { AwsKmsServer, AZURE_TOKEN, AzureKmsServer, GcpKmsServer } from '../harness/kms-servers.ts';
import { filesBelow } from '../harness/oracle.ts';
import { scratchDirectory } from '../harness/scratch.ts';
import { waitFor } from '../harness/wait.ts';

const run = promisify(execFile);
const SECRET = 'a secret of this test';
const GOOGLE_KEY = 'projects/p/locations/l/keyRings/r/cryptoKeys/k';
const GOOGLE_TOKEN = 'token-of-google';
const ROW = 'row-that-nobody-reads';

describe('encrypted backups', () => {
  let daemon: TestDaemon;
  let kms: AwsKmsServer;
  const main = (sql: string | readonly string[]) => daemon.query(sql, { cluster: 'main' });

  let google: GcpKmsServer;
  let azure: AzureKmsServer;
  let tokens: CloudTokenServer;
  let rights: string;

  before(async () => {
    kms = await AwsKmsServer.start('key');
    google = await GcpKmsServer.start(GOOGLE_KEY);
    google.token = GOOGLE_TOKEN;
    azure = await AzureKmsServer.start();
    tokens = await CloudTokenServer.start({ google: GOOGLE_TOKEN, azure: AZURE_TOKEN });
    rights = await scratchDirectory('atoll-rights-');
    const authority = join(rights, 'ca.pem');
    await writeFile(authority, azure.authority);
    daemon = await TestDaemon.start({
      environment: { ...(await tokens.environment(rights)), NODE_EXTRA_CA_CERTS: authority },
    });
    await main([
      'CREATE TABLE diary (id serial PRIMARY KEY, note text)',
      `INSERT INTO diary (note) SELECT '${ROW}' FROM generate_series(1, 500)`,
    ]);
  });
  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
    for (const server of [kms, google, azure, tokens]) await server?.[Symbol.asyncDispose]();
    await rm(rights, { recursive: true, force: true });
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

  test('are opened by a key of any service, with the rights of the node', async () => {
    const [aws, gcp, vault] = [kms.uri('key'), google.uri(GOOGLE_KEY), azure.uri];
    await main(`CREATE EXTERNAL CONNECTION vault AS '${vault}'`);
    await main(`BACKUP TABLE diary INTO 'nodelocal://1/services' WITH kms = ('${gcp}', 'external://vault')`);
    await main(
      `ALTER BACKUP LATEST IN 'nodelocal://1/services' ADD NEW_KMS = '${aws}' WITH OLD_KMS = 'external://vault'`,
    );
    await main(`BACKUP TABLE diary INTO LATEST IN 'nodelocal://1/services' WITH kms = '${gcp}'`);
    await main('DROP TABLE diary');
    await main(`RESTORE TABLE diary FROM LATEST IN 'nodelocal://1/services' WITH kms = 'external://vault'`);
    assert.ok((await main('SELECT FROM diary')).length > 0);
    const show = (key: string) =>
      main(`SHOW BACKUP FROM LATEST IN 'nodelocal://1/services' WITH kms = '${key}'`);
    for (const key of [aws, gcp, vault]) assert.ok((await show(key)).length > 0, key);
    assert.deepEqual([...new Set(tokens.asked)].toSorted(), ['google', 'https://vault.azure.net']);
    for (const [server, key] of [
      [google, gcp],
      [azure, vault],
    ] as const) {
      // More than any library tries, some of which ask for the key itself first.
      server.failures = Array<number>(50).fill(403);
      await assert.rejects(show(key), { code: '42501', message: /refused to use KMS key/ });
      server.failures = Array<number>(50).fill(500);
      await assert.rejects(show(key), { code: '58030', message: /is not available/ });
      server.failures = [];
    }
    google.token = 'another';
    await assert.rejects(show(gcp), { message: /refused to use KMS key/ });
    // One that does not answer is no loss while another one does.
    assert.ok(
      (await main(`SHOW BACKUP FROM LATEST IN 'nodelocal://1/services' WITH kms = ('${gcp}', '${vault}')`))
        .length > 0,
    );
    google.token = GOOGLE_TOKEN;
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

  test('that release 26.2 wrote of a table are opened: a full one of 500 rows, and one after a change and ten deletions', async () => {
    const golden = join(import.meta.dirname, '../golden/encrypted-26.2');
    await cp(join(golden, 'collection'), join(daemon.store, 'extern/golden'), { recursive: true });
    await run(ATOLL, ['cluster-key', 'import', join(golden, 'cluster-key'), `--store=${daemon.store}`]);
    const restore = "RESTORE TABLE golden.public.ledger FROM LATEST IN 'nodelocal://1/golden' WITH into_db =";
    const key = "encryption_passphrase = 'the passphrase of the golden collection'";
    await assert.rejects(main(`${restore} 'postgres'`));
    await assert.rejects(main(`${restore} 'postgres', encryption_passphrase = 'another'`));
    await main(`${restore} 'postgres', ${key}`);
    const [row] = await daemon.query(
      `SELECT count(*)::int AS rows, count(*) FILTER (WHERE note = md5(id::text))::int AS sound, max(note) FILTER (WHERE id = 7) AS seven FROM ledger`,
      { cluster: 'main', database: 'postgres' },
    );
    assert.deepEqual(row, { rows: 490, sound: 489, seven: 'changed' });
  });

  test('leave no secret in the log', () => {
    assert.doesNotMatch(
      daemon.output,
      new RegExp(`${SECRET}|AKIATEST|awsSecret|${GOOGLE_TOKEN}|${AZURE_TOKEN}`),
    );
  });
});
