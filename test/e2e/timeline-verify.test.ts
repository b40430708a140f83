import assert from 'node:assert/strict';
import { open, readFile, stat } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';
import { waitFor } from '../harness/wait.ts';

const SYSTEM = { cluster: 'system', database: 'defaultdb' };

/** Turns one bit in the midst of a file round. */
async function flipByte(path: string): Promise<void> {
  const position = Math.trunc((await stat(path)).size / 2);
  await using file = await open(path, 'r+');
  const byte = new Uint8Array(1);
  await file.read(byte, 0, 1, position);
  await file.write(new Uint8Array([(byte[0] ?? 0) ^ 0x10]), 0, 1, position);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe('reading timelines again', () => {
  let daemon: TestDaemon;
  let httpPort = 0;

  const system = (sql: string) => daemon.query(sql, SYSTEM);
  const store = () => join(daemon.store, 'timeline', '3');
  const findings = async () =>
    (await system('SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER main'))
      .filter((row) => row['state'] === 'damaged')
      .map((row) => String(row['findings']));
  const bases = async () =>
    (await system('SHOW TIMELINE FOR VIRTUAL CLUSTER main')).filter((row) => row['kind'] === 'base');
  const logLines = async (pattern: RegExp) =>
    (await readFile(join(daemon.store, 'logs', 'atoll.log'), 'utf8'))
      .split('\n')
      .filter((line) => pattern.test(line));

  before(async () => {
    httpPort = await freePort();
    daemon = await TestDaemon.start({ flags: [`--http-addr=127.0.0.1:${httpPort}`] });
    await daemon.query('CREATE TABLE diary AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n', {
      cluster: 'main',
    });
    await waitFor('a base', async () => (await bases()).length > 0);
  });

  after(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  it('finds a flipped byte in a pack, names it, and builds no base on it', async () => {
    const [pack] = (await filesBelow(join(store(), 'bases'))).filter((file) => file.endsWith('.pack'));
    assert.ok(pack !== undefined);
    const [sick] = await bases();
    await flipByte(join(store(), 'bases', pack));
    await system(`ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING timeline.verify.interval = '1s'`);
    const found = await waitFor('the damage to be found', async () => (await findings())[0]);
    assert.ok(found.startsWith(`bases/${pack}: `), found);
    assert.ok(found.endsWith(`; bases ${String(sick?.['id'])} need it`), found);
    const full = await waitFor('a base that does not need it', async () =>
      (await bases()).find((row) => row['id'] !== sick?.['id']),
    );
    assert.equal(full['builds_on'], null);
    assert.equal(full['state'], 'complete');
    const shown = (await bases()).find((row) => row['id'] === sick?.['id']);
    assert.equal(shown?.['state'], `damaged: bases/${pack}`);
    await assert.rejects(
      system(`ALTER VIRTUAL CLUSTER main CHECK TIMELINE AS OF SYSTEM TIME '${endOf(sick)}'`),
      (error: Error) => error.message.includes(pack),
    );
    await system(`ALTER VIRTUAL CLUSTER main CHECK TIMELINE AS OF SYSTEM TIME '0s'`);
  });

  it('begins from an older base where a newer one is damaged', async () => {
    const [older] = (await bases()).filter((row) => row['state'] === 'complete');
    await system(`ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING timeline.base.wal_size = '16 MiB'`);
    await daemon.query('CREATE TABLE more AS SELECT n, md5(n::text) FROM generate_series(1, 300000) n', {
      cluster: 'main',
    });
    const newer = await waitFor('a base on top', async () =>
      (await bases()).find((row) => row['builds_on'] === older?.['id']),
    );
    await system('ALTER VIRTUAL CLUSTER main RESET CLUSTER SETTING timeline.base.wal_size');
    const id = String(newer['id']);
    const pack = (await filesBelow(join(store(), 'bases'))).find(
      (file) => file.startsWith(`${id}/`) && file.endsWith('.pack'),
    );
    await flipByte(join(store(), 'bases', pack ?? ''));
    await waitFor('the damage to be found', async () =>
      (await findings()).find((text) => text.startsWith(`bases/${pack}`)),
    );
    await waitFor('a base that does not need it', async () => (await bases()).at(-1)?.['builds_on'] === null);
    await system(`ALTER VIRTUAL CLUSTER main CHECK TIMELINE AS OF SYSTEM TIME '${endOf(newer)}'`);
  });

  it('finds a flipped byte in the log, and says each thing once', async () => {
    await daemon.query(['SELECT pg_logical_emit_message(false, $$t$$, repeat($$x$$, 20000000))'], {
      cluster: 'main',
    });
    const segment = await waitFor('a closed segment', async () =>
      (await filesBelow(join(store(), 'wal'))).findLast((file) => file.endsWith('.wal')),
    );
    await flipByte(join(store(), 'wal', segment));
    const found = await waitFor('the damage to be found', async () =>
      (await findings()).find((text) => text.startsWith('wal/')),
    );
    assert.ok(found.startsWith(`wal/${segment}: `), found);
    // What is known is known to the next daemon, too.
    await daemon.kill();
    await daemon.startAgain();
    assert.equal((await findings()).length, 3);
    const told = await logLines(/of the timeline is damaged/);
    assert.equal(told.length, 3, told.join('\n'));
    const response = await fetch(`http://127.0.0.1:${httpPort}/_status/vars?cluster=system`);
    const metrics = await response.text();
    assert.match(metrics, /^timeline_verify_damaged_objects\{tenant="main"\} 3$/m);
    assert.match(metrics, /^timeline_check_failed\{tenant="main"\} 0$/m);
    assert.match(metrics, /^timeline_check_failures_kept\{tenant="main"\} 1$/m);
    assert.match(metrics, /^timeline_check_last_success_age_seconds\{tenant="main"\} \d/m);
  });

  it('has a restore tried out by itself', async () => {
    const succeeded = async () =>
      (await system('SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER system')).filter(
        (row) => row['state'] === 'succeeded',
      ).length;
    await waitFor('a base', async () =>
      (await system('SHOW TIMELINE FOR VIRTUAL CLUSTER system')).some((row) => row['kind'] === 'base'),
    );
    assert.equal(await succeeded(), 0);
    await system(`ALTER VIRTUAL CLUSTER system SET CLUSTER SETTING timeline.check.interval = '1s'`).catch(
      () => system(`SET CLUSTER SETTING timeline.check.interval = '1s'`),
    );
    await waitFor('a check that nobody asked for', async () => (await succeeded()) > 0);
  });

  function endOf(base: Record<string, unknown> | undefined): string {
    const end = base?.['end_time'];
    assert.ok(end instanceof Date);
    return new Date(end.getTime() + 1).toISOString();
  }
});
