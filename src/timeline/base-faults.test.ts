import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { BackupRig } from '../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { digestTables, filesBelow } from '../../test/harness/oracle.ts';
import { isAppError } from '../base/index.ts';
import { BACKUP_FAULT_POINTS, FAULT_POINT_VARIABLE } from './worker/fault-point.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
const POINTS = BACKUP_FAULT_POINTS.filter((point) => point !== 'publish.after_latest');

describe('an incremental base cut off', () => {
  let rig: BackupRig;

  before(async () => {
    rig = await BackupRig.open();
    await withTenant(rig.source, ROOT, (client) =>
      client.query('CREATE TABLE t AS SELECT n, md5(n::text) AS h FROM generate_series(1, 20000) n'),
    );
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  it('at any point is whole or is none; the base below it stays, and the next attempt succeeds', async (t) => {
    let { base: below } = await rig.captureBase(null);
    for (const [turn, point] of POINTS.entries()) {
      await t.test(point, async () => {
        await withTenant(rig.source, ROOT, (client) =>
          client.query(`UPDATE t SET h = 'turn ${turn}' WHERE n % 4000 = 0`),
        );
        const attempt = { subdirectory: rig.newSubdirectory(), jobId: `job-${turn}` };
        process.env[FAULT_POINT_VARIABLE] = point;
        try {
          await assert.rejects(rig.captureBase(below.subdirectory, attempt), (error) =>
            isAppError(error, 'worker_lost'),
          );
        } finally {
          delete process.env[FAULT_POINT_VARIABLE];
        }
        const isPublished = point === 'publish.after_manifest';
        const listed = await rig.reader.list(rig.bases, { signal: NEVER });
        assert.equal(listed.at(-1), isPublished ? attempt.subdirectory : below.subdirectory);
        const options = { collection: rig.bases, key: rig.key, signal: NEVER };
        assert.deepEqual(await rig.reader.missingFiles({ ...options, ...below }), []);
        const { base } = await rig.captureBase(below.subdirectory, { ...attempt, attempt: 2 });
        assert.deepEqual(await rig.reader.missingFiles({ ...options, ...base }), []);
        const files = await filesBelow(rig.bases.directory);
        const ofDead = files.filter(
          (file) => file.startsWith(attempt.subdirectory) && /\/(data|wal)\/1-/.test(file),
        );
        assert.equal(ofDead.length > 0, isPublished, ofDead.join());
        below = base;
      });
    }
    const expected = await withTenant(rig.source, ROOT, digestTables);
    const target = await rig.beginTarget();
    const { subdirectory } = below;
    const restored = await rig.serve(
      target,
      await rig.materialize(target, { collection: rig.bases, subdirectory }),
    );
    assert.deepEqual(await withTenant(restored, ROOT, digestTables), expected);
  });
});
