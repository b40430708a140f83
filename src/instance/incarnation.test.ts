import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NEVER, TestStore, withTenant } from '../../test/harness/instance-store.ts';
import { scratchDirectory } from '../../test/harness/scratch.ts';
import {
  canSyncFileSystems,
  type IncarnationId,
  type Lsn,
  parseLsn,
  type VirtualClusterId,
} from '../base/index.ts';
import { systemRng } from '../daemon/index.ts';
import type { Instance, InternalClient } from './contract.ts';
import { readControlFile } from './data-directory.ts';
import { ownTree } from './durable-files.ts';
import { processesIn } from './os-process.ts';
import { randomUuid } from './store.ts';
import { ownerOf } from './users.ts';

const MAIN = 3 as VirtualClusterId;
const EMPTIED = ['pg_wal', 'pg_replslot', 'pg_stat_tmp', 'pg_dynshmem', 'pg_notify', 'pg_subtrans'];

let store: TestStore;
let main: Instance;
before(async () => {
  store = await TestStore.open();
  main = await store.serve(3, 'main');
});
after(async () => {
  await store[Symbol.asyncDispose]();
});

const newIncarnation = () => randomUuid(systemRng()) as IncarnationId;

function sql(text: string, database = 'defaultdb') {
  return withTenant(main, { user: 'root', database }, (tenant) => tenant.query(text));
}

/** What a folder was at some moments, with owners and modes. */
class ImagesOf implements AsyncDisposable {
  readonly #folder: string;
  readonly #images: string;

  private constructor(folder: string, images: string) {
    this.#folder = folder;
    this.#images = images;
  }

  static async make(folder: string): Promise<ImagesOf> {
    return new ImagesOf(folder, await scratchDirectory('atoll-images-'));
  }

  take(name: string): void {
    execFileSync('cp', ['-a', this.#folder, join(this.#images, name)]);
  }

  putBack(name: string): void {
    execFileSync('rm', ['-rf', this.#folder]);
    execFileSync('cp', ['-a', join(this.#images, name), this.#folder]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#images, { recursive: true, force: true });
  }
}

const one = async (client: InternalClient, text: string, column: string) =>
  (await client.query(text))[0]?.[column] ?? '';

/** Copies the running instance as `materialize` would leave it, and gives the position just before `afterwards`. */
async function copyRunning(
  target: string,
  uid: number | null,
  afterwards: () => Promise<unknown>,
): Promise<Lsn> {
  const source = main.dataDirectory;
  return main.withSystemClient(
    async (client) => {
      await client.query("SELECT pg_backup_start('test', true)");
      await cp(source, target, {
        recursive: true,
        filter: (path) => {
          const [top = '', below] = path.slice(source.length + 1).split('/');
          return (
            top !== 'postmaster.pid' &&
            top !== 'postmaster.opts' &&
            (below === undefined || !EMPTIED.includes(top))
          );
        },
      });
      const label = await one(client, 'SELECT labelfile FROM pg_backup_stop(false)', 'labelfile');
      await writeFile(join(target, 'backup_label'), label);
      const lsn = parseLsn(await one(client, 'SELECT pg_current_wal_insert_lsn() AS lsn', 'lsn'));
      await afterwards();
      await client.query('SELECT pg_switch_wal()');
      await cp(join(source, 'pg_wal'), join(target, 'pg_wal'), { recursive: true });
      if (uid !== null) await ownTree({ root: target, owner: ownerOf(uid) });
      return lsn;
    },
    { signal: NEVER },
  );
}

/** Runs a statement in a transaction, and gives where the record of its commit begins. */
async function commitLsnOf(text: string): Promise<Lsn> {
  return withTenant(main, { user: 'root', database: 'defaultdb' }, async (tenant) => {
    await tenant.query('BEGIN');
    await tenant.query(text);
    const { rows } = await tenant.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
    await tenant.query('COMMIT');
    return parseLsn(rows[0]?.lsn ?? '');
  });
}

test('restored data is recovered to its target, prepared, and takes over', async () => {
  await sql('CREATE TABLE kept AS SELECT 1 AS a');
  await main.withSystemClient(
    async (client) => {
      // As if a tenant with a password-protected source had made it.
      await client.query(
        "CREATE SUBSCRIPTION ours CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect = false, slot_name = 's', enabled = false)",
      );
      await client.query('UPDATE pg_subscription SET subenabled = true');
    },
    { signal: NEVER },
  );

  const before = main.identity;
  const { generation } = main;
  const incarnation = newIncarnation();
  const target = { virtualClusterId: MAIN, incarnation };
  const { dataDirectory, uid } = await store.host.beginIncarnation(target);
  let lsn = 0n as Lsn;
  await copyRunning(dataDirectory, uid, async () => {
    // Recovery ends before the commit itself: a target that were part of what is recovered would be one record too many.
    lsn = await commitLsnOf('INSERT INTO kept VALUES (2)');
  });
  // What came with the copy counts for nothing.
  await writeFile(join(dataDirectory, 'postgresql.auto.conf'), "archive_command = 'nonsense'\n");

  await assert.rejects(store.host.commitIncarnation({ ...target, forkLsn: lsn, signal: NEVER }), {
    code: 'object_state',
  });
  let wasServing = false;
  await store.host.proveIncarnation({
    ...target,
    recovery: { lsn, timelineId: 1 },
    prepare: async (client) => {
      assert.equal(await one(client, 'SELECT pg_is_in_recovery() AS r', 'r'), 'f');
      const isSyncedAfterwards = await canSyncFileSystems();
      assert.equal(await one(client, 'SHOW fsync', 'fsync'), isSyncedAfterwards ? 'off' : 'on');
      await client.query('CREATE TABLE public.prepared (a int)');
      wasServing = (await sql('SELECT count(*)::int AS n FROM kept')).rows[0].n === 2;
    },
    signal: NEVER,
  });
  assert.equal(wasServing, true, 'the current incarnation serves meanwhile');
  assert.deepEqual(await processesIn(dataDirectory), []);
  assert.ok(store.logger.has('disabled subscription "ours"'));

  await store.host.commitIncarnation({ ...target, forkLsn: lsn, signal: NEVER });
  assert.deepEqual((await sql('SELECT a FROM kept')).rows, [{ a: 1 }]);
  assert.ok(main.generation > generation);
  assert.deepEqual(main.identity, {
    ...before,
    incarnation,
    parentIncarnation: before.incarnation,
    forkLsn: lsn,
  });
  await main.withSystemClient(
    async (client) => {
      assert.equal(await one(client, 'SELECT count(*) AS n FROM public.prepared', 'n'), '0');
      assert.equal(await one(client, 'SELECT bool_or(subenabled) AS e FROM pg_subscription', 'e'), 'f');
      assert.equal(await one(client, 'SELECT timeline_id AS t FROM pg_control_checkpoint()', 't'), '2');
      assert.equal(await one(client, 'SHOW fsync', 'fsync'), 'on');
    },
    { signal: NEVER },
  );

  // Asked again after a crash: the same answer.
  await store.host.commitIncarnation({ ...target, forkLsn: lsn, signal: NEVER });
  await store.reopen();
  main = store.host.get(MAIN) as Instance;
  assert.equal(main.identity.incarnation, incarnation);
  const names = await readdir(join(store.directory, 'vc', '3'));
  assert.deepEqual(names.toSorted(), ['conf', 'identity.json', incarnation, 'process.json'].toSorted());
});

test('data whose log ends before the target is refused with what the server said, and the old one serves on', async () => {
  const before = main.identity;
  const target = { virtualClusterId: MAIN, incarnation: newIncarnation() };
  const { dataDirectory, uid } = await store.host.beginIncarnation(target);
  const lsn = await copyRunning(dataDirectory, uid, async () => undefined);
  const beyond = (lsn + 0x4000_0000n) as Lsn;
  await assert.rejects(
    store.host.proveIncarnation({
      ...target,
      recovery: { lsn: beyond, timelineId: 2 },
      prepare: async () => assert.fail('never reached'),
      signal: NEVER,
    }),
    (error: { code?: string; detail?: string }) => {
      assert.equal(error.code, 'instance_failed');
      assert.match(error.detail ?? '', /recovery ended before configured recovery target was reached/);
      return true;
    },
  );
  assert.deepEqual(await processesIn(dataDirectory), []);
  await store.host.abandonIncarnation(target);
  await store.host.abandonIncarnation(target);
  await assert.rejects(stat(dataDirectory), { code: 'ENOENT' });
  assert.deepEqual(main.identity, before);
  assert.deepEqual((await sql('SELECT a FROM kept')).rows, [{ a: 1 }]);
});

test('a proof that fails in preparation or is cancelled leaves no server', async () => {
  const target = { virtualClusterId: MAIN, incarnation: newIncarnation() };
  const { dataDirectory, uid } = await store.host.beginIncarnation(target);
  const lsn = await copyRunning(dataDirectory, uid, () => sql('INSERT INTO kept VALUES (3)'));
  const over = new AbortController();
  const prove = (prepare: (client: InternalClient) => Promise<void>) =>
    store.host.proveIncarnation({
      ...target,
      recovery: { lsn, timelineId: 2 },
      prepare,
      signal: over.signal,
    });
  await assert.rejects(
    prove((client) => client.query('SELECT 1/0').then(() => undefined)),
    { code: 'instance_failed', detail: /division by zero/ },
  );
  assert.deepEqual(await processesIn(dataDirectory), []);

  // A new attempt begins with an empty folder, under another incarnation or the same.
  const again = await store.host.beginIncarnation(target);
  assert.deepEqual(await readdir(again.dataDirectory), []);
  const lsnAgain = await copyRunning(dataDirectory, uid, () => sql('INSERT INTO kept VALUES (4)'));
  const cancelled = store.host.proveIncarnation({
    ...target,
    recovery: { lsn: lsnAgain, timelineId: 2 },
    prepare: async (client) => {
      over.abort();
      await client.query('SELECT pg_sleep(600)');
    },
    signal: over.signal,
  });
  await assert.rejects(cancelled, { code: 'cancelled' });
  assert.deepEqual(await processesIn(dataDirectory), []);
  await rm(dataDirectory, { recursive: true });
});

test('a daemon that ends between the steps of a commit finds one whole incarnation', async () => {
  // Begun, not committed: discarded. Replaced, and the replacement has not served: kept until it has.
  const directory = join(store.directory, 'vc', '3');
  const { incarnation } = main.identity;
  const [begun, superseded] = [newIncarnation(), newIncarnation()];
  await store.host.beginIncarnation({ virtualClusterId: MAIN, incarnation: begun });
  await cp(join(directory, 'conf'), join(directory, `${superseded}.superseded`), { recursive: true });
  await main.stop({ mode: 'orderly', signal: NEVER });
  await store.reopen();
  main = store.host.get(MAIN) as Instance;
  const names = await readdir(directory);
  assert.ok(!names.includes(`${begun}.begun`));
  assert.ok(names.includes(`${superseded}.superseded`));
  await main.start({ signal: NEVER });
  await store.reopen(); // Waits for what is under way.
  main = store.host.get(MAIN) as Instance;
  assert.ok(!(await readdir(directory)).includes(`${superseded}.superseded`));
  assert.equal(main.identity.incarnation, incarnation);
});

test('power that is lost in a commit leaves one whole incarnation, and nothing for anybody to sort out', async () => {
  await main.start({ signal: NEVER });
  await sql('CREATE TABLE lives AS SELECT 1 AS a');
  const former = main.identity.incarnation;
  const target = { virtualClusterId: MAIN, incarnation: newIncarnation() };
  const { dataDirectory, uid } = await store.host.beginIncarnation(target);
  const lsn = await copyRunning(dataDirectory, uid, () => sql('INSERT INTO lives VALUES (2)'));
  const { timelineId } = await readControlFile(main.dataDirectory);
  const prepare = async () => undefined;
  await store.host.proveIncarnation({ ...target, recovery: { lsn, timelineId }, prepare, signal: NEVER });
  const directory = join(store.directory, 'vc', '3');
  await using images = await ImagesOf.make(directory);
  store.hooks.onReplacement = (step) => images.take(step);
  await store.host.commitIncarnation({ ...target, forkLsn: lsn, signal: NEVER });
  store.hooks.onReplacement = () => undefined;
  assert.deepEqual((await sql('SELECT a FROM lives')).rows, [{ a: 1 }]);

  const whole = { set_apart: [former, 2], recorded: [target.incarnation, 1] } as const;
  for (const [step, [incarnation, rows]] of Object.entries(whole)) {
    await main.stop({ mode: 'orderly', signal: NEVER });
    await store.host.close();
    images.putBack(step);
    await store.reopen();
    main = store.host.get(MAIN) as Instance;
    assert.equal(main.identity.incarnation, incarnation, step);
    await main.start({ signal: NEVER });
    assert.equal((await sql('SELECT count(*)::int AS n FROM lives')).rows[0].n, rows, step);
    await store.reopen(); // Waits for what is under way.
    main = store.host.get(MAIN) as Instance;
    const names = (await readdir(directory)).filter((name) => !/^(conf|.*\.json)$/.test(name));
    assert.deepEqual(names, [incarnation], step);
  }
  assert.deepEqual(await readdir(join(store.directory, 'quarantine')), []);
});

test('what was never begun is neither proved nor committed', async () => {
  const target = { virtualClusterId: MAIN, incarnation: newIncarnation() };
  await assert.rejects(store.host.commitIncarnation({ ...target, forkLsn: null, signal: NEVER }), {
    code: 'object_not_found',
  });
  await assert.rejects(store.host.beginIncarnation({ ...target, virtualClusterId: 99 as VirtualClusterId }), {
    code: 'object_not_found',
  });
});
