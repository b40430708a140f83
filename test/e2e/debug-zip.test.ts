import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { unzipSync } from 'fflate';
import type pg from 'pg';
import { ATOLL, TestDaemon } from '../harness/daemon.ts';
import { runProgram } from '../harness/programs.ts';
import { scratchDirectory } from '../harness/scratch.ts';

const SECRETS = [
  'hush-password',
  'hush-key',
  'hush-row',
  'hush-query',
  'hush-license',
  'hush-passphrase',
  'hush-activity',
];

describe('atoll debug zip', () => {
  let daemon: TestDaemon;
  let directory: string;
  /** A session that stays, with what it did last. */
  let idle: pg.Client;
  before(async () => {
    directory = await scratchDirectory('atoll-debug-');
    daemon = await TestDaemon.start();
    await daemon.query([
      "CREATE ROLE clerk LOGIN PASSWORD 'hush-password'",
      "CREATE TABLE t AS SELECT 'hush-row' AS v",
      "SELECT 'hush-query'",
    ]);
    const client = await daemon.connect();
    await assert.rejects(
      client.query("CREATE EXTERNAL CONNECTION c AS 's3://b?AUTH=specified&AWS_SECRET_ACCESS_KEY=hush-key'"),
    );
    await assert.rejects(client.query("ALTER ROLE nobody PASSWORD 'hush-password'"));
    await client.query("BACKUP INTO 'nodelocal://1/debug' WITH encryption_passphrase = 'hush-passphrase'");
    await client.end();
    await daemon.query("SET CLUSTER SETTING enterprise.license = 'hush-license'", { cluster: 'system' });
    idle = await daemon.connect();
    await idle.query("SELECT 'hush-activity'; ALTER ROLE clerk PASSWORD 'hush-password'");
  });
  after(async () => {
    await idle.end().catch(() => undefined);
    await daemon[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  async function zip(
    name: string,
    ...flags: string[]
  ): Promise<{ files: Map<string, string>; stderr: string }> {
    const path = join(directory, name);
    const ended = await runProgram(ATOLL, ['debug', 'zip', path, `--store=${daemon.store}`, ...flags]);
    assert.equal(ended.status, 0, ended.stderr);
    assert.ok(!existsSync(`${path}.partial`));
    const names: string[] = [];
    const unzipped = unzipSync(await readFile(path), { filter: (entry) => names.push(entry.name) > 0 });
    assert.deepEqual(names, [...new Set(names)], 'each file is there once');
    const entries = Object.entries(unzipped);
    const files = new Map(entries.map(([entry, bytes]) => [entry, Buffer.from(bytes).toString()]));
    for (const [entry, text] of files) {
      for (const secret of SECRETS) assert.ok(!text.includes(secret), `${secret} in ${entry}`);
    }
    return { files, stderr: ended.stderr };
  }

  test('tells everything but secrets and data', async () => {
    const { files, stderr } = await zip('whole.zip');
    assert.equal(stderr, '');
    assert.match(files.get('figures.txt') ?? '', /^sql_conns\{tenant="main"\}/m);
    const jobs = JSON.parse(files.get('virtual-clusters/main/jobs.json') ?? '[]') as {
      description: string;
    }[];
    assert.ok(jobs.some(({ description }) => /BACKUP INTO/.test(description)));
    for (const name of ['timeline', 'settings', 'postgres-activity'])
      assert.notEqual(files.get(`virtual-clusters/main/${name}.json`) ?? '[]\n', '[]\n', name);
    for (const name of ['atoll.log', 'atoll-audit.log', 'postgres-3.log'])
      assert.ok(files.has(`logs/${name}`), name);
    assert.match(files.get('logs/atoll-audit.log') ?? '', /user ‹root›/);
  });

  test('leaves out on request who did what', async () => {
    const { files } = await zip('redacted.zip', '--redact');
    assert.match(files.get('logs/atoll-audit.log') ?? '', /user ‹×›: ‹×›: /);
    assert.ok(!files.has('logs/postgres-3.log'));
    for (const [entry, text] of files) assert.doesNotMatch(text, /BACKUP INTO|"root"|‹[^×]/, entry);
  });

  test('takes the files of a node that does not run, and says what it could not get', async () => {
    await daemon.stop();
    const { files, stderr } = await zip('dead.zip', '--log-max-size=1KiB');
    assert.match(stderr, /^left out: the node: cannot reach a node/);
    assert.equal(files.get('errors.txt'), stderr.replaceAll(/^left out: /gm, ''));
    const logs = [...files].filter(([entry]) => entry.startsWith('logs/'));
    assert.ok(logs.length > 0);
    assert.ok(logs.reduce((sum, [, text]) => sum + Buffer.byteLength(text), 0) <= 1024);
  });

  test('leaves nothing where it cannot write', async () => {
    const ended = await runProgram(ATOLL, ['debug', 'zip', '/dev/full/x.zip', `--store=${daemon.store}`]);
    assert.equal(ended.status, 74);
    assert.match(ended.stderr, /^atoll: cannot write \/dev\/full\/x\.zip/);
  });
});
