import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BackupRig } from '../../test/harness/backup-rig.ts';
import { NEVER, withTenant } from '../../test/harness/instance-store.ts';
import { filesBelow } from '../../test/harness/oracle.ts';
import { waitFor } from '../../test/harness/wait.ts';
import { isAppError } from '../base/index.ts';
import { BACKUP_FAULT_POINTS, FAULT_POINT_VARIABLE, MATERIALIZE_FAULT_POINTS } from './worker/fault-point.ts';

const ROOT = { user: 'root', database: 'defaultdb' };
const isLost = (error: unknown) => isAppError(error, 'worker_lost');

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

/** Runs something whose worker dies at a fault point. */
async function cutAt<T>(point: string, run: () => Promise<T>): Promise<T> {
  process.env[FAULT_POINT_VARIABLE] = point;
  try {
    return await run();
  } finally {
    delete process.env[FAULT_POINT_VARIABLE];
  }
}

async function assertSourceIsFree(): Promise<void> {
  await waitFor('slots and sessions of the dead worker to go', async () => {
    const rows = await rig.source.withSystemClient(
      (client) =>
        client.query(`SELECT (SELECT count(*) FROM pg_replication_slots)
                           + (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'atoll backup') AS n`),
      { signal: NEVER },
    );
    return rows[0]?.n === '0';
  });
}

describe('a backup cut off', () => {
  for (const point of BACKUP_FAULT_POINTS) {
    it(`at ${point} is whole or is none, and its next attempt succeeds`, async () => {
      const collection = rig.newCollection(point);
      const subdirectory = rig.newSubdirectory();
      const backup = { collection, subdirectory, jobId: `job-${point.replaceAll(/[^a-z]/g, '-')}` };
      await cutAt(point, () => assert.rejects(rig.backup(backup), isLost));
      const isPublished = point === 'publish.after_manifest' || point === 'publish.after_latest';
      const listed = await rig.reader.list(collection, { signal: NEVER });
      assert.deepEqual(listed, isPublished ? [subdirectory] : []);
      await assertSourceIsFree();
      const summary = await rig.backup({ ...backup, attempt: 2 });
      const options = { collection, subdirectory, key: rig.key, signal: NEVER };
      assert.deepEqual(await rig.reader.summary(options), summary);
      assert.deepEqual(await rig.reader.missingFiles(options), []);
      const files = await filesBelow(collection.directory);
      const ofAttempt = new RegExp(`/(data|wal)/${isPublished ? 1 : 2}-`);
      assert.ok(
        files.every(
          (file) =>
            ofAttempt.test(file) || /BACKUP_MANIFEST$|BACKUP-LOCK-|collection-owner$|LATEST-/.test(file),
        ),
        files.join(),
      );
      assert.equal(files.filter((file) => file.startsWith('metadata/latest/')).length, 1);
    });
  }

  it('does not stand in the way of another backup', async () => {
    const collection = rig.newCollection('other-job');
    await cutAt('capture.after_first_task', () => assert.rejects(rig.backup({ collection }), isLost));
    const { subdirectory } = await rig.backup({ collection });
    assert.deepEqual(await rig.reader.list(collection, { signal: NEVER }), [subdirectory]);
  });
});

describe('a materialization cut off', () => {
  it('at any point begins anew and ends the same', async () => {
    const backup = await rig.backup();
    const target = await rig.beginTarget();
    const whole = await rig.materialize(target, backup);
    const expected = await filesBelow(target.targetDirectory);
    for (const point of MATERIALIZE_FAULT_POINTS) {
      await cutAt(point, () => assert.rejects(rig.materialize(target, backup), isLost));
      assert.deepEqual(await rig.materialize(target, backup), whole, point);
      assert.deepEqual(await filesBelow(target.targetDirectory), expected, point);
    }
    await cutAt('materialize.before_sync', () => assert.rejects(rig.materialize(target, backup), isLost));
    const restored = await rig.serve(target, await rig.materialize(target, backup));
    const { rows } = await withTenant(restored, ROOT, (client) =>
      client.query('SELECT count(*)::int AS n FROM t'),
    );
    assert.deepEqual(rows, [{ n: 20_000 }]);
  });

  it('before the control file was written is nothing that could be started', async () => {
    const backup = await rig.backup();
    const target = await rig.beginTarget();
    await cutAt('materialize.before_control_file', () =>
      assert.rejects(rig.materialize(target, backup), isLost),
    );
    const files = await filesBelow(target.targetDirectory);
    assert.ok(files.includes('PG_VERSION') && !files.includes('global/pg_control'));
  });
});

describe('a backup that is cancelled', () => {
  it('ends, leaves no object, and keeps nothing in the source', async () => {
    const collection = rig.newCollection('cancelled');
    const controller = new AbortController();
    const running = rig.backup({
      collection,
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    await assert.rejects(running, (error) => isAppError(error, 'cancelled'));
    const files = await filesBelow(collection.directory);
    assert.ok(
      files.every((file) => /collection-owner$|BACKUP-LOCK-/.test(file)),
      files.join(),
    );
    await assertSourceIsFree();
    await assert.rejects(rig.backup({ collection, signal: AbortSignal.abort() }), (error) =>
      isAppError(error, 'cancelled'),
    );
  });
});

describe('a bulk worker', () => {
  it('ends when the process that started it is killed', { skip: process.platform !== 'linux' }, async () => {
    const script = join(rig.store.directory, 'starts-a-worker.ts');
    const module = (path: string) => JSON.stringify(join(import.meta.dirname, path));
    writeFileSync(
      script,
      `import { spawn } from 'node:child_process';
       spawn(process.execPath, [${module('worker/worker-main.ts')}], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
       setInterval(() => undefined, 1000);`,
    );
    const parent = spawn(process.execPath, [script], { stdio: 'ignore' });
    const worker = await waitFor('the worker to start', () => childOf(parent.pid ?? 0));
    parent.kill('SIGKILL');
    await waitFor('the worker to end', () => !isAlive(worker));
  });

  it('has low priority in all its threads, and tells its secrets to nobody', {
    skip: process.platform !== 'linux',
  }, async () => {
    const collection = rig.newCollection('observed');
    const seen: { nices: number[]; text: string }[] = [];
    await rig.backup({
      collection,
      onProgress() {
        const worker = childOf(process.pid);
        if (worker !== undefined) seen.push(observe(worker));
      },
    });
    assert.ok(seen.length > 0);
    const secret = Buffer.from(rig.key.secret);
    for (const { nices, text } of seen) {
      assert.ok(
        nices.every((nice) => nice >= 10),
        nices.join(),
      );
      for (const form of ['hex', 'base64', 'latin1'] as const)
        assert.ok(!text.includes(secret.toString(form)));
      assert.doesNotMatch(text, /PATH=|HOME=/);
    }
  });
});

function childOf(parent: number): number | undefined {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const isChild = new RegExp(`^PPid:\\s+${parent}$`, 'm').test(
        readFileSync(`/proc/${pid}/status`, 'latin1'),
      );
      if (isChild && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('worker-main.ts'))
        return Number(pid);
    } catch {
      // It ended meanwhile.
    }
  }
  return undefined;
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

function observe(pid: number): { nices: number[]; text: string } {
  const nices: number[] = [];
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1');
    nices.push(Number(status.slice(status.lastIndexOf(')') + 2).split(' ')[16]));
  }
  const text = ['cmdline', 'environ'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'latin1')).join('');
  return { nices, text };
}
