import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../../test/harness/control.ts';
import { noBackups } from '../../../test/harness/scripted-backups.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import { systemClock } from '../../daemon/clock.ts';
import type { Clock, Timestamp } from '../../base/index.ts';

const SYSTEM = { in: 'system' } as const;
const NEVER = new AbortController().signal;

/** Real time, moved forward by hand as far as the wall clock is concerned. */
class ShiftedClock implements Clock {
  readonly #real = systemClock();
  shiftUs = 0n;
  now(): Timestamp {
    return (this.#real.now() + this.shiftUs) as Timestamp;
  }
  monotonicMs(): number {
    return this.#real.monotonicMs();
  }
  sleep(ms: number, options: { signal: AbortSignal }): Promise<void> {
    return this.#real.sleep(ms, options);
  }
}

describe('virtual clusters by statement', () => {
  const clock = new ShiftedClock();
  let test: TestControl;
  before(async () => {
    test = await TestControl.open({ virtualized: 'main', clock, ...noBackups() });
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  const route = (name: string | undefined) => test.control.service.route({ name, signal: NEVER });
  const capabilitiesOf = async (name: string) =>
    (await test.rows(`SHOW VIRTUAL CLUSTER ${name} WITH CAPABILITIES`, SYSTEM))
      .filter((row) => row['capability_value'] === 'true')
      .map((row) => row['capability_name']);

  it('begin with system and main, both serving', async () => {
    const { columns, types, tag, rows } = await test.ask('SHOW VIRTUAL CLUSTERS', SYSTEM);
    assert.deepEqual(columns, ['id', 'name', 'data_state', 'service_mode']);
    assert.deepEqual(types, ['int8', 'text', 'text', 'text']);
    assert.equal(tag, 'SHOW 2');
    assert.deepEqual(rows, [
      { id: '1', name: 'system', data_state: 'ready', service_mode: 'shared' },
      { id: '3', name: 'main', data_state: 'ready', service_mode: 'shared' },
    ]);
    assert.equal(test.control.defaultTarget(), 'main');
    assert.equal((await route(undefined)).virtualClusterName, 'main');
    assert.equal((await capabilitiesOf('main')).length, 6);
  });

  it('name themselves', async () => {
    const { columns, rows } = await test.ask('SHOW virtual_cluster_name', { as: 'nobody at all' });
    assert.deepEqual(columns, ['virtual_cluster_name']);
    assert.deepEqual(rows, [{ virtual_cluster_name: 'main' }]);
  });

  it('are created, started, stopped, renamed and dropped', async () => {
    assert.equal((await test.ask('CREATE VIRTUAL CLUSTER one', SYSTEM)).tag, 'CREATE VIRTUAL CLUSTER');
    assert.deepEqual(await test.rows('SHOW VIRTUAL CLUSTER one', SYSTEM), [
      { id: '4', name: 'one', data_state: 'ready', service_mode: 'none' },
    ]);
    await assert.rejects(route('one'), {
      code: 'service_unavailable',
      message: 'service unavailable for target virtual cluster (one)',
    });
    await test.ask('ALTER VIRTUAL CLUSTER one START SERVICE SHARED', SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER one START SERVICE SHARED', SYSTEM);
    const before = await route('one');
    await test.postgres('CREATE TABLE kept AS SELECT 42 AS a', { in: 'one' });

    assert.equal((await test.refusal('ALTER VIRTUAL CLUSTER one RENAME TO main', SYSTEM)).sqlstate, '42710');
    await test.ask('ALTER VIRTUAL CLUSTER one RENAME TO two-b', SYSTEM);
    await assert.rejects(route('one'), { code: 'service_unavailable' });
    assert.equal((await route('two-b')).virtualClusterId, before.virtualClusterId);
    assert.deepEqual(await test.postgres('SELECT a FROM kept', { in: 'two-b' }), [{ a: '42' }]);
    assert.equal(test.host.get(before.virtualClusterId)?.identity.virtualClusterName, 'two-b');

    const serving = await test.refusal('DROP VIRTUAL CLUSTER two-b', SYSTEM);
    assert.deepEqual(
      [serving.sqlstate, serving.message, serving.hint],
      [
        '55006',
        'virtual cluster "two-b" is in service',
        'stop it first: ALTER VIRTUAL CLUSTER two-b STOP SERVICE',
      ],
    );
    assert.equal((await test.refusal('DROP VIRTUAL CLUSTER two-b IMMEDIATE', SYSTEM)).sqlstate, '55006');
    await test.ask('ALTER VIRTUAL CLUSTER two-b STOP SERVICE', SYSTEM);
    await assert.rejects(route('two-b'), { code: 'service_unavailable' });
    assert.equal(test.host.get(before.virtualClusterId)?.state.kind, 'stopped');
    await test.ask('DROP VIRTUAL CLUSTER two-b', SYSTEM);
    assert.equal((await test.rows('SHOW VIRTUAL CLUSTERS', SYSTEM)).length, 2);
    const folder = join(test.directory, 'store', 'vc', '4');
    assert.ok(existsSync(folder), 'a plain DROP keeps the data');

    await test.ask('CREATE VIRTUAL CLUSTER two-b', SYSTEM);
    assert.equal((await test.rows('SHOW VIRTUAL CLUSTER two-b', SYSTEM))[0]?.['id'], '5');
    clock.shiftUs += 4n * 3_600_000_000n - 60_000_000n;
    assert.ok(existsSync(folder), 'kept until gc.ttlseconds have passed');
    clock.shiftUs += 60_000_000n;
    await waitFor('the sweeper', () => !existsSync(folder));
    await test.ask('DROP VIRTUAL CLUSTER two-b IMMEDIATE', SYSTEM);
    assert.ok(!existsSync(join(test.directory, 'store', 'vc', '5')));
  });

  it('keep to IF EXISTS and IF NOT EXISTS', async () => {
    assert.equal((await test.refusal('CREATE VIRTUAL CLUSTER main', SYSTEM)).sqlstate, '42710');
    const skipped = await test.ask('CREATE VIRTUAL CLUSTER IF NOT EXISTS main', SYSTEM);
    assert.equal(skipped.notices[0]?.message, 'virtual cluster "main" already exists, skipping');
    assert.equal((await test.refusal('DROP VIRTUAL CLUSTER nope', SYSTEM)).sqlstate, '42704');
    const missing = await test.ask('DROP VIRTUAL CLUSTER IF EXISTS nope IMMEDIATE', SYSTEM);
    assert.equal(missing.notices[0]?.message, 'virtual cluster "nope" does not exist, skipping');
    for (const action of ['STOP SERVICE', 'RENAME TO x', 'GRANT ALL CAPABILITIES']) {
      const refusal = await test.refusal(`ALTER VIRTUAL CLUSTER nope ${action}`, SYSTEM);
      assert.equal(refusal.sqlstate, '42704');
    }
    assert.equal((await test.refusal('SHOW VIRTUAL CLUSTER nope', SYSTEM)).sqlstate, '42704');
  });

  it('hold the capabilities they were granted', async () => {
    await test.ask('CREATE VIRTUAL CLUSTER capable', SYSTEM);
    assert.deepEqual(await capabilitiesOf('capable'), ['can_view_node_info', 'can_view_tsdb_metrics']);
    await test.ask('ALTER VIRTUAL CLUSTER capable REVOKE ALL CAPABILITIES', SYSTEM);
    assert.deepEqual(await capabilitiesOf('capable'), []);
    await test.ask(
      'ALTER VIRTUAL CLUSTER capable GRANT CAPABILITY can_debug_process, can_check_consistency = true',
      SYSTEM,
    );
    assert.deepEqual(await capabilitiesOf('capable'), ['can_check_consistency', 'can_debug_process']);
    await test.ask('ALTER VIRTUAL CLUSTER capable GRANT CAPABILITY can_debug_process = false', SYSTEM);
    assert.deepEqual(await capabilitiesOf('capable'), ['can_check_consistency']);
    await test.ask('ALTER VIRTUAL CLUSTER capable REVOKE CAPABILITY can_check_consistency', SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER capable GRANT ALL CAPABILITIES', SYSTEM);
    const { columns, rows } = await test.ask('SHOW VIRTUAL CLUSTER capable WITH CAPABILITIES', SYSTEM);
    assert.deepEqual(columns.slice(4), ['capability_name', 'capability_value']);
    assert.deepEqual(
      rows.map((row) => row['capability_value']),
      Array.from({ length: 6 }, () => 'true'),
    );
    const unknown = 'ALTER VIRTUAL CLUSTER capable GRANT CAPABILITY can_fly';
    assert.equal((await test.refusal(unknown, SYSTEM)).sqlstate, '22023');
    assert.equal((await capabilitiesOf('system')).length, 6);
    await test.ask('DROP VIRTUAL CLUSTER capable IMMEDIATE', SYSTEM);
  });

  it('are made like others: capabilities, the operator’s settings, and their own', async () => {
    await test.ask('CREATE VIRTUAL CLUSTER model', SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER model GRANT CAPABILITY can_debug_process', SYSTEM);
    await test.ask("ALTER VIRTUAL CLUSTER model SET CLUSTER SETTING jobs.retention_time = '2h'", SYSTEM);
    const without = await test.ask('CREATE VIRTUAL CLUSTER copy-0 LIKE model', SYSTEM);
    assert.match(without.notices[0]?.message ?? '', /are not copied, for its service is stopped/);
    await test.ask('ALTER VIRTUAL CLUSTER model START SERVICE SHARED', SYSTEM);
    await test.ask("SET CLUSTER SETTING bulkio.backup.file_size = '7MiB'", { in: 'model' });
    const made = await test.ask('CREATE VIRTUAL CLUSTER copy-1 LIKE model', SYSTEM);
    assert.deepEqual(made.notices, []);
    assert.deepEqual(await capabilitiesOf('copy-1'), await capabilitiesOf('model'));
    await test.ask('ALTER VIRTUAL CLUSTER copy-1 START SERVICE SHARED', SYSTEM);
    const valueOf = async (name: string) =>
      Object.values((await test.rows(`SHOW CLUSTER SETTING ${name}`, { in: 'copy-1' }))[0] ?? {})[0];
    assert.equal(await valueOf('bulkio.backup.file_size'), '7 MiB');
    assert.equal(await valueOf('jobs.retention_time'), '02:00:00');
    for (const name of ['model', 'copy-1'])
      await test.ask(`ALTER VIRTUAL CLUSTER ${name} STOP SERVICE`, SYSTEM);
    for (const name of ['model', 'copy-0', 'copy-1']) {
      await test.ask(`DROP VIRTUAL CLUSTER ${name} IMMEDIATE`, SYSTEM);
    }
    assert.equal((await test.refusal('CREATE VIRTUAL CLUSTER x LIKE nope', SYSTEM)).sqlstate, '42704');
  });

  it('leave system alone', async () => {
    for (const text of [
      'ALTER VIRTUAL CLUSTER system STOP SERVICE',
      'ALTER VIRTUAL CLUSTER system START SERVICE SHARED',
      'ALTER VIRTUAL CLUSTER system RENAME TO x',
      'ALTER VIRTUAL CLUSTER system REVOKE ALL CAPABILITIES',
      'ALTER VIRTUAL CLUSTER system SET CLUSTER SETTING jobs.retention_time = 1',
      'DROP VIRTUAL CLUSTER system',
      'DROP VIRTUAL CLUSTER IF EXISTS system IMMEDIATE',
    ]) {
      assert.equal((await test.refusal(text, SYSTEM)).sqlstate, '55000', text);
    }
  });

  it('are managed from system only, outside transactions, by those who may', async () => {
    const statements = [
      'CREATE VIRTUAL CLUSTER x',
      'ALTER VIRTUAL CLUSTER main STOP SERVICE',
      'DROP VIRTUAL CLUSTER main',
      'SHOW VIRTUAL CLUSTERS',
    ];
    for (const text of statements) {
      const elsewhere = await test.refusal(text);
      assert.deepEqual(
        [elsewhere.sqlstate, elsewhere.hint],
        ['42501', 'connect to it with options=-ccluster=system'],
      );
    }
    for (const text of statements.slice(0, 3)) {
      const inside = await test.refusal(text, { ...SYSTEM, transaction: 'in_transaction' });
      assert.equal(inside.sqlstate, '25001');
    }
    assert.equal(
      (await test.ask('SHOW VIRTUAL CLUSTERS', { ...SYSTEM, transaction: 'in_transaction' })).tag,
      'SHOW 2',
    );
    const failed = await test.refusal('SHOW VIRTUAL CLUSTERS', { ...SYSTEM, transaction: 'failed' });
    assert.equal(failed.sqlstate, '25P02');

    await test.postgres(
      'CREATE ROLE plain LOGIN; CREATE ROLE second LOGIN IN ROLE admin; CREATE ROLE manager LOGIN',
      SYSTEM,
    );
    await test.postgres('GRANT atoll_managevirtualcluster TO manager', SYSTEM);
    for (const text of statements) {
      const refused = await test.refusal(text, { ...SYSTEM, as: 'plain' });
      assert.deepEqual(
        [refused.sqlstate, refused.message],
        ['42501', 'user plain does not have MANAGEVIRTUALCLUSTER system privilege'],
      );
    }
    for (const as of ['second', 'manager']) {
      await test.ask('CREATE VIRTUAL CLUSTER theirs', { ...SYSTEM, as });
      await test.ask('DROP VIRTUAL CLUSTER theirs IMMEDIATE', { ...SYSTEM, as });
    }
  });

  it('have names that can go anywhere', async () => {
    for (const name of ['"../evil"', '"a/b"', '"UPPER"', `"${'x'.repeat(64)}"`, '"-a"', '""']) {
      const error = await test.refusal(`CREATE VIRTUAL CLUSTER ${name}`, SYSTEM);
      assert.ok(['42602', '42601'].includes(error.sqlstate), `${name}: ${error.sqlstate}`);
    }
    const rename = await test.refusal('ALTER VIRTUAL CLUSTER main RENAME TO "a b"', SYSTEM);
    assert.equal(rename.sqlstate, '42602');
  });

  it('show their replication status in the documented columns', async () => {
    const { columns, rows } = await test.ask(
      'SHOW VIRTUAL CLUSTER main WITH REPLICATION STATUS, CAPABILITIES',
      SYSTEM,
    );
    assert.deepEqual(columns, [
      'id',
      'name',
      'source_tenant_name',
      'source_cluster_uri',
      'retained_time',
      'replicated_time',
      'replication_lag',
      'failover_time',
      'status',
      'capability_name',
      'capability_value',
    ]);
    assert.equal(rows.length, 6);
    assert.deepEqual([rows[0]?.['status'], rows[0]?.['source_cluster_uri']], ['ready', null]);
  });

  it('leave nothing behind when their names are guessed', async () => {
    for (let count = 0; count < 1000; count += 1) {
      await assert.rejects(route(`guess-${count}`), { code: 'service_unavailable' });
    }
    assert.equal((await test.rows('SHOW VIRTUAL CLUSTERS', SYSTEM)).length, 2);
  });

  it('are named while their server is stopped', async () => {
    const { host } = test;
    const state = host.get(test.idOf('main'))?.state;
    const pid = state?.kind === 'running' ? state.pid : 0;
    assert.deepEqual(await test.control.unresponsive({ signal: NEVER }), []);
    process.kill(pid, 'SIGSTOP');
    try {
      assert.deepEqual(await test.control.unresponsive({ signal: NEVER }), ['main']);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await waitFor('main to answer', async () => {
      return (await test.control.unresponsive({ signal: NEVER })).length === 0;
    });
  });

  it('survive the daemon: the next one adopts what runs and starts what should', async () => {
    await test.ask('CREATE VIRTUAL CLUSTER lasting', SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER lasting START SERVICE SHARED', SYSTEM);
    const before = test.host.get(test.idOf('lasting'))?.state;
    await test.stop({ instances: 'keep' });
    await test.start();
    assert.ok(test.control.isInitialized());
    assert.equal((await route('lasting')).virtualClusterName, 'lasting');
    assert.deepEqual(test.host.get(test.idOf('lasting'))?.state, before);
    await test.stop({ instances: 'stop' });
    await test.start();
    assert.equal((await route('lasting')).virtualClusterName, 'lasting');
    assert.deepEqual(
      test.control
        .health()
        .virtualClusters.map(({ name, instance, isServing }) => [name, instance, isServing]),
      [
        ['system', 'running', true],
        ['main', 'running', true],
        ['lasting', 'running', true],
      ],
    );
    await assert.rejects(test.control.initialize({ virtualized: 'main', signal: NEVER }), {
      code: 'object_state',
    });
  });

  it('are audited under their own tags', () => {
    const lines = test.logger.lines.join('\n');
    assert.match(lines, /info \[T4,one\] virtual cluster created by root/);
    assert.match(lines, /info \[T4,two-b\] virtual cluster altered by root: renamed from "one" to "two-b"/);
    assert.match(lines, /info \[T4,two-b\] virtual cluster dropped by root/);
    assert.doesNotMatch(lines, /^error/m);
  });
});

describe('a store that is not initialised', () => {
  it('waits, and says so', async () => {
    await using test = await TestControl.open(noBackups());
    assert.equal(test.control.isInitialized(), false);
    assert.equal(test.control.health().notReadyReason, 'the physical cluster is not initialized');
    await assert.rejects(test.control.service.route({ name: undefined, signal: NEVER }), {
      code: 'cannot_connect_now',
      hint: 'initialize it with: atoll init',
    });
    await test.control.initialize({ virtualized: 'empty', signal: NEVER });
    assert.deepEqual(await test.rows('SHOW VIRTUAL CLUSTERS', SYSTEM), [
      { id: '1', name: 'system', data_state: 'ready', service_mode: 'shared' },
    ]);
    assert.equal(
      (await test.control.service.route({ name: undefined, signal: NEVER })).virtualClusterName,
      'system',
    );
  });
});
