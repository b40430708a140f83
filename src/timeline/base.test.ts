import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { BackupRig } from '../../test/harness/backup-rig.ts';
import { withTenant } from '../../test/harness/instance-store.ts';
import { digestTables, findDamage } from '../../test/harness/oracle.ts';

const ROOT = { user: 'root', database: 'defaultdb' };

describe('an incremental base', () => {
  let rig: BackupRig;
  const sql = (text: string) => withTenant(rig.source, ROOT, (client) => client.query(text));

  before(async () => {
    rig = await BackupRig.open();
    await sql(`CREATE TABLE t (id int PRIMARY KEY, note text);
               INSERT INTO t SELECT n, md5(n::text) || repeat('x', 200) FROM generate_series(1, 50000) n`);
    await sql('VACUUM (FREEZE, ANALYZE) t');
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  it('holds everything, and has read only what changed', async () => {
    const full = await rig.captureBase(null);
    await sql(`UPDATE t SET note = 'changed' WHERE id % 5000 = 0`);
    const incremental = await rig.captureBase(full.base.subdirectory);
    assert.equal(incremental.fullReason, null);
    assert.equal(incremental.base.baseSubdirectory, full.base.subdirectory);
    const expected = await withTenant(rig.source, ROOT, digestTables);
    const target = await rig.beginTarget();
    const restored = await rig.serve(
      target,
      await rig.materialize(target, { collection: rig.bases, subdirectory: incremental.base.subdirectory }),
    );
    assert.deepEqual(await withTenant(restored, ROOT, digestTables), expected);
    const { virtualClusterId } = target;
    assert.deepEqual(
      await findDamage({ store: rig.store.directory, virtualClusterId, database: 'defaultdb' }),
      [],
    );
  });
});
