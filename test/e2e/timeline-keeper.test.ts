import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { TestDaemon } from '../harness/daemon.ts';
import { filesBelow } from '../harness/oracle.ts';
import { waitFor } from '../harness/wait.ts';

/** Folders of complete bases, oldest first. */
async function bases(daemon: TestDaemon, id: number): Promise<readonly string[]> {
  const files = await filesBelow(join(daemon.store, 'timeline', String(id), 'bases')).catch(() => []);
  return files.flatMap((file) => (file.endsWith('/BACKUP_MANIFEST') ? [file.slice(0, -16)] : []));
}

async function logLine(daemon: TestDaemon, pattern: RegExp): Promise<string | undefined> {
  const text = await readFile(join(daemon.store, 'logs', 'atoll.log'), 'utf8');
  return text.split('\n').find((line) => pattern.test(line));
}

const fill = (table: string) =>
  `CREATE TABLE ${table} AS SELECT n, md5(n::text) AS h FROM generate_series(1, 300000) n`;

/** The keeper captures a base of a virtual cluster that is new to it. */
async function untilKeeperComesBy(daemon: TestDaemon, name: string): Promise<void> {
  await daemon.query(
    [`CREATE VIRTUAL CLUSTER ${name}`, `ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`],
    { cluster: 'system' },
  );
  const [row] = await daemon.query(`SELECT id FROM [SHOW VIRTUAL CLUSTER ${name}]`, { cluster: 'system' });
  await waitFor(`the first base of ${name}`, async () =>
    (await bases(daemon, Number(row?.['id']))).length === 1 ? true : undefined,
  );
}

describe('timelines of a node', () => {
  test('get a base each, a further one after much log, none when idle, and none when switched off', async () => {
    await using daemon = await TestDaemon.start();
    const first = await waitFor('first bases', async () => {
      const found = [await bases(daemon, 1), await bases(daemon, 3)];
      return found.every(({ length }) => length === 1) ? found : undefined;
    });
    await daemon.query("ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING timeline.base.wal_size = '16 MiB'", {
      cluster: 'system',
    });
    await daemon.query(fill('a'), { cluster: 'main' });
    const second = await waitFor('a base on top of the first', async () => {
      const found = await bases(daemon, 3);
      return found.length > 1 ? found : undefined;
    });
    assert.equal(second[0], first[1]?.[0]);
    const line = await waitFor('word of it', () => logLine(daemon, /T3,main.*captured base .*of log since/));
    assert.match(line, /\d+ pages read, \d+ bytes stored/);

    await daemon.query('ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING timeline.enabled = false', {
      cluster: 'system',
    });
    // It goes from one to the next: once it has captured one that came later, it has left this one alone.
    await untilKeeperComesBy(daemon, 'one');
    const before = await bases(daemon, 3);
    await daemon.query(fill('b'), { cluster: 'main' });
    await untilKeeperComesBy(daemon, 'two');
    assert.deepEqual(await bases(daemon, 3), before);
    assert.equal((await bases(daemon, 1)).length, 1, 'the idle one has no more than its first');
    await daemon.query('ALTER VIRTUAL CLUSTER main RESET CLUSTER SETTING timeline.enabled', {
      cluster: 'system',
    });
    await waitFor('bases to go on', async () =>
      (await bases(daemon, 3)).length > before.length ? true : undefined,
    );
  });
});
