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
    await daemon.query(['CREATE VIRTUAL CLUSTER later', 'ALTER VIRTUAL CLUSTER later START SERVICE SHARED'], {
      cluster: 'system',
    });
    const [row] = await daemon.query('SELECT id FROM [SHOW VIRTUAL CLUSTER later]', { cluster: 'system' });
    const later = () => bases(daemon, Number(row?.['id']));
    // One capture at a time: what it was about when it was switched off is over then.
    await waitFor('a base of one that came later', async () => (await later()).length === 1);
    const before = await bases(daemon, 3);
    await daemon.query(fill('b'), { cluster: 'main' });
    await daemon.query("ALTER VIRTUAL CLUSTER later SET CLUSTER SETTING timeline.base.wal_size = '16 MiB'", {
      cluster: 'system',
    });
    await daemon.query(fill('b'), { cluster: 'later' });
    // For that nobody calls the keeper: its round goes from one to the next, and has left the one before alone.
    await waitFor('a further base of it', async () => (await later()).length > 1);
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
