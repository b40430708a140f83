import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  S3Client,
  PutBucketPolicyCommand,
  PutObjectLockConfigurationCommand,
  CreateBucketCommand,
} from '@aws-sdk/client-s3';
import { startAzurite, type StorageServer } from '../harness/azurite.ts';
import { createCluster, digestCluster, dropCluster } from '../harness/clusters.ts';
import { ATOLL, TestDaemon } from '../harness/daemon.ts';
import { FaultyProxy } from '../harness/faulty-proxy.ts';
import { skipWithout } from '../harness/programs.ts';
import { waitFor } from '../harness/wait.ts';
import { type S3Server, s3Parameters, startRadosGateway } from '../harness/radosgw.ts';

/** However an emulator sends them, objects arrive bit by bit, an index of a pack too. */
const IN_PIECES = { ATOLL_TEST_READ_PIECES: '5000' };
/** The node's own rights in services of the S3 kind. */
const OF_NODE = { AWS_ACCESS_KEY_ID: 'node', AWS_SECRET_ACCESS_KEY: 'rights-of-the-node' };

/** Arguments and environment of the daemon and all it has started: every user of the machine may list the first. */
async function toldOfProcesses(daemon: TestDaemon): Promise<string[]> {
  const read = (pid: string, file: string) => readFile(join('/proc', pid, file), 'utf8').catch(() => '');
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const parents = new Map<string, string>();
  for (const pid of pids) parents.set(pid, /\) \S (\d+)/.exec(await read(pid, 'stat'))?.[1] ?? '');
  const isOurs = (pid: string | undefined): boolean =>
    pid !== undefined && pid !== '' && (pid === String(daemon.pid) || isOurs(parents.get(pid)));
  const ours = pids.filter(isOurs);
  assert.ok(ours.length > 2, 'a daemon has processes');
  const told = ours.flatMap((pid) => [read(pid, 'cmdline'), read(pid, 'environ')]);
  return Promise.all(told);
}

/** Everything somebody can see who may not see the secrets. */
async function visible(daemon: TestDaemon): Promise<string> {
  const logs = join(daemon.store, 'logs');
  const texts = await Promise.all(
    (await readdir(logs, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => readFile(join(entry.parentPath, entry.name), 'utf8')),
  );
  const rows = await daemon.query('SELECT * FROM [SHOW JOBS]', { cluster: 'main' });
  const schedules = await daemon.query('SELECT * FROM [SHOW SCHEDULES]', { cluster: 'main' });
  const connections = await daemon.query('SHOW EXTERNAL CONNECTIONS', { cluster: 'main' });
  const sessions: unknown[] = [];
  for (const cluster of ['main', 'system'])
    sessions.push(await daemon.query('SELECT * FROM pg_stat_activity', { cluster }));
  const [, http = ''] = [...daemon.output.matchAll(/HTTP +http:\/\/(\S+)/g)].at(-1) ?? [];
  const metrics = await (await fetch(`http://${http}/_status/vars?cluster=system`)).text();
  assert.match(metrics, /jobs/);
  const tables: unknown[] = [];
  for (const table of ['jobs', 'scheduled_jobs', 'external_connections', 'settings'])
    tables.push(await daemon.query(`SELECT * FROM system.${table}`, { cluster: 'main' }));
  const shown = JSON.stringify([rows, schedules, connections, tables, sessions]);
  return [...texts, shown, metrics, daemon.output, ...(await toldOfProcesses(daemon))].join('\n');
}

/** A backup, one on top of it, and a restore into a new virtual cluster. */
async function roundTrip(daemon: TestDaemon, uri: string): Promise<void> {
  const main = (sql: string | readonly string[]) => daemon.query(sql, { cluster: 'main' });
  await main('CREATE TABLE IF NOT EXISTS kept (id bigserial PRIMARY KEY, note text)');
  await main('INSERT INTO kept (note) SELECT md5(n::text) FROM generate_series(1, 20000) n');
  await main(`BACKUP INTO '${uri}'`);
  await main("INSERT INTO kept (note) VALUES ('later')");
  await main(`BACKUP INTO LATEST IN '${uri}'`);
  const expected = await digestCluster(daemon, 'main');
  assert.equal((await main(`SHOW BACKUPS IN '${uri}'`)).length, 1);
  await createCluster(daemon, 'copy');
  await daemon.query(`RESTORE FROM LATEST IN '${uri}'`, { cluster: 'copy' });
  assert.deepEqual(await digestCluster(daemon, 'copy'), expected);
  await dropCluster(daemon, 'copy');
}

/** What `atoll restore` says it would restore, its collection handed in where nobody else can read it. */
async function offlinePlan(daemon: TestDaemon, uri: string): Promise<string> {
  const command = spawn(ATOLL, [
    'restore',
    '-',
    `--cluster-key-file=${join(daemon.store, 'cluster-key')}`,
    `--to=${join(daemon.store, 'offline')}`,
    '--plan',
  ]);
  command.stdin.end(`${uri}\n`);
  const texts = [command.stdout, command.stderr].map((stream) => stream.toArray());
  const [out, errors] = await Promise.all(texts);
  const shown = Buffer.concat([...(out ?? []), ...(errors ?? [])] as Buffer[]).toString('utf8');
  assert.equal(command.exitCode ?? (await once(command, 'exit'))[0], 0, shown);
  return shown;
}

async function succeed(...args: readonly string[]): Promise<void> {
  const command = spawn(ATOLL, args);
  const errors = command.stderr.toArray();
  assert.equal((await once(command, 'exit'))[0], 0, Buffer.concat((await errors) as Buffer[]).toString());
}

describe('backups in storage services', () => {
  let daemon: TestDaemon;
  let azure: StorageServer;
  before(async () => {
    azure = await startAzurite();
    daemon = await TestDaemon.start({ environment: { ...IN_PIECES, ...OF_NODE } });
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    await azure[Symbol.asyncDispose]();
  });
  const main = (sql: string | readonly string[]) => daemon.query(sql, { cluster: 'main' });

  test('go to Azure and come back', async () => {
    const uri = azure.newUri();
    await roundTrip(daemon, uri);
    const secret = new URL(uri).searchParams.get('AZURE_ACCOUNT_KEY') ?? '';
    const plan = await offlinePlan(daemon, uri);
    assert.match(plan, /virtual cluster\s+main\n/);
    const shown = `${await visible(daemon)}${plan}`;
    assert.ok(!shown.includes(secret) && !shown.includes(encodeURIComponent(secret)));
    await main(`CREATE EXTERNAL CONNECTION azure AS '${azure.newUri()}'`);
    await main("BACKUP INTO 'external://azure/app'");
    assert.equal((await main("SHOW BACKUPS IN 'external://azure/app'")).length, 1);
    const [check] = await main("CHECK EXTERNAL CONNECTION 'external://azure' WITH transfer = '1MiB'");
    assert.deepEqual([check?.['ok'], check?.['can_delete'], check?.['error']], [true, true, null]);
  });

  test('go there continuously, and their secrets nowhere else', async () => {
    const uri = azure.newUri();
    const alter = 'ALTER VIRTUAL CLUSTER main SET CONTINUOUS BACKUP';
    const system = (sql: string) => daemon.query(sql, { cluster: 'system' });
    const at = String((await main('SELECT clock_timestamp()::text AS at'))[0]?.['at']);
    await system(`${alter} INTO '${uri}'`);
    const remote = await waitFor('something to be restorable from there', async () => {
      const since = `SELECT * FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER main] WHERE kind = 'remote' AND end_time >= '${at}'`;
      return (await system(since))[0];
    });
    assert.match(String(remote['id']), /AZURE_ACCOUNT_KEY=redacted/);
    const secret = new URL(uri).searchParams.get('AZURE_ACCOUNT_KEY') ?? '';
    const shown = `${await visible(daemon)}${JSON.stringify(remote)}`;
    assert.ok(!shown.includes(secret) && !shown.includes(encodeURIComponent(secret)));
    await system(`${alter} OFF`);
    await createCluster(daemon, 'twin');
    await daemon.query(`RESTORE FROM LATEST IN '${uri}'`, { cluster: 'twin' });
    assert.deepEqual(await digestCluster(daemon, 'twin'), await digestCluster(daemon, 'main'));
    await dropCluster(daemon, 'twin');
  });

  test('refuse what is wrong, saying why and telling no secret', async () => {
    const uri = azure.newUri();
    const secret = encodeURIComponent(Buffer.alloc(32, 7).toString('base64'));
    const wrongKey = uri.replace(/AZURE_ACCOUNT_KEY=[^&]*/, `AZURE_ACCOUNT_KEY=${secret}`);
    const table: readonly (readonly [string, string, RegExp])[] = [
      [wrongKey, '42501', /access was refused/],
      [uri.replace('//container/', '//absent/'), '58030', /bucket does not exist/],
      [`${uri}&azure_client_id=x`, '22023', /unknown Azure query parameters: azure_client_id/],
      [uri.replace('AZURE_ACCOUNT_NAME', 'AZURE_CLIENT_ID'), '22023', /AZURE_ACCOUNT_NAME is missing/],
      ['http://localhost/x', '0A000', /storage over http cannot hold backups/],
    ];
    for (const [wrong, code, message] of table) {
      for (const sql of [
        `BACKUP INTO '${wrong}'`,
        `SHOW BACKUPS IN '${wrong}'`,
        `CREATE EXTERNAL CONNECTION wrong AS '${wrong}'`,
      ]) {
        if (code === '0A000' && sql.startsWith('CREATE')) continue; // Not a scheme that a connection may have at all.
        await assert.rejects(
          main(sql),
          (error: Error & { code?: string; hint?: string; detail?: string }) => {
            assert.equal(error.code, code, `${sql}: ${error.message}`);
            assert.match(error.message, message);
            assert.ok(!`${error.message}${error.hint}${error.detail}`.includes(secret));
            return true;
          },
        );
      }
    }
  });

  test('say soon that nobody is at an address', async () => {
    const nobody = azure
      .newUri()
      .replace(/AZURE_ENDPOINT=[^&]*/, 'AZURE_ENDPOINT=http%3A%2F%2F127.0.0.1%3A1');
    await assert.rejects(main(`CREATE EXTERNAL CONNECTION nobody AS '${nobody}'`), {
      code: '58030',
      message: /object storage is not available/,
      hint: /check the address/,
    });
  });

  test('need a privilege only for rights that are not in the URI', async () => {
    await main(['CREATE ROLE plain LOGIN', 'GRANT SYSTEM BACKUP TO plain']);
    const client = await daemon.connect({ cluster: 'main', user: 'plain' });
    const refused = { code: '42501', message: /EXTERNALIOIMPLICITACCESS/ };
    await assert.rejects(client.query(`BACKUP INTO '${azure.newUri()}'`), refused); // An address of the user's choice.
    await assert.rejects(client.query("BACKUP INTO 's3://bucket/x?AUTH=implicit'"), refused);
    await assert.rejects(client.query("BACKUP INTO 'gs://bucket/x?AUTH=implicit'"), refused);
    await main('GRANT SYSTEM EXTERNALIOIMPLICITACCESS TO plain');
    await client.query(`BACKUP INTO '${azure.newUri()}'`);
    await client.end();
  });

  describe('of the S3 kind', { skip: skipWithout('radosgw') }, () => {
    let s3: S3Server;
    before(async () => {
      s3 = await startRadosGateway();
    });
    after(() => s3[Symbol.asyncDispose]());

    test('go there and come back', async () => {
      const uri = s3.newUri();
      await roundTrip(daemon, uri);
      assert.match(await offlinePlan(daemon, uri), /from\s+incrementals\//);
      const made = await main(`
        CREATE SCHEDULE schedule_label
        FOR BACKUP INTO 's3://bucket/backups/schedule_test?${s3Parameters(s3.endpoint)}'
            RECURRING '@daily';`);
      assert.deepEqual(
        made.map((row) => [row['name'], row['status'], row['schedule']]),
        [
          ['schedule_label', 'PAUSED: Waiting for initial backup to complete', '@daily'],
          ['schedule_label', 'ACTIVE', '@weekly'],
        ],
      );
      for (const row of made) assert.match(String(row['backup_stmt']), /AWS_SECRET_ACCESS_KEY=redacted/);
      const id = String(made[1]?.['schedule_id']);
      const job = await waitFor('the first full backup', async () => {
        const [found] = await main(`SHOW JOBS FOR SCHEDULE ${id}`);
        return found?.['finished'] !== null && found;
      });
      assert.equal(job['status'], 'succeeded', String(job['error']));
      const shown = await visible(daemon);
      await main(`DROP SCHEDULE ${id}`);
      const { secretAccessKey } = s3.keys;
      for (const secret of [secretAccessKey, encodeURIComponent(secretAccessKey)])
        assert.ok(!shown.includes(secret));
    });

    test('are made and read with the rights of the node, from its environment', async () => {
      const [accessKeyId, secretAccessKey] = [OF_NODE.AWS_ACCESS_KEY_ID, OF_NODE.AWS_SECRET_ACCESS_KEY];
      const keys = [`--access-key=${accessKeyId}`, `--secret-key=${secretAccessKey}`];
      await s3.admin('user', 'create', '--uid=node', '--display-name=node', ...keys);
      const credentials = { accessKeyId, secretAccessKey };
      const options = { endpoint: s3.endpoint, region: 'us-east-1', forcePathStyle: true };
      await new S3Client({ ...options, credentials }).send(new CreateBucketCommand({ Bucket: 'of-node' }));
      const parameters = new URLSearchParams({
        AUTH: 'implicit',
        AWS_ENDPOINT: s3.endpoint,
        AWS_USE_PATH_STYLE: 'true',
        AWS_REGION: 'us-east-1',
      });
      const uri = `s3://of-node/app?${parameters.toString()}`;
      await main('CREATE TABLE IF NOT EXISTS of_node (n int)');
      await main(`BACKUP TABLE of_node INTO '${uri}'`);
      await main('DROP TABLE of_node');
      await main(`RESTORE TABLE of_node FROM LATEST IN '${uri}'`);
      assert.deepEqual(await main('SELECT * FROM of_node'), []);
    });

    test('keep their storage class in an external connection', async () => {
      await using proxy = await FaultyProxy.start(s3.endpoint);
      const classes: unknown[] = [];
      proxy.plan = ({ method, path, headers }) => {
        const isBegun = method === 'PUT' ? !path.includes('uploadId=') : path.includes('uploads');
        if (method !== 'GET' && isBegun) classes.push(headers['x-amz-storage-class']);
        return undefined;
      };
      const parameters = s3Parameters(proxy.endpoint, { S3_STORAGE_CLASS: 'STANDARD' });
      await main(`CREATE EXTERNAL CONNECTION classy AS 's3://bucket/classy?${parameters}'`);
      await main("BACKUP INTO 'external://classy/app'");
      assert.deepEqual([...new Set(classes)], ['STANDARD'], 'asked for with every object');
      const { Contents = [] } = await s3
        .client()
        .send(new ListObjectsV2Command({ Bucket: 'bucket', Prefix: 'classy/app/' }));
      assert.ok(Contents.length > 3 && classes.length >= Contents.length);
    });

    test('refuse what the service refuses, with the reason', async () => {
      const user = (name: string) => [
        'user',
        'create',
        `--uid=${name}`,
        `--display-name=${name}`,
        `--access-key=${name}`,
        `--secret-key=hush-of-${name}`,
      ];
      await s3.admin(...user('stranger'));
      await s3.admin(...user('full'));
      await s3.admin('quota', 'set', '--quota-scope=user', '--uid=full', '--max-objects=0');
      await s3.admin('quota', 'enable', '--quota-scope=user', '--uid=full');
      const keysOf = (name: string) => ({
        AWS_ACCESS_KEY_ID: name,
        AWS_SECRET_ACCESS_KEY: `hush-of-${name}`,
      });
      const full = new S3Client({
        endpoint: s3.endpoint,
        region: 'us-east-1',
        forcePathStyle: true,
        credentials: { accessKeyId: 'full', secretAccessKey: 'hush-of-full' },
      });
      await full.send(new CreateBucketCommand({ Bucket: 'full' }));
      const table: readonly (readonly [string, Readonly<Record<string, string>>, string, RegExp])[] = [
        ['bucket', { AWS_SECRET_ACCESS_KEY: 'hush' }, '42501', /access was refused/],
        ['bucket', keysOf('stranger'), '42501', /access was refused/],
        ['absent', {}, '58030', /bucket does not exist/],
        ['full', keysOf('full'), '53100', /the storage is full/],
        ['bucket', { aws_region: 'x' }, '22023', /unknown S3 query parameters: aws_region/],
        ['bucket', { S3_STORAGE_CLASS: 'COLD' }, '22023', /unknown S3_STORAGE_CLASS/],
      ];
      for (const [bucket, more, code, message] of table) {
        const uri = `s3://${bucket}/wrong?${s3Parameters(s3.endpoint, more)}`;
        for (const sql of [`BACKUP INTO '${uri}'`, `CREATE EXTERNAL CONNECTION wrong AS '${uri}'`]) {
          await assert.rejects(
            main(sql),
            (error: Error & { code?: string; hint?: string; detail?: string }) => {
              assert.equal(error.code, code, `${sql}: ${error.message}`);
              assert.match(error.message, message);
              assert.doesNotMatch(`${error.message}${error.hint}${error.detail}`, /hush/);
              return true;
            },
          );
        }
      }
      assert.doesNotMatch(await visible(daemon), /hush/);
    });

    test('need only the rights to put, get and list', async () => {
      const keys = { AWS_ACCESS_KEY_ID: 'writer', AWS_SECRET_ACCESS_KEY: 'secret-of-the-writer' };
      await s3.admin(
        'user',
        'create',
        '--uid=writer',
        '--display-name=writer',
        '--access-key=writer',
        '--secret-key=secret-of-the-writer',
      );
      await s3.client().send(new CreateBucketCommand({ Bucket: 'guarded' }));
      const allow = (Action: readonly string[], Resource: string) => ({
        Effect: 'Allow',
        Principal: { AWS: ['arn:aws:iam:::user/writer'] },
        Action,
        Resource: [`arn:aws:s3:::${Resource}`],
      });
      const Policy = JSON.stringify({
        Version: '2012-10-17',
        Statement: [
          allow(['s3:ListBucket'], 'guarded'),
          allow(['s3:PutObject', 's3:GetObject'], 'guarded/*'),
        ],
      });
      await s3.client().send(new PutBucketPolicyCommand({ Bucket: 'guarded', Policy }));
      const uri = `s3://guarded/backups?${s3Parameters(s3.endpoint, keys)}`;
      await roundTrip(daemon, uri);
      await main(`BACKUP INTO '${uri}' WITH revision_history`);
      assert.equal((await main(`SHOW BACKUPS IN '${uri}'`)).length, 2);
    });

    test('bring back what a lost node published continuously, open and encrypted', async () => {
      await using lost = await TestDaemon.start({ environment: IN_PIECES });
      const keys = " WITH encryption_passphrase = 'of the lost node'";
      const places = [
        { cluster: 'main', uri: s3.newUri(), options: '' },
        { cluster: 'second', uri: azure.newUri(), options: keys },
      ];
      const expected = new Map<string, unknown>();
      for (const { cluster, uri, options } of places) {
        if (cluster !== 'main') await createCluster(lost, cluster);
        await lost.query(`ALTER VIRTUAL CLUSTER ${cluster} SET CONTINUOUS BACKUP INTO '${uri}'${options}`, {
          cluster: 'system',
        });
        await lost.query(
          `CREATE TABLE kept AS SELECT n, md5('${cluster}' || n) FROM generate_series(1, 30000) n`,
          { cluster },
        );
        expected.set(cluster, await digestCluster(lost, cluster));
      }
      const [now] = await lost.query('SELECT clock_timestamp()::text AS at', { cluster: 'main' });
      await waitFor('all to be there', async () => {
        const there = await Promise.all(
          places.map(({ cluster }) =>
            lost.query(
              `SELECT * FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER ${cluster}] WHERE kind = 'remote' AND end_time >= '${String(now?.['at'])}'`,
              { cluster: 'system' },
            ),
          ),
        );
        return there.every(({ length }) => length === 1);
      });
      const key = join(daemon.store, 'key-of-the-lost-node');
      await succeed('cluster-key', 'export', key, `--store=${lost.store}`);
      await lost.stop();
      await rm(lost.store, { recursive: true });
      await succeed('cluster-key', 'import', key, `--store=${daemon.store}`);
      for (const { cluster, uri, options } of places) {
        await createCluster(daemon, 'found');
        await daemon.query(`RESTORE FROM LATEST IN '${uri}'${options}`, { cluster: 'found' });
        assert.deepEqual(await digestCluster(daemon, 'found'), expected.get(cluster), cluster);
        await dropCluster(daemon, 'found');
      }
    });

    test('need no right to delete or to overwrite', async () => {
      await s3.client().send(new CreateBucketCommand({ Bucket: 'locked', ObjectLockEnabledForBucket: true }));
      await s3.client().send(
        new PutObjectLockConfigurationCommand({
          Bucket: 'locked',
          ObjectLockConfiguration: {
            ObjectLockEnabled: 'Enabled',
            Rule: { DefaultRetention: { Mode: 'COMPLIANCE', Days: 1 } },
          },
        }),
      );
      await roundTrip(daemon, `s3://locked/backups?${s3Parameters(s3.endpoint)}`);
      // There a second write makes a version, and a deletion a marker, rather than an error.
      const { Versions = [], DeleteMarkers = [] } = await s3
        .client()
        .send(new ListObjectVersionsCommand({ Bucket: 'locked' }));
      const keys = Versions.map(({ Key }) => Key);
      assert.ok(keys.length > 6);
      assert.equal(new Set(keys).size, keys.length, 'no object was written twice');
      const hidden = DeleteMarkers.map(({ Key }) => Key ?? '');
      assert.deepEqual(
        hidden.filter((key) => !key.includes('BACKUP-LOCK')),
        [],
      );
    });
  });
});
