import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Site } from '../harness/sites.ts';
import { mountSmall, NO_SMALL_DISK, unmountSmall } from '../harness/small-disk.ts';
import { waitFor } from '../harness/wait.ts';

const MIB = 1024 * 1024;
const SEGMENT_MIB = 16;
/** Room that is left to the standby, and log that comes to it: more than that. */
const LEFT_MIB = 48;
const LOG_MIB = 256;

const mounted = await mountSmall(1400);
const skip = mounted === null && NO_SMALL_DISK;

describe('a standby whose disk gets full', { skip }, () => {
  const directory = mounted ?? '';
  const filler = join(directory, 'filler');
  let primary: Site;
  let standby: Site;

  before(async () => {
    primary = await Site.start();
    standby = await Site.start({ store: join(directory, 'store'), flags: ['--virtualized-empty'] });
    await primary.main('CREATE TABLE diary (what text)');
    await standby.system(`CREATE VIRTUAL CLUSTER main FROM REPLICATION OF main ON '${primary.uri()}'`);
    await standby.whenIn('replicating');
    await standby.whenProtected();
  });

  after(async () => {
    await standby?.[Symbol.asyncDispose]();
    await primary?.[Symbol.asyncDispose]();
    if (mounted === null) return;
    await waitFor('nothing to be open on the small disk', async () => {
      await unmountSmall(mounted);
      return true;
    });
  });

  it('falls behind, disturbs nobody, and catches up when there is room', async () => {
    const { bavail, bsize } = await statfs(directory);
    execFileSync('fallocate', ['-l', String(bavail * bsize - LEFT_MIB * MIB), filler]);
    for (let written = 0; written < LOG_MIB; written += SEGMENT_MIB) {
      await primary.main(`INSERT INTO diary VALUES ('written while the standby has no room')`);
      await primary.asNode('SELECT pg_switch_wal()');
    }
    await waitFor('the follower to meet the end of its disk', () =>
      /no space (?:is )?left/i.test(standby.daemon.output),
    );
    await primary.main(`INSERT INTO diary VALUES ('the last')`);
    const [slot] = await primary.asNode(
      `SELECT wal_status FROM pg_replication_slots WHERE slot_name LIKE 'atoll_stream_%'`,
    );
    assert.ok(['reserved', 'extended'].includes(String(slot?.['wal_status'])), 'its log is kept');
    await rm(filler);
    await waitFor('the standby to answer', () => standby.status());
    // Given up or not, it goes on.
    await waitFor('it to replicate again', async () => {
      const { status } = await standby.status();
      if (status === 'replication error')
        await standby.system('ALTER VIRTUAL CLUSTER main RESUME REPLICATION');
      return status === 'replicating';
    });
    await standby.whenCaughtUp(primary);
    await standby.system('ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST');
    await standby.whenIn('ready');
    await standby.system('ALTER VIRTUAL CLUSTER main START SERVICE SHARED');
    const sql = 'SELECT what, count(*)::int AS n FROM diary GROUP BY what ORDER BY what';
    assert.deepEqual(await standby.main(sql), await primary.main(sql));
  });
});
