import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { createCluster, digestCluster } from '../harness/clusters.ts';
import { ATOLL, TestDaemon } from '../harness/daemon.ts';
import { AwsKmsServer } from '../harness/kms-servers.ts';
import { filesBelow } from '../harness/oracle.ts';
import { scratchDirectory } from '../harness/scratch.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system' };
const PASSPHRASE = 'a-passphrase-of-this-test';
const run = promisify(execFile);

/** A row of SHOW TIMELINE. */
async function timelineRow(daemon: TestDaemon, kind: string): Promise<Record<string, unknown> | undefined> {
  const rows = await daemon.query('SHOW TIMELINE FOR VIRTUAL CLUSTER main', SYSTEM);
  return rows.find((row) => row['kind'] === kind);
}

const moment = async (daemon: TestDaemon): Promise<string> =>
  String((await daemon.query('SELECT clock_timestamp()::text AS at', { cluster: 'main' }))[0]?.['at']);

/** Until the collection alone can restore the moment. */
async function published(daemon: TestDaemon, at: string): Promise<void> {
  await waitFor('the moment to be published', async () => {
    const [row] = await daemon.query(
      `SELECT count(*) AS n FROM [SHOW TIMELINE FOR VIRTUAL CLUSTER main] WHERE kind = 'remote' AND end_time >= '${at}'`,
      SYSTEM,
    );
    return row?.['n'] === '1';
  });
}

/** Changes the last bit of the piece of log that reaches furthest, and of the one that was published last; gives the name of the first. */
async function damageEndOfLog(collection: string): Promise<string> {
  const pieces = (await filesBelow(join(collection, 'log'))).map((path) => {
    const [, begin = '', end = '', through = ''] = path.split('-').slice(-4);
    return { path, begin, end, through };
  });
  const held = pieces.filter(({ begin, end }) => begin !== end);
  const last = held.reduce((best, piece) => (piece.end > best.end ? piece : best));
  const newest = pieces.reduce((best, piece) => (piece.through > best.through ? piece : best));
  for (const path of new Set([last.path, newest.path])) {
    const name = join(collection, 'log', path);
    const content = await readFile(name);
    content[content.length - 1] = (content.at(-1) ?? 0) ^ 1;
    await writeFile(name, content);
  }
  return `log/${last.path}`;
}

describe('continuous backup', () => {
  let daemon: TestDaemon;
  let spare: TestDaemon;
  let extern: string;
  let kms: AwsKmsServer;
  const main = (sql: string | readonly string[]) => daemon.query(sql, { cluster: 'main' });
  const system = (sql: string) => daemon.query(sql, SYSTEM);

  before(async () => {
    kms = await AwsKmsServer.start('one', 'two', 'three');
    extern = await scratchDirectory('atoll-extern-');
    const flags = [`--external-io-dir=${extern}`];
    const starting = await Promise.allSettled([
      TestDaemon.start({ flags }).then((started) => (daemon = started)),
      TestDaemon.start({ flags }).then((started) => (spare = started)),
    ]);
    for (const each of starting) if (each.status === 'rejected') throw each.reason;
    await main('CREATE TABLE diary (id serial PRIMARY KEY, what text)');
  });
  after(async () => {
    await kms?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
    await spare?.[Symbol.asyncDispose]();
    await rm(extern, { recursive: true, force: true });
  });

  /** As `published`, by a piece of log: a base alone leads to no moment after its own. */
  async function logPublished(at: string): Promise<void> {
    const [row] = await main(`SELECT (extract(epoch FROM '${at}'::timestamptz) * 1000000)::int8::text AS us`);
    const time = BigInt(String(row?.['us']));
    await waitFor('a piece of log that is known up to the moment', async () => {
      const pieces = await filesBelow(join(extern, 'continuous', 'log'));
      const timeOf = (path: string) => /-([0-9a-f]{16})$/.exec(path)?.[1];
      return pieces.some((path) => BigInt(`0x${timeOf(path) ?? '0'}`) >= time);
    });
  }

  /** Nothing in a collection tells of the data. Of one that nobody publishes to any more: what is being written has no name yet. */
  async function requireClosed(collection: string): Promise<void> {
    const paths = await filesBelow(join(extern, collection));
    assert.ok(paths.includes('metadata/ENCRYPTION-INFO-1'));
    for (const path of paths) {
      const content = await readFile(join(extern, collection, path));
      const isSealed = content.subarray(0, 8).toString('latin1') === 'ATOLSEAL';
      assert.equal(isSealed, !path.startsWith('metadata/'), path);
      assert.ok(!content.includes('diary'), path);
    }
  }

  /** Neither what was shown nor what the node keeps has the passphrase or the credentials of a KMS key. */
  async function requireNoSecrets(shown: unknown): Promise<void> {
    const secrets = `${PASSPHRASE}|AKIATEST|awsSecret`;
    assert.doesNotMatch(`${JSON.stringify(shown)}${daemon.output}`, new RegExp(secrets));
    const searching = run('grep', [
      '--recursive',
      '--files-with-matches',
      '--extended-regexp',
      secrets,
      daemon.store,
    ]);
    await assert.rejects(searching, { code: 1, stdout: '' });
  }

  test('is refused where it cannot be', async () => {
    await main("BACKUP INTO 'nodelocal://1/ordinary'");
    const alter = 'ALTER VIRTUAL CLUSTER main SET CONTINUOUS BACKUP INTO';
    await assert.rejects(system(`${alter} 'nodelocal://1/ordinary'`), {
      code: '55000',
      message: /holds backups that BACKUP has made/,
    });
    await assert.rejects(system(`${alter} 'http://localhost/x'`), { code: '0A000' });
    await assert.rejects(
      system("ALTER VIRTUAL CLUSTER system SET CONTINUOUS BACKUP INTO 'nodelocal://1/s'"),
      {
        code: '55000',
      },
    );
    await assert.rejects(
      system(`${alter} 'nodelocal://1/s' WITH encryption_passphrase = 'x', kms = '${kms.uri('one')}'`),
      { code: '22023', message: /cannot have both/ },
    );
    // No collection is taken for keys that are not to be had.
    await assert.rejects(system(`${alter} 'nodelocal://1/s' WITH kms = '${kms.uri('none')}'`), /KMS/);
    assert.deepEqual(await readdir(join(extern, 's')).catch(() => []), []);
    assert.equal(await timelineRow(daemon, 'remote'), undefined);
  });

  test('stays open or encrypted, with the keys it began with', async () => {
    const alter = "ALTER VIRTUAL CLUSTER main SET CONTINUOUS BACKUP INTO 'nodelocal://1/passphrase'";
    await system(`${alter} WITH encryption_passphrase = '${PASSPHRASE}'`);
    await assert.rejects(system(alter), { code: '55000', message: /backup that is encrypted$/ });
    await assert.rejects(system(`${alter} WITH encryption_passphrase = 'another'`), {
      code: '22023',
      message: /^the passphrase is not that of the continuous backup$/,
    });
    await assert.rejects(system(`${alter} WITH kms = '${kms.uri('one')}'`), {
      code: '22023',
      message: /^the continuous backup was encrypted with a passphrase, not with KMS keys$/,
    });
    await system(`${alter} WITH encryption_passphrase = '${PASSPHRASE}'`);
    await rm(join(extern, 'passphrase', 'metadata', 'ENCRYPTION-INFO'));
    await assert.rejects(system(`${alter} WITH encryption_passphrase = '${PASSPHRASE}'`), {
      code: 'XX001',
      message: /lacks what opens it/,
    });
    await system('ALTER VIRTUAL CLUSTER main SET CONTINUOUS BACKUP OFF');
    await system("ALTER VIRTUAL CLUSTER main SET CONTINUOUS BACKUP INTO 'nodelocal://1/open'");
    await assert.rejects(
      system(
        `ALTER VIRTUAL CLUSTER main SET CONTINUOUS BACKUP INTO 'nodelocal://1/open' WITH encryption_passphrase = '${PASSPHRASE}'`,
      ),
      { code: '55000', message: /is not encrypted$/ },
    );
  });

  test('brings back what a lost disk held, to any moment, on another node', async () => {
    await system(
      `ALTER VIRTUAL CLUSTER main SET CONTINUOUS BACKUP INTO 'nodelocal://1/continuous' WITH kms = '${kms.uri('one')}'`,
    );
    await main("INSERT INTO diary (what) VALUES ('first')");
    await published(daemon, await moment(daemon));
    await main("INSERT INTO diary (what) VALUES ('second')");
    const between = await moment(daemon);
    // Cut off in the midst of it: the next daemon goes on.
    await daemon.kill();
    await daemon.startAgain();
    await main('INSERT INTO diary (what) SELECT md5(n::text) FROM generate_series(1, 20000) n');
    const before = await moment(daemon);
    await main('DROP TABLE diary');
    await published(daemon, await moment(daemon));
    // Another life of the data: what was left behind is no part of what led to the present.
    await system('ALTER VIRTUAL CLUSTER main STOP SERVICE');
    await system(
      `ALTER VIRTUAL CLUSTER main RESET DATA TO VIRTUAL CLUSTER main AS OF SYSTEM TIME '${before}'`,
    );
    await system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    await main("INSERT INTO diary (what) VALUES ('in the new life')");
    await logPublished(await moment(daemon));
    await main("INSERT INTO diary (what) VALUES ('at the end')");
    const expected = await digestCluster(daemon, 'main');
    const last = await moment(daemon);
    await published(daemon, last);
    const row = await timelineRow(daemon, 'remote');
    assert.deepEqual([row?.['id'], row?.['state']], ['nodelocal://1/continuous', 'publishing']);
    await assert.rejects(main("BACKUP INTO 'nodelocal://1/continuous'"), { code: '55000' });
    await main(
      `ALTER BACKUP LATEST IN 'nodelocal://1/continuous' ADD NEW_KMS = '${kms.uri('two')}' WITH OLD_KMS = '${kms.uri('one')}'`,
    );
    const shown = [await system('SHOW JOBS'), await system('SHOW TIMELINE FOR VIRTUAL CLUSTER main')];
    const key = join(extern, 'key');
    await run(ATOLL, ['cluster-key', 'export', key, `--store=${daemon.store}`]);

    await daemon.stop();
    await requireClosed('continuous');
    await requireNoSecrets(shown);
    await rm(daemon.store, { recursive: true });
    const from = "RESTORE FROM LATEST IN 'nodelocal://1/continuous'";
    await createCluster(spare, 'latest');
    const [one, two] = ['one', 'two'].map((name) => `WITH kms = '${kms.uri(name)}'`);
    await assert.rejects(spare.query(`${from} ${one}`, { cluster: 'latest' }), { code: '42501' });
    await run(ATOLL, ['cluster-key', 'import', key, `--store=${spare.store}`]);
    for (const [keys, message] of [
      ['', /^the continuous backup is encrypted$/],
      [`WITH encryption_passphrase = '${PASSPHRASE}'`, /was encrypted with KMS keys, not with a passphrase/],
      [`WITH kms = '${kms.uri('three')}'`, /is none of the continuous backup/],
    ] as const) {
      await assert.rejects(spare.query(`${from} ${keys}`, { cluster: 'latest' }), { code: '22023', message });
    }
    await assert.rejects(
      spare.query(`${from} AS OF SYSTEM TIME '2020-01-01' ${one}`, { cluster: 'latest' }),
      {
        code: '22023',
        message: /outside the window of the continuous backup, which is from/,
      },
    );

    const dry = async (asOf = '') => {
      const [plan] = await spare.query(`${from}${asOf} ${one}, dry_run`, { cluster: 'latest' });
      assert.ok(Number(plan?.['bytes_to_replay']) > 0, JSON.stringify(plan));
      return plan;
    };
    // Its log leads on from the base to the moment, or to the newest one that is known of.
    const newest = await dry();
    const dated = await dry(` AS OF SYSTEM TIME '${between}'`);
    // Clients read milliseconds.
    assert.ok(Number(newest?.['as_of']) >= Date.parse(last));
    assert.equal(Number(dated?.['as_of']), Date.parse(between));

    // What was refused or tried has changed nothing: it is empty still.
    await spare.query(`${from} ${two}`, { cluster: 'latest' });
    assert.deepEqual(await digestCluster(spare, 'latest'), expected);
    await createCluster(spare, 'earlier');
    await spare.query(`${from} AS OF SYSTEM TIME '${between}' ${one}`, { cluster: 'earlier' });
    assert.deepEqual(await spare.query('SELECT what FROM diary ORDER BY id', { cluster: 'earlier' }), [
      { what: 'first' },
      { what: 'second' },
    ]);
    await assert.rejects(
      spare.query("RESTORE TABLE diary FROM LATEST IN 'nodelocal://1/continuous'", { cluster: 'earlier' }),
      { code: '0A000' },
    );
    const apart = { cluster: 'earlier', database: 'apart' };
    await spare.query('CREATE DATABASE apart', { cluster: 'earlier' });
    const [base] = await spare.query("SHOW BACKUPS IN 'nodelocal://1/continuous'", apart);
    await spare.query(
      `RESTORE TABLE defaultdb.public.diary FROM '${String(base?.['path'])}' IN 'nodelocal://1/continuous' ${one}, into_db = 'apart'`,
      apart,
    );
    assert.equal((await spare.query('SELECT count(*) AS n FROM diary', apart)).length, 1);
    const kmsFile = join(extern, 'kms');
    await writeFile(kmsFile, `${kms.uri('two')}\n`);
    const { stdout } = await run(ATOLL, [
      'restore',
      join(extern, 'continuous'),
      '--cluster-key-file',
      key,
      '--kms-uri-file',
      kmsFile,
      '--as-of',
      between,
      '--to',
      join(extern, 'plain'),
    ]);
    assert.match(stdout, /restored to/);
    assert.ok((await readdir(join(extern, 'plain'))).includes('PG_VERSION'));
    assert.ok(!(await readdir(join(extern, 'plain'))).includes('atoll-log'));
    assert.ok((await readFile(join(extern, 'plain', 'PG_VERSION'), 'utf8')).length > 0);

    // What its end has lost is told, and everything before it is there still.
    const piece = await damageEndOfLog(join(extern, 'continuous'));
    await createCluster(spare, 'damaged');
    const restore = (asOf = '') => spare.query(`${from}${asOf} ${one}`, { cluster: 'damaged' });
    const error = await restore().then(
      () => assert.fail('the end of the log is damaged'),
      (thrown: { code?: string; message?: string; hint?: string }) => thrown, // What node-postgres throws.
    );
    assert.deepEqual(
      [error.code, error.message],
      ['XX001', `${piece} in nodelocal://1/continuous is damaged`],
    );
    const [, left = ''] = /^moments up to '([^']+)' need nothing of it/.exec(error.hint ?? '') ?? [];
    await restore(` AS OF SYSTEM TIME '${left}'`);
    assert.deepEqual(
      await spare.query("SELECT what FROM diary WHERE what = 'in the new life'", { cluster: 'damaged' }),
      [{ what: 'in the new life' }],
    );
  });
});
