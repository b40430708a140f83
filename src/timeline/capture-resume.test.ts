/** A backup of what runs that is broken off goes on from its last checkpoint. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BackupRig } from '../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { filesBelow } from '../../test/harness/oracle.ts';
import { isAppError } from '../base/index.ts';
import type { Instance } from '../instance/index.ts';
import type { BackupSummary } from './index.ts';
import { FAULT_POINT_VARIABLE } from './worker/fault-point.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
/** Of eight MiB each, so that several are whole when the first checkpoint is written. */
const TABLES = ['a', 'b', 'c', 'd', 'e'];
/** A checkpoint comes with every 32 of these. */
const PACK_BYTES = 256 * 1024;

describe('a backup that is broken off between checkpoints', () => {
  let rig: BackupRig;
  before(async () => {
    rig = await BackupRig.open();
    // Nobody but the test changes pages.
    for (const table of TABLES) {
      await run(
        rig.source,
        `CREATE TABLE ${table} (id int, h text) WITH (autovacuum_enabled = off);
         INSERT INTO ${table} SELECT n, repeat(md5('${table}' || n), 4) FROM generate_series(1, 50000) n`,
      );
    }
    // The first who reads a row notes in its page that it is committed, which changes the page.
    await digest(rig.source);
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  async function run(instance: Instance, sql: string): Promise<readonly Record<string, unknown>[]> {
    const result = await withTenant(instance, ROOT, (client) => client.query(sql));
    return Array.isArray(result) ? [] : result.rows;
  }

  /** What the tables hold, read by whatever plan is chosen. */
  async function digest(instance: Instance): Promise<readonly Record<string, unknown>[]> {
    const tables = await run(
      instance,
      `SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1`,
    );
    const sums = tables.map(
      ({ relname }) =>
        `SELECT '${String(relname)}' AS t, count(*)::text AS n, md5(string_agg(id || h, ',' ORDER BY id, h)) AS sum FROM ${String(relname)}`,
    );
    return run(instance, `${sums.join(' UNION ALL ')} ORDER BY 1`);
  }

  const countsOf = ({ objects }: BackupSummary) =>
    objects.filter(({ schema }) => schema === 'public').map(({ name, rows }) => [name, rows] as const);

  async function cutAt<T>(point: string, work: () => Promise<T>): Promise<T> {
    process.env[FAULT_POINT_VARIABLE] = point;
    try {
      return await work();
    } finally {
      delete process.env[FAULT_POINT_VARIABLE];
    }
  }

  async function restored(backup: BackupSummary, collection: ReturnType<BackupRig['newCollection']>) {
    const target = await rig.beginTarget();
    const instance = await rig.serve(
      target,
      await rig.materialize(target, { collection, subdirectory: backup.subdirectory }),
    );
    try {
      return await digest(instance);
    } finally {
      await instance.stop({ mode: 'orderly', signal: NEVER });
    }
  }

  it('when it was killed, and killed again, copies again what has changed since, and nothing else', async () => {
    const collection = rig.newCollection('resumed');
    const subdirectory = rig.newSubdirectory();
    const backup = { collection, subdirectory, jobId: 'resumed', packBytesMax: PACK_BYTES };
    const isLost = (error: unknown) => isAppError(error, 'worker_lost');
    const files = async (pattern: RegExp) =>
      (await filesBelow(collection.directory)).filter((file) => pattern.test(file));

    await cutAt('capture.after_checkpoint', () => assert.rejects(rig.backup(backup), isLost));
    assert.ok((await files(/\/data\/1-/)).length > 0);
    assert.equal((await files(/\/progress\//)).length, 1);
    assert.deepEqual(await rig.reader.list(collection, { signal: NEVER }), []);

    await run(rig.source, `UPDATE a SET h = 'changed' WHERE id < 100; TRUNCATE c; DROP TABLE e`);
    await run(rig.source, `INSERT INTO c SELECT n, 'anew' FROM generate_series(1, 100) n`);
    await run(
      rig.source,
      `CREATE TABLE f AS SELECT n AS id, repeat('f', 100) AS h FROM generate_series(1, 50000) n`,
    );
    await cutAt('capture.after_checkpoint', () =>
      assert.rejects(rig.backup({ ...backup, attempt: 2 }), isLost),
    );
    assert.ok((await files(/\/data\/1-/)).length > 0 && (await files(/\/data\/2-/)).length > 0);

    await run(rig.source, `DELETE FROM d WHERE id > 40000; UPDATE f SET h = 'older' WHERE id = 1`);
    const expected = await digest(rig.source);
    const summary = await rig.backup({ ...backup, attempt: 3 });
    assert.equal(summary.baseSubdirectory, null);
    assert.equal(summary.startTime, null);
    assert.deepEqual(await files(/\/progress\//), []);
    const options = { collection, subdirectory, key: rig.key, signal: NEVER };
    assert.deepEqual(await rig.reader.missingFiles(options), []);
    for (const attempt of [1, 2, 3]) {
      assert.ok((await files(new RegExp(`/data/${attempt}-`))).length > 0, `packs of attempt ${attempt}`);
    }
    // What is stored anew is a part of what there is; what is counted is all.
    const whole = await rig.backup({ packBytesMax: PACK_BYTES });
    const stored = await files(/\/data\/3-/);
    assert.ok(stored.length < (await files(/\/data\//)).length);
    // Of pages that were not read again, the average of their table is known.
    const counted = new Map(countsOf(summary));
    assert.equal(counted.get('b'), 50_000n);
    for (const [name, rows] of countsOf(whole)) {
      const [actual, wanted] = [Number(counted.get(name)), Number(rows)];
      assert.ok(Math.abs(actual - wanted) <= wanted * 0.01, `${name}: ${actual} of ${wanted}`);
    }
    assert.deepEqual(await restored(summary, collection), expected);
  });

  it('when it was paused, goes on, too', async () => {
    // Whoever pauses may come too late: then it is complete, and another one is paused.
    for (let paused = false; !paused; ) {
      const collection = rig.newCollection('paused');
      const subdirectory = rig.newSubdirectory();
      const backup = {
        collection,
        subdirectory,
        jobId: `paused-${subdirectory.replaceAll(/\D/g, '')}`,
        packBytesMax: PACK_BYTES,
      };
      const pausing = new AbortController();
      const progress = join(collection.directory, subdirectory, 'progress');
      const onProgress = () => {
        if (existsSync(progress) && readdirSync(progress).some((name) => /image-\d+-\d+$/.test(name)))
          pausing.abort();
      };
      const running = rig.backup({ ...backup, onProgress, signal: pausing.signal });
      paused = await running.then(
        () => false,
        (error: unknown) => isAppError(error, 'cancelled') || Promise.reject(error as Error),
      );
      if (!paused) continue;
      const kept = (await filesBelow(collection.directory)).filter((file) =>
        file.includes(`${subdirectory}/data/1-`),
      );
      assert.ok(kept.length > 0);
      await run(rig.source, `INSERT INTO a VALUES (0, 'after the pause')`);
      const summary = await rig.backup({ ...backup, attempt: 2 });
      const files = await filesBelow(collection.directory);
      assert.ok(kept.some((file) => files.includes(file)));
      assert.deepEqual(await restored(summary, collection), await digest(rig.source));
    }
  });

  it('reads everything when another life of the data has left the checkpoint', async () => {
    const collection = rig.newCollection('other');
    const subdirectory = rig.newSubdirectory();
    const backup = { collection, subdirectory, jobId: 'other', packBytesMax: PACK_BYTES };
    await cutAt('capture.after_checkpoint', () => assert.rejects(rig.backup(backup)));
    const source = { incarnation: '00000000-0000-4000-8000-000000000009' as BackupSummary['incarnation'] };
    const summary = await rig.backup({ ...backup, attempt: 2, source });
    assert.deepEqual(
      (await filesBelow(collection.directory)).filter((file) => /\/data\/1-|\/progress\//.test(file)),
      [],
    );
    assert.deepEqual(await restored(summary, collection), await digest(rig.source));
  });
});
