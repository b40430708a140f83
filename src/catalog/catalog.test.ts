import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { RecordingLogger } from '../../test/harness/control.ts';
import {
  type IncarnationId,
  type JobId,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  SYSTEM_VIRTUAL_CLUSTER_NAME,
  type Timestamp,
  type VirtualClusterId,
  parseVirtualClusterName,
} from '../base/index.ts';
import { systemClock } from '../daemon/clock.ts';
import { systemRng } from '../daemon/rng.ts';
import {
  DEFAULT_INSTANCE_SETTINGS,
  type Instance,
  type OpenInstanceHost,
  openInstanceHost,
} from '../instance/index.ts';
import { ALL_CAPABILITIES, NO_CAPABILITIES } from './capabilities.ts';
import type { JobRecord, JobState, JsonValue } from './job-record.ts';
import { postgresJobStore } from './job-store.ts';
import { migrate } from './migrations.ts';
import { PostgresVirtualClusterCatalog } from './virtual-cluster-catalog.ts';

const NEVER = new AbortController().signal;
const wait = { signal: NEVER };
const name = parseVirtualClusterName;
const at = (us: bigint) => us as Timestamp;

describe('the catalog in a real database', () => {
  const clock = systemClock();
  let directory: string;
  let host: OpenInstanceHost;
  let database: Instance;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'atoll-catalog-'));
    await chmod(directory, 0o755);
    host = await openInstanceHost({
      storeDirectory: join(directory, 'store'),
      engine: { kind: 'bundled' },
      clock,
      rng: systemRng(),
      logger: new RecordingLogger(),
      signal: NEVER,
    });
    database = await host.create({
      virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID,
      name: SYSTEM_VIRTUAL_CLUSTER_NAME,
      settings: DEFAULT_INSTANCE_SETTINGS,
      signal: NEVER,
    });
    await database.start(wait);
    await migrateAll();
  });
  after(async () => {
    await database.stop({ mode: 'immediate', signal: NEVER });
    await host.close();
    await rm(directory, { recursive: true, force: true });
  });

  const migrateAll = () =>
    database.withSystemClient(async (client) => {
      for (const set of ['virtual_cluster', 'control_plane'] as const) {
        await migrate(client, { set, now: clock.now() });
      }
    }, wait);
  const open = () => PostgresVirtualClusterCatalog.open({ database, clock, signal: NEVER });
  const execute = (sql: string) => database.withSystemClient((client) => client.query(sql), wait);

  it('migrates once, however often it is asked', async () => {
    await migrateAll();
    const rows = await execute('select migration_set, version from public.migrations order by 1, 2');
    const versionsOf = (set: string) =>
      rows.filter((row) => row['migration_set'] === set).map((row) => Number(row['version']));
    for (const set of ['control_plane', 'virtual_cluster']) {
      const versions = versionsOf(set);
      assert.ok(versions.length > 0);
      assert.deepEqual(
        versions,
        [...versions.keys()].map((index) => index + 1),
        set,
      );
    }
    await migrateAll();
    const again = await execute('select migration_set, version from public.migrations order by 1, 2');
    assert.deepEqual(again, rows);
  });

  it('takes up a migration that died half way', async () => {
    await execute("delete from public.migrations where migration_set = 'control_plane'");
    await execute('drop table public.timeline_checks, public.timeline_verify');
    await execute('drop table if exists public.replication_streams, public.virtual_cluster_suspension');
    await execute('drop table public.virtual_cluster_capabilities, public.virtual_cluster_settings');
    await execute(
      'drop table public.virtual_clusters, public.control_plane; drop index public.jobs_by_target',
    );
    await migrateAll();
    assert.deepEqual((await open()).listAll(), []);
  });

  it('refuses tables that a later release has migrated', async () => {
    await execute("insert into public.migrations values ('control_plane', 99, 'from the future', now())");
    await assert.rejects(migrateAll(), { code: 'format_unsupported' });
    await execute('delete from public.migrations where version = 99');
  });

  it('lets nobody but the superuser at its tables', async () => {
    const grants = await execute(
      `select pg_catalog.has_database_privilege('root', 'system', 'CONNECT')::text as connect,
        pg_catalog.has_table_privilege('root', 'public.virtual_clusters', 'DELETE')::text as remove`,
    );
    assert.equal(grants[0]?.['connect'], 'false');
  });

  it('keeps names apart when they are taken at the same time, and its mirror exact', async () => {
    const catalog = await open();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 5 }, () =>
        catalog.add({ name: name('twin'), capabilities: NO_CAPABILITIES, signal: NEVER }),
      ),
    );
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'object_exists');
    }
    assert.deepEqual(catalog.listAll(), (await open()).listAll());
  });

  it('never gives a number twice', async () => {
    const catalog = await open();
    const first = await catalog.add({ name: name('a'), capabilities: ALL_CAPABILITIES, signal: NEVER });
    await catalog.forget({ id: first.id, signal: NEVER });
    const second = await catalog.add({ name: name('a'), capabilities: NO_CAPABILITIES, signal: NEVER });
    assert.ok(second.id > first.id);
    const adopted = 40 as VirtualClusterId;
    await catalog.add({ id: adopted, name: name('adopted'), capabilities: NO_CAPABILITIES, signal: NEVER });
    const third = await catalog.add({ name: name('b'), capabilities: NO_CAPABILITIES, signal: NEVER });
    assert.equal(third.id, 41);
  });

  it('frees the name of what was dropped, and keeps all it was told', async () => {
    const catalog = await open();
    const settingOverrides = new Map([['bulkio.backup.file_size', '5 MiB']]);
    const { id } = await catalog.add({
      name: name('short'),
      capabilities: ALL_CAPABILITIES,
      settingOverrides,
      signal: NEVER,
    });
    await catalog.apply({ id, event: { kind: 'directory_made' }, signal: NEVER });
    await catalog.setSettingOverride({ id, name: 'version', value: '26.2', signal: NEVER });
    await catalog.setSettingOverride({ id, name: 'version', value: undefined, signal: NEVER });
    const event = { kind: 'dropped', at: at(7n), removeAfter: at(1_700_000_000_123_456n) } as const;
    await catalog.apply({ id, event, signal: NEVER });
    assert.equal(catalog.find('short'), undefined);
    const again = await catalog.add({ name: name('short'), capabilities: NO_CAPABILITIES, signal: NEVER });
    assert.equal(catalog.find('short')?.id, again.id);
    const dropped = (await open()).get(id);
    assert.deepEqual(dropped?.state, { kind: 'dropped', dropped: 7n, removeAfter: 1_700_000_000_123_456n });
    assert.deepEqual(
      [dropped?.capabilities, dropped?.settingOverrides],
      [ALL_CAPABILITIES, settingOverrides],
    );
    await assert.rejects(catalog.rename({ id: again.id, name: name('b'), signal: NEVER }), {
      code: 'object_exists',
    });
  });

  it('gives job records back as they were written', async () => {
    const store = postgresJobStore(database);
    const time = fc.bigInt({ min: 0n, max: 4_000_000_000_000_000n }).map(at);
    const text = fc.string({ unit: 'grapheme', maxLength: 40 }).filter((value) => !value.includes('\0'));
    const plain = { noNullPrototype: true } as const;
    const outcome = fc.oneof(
      fc.constant({ kind: 'canceled' as const }),
      fc.record({ kind: fc.constant('failed' as const), error: text }, plain),
    );
    const state: fc.Arbitrary<JobState> = fc.oneof(
      fc.constantFrom(
        { kind: 'pending' as const },
        { kind: 'running' as const },
        { kind: 'pause-requested' as const, reason: undefined },
        { kind: 'pause-requested' as const, reason: 'night' },
        { kind: 'paused' as const, error: 'e', reason: 'night' },
        { kind: 'cancel-requested' as const },
        { kind: 'succeeded' as const },
        { kind: 'canceled' as const },
        { kind: 'paused' as const, error: undefined, reason: undefined },
      ),
      fc.record(
        {
          kind: fc.constantFrom('failed' as const, 'revert-failed' as const),
          error: text,
        },
        plain,
      ),
      fc.record({ kind: fc.constant('retry-running' as const), retryAt: time, error: text }, plain),
      fc.record({ kind: fc.constant('reverting' as const), outcome }, plain),
      fc.record({ kind: fc.constant('retry-reverting' as const), retryAt: time, outcome }, plain),
    );
    const json = fc.dictionary(
      fc.stringMatching(/^[a-z]{1,8}$/),
      fc.oneof(text, fc.integer(), fc.boolean(), fc.constant(null)) as fc.Arbitrary<JsonValue>,
      { maxKeys: 4, noNullPrototype: true },
    );
    const over = new Set(['succeeded', 'failed', 'canceled', 'revert-failed']);
    let count = 0n;
    await fc.assert(
      fc.asyncProperty(
        fc.record(
          { state, description: text, created: time, modified: time, payload: json, progress: json },
          plain,
        ),
        fc.double({ min: 0, max: 1, noNaN: true }).map((value) => value + 0),
        async (parts, fractionCompleted) => {
          count += 1n;
          const job: JobRecord = {
            ...parts,
            id: count as JobId,
            type: 'BACKUP',
            user: "o'brien",
            runningStatus: null,
            started: parts.created,
            finished: over.has(parts.state.kind) ? parts.modified : null,
            fractionCompleted: fractionCompleted === 0 ? 0 : fractionCompleted,
            coordinatorId: 1,
            attempt: Number(count),
            incarnation: '11111111-1111-4111-8111-111111111111' as IncarnationId,
            targetVirtualClusterId: 3 as VirtualClusterId,
          };
          await store.insert({ ...job, state: { kind: 'pending' }, finished: null }, wait);
          await store.update(job, wait);
          assert.deepEqual(await store.read(job.id, wait), job);
        },
      ),
      { numRuns: 60 },
    );
    assert.equal(await store.newestId(wait), count);
    const unfinished = await store.readUnfinished(wait);
    assert.ok(unfinished.every((job) => !over.has(job.state.kind)));
    const all = await store.list({ finishedSince: at(0n), signal: NEVER });
    assert.equal(all.length, Number(count));
    assert.deepEqual(
      all.map((job) => job.id),
      all.map((job) => job.id).toSorted((a, b) => (a > b ? -1 : 1)),
    );
    const odd = `a\0b\ud800c`;
    const [first] = all;
    assert.ok(first !== undefined);
    await store.update(
      { ...first, state: { kind: 'paused', error: odd, reason: undefined }, progress: { odd } },
      wait,
    );
    const told = await store.read(first.id, wait);
    assert.deepEqual(told?.state, {
      kind: 'paused',
      error: 'a\ufffdb\ufffdc',
      reason: undefined,
    });
    assert.deepEqual(told?.progress, { odd: 'a\ufffdb\ufffdc' });
    await store.update(first, wait);

    const later = at(5_000_000_000_000_000n);
    assert.equal(
      await store.deleteFinished({ before: later, countMax: 1000, signal: NEVER }),
      Number(count) - unfinished.length,
    );
  });
});
