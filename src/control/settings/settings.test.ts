import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../../test/harness/control.ts';
import { noBackups } from '../../../test/harness/scripted-backups.ts';

const SYSTEM = { in: 'system' } as const;

describe('cluster settings by statement', () => {
  let test: TestControl;
  before(async () => {
    test = await TestControl.open({ virtualized: 'main', ...noBackups() });
    await test.postgres('CREATE ROLE plain LOGIN');
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  const valueOf = async (name: string, options: { in?: string } = {}) =>
    Object.values((await test.rows(`SHOW CLUSTER SETTING ${name}`, options))[0] ?? {})[0];

  it('belong to one virtual cluster', async () => {
    await test.ask("SET CLUSTER SETTING bulkio.backup.file_size = '64 MiB'");
    assert.equal(await valueOf('bulkio.backup.file_size'), '64 MiB');
    assert.equal(await valueOf('bulkio.backup.file_size', SYSTEM), '128 MiB');
    await test.ask('SET CLUSTER SETTING bulkio.backup.file_size = DEFAULT');
    assert.equal(await valueOf('bulkio.backup.file_size'), '128 MiB');
    await test.ask('SET CLUSTER SETTING bulkio.backup.file_size = $1', { parameters: ['32MiB'] });
    assert.equal(await valueOf('bulkio.backup.file_size'), '32 MiB');
    await test.ask('RESET CLUSTER SETTING bulkio.backup.file_size');
    assert.equal(await valueOf('bulkio.backup.file_size'), '128 MiB');
  });

  it('come in columns of their name and type', async () => {
    const shapeOf = async (name: string) => {
      const { columns, types, rows } = await test.ask(`SHOW CLUSTER SETTING ${name}`);
      return [columns[0], types[0], rows[0]?.[columns[0] ?? '']];
    };
    assert.deepEqual(await shapeOf('feature.backup.enabled'), ['feature.backup.enabled', 'bool', 't']);
    assert.deepEqual(await shapeOf('jobs.retention_time'), ['jobs.retention_time', 'interval', '336:00:00']);
    assert.deepEqual(await shapeOf('jobs.scheduler.max_jobs_per_iteration'), [
      'jobs.scheduler.max_jobs_per_iteration',
      'int8',
      '5',
    ]);
    assert.deepEqual(await shapeOf('auto_upgrade.enabled'), ['cluster.auto_upgrade.enabled', 'bool', 't']);
    assert.deepEqual(await shapeOf('version'), ['version', 'text', '26.2']);
  });

  it('are what sessions begin with, unless somebody asked for something else', async () => {
    const of = async (parameter: string, role?: string) =>
      (await test.postgres(`SHOW ${parameter}`, { as: role ?? 'root' }))[0]?.[parameter];
    await test.ask("SET CLUSTER SETTING sql.defaults.statement_timeout = '1m30s'");
    await test.ask("SET CLUSTER SETTING sql.defaults.lock_timeout = '0.4ms'");
    await test.ask("SET CLUSTER SETTING sql.defaults.intervalstyle = 'iso_8601'");
    assert.deepEqual(
      [await of('statement_timeout'), await of('lock_timeout'), await of('IntervalStyle')],
      ['90s', '1ms', 'iso_8601'],
    );
    await test.postgres("ALTER ROLE plain SET statement_timeout = '7s'");
    assert.equal(await of('statement_timeout', 'plain'), '7s');
    await test.ask(
      "ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING sql.defaults.statement_timeout = '5s'",
      SYSTEM,
    );
    assert.equal(await of('statement_timeout'), '5s');
    await test.ask('ALTER VIRTUAL CLUSTER main RESET CLUSTER SETTING sql.defaults.statement_timeout', SYSTEM);
    assert.equal(await of('statement_timeout'), '90s');
    for (const name of ['statement_timeout', 'lock_timeout', 'intervalstyle'])
      await test.ask(`RESET CLUSTER SETTING sql.defaults.${name}`);
    assert.deepEqual(
      [await of('statement_timeout'), await of('lock_timeout'), await of('IntervalStyle')],
      ['0', '0', 'postgres'],
    );
    assert.equal(
      (await test.refusal("SET CLUSTER SETTING sql.defaults.lock_timeout = '25 days'")).sqlstate,
      '22023',
    );
    // What is set while the service is stopped counts when it starts.
    await test.ask('ALTER VIRTUAL CLUSTER main STOP SERVICE', SYSTEM);
    await test.ask("ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING sql.defaults.lock_timeout = '2s'", SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER main START SERVICE SHARED', SYSTEM);
    assert.equal(await of('lock_timeout'), '2s');
    await test.ask('ALTER VIRTUAL CLUSTER main RESET CLUSTER SETTING sql.defaults.lock_timeout', SYSTEM);
  });

  it('survive the daemon', async () => {
    await test.ask("SET CLUSTER SETTING ui.display_timezone = 'Europe/Vienna'");
    await test.stop();
    await test.start();
    assert.equal(await valueOf('ui.display_timezone'), 'Europe/Vienna');
  });

  it('are changed and shown by admins only', async () => {
    for (const text of [
      "SET CLUSTER SETTING bulkio.backup.file_size = '1 MiB'",
      'RESET CLUSTER SETTING bulkio.backup.file_size',
      'SHOW CLUSTER SETTING bulkio.backup.file_size',
      'SHOW ALL CLUSTER SETTINGS',
    ]) {
      assert.equal((await test.refusal(text, { as: 'plain' })).sqlstate, '42501', text);
    }
    const inside = await test.refusal('SET CLUSTER SETTING version = DEFAULT', {
      transaction: 'in_transaction',
    });
    assert.deepEqual(
      [inside.sqlstate, inside.message],
      ['25001', 'SET CLUSTER SETTING cannot be used inside a multi-statement transaction'],
    );
  });

  it('of the system can be seen or not, and not be set, in an app VC', async () => {
    assert.equal(await valueOf('storage.max_sync_duration'), '00:00:20');
    assert.equal((await test.refusal('SHOW CLUSTER SETTING server.rangelog.ttl')).sqlstate, '42501');
    const only = await test.refusal("SET CLUSTER SETTING server.rangelog.ttl = '1h'");
    assert.deepEqual(
      [only.sqlstate, only.message, only.hint],
      [
        '42501',
        'cannot modify storage-level setting from virtual cluster',
        'Connect to the system interface and modify the cluster setting from there.',
      ],
    );
    const visible = await test.refusal("SET CLUSTER SETTING cluster.organization = 'x'");
    assert.equal(visible.sqlstate, '42501');
    const ignored = await test.ask('SET CLUSTER SETTING kv.rangefeed.enabled = true');
    assert.equal(ignored.notices[0]?.message, 'ignoring attempt to modify "kv.rangefeed.enabled"');
    assert.equal(await valueOf('kv.rangefeed.enabled'), 'f');
    await test.ask('SET CLUSTER SETTING sql.error_tip_system_interface.enabled = false', SYSTEM);
    assert.equal((await test.refusal('SET CLUSTER SETTING kv.rangefeed.enabled = true')).sqlstate, '42501');
    await test.ask("SET CLUSTER SETTING cluster.organization = 'Atoll'", SYSTEM);
    assert.equal(await valueOf('cluster.organization'), 'Atoll');
  });

  it('of applications are not changed in the guarded system VC, those of its own are', async () => {
    const blocked = await test.refusal("SET CLUSTER SETTING ui.display_timezone = 'UTC'", SYSTEM);
    assert.deepEqual(
      [blocked.sqlstate, blocked.message],
      ['42501', 'blocked update to application-level cluster setting from the system interface'],
    );
    await test.ask('SET CLUSTER SETTING cluster.auto_upgrade.enabled = false', SYSTEM);
    assert.equal(await valueOf('auto_upgrade.enabled', SYSTEM), 'f');
    assert.equal(await valueOf('auto_upgrade.enabled'), 't');
  });

  it('are listed where they belong', async () => {
    const inMain = await test.ask('SHOW CLUSTER SETTINGS');
    assert.deepEqual(inMain.columns, [
      'variable',
      'value',
      'setting_type',
      'description',
      'default_value',
      'origin',
    ]);
    const names = (answer: typeof inMain) => answer.rows.map((row) => row['variable']);
    assert.ok(names(inMain).includes('jobs.retention_time'));
    assert.ok(names(inMain).includes('storage.max_sync_duration'));
    assert.ok(!names(inMain).includes('server.rangelog.ttl'));
    const timezone = inMain.rows.find((row) => row['variable'] === 'ui.display_timezone');
    assert.deepEqual(
      [timezone?.['value'], timezone?.['setting_type'], timezone?.['default_value'], timezone?.['origin']],
      ['Europe/Vienna', 's', 'Etc/UTC', 'override'],
    );
    const inSystem = await test.ask('SHOW ALL CLUSTER SETTINGS', SYSTEM);
    assert.ok(inSystem.columns.includes('public'));
    assert.ok(names(inSystem).includes('sql.restrict_system_interface.enabled'));
    assert.ok(!names(inSystem).includes('ui.display_timezone'));
    assert.ok(
      !names(await test.ask('SHOW PUBLIC CLUSTER SETTINGS', SYSTEM)).includes(
        'sql.restrict_system_interface.enabled',
      ),
    );
    const ofMain = await test.ask('SHOW CLUSTER SETTINGS FOR VIRTUAL CLUSTER main', SYSTEM);
    // With them those that the operator alone sets and sees.
    const isOfMain = ({ variable }: Record<string, unknown>) =>
      inMain.rows.some((row) => row['variable'] === variable);
    assert.deepEqual(ofMain.rows.filter(isOfMain), inMain.rows);
    assert.ok(
      names(ofMain).includes('instance.max_connections') &&
        !names(inMain).includes('instance.max_connections'),
    );
    assert.equal((await test.refusal('SHOW CLUSTER SETTINGS FOR VIRTUAL CLUSTER system')).sqlstate, '42501');
  });

  it('can be fixed by the operator', async () => {
    const alter = 'ALTER VIRTUAL CLUSTER main';
    await test.ask(`${alter} SET CLUSTER SETTING bulkio.backup.file_size = '5MiB'`, SYSTEM);
    assert.equal(await valueOf('bulkio.backup.file_size'), '5 MiB');
    const fixed = await test.refusal("SET CLUSTER SETTING bulkio.backup.file_size = '6MiB'");
    assert.deepEqual(
      [fixed.sqlstate, fixed.message],
      ['55000', "cluster setting 'bulkio.backup.file_size' is currently overridden by the operator"],
    );
    const [shown] = (await test.rows('SHOW CLUSTER SETTINGS')).filter(
      (row) => row['variable'] === 'bulkio.backup.file_size',
    );
    assert.equal(shown?.['origin'], 'external-override');
    await test.ask(`${alter} RESET CLUSTER SETTING bulkio.backup.file_size`, SYSTEM);
    assert.equal(await valueOf('bulkio.backup.file_size'), '128 MiB');
    const only = await test.refusal(`${alter} SET CLUSTER SETTING server.rangelog.ttl = '1h'`, SYSTEM);
    assert.equal(only.sqlstate, '42501');
    const version = await test.refusal(`${alter} SET CLUSTER SETTING version = '26.2'`, SYSTEM);
    assert.equal(version.sqlstate, '22023');
  });

  it('tune an instance from its next start on', async () => {
    const limit = async () => (await test.postgres('SHOW max_connections'))[0]?.['max_connections'];
    const before = Number(await limit());
    const set = await test.ask(
      'ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING instance.max_connections = 57',
      SYSTEM,
    );
    assert.match(set.notices[0]?.message ?? '', /takes effect when the service starts the next time/);
    assert.equal(Number(await limit()), before);
    await test.ask('ALTER VIRTUAL CLUSTER main STOP SERVICE', SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER main START SERVICE SHARED', SYSTEM);
    assert.equal(Number(await limit()) - before, 57 - 200);
  });

  it('say when nothing acts on them', async () => {
    const stored = await test.ask("SET CLUSTER SETTING server.eventlog.ttl = '1h'");
    assert.equal(
      stored.notices[0]?.message,
      'setting "server.eventlog.ttl" is stored, but nothing in this release acts on it',
    );
    assert.deepEqual((await test.ask('RESET CLUSTER SETTING server.eventlog.ttl')).notices, []);
  });

  it('keep a licence to themselves, and what is sensitive from those who may only look', async () => {
    const LICENCE = 'crl-0-geheim';
    const HBA = 'host all all 10.9.8.7/32 cert';
    await test.ask(`SET CLUSTER SETTING enterprise.license = '${LICENCE}'`, SYSTEM);
    await test.ask("SET CLUSTER SETTING cluster.organization = 'ACME'", SYSTEM);
    await test.ask(`SET CLUSTER SETTING server.host_based_authentication.configuration = '${HBA}'`);
    await test.postgres('CREATE ROLE viewer LOGIN; GRANT atoll_viewclustersetting TO viewer');
    assert.equal(await valueOf('enterprise.license', SYSTEM), 'redacted');
    assert.equal(await valueOf('enterprise.license'), 'redacted');
    assert.equal(await valueOf('cluster.organization'), 'ACME');
    const seenBy = async (as: string) => JSON.stringify(await test.rows('SHOW ALL CLUSTER SETTINGS', { as }));
    assert.ok((await seenBy('viewer')).includes('10.9.8.7'));
    await test.ask('SET CLUSTER SETTING server.redact_sensitive_settings.enabled = true');
    assert.ok(!(await seenBy('viewer')).includes('10.9.8.7'));
    assert.ok((await seenBy('root')).includes('10.9.8.7'));
    assert.ok(!(await seenBy('root')).includes(LICENCE));
    assert.ok(!test.logger.lines.join('').includes(LICENCE));
    const refused = await test.refusal("SET CLUSTER SETTING enterprise.license = 'x'");
    assert.equal(refused.sqlstate, '42501');
    await test.ask('RESET CLUSTER SETTING enterprise.license', SYSTEM);
    assert.equal(await valueOf('enterprise.license', SYSTEM), '');
  });

  it('refuse bad values and unknown names', async () => {
    const codes: readonly [string, string][] = [
      ["bulkio.backup.file_size = 'lots'", '22023'],
      ["bulkio.backup.file_size = '1 B'", '22023'],
      ['bulkio.backup.file_size = NULL', '22023'],
      ["feature.backup.enabled = 'perhaps'", '22023'],
      ["version = '99.1'", '22023'],
      ["jobs.retention_time = '-1h'", '22023'],
      ["no.such.setting = '1'", '42704'],
    ];
    for (const [assignment, sqlstate] of codes) {
      assert.equal((await test.refusal(`SET CLUSTER SETTING ${assignment}`)).sqlstate, sqlstate, assignment);
    }
    assert.equal((await test.refusal('SHOW CLUSTER SETTING no.such')).sqlstate, '42704');
  });

  it('decide where plain connections go, also to what does not exist yet', async () => {
    const route = () => test.control.service.route({ name: undefined, signal: new AbortController().signal });
    await test.ask("SET CLUSTER SETTING server.controller.default_target_cluster = 'tomorrow'", SYSTEM);
    await assert.rejects(route(), { message: 'service unavailable for target virtual cluster (tomorrow)' });
    await test.ask('CREATE VIRTUAL CLUSTER tomorrow', SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER tomorrow START SERVICE SHARED', SYSTEM);
    assert.equal((await route()).virtualClusterName, 'tomorrow');
    await test.ask("SET CLUSTER SETTING server.controller.default_target_cluster = ''", SYSTEM);
    assert.equal((await route()).virtualClusterName, 'system');
  });

  it('guard the system interface', async () => {
    const session = {
      virtualClusterId: test.idOf('system'),
      virtualClusterName: 'system' as never,
      user: 'root',
      database: 'defaultdb',
      applicationName: '',
    };
    const screen = (text: string) => test.control.service.screen({ session, text });
    assert.throws(() => screen('CREATE TABLE t (a int)'), { code: 'insufficient_privilege' });
    screen('SELECT 1');
    const inMain = { ...session, virtualClusterId: test.idOf('main') };
    test.control.service.screen({ session: inMain, text: 'CREATE TABLE t (a int)' });
    await test.ask('SET CLUSTER SETTING sql.restrict_system_interface.enabled = false', SYSTEM);
    screen('CREATE TABLE t (a int)');
  });
});
