import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BackupRig } from '../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { filesBelow } from '../../test/harness/oracle.ts';
import { isAppError, RESTORE_PROGRESS_FILE } from '../base/index.ts';
import type { BackupSummary } from './index.ts';
import { FAULT_POINT_VARIABLE, MATERIALIZE_FAULT_POINTS } from './worker/fault-point.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
/** By then everything but the control file was written, and all that was waited for is durable. */
const LATE = ['materialize.after_sync'];

describe('a restore that goes on', () => {
  let rig: BackupRig;
  let backup: BackupSummary;
  let whole: ReadonlyMap<string, string>;

  async function contentOf(directory: string): Promise<ReadonlyMap<string, string>> {
    const names = (await filesBelow(directory)).filter((name) => name !== RESTORE_PROGRESS_FILE);
    const hashes = await Promise.all(
      names.map(async (name) =>
        createHash('sha256')
          .update(await readFile(join(directory, name)))
          .digest('hex'),
      ),
    );
    return new Map(names.toSorted().map((name) => [name, hashes[names.indexOf(name)] ?? '']));
  }

  before(async () => {
    rig = await BackupRig.open();
    await withTenant(rig.source, ROOT, (client) =>
      client.query('CREATE TABLE t AS SELECT n, md5(n::text) AS h FROM generate_series(1, 50000) n'),
    );
    backup = await rig.backup();
    const target = await rig.beginTarget();
    const straight = await rig.materialize(target, backup);
    assert.equal(straight.keptBytes, 0n);
    whole = await contentOf(target.targetDirectory);
    assert.ok(whole.size > 100);
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  for (const point of MATERIALIZE_FAULT_POINTS) {
    it(`after ${point} writes what is missing, and nothing else is there`, async () => {
      const target = await rig.beginTarget();
      const resumable = { ...backup, isResumable: true };
      process.env[FAULT_POINT_VARIABLE] = point;
      try {
        await assert.rejects(rig.materialize(target, resumable), (error) => isAppError(error, 'worker_lost'));
      } finally {
        delete process.env[FAULT_POINT_VARIABLE];
      }
      const { virtualClusterId, incarnation, targetDirectory } = target;
      // What is torn or does not belong there goes; the host keeps what there is to go on with.
      const hasBegun = (await filesBelow(targetDirectory)).includes(RESTORE_PROGRESS_FILE);
      const again = await rig.store.host.beginIncarnation({ virtualClusterId, incarnation });
      assert.equal(again.dataDirectory, targetDirectory);
      await writeFile(join(targetDirectory, 'stranger'), 'x');
      const result = await rig.materialize(target, resumable);
      assert.deepEqual(await contentOf(targetDirectory), whole);
      if (LATE.includes(point))
        assert.ok(result.keptBytes > backup.bytes / 2n, `${result.keptBytes} bytes kept`);
      if (!hasBegun) assert.equal(result.keptBytes, 0n);
    });
  }

  it('does nothing when all was done, and begins anew when a file is not what it was, or another moment is asked for', async () => {
    const target = await rig.beginTarget();
    const resumable = { ...backup, isResumable: true };
    await rig.materialize(target, resumable);
    const second = await rig.materialize(target, resumable);
    assert.deepEqual([second.writtenBytes, second.keptBytes], [0n, backup.bytes]);
    const { targetDirectory } = target;
    const progress = join(targetDirectory, RESTORE_PROGRESS_FILE);
    const lines = (await readFile(progress, 'utf8')).split('\n');
    await writeFile(progress, lines.filter((line) => line !== '*').join('\n'));
    const victim = lines.find((line) => line.startsWith('base/') && !line.includes('_')) ?? '';
    await truncate(join(targetDirectory, victim), 1);
    const third = await rig.materialize(target, resumable);
    assert.ok(third.keptBytes > 0n && third.writtenBytes > 0n);
    assert.deepEqual(await contentOf(targetDirectory), whole);
    const other = await rig.backup();
    const fourth = await rig.materialize(target, { ...other, isResumable: true });
    assert.equal(fourth.keptBytes, 0n);
  });

  it('serves what was written in two goes, and leaves no trace of it', async () => {
    const target = await rig.beginTarget();
    const resumable = { ...backup, isResumable: true };
    process.env[FAULT_POINT_VARIABLE] = 'materialize.before_control_file';
    try {
      await assert.rejects(rig.materialize(target, resumable), (error) => isAppError(error, 'worker_lost'));
    } finally {
      delete process.env[FAULT_POINT_VARIABLE];
    }
    const instance = await rig.serve(target, await rig.materialize(target, resumable));
    const count = await withTenant(
      instance,
      ROOT,
      async (client) => (await client.query('SELECT count(*) FROM t')).rows,
    );
    assert.deepEqual(count, [{ count: '50000' }]);
    assert.ok(!(await filesBelow(instance.dataDirectory)).includes(RESTORE_PROGRESS_FILE));
    await instance.stop({ mode: 'orderly', signal: NEVER });
  });
});
