import assert from 'node:assert/strict';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { filesBelow, findDamage } from '../../test/harness/oracle.ts';
import { type PublishVariation, TimelineRig } from '../../test/harness/timeline-rig.ts';
import { digestEveryWay, findLosses, Workload } from '../../test/harness/workload.ts';
import { isAppError, type Timestamp } from '../base/index.ts';
import type { BackupSummary, PublishResult, TimelinePoint } from './index.ts';
import { FAULT_POINT_VARIABLE, PUBLISH_FAULT_POINTS } from './worker/fault-point.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
const STEPS_BETWEEN = 12;

interface Moment {
  readonly point: TimelinePoint;
  readonly digest: Awaited<ReturnType<typeof digestEveryWay>>;
}

/**
 * The source is stopped and its data directory moved away before the first backup is published: what is published comes from the
 * timeline store alone.
 */
describe('backups published from the timeline store', () => {
  let rig: TimelineRig;
  const workload = new Workload({ seed: 71 });
  const moments: Moment[] = [];

  async function work(): Promise<void> {
    await withTenant(rig.source, ROOT, async (client) => {
      for (let step = 0; step < STEPS_BETWEEN; step++) {
        for (const statement of workload.next()) await client.query(statement);
      }
    });
  }

  async function see(): Promise<void> {
    const digest = await withTenant(rig.source, ROOT, digestEveryWay);
    const [row] = await withTenant(
      rig.source,
      ROOT,
      async (client) =>
        (await client.query('SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8::text AS us'))
          .rows,
    );
    const point = rig.point(await rig.position());
    moments.push({ digest, point: { ...point, time: BigInt(row.us) as Timestamp } });
  }

  const at = (index: number): Moment => {
    const moment = moments[index];
    assert.ok(moment !== undefined);
    return moment;
  };

  async function assertRestores(
    backup: BackupSummary,
    moment: Moment,
    options: { collection?: NonNullable<PublishVariation['collection']>; asOf?: Timestamp } = {},
  ): Promise<void> {
    const target = await rig.rig.beginTarget();
    const result = await rig.rig.materialize(target, { subdirectory: backup.subdirectory, ...options });
    const instance = await rig.rig.serve(target, result);
    assert.deepEqual(await withTenant(instance, ROOT, digestEveryWay), moment.digest);
    assert.deepEqual(await withTenant(instance, ROOT, findLosses), []);
    const { virtualClusterId } = instance.identity;
    const store = rig.rig.store.directory;
    assert.deepEqual(await findDamage({ store, virtualClusterId, database: 'defaultdb' }), []);
    await instance.stop({ mode: 'orderly', signal: NEVER });
  }

  before(async () => {
    rig = await TimelineRig.open();
    await withTenant(rig.source, ROOT, async (client) => {
      for (const statement of workload.begin()) await client.query(statement);
      await client.query(
        'CREATE TABLE still (id int PRIMARY KEY, note text); INSERT INTO still SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 20000) n',
      );
    });
    await work();
    const first = await rig.captureBase();
    await work();
    await see();
    await work();
    await see();
    const second = await rig.captureBase({ onto: first.base.subdirectory });
    assert.equal(second.fullReason, null);
    await work();
    await see();
    await work();
    await see();
    await rig.receive();
    await rig.source.stop({ mode: 'orderly', signal: NEVER });
    await rename(rig.source.dataDirectory, `${rig.source.dataDirectory}-away`);
  });
  after(async () => {
    await rename(`${rig.source.dataDirectory}-away`, rig.source.dataDirectory);
    await rig?.[Symbol.asyncDispose]();
  });

  it('hold a moment between two bases, and leave nothing but the backup behind', async () => {
    const collection = rig.rig.newCollection('between');
    const { summary, copiedBytes } = await rig.publish(at(0).point, { collection });
    assert.equal(summary.endTime, at(0).point.time);
    assert.equal(summary.startTime, null);
    assert.ok(copiedBytes > 0n);
    const kinds = new Set(
      (await filesBelow(collection.directory)).map((name) => name.replaceAll(/\d+/g, '')),
    );
    assert.ok(
      [...kinds].every((name) => !name.includes('progress')),
      [...kinds].join(),
    );
    await assertRestores(summary, at(0), { collection });
  });

  let full: PublishResult;
  let onNewerBase: PublishResult;

  it('are extended by log alone where the base is the same', async () => {
    full = await rig.publish(at(0).point);
    const { summary, copiedBytes } = await rig.publish(at(1).point, { onto: full.summary.subdirectory });
    assert.equal(copiedBytes, 0n, 'no frame is copied twice');
    assert.equal(summary.baseSubdirectory, full.summary.subdirectory);
    assert.equal(summary.startTime, full.summary.endTime);
    await assertRestores(summary, at(1));
  });

  it('copy of a newer base only what the chain lacks, each way it can be restored', async () => {
    onNewerBase = await rig.publish(at(2).point, { onto: full.summary.subdirectory });
    const whole = await rig.publish(at(2).point, { collection: rig.rig.newCollection('whole') });
    assert.ok(
      onNewerBase.copiedBytes > 0n && onNewerBase.copiedBytes < whole.copiedBytes,
      `${onNewerBase.copiedBytes} of ${whole.copiedBytes} bytes`,
    );
    await assertRestores(onNewerBase.summary, at(2));
  });

  it('with revision history lead to every moment since the one before', async () => {
    const collection = rig.rig.newCollection('history');
    const begun = await rig.publish(at(0).point, { collection, hasRevisionHistory: true });
    const { revisionStart } = begun.summary;
    assert.ok(revisionStart !== null && revisionStart < at(0).point.time);
    const next = await rig.publish(at(3).point, {
      collection,
      onto: begun.summary.subdirectory,
      hasRevisionHistory: true,
    });
    assert.equal(next.summary.revisionStart, at(0).point.time);
    for (const index of [1, 2]) {
      await assertRestores(next.summary, at(index), { collection, asOf: at(index).point.time });
    }
    await assertRestores(next.summary, at(3), { collection });
    const missing = await rig.rig.reader.missingFiles({
      collection,
      subdirectory: next.summary.subdirectory,
      key: rig.rig.key,
      signal: NEVER,
    });
    assert.deepEqual(missing, []);
    const target = await rig.rig.beginTarget();
    const early = {
      subdirectory: next.summary.subdirectory,
      collection,
      asOf: (at(0).point.time - 1n) as Timestamp,
    };
    await assert.rejects(rig.rig.materialize(target, early), (error) =>
      isAppError(error, 'parameter_invalid'),
    );
  });

  it('are refused on top of what comes later, and for moments that no base leads to', async () => {
    await assert.rejects(
      rig.publish(at(0).point, { onto: onNewerBase.summary.subdirectory }),
      (error) => isAppError(error, 'object_state') && /does not come before/.test(error.message),
    );
    const first = { ...at(0).point, lsn: 0x1_00_0000n as TimelinePoint['lsn'] };
    await assert.rejects(rig.publish(first), (error) => isAppError(error, 'time_outside_window'));
  });

  for (const point of PUBLISH_FAULT_POINTS) {
    it(`cut off at ${point} are whole or none, and go on where they were`, async () => {
      const collection = rig.rig.newCollection(`cut-${point}`);
      const publication = {
        collection,
        subdirectory: rig.rig.newSubdirectory(),
        jobId: `cut-${point.replaceAll(/[^a-z]/g, '-')}`,
        packBytesMax: 1,
      };
      process.env[FAULT_POINT_VARIABLE] = point;
      try {
        await assert.rejects(rig.publish(at(1).point, publication), (error) =>
          isAppError(error, 'worker_lost'),
        );
      } finally {
        delete process.env[FAULT_POINT_VARIABLE];
      }
      const isThere = point === 'publish.after_manifest' || point === 'publish.after_latest';
      const listed = await rig.rig.reader.list(collection, { signal: NEVER });
      assert.deepEqual(listed, isThere ? [publication.subdirectory] : []);
      const again = await rig.publish(at(1).point, { ...publication, attempt: 2 });
      const isResumed = ['publish.after_checkpoint', 'verify.before', 'publish.before_manifest'].includes(
        point,
      );
      assert.equal(again.resumedBytes > 0n, isResumed, point);
      const options = { collection, subdirectory: publication.subdirectory, key: rig.rig.key, signal: NEVER };
      assert.deepEqual(await rig.rig.reader.missingFiles(options), []);
      const left = (await filesBelow(collection.directory)).filter((name) => name.includes('progress'));
      assert.deepEqual(left, []);
      if (point === 'publish.after_checkpoint') await assertRestores(again.summary, at(1), { collection });
    });
  }

  it('given up leave nothing but the mark of the collection’s owner', async () => {
    const collection = rig.rig.newCollection('given-up');
    const publication = { collection, subdirectory: rig.rig.newSubdirectory(), jobId: 'given-up' };
    process.env[FAULT_POINT_VARIABLE] = 'verify.before';
    try {
      await assert.rejects(rig.publish(at(1).point, publication), (error) =>
        isAppError(error, 'worker_lost'),
      );
    } finally {
      delete process.env[FAULT_POINT_VARIABLE];
    }
    const given = { ...publication, signal: NEVER };
    await rig.rig.reader.discardUnfinished({ ...given, jobId: 'somebody-else' });
    assert.ok((await filesBelow(collection.directory)).length > 3, 'another job’s files are left alone');
    await rig.rig.reader.discardUnfinished(given);
    await rig.rig.reader.discardUnfinished(given);
    assert.deepEqual(await filesBelow(collection.directory), [join('metadata', 'collection-owner')]);
  });
});
