import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError } from '../base/index.ts';
import type { ControlledJobs, Statement, StatementKind, Value } from './ast.ts';
import { statementHelp } from './help.ts';
import { parseStatement, RULES } from './parser.ts';

const string = (value: string): Value => ({ kind: 'string', value });
const create = (name: string) =>
  ({
    kind: 'create_virtual_cluster',
    ifNotExists: false,
    name,
    like: undefined,
    from: undefined,
    replication: undefined,
  }) as const;
const alter = (action: Extract<Statement, { kind: 'alter_virtual_cluster' }>['action']): Statement => ({
  kind: 'alter_virtual_cluster',
  name: 'main',
  action,
});
const set = (name: string, value: Value | 'default'): Statement => ({
  kind: 'set_cluster_setting',
  name,
  value,
});
const whole = { kind: 'virtual_cluster' } as const;
const latest = { kind: 'latest' } as const;
const backup = (change: Partial<Extract<Statement, { kind: 'backup' }>>): Statement => ({
  kind: 'backup',
  targets: whole,
  appendTo: undefined,
  destination: [string('u')],
  asOf: undefined,
  options: [],
  ...change,
});
const restore = (change: Partial<Extract<Statement, { kind: 'restore' }>>): Statement => ({
  kind: 'restore',
  targets: whole,
  from: latest,
  source: [string('u')],
  asOf: undefined,
  options: [],
  ...change,
});
const showBackup = (change: Partial<Extract<Statement, { kind: 'show_backup' }>>): Statement => ({
  kind: 'show_backup',
  variant: 'default',
  from: latest,
  collection: [string('u')],
  options: [],
  ...change,
});
const table = (...names: readonly (string | undefined)[]) => ({
  qualifiers: names.slice(0, -1).map(String),
  name: names.at(-1),
});
const tables = (...patterns: readonly ReturnType<typeof table>[]) => ({ kind: 'tables', patterns }) as const;

const SHOW_JOBS = {
  kind: 'show_jobs',
  automatic: false,
  jobs: { kind: 'all' },
  whenComplete: false,
  withExecutionDetails: false,
} as const;
const controlJobs = (
  action: 'pause' | 'resume' | 'cancel',
  jobs: ControlledJobs,
): Extract<Statement, { kind: 'control_jobs' }> => ({
  kind: 'control_jobs',
  action,
  jobs,
  reason: undefined,
});

const ACCEPTED: readonly (readonly [string, Statement])[] = [
  ['CREATE VIRTUAL CLUSTER main', create('main')],
  [
    "CREATE VIRTUAL CLUSTER a FROM REPLICATION OF b ON 'u' WITH RETENTION = '1h', READ VIRTUAL CLUSTER",
    {
      ...create('a'),
      replication: {
        source: 'b',
        uri: string('u'),
        options: { readVirtualCluster: true, retention: string('1h'), expirationWindow: undefined },
      },
    },
  ],
  [
    "ALTER TENANT main START REPLICATION OF b ON 'u' WITH OPTIONS (EXPIRATION WINDOW = '100ms')",
    alter({
      kind: 'start_replication',
      source: 'b',
      uri: string('u'),
      options: { readVirtualCluster: false, retention: undefined, expirationWindow: string('100ms') },
    }),
  ],
  [
    "ALTER VIRTUAL CLUSTER main SET REPLICATION EXPIRATION WINDOW ='100ms', RETENTION = $1",
    alter({
      kind: 'set_replication',
      options: {
        readVirtualCluster: false,
        retention: { kind: 'placeholder', number: 1 },
        expirationWindow: string('100ms'),
      },
    }),
  ],
  [
    "ALTER VIRTUAL CLUSTER main SET REPLICATION SOURCE EXPIRATION WINDOW = '1h'",
    alter({ kind: 'set_replication_source', expirationWindow: string('1h') }),
  ],
  ['create tenant Main;', create('main')],
  ['CREATE VIRTUAL CLUSTER dest-system', create('dest-system')],
  ['CREATE VIRTUAL CLUSTER Main-2b-ReadOnly /* x */ ; -- y', create('main-2b-readonly')],
  ['CREATE VIRTUAL CLUSTER "Dest System"', create('Dest System')],
  ['CREATE VIRTUAL CLUSTER if', create('if')],
  ['CREATE VIRTUAL CLUSTER immediate', create('immediate')],
  ['CREATE VIRTUAL CLUSTER main--comment', create('main')],
  ['CREATE VIRTUAL CLUSTER IF NOT EXISTS a LIKE b-c', { ...create('a'), ifNotExists: true, like: 'b-c' }],
  [
    'CREATE VIRTUAL CLUSTER dev FROM VIRTUAL CLUSTER main',
    { ...create('dev'), from: { source: 'main', asOf: undefined } },
  ],
  [
    "CREATE VIRTUAL CLUSTER dev LIKE main FROM TENANT main-2 AS OF SYSTEM TIME '-10s'",
    { ...create('dev'), like: 'main', from: { source: 'main-2', asOf: string('-10s') } },
  ],
  [
    'ALTER VIRTUAL CLUSTER main RESET DATA TO VIRTUAL CLUSTER main AS OF SYSTEM TIME 1704816945291575000.0000000001',
    alter({
      kind: 'reset_data',
      source: 'main',
      asOf: { kind: 'number', text: '1704816945291575000.0000000001' },
    }),
  ],
  ['ALTER VIRTUAL CLUSTER main CHECK TIMELINE', alter({ kind: 'check_timeline', asOf: undefined })],
  [
    "ALTER TENANT main CHECK TIMELINE AS OF SYSTEM TIME '-1h'",
    alter({ kind: 'check_timeline', asOf: string('-1h') }),
  ],
  ['ALTER VIRTUAL CLUSTER main UNDROP', alter({ kind: 'undrop' })],
  [
    "ALTER VIRTUAL CLUSTER main SET SUSPEND AFTER '10m'",
    alter({ kind: 'set_suspend_after', after: string('10m') }),
  ],
  ['ALTER VIRTUAL CLUSTER main SET SUSPEND AFTER OFF', alter({ kind: 'reset_suspend_after' })],
  ['ALTER VIRTUAL CLUSTER main RESET SUSPEND AFTER', alter({ kind: 'reset_suspend_after' })],
  [
    "ALTER VIRTUAL CLUSTER main SET CONTINUOUS BACKUP INTO 's3://b/c'",
    alter({ kind: 'set_continuous_backup', location: string('s3://b/c'), options: [] }),
  ],
  [
    "ALTER VIRTUAL CLUSTER main SET CONTINUOUS BACKUP INTO 's3://b/c' WITH kms = ('k1', 'k2')",
    alter({
      kind: 'set_continuous_backup',
      location: string('s3://b/c'),
      options: [{ name: 'kms', value: [string('k1'), string('k2')] }],
    }),
  ],
  ['ALTER VIRTUAL CLUSTER main SET CONTINUOUS BACKUP OFF', alter({ kind: 'reset_continuous_backup' })],
  ['ALTER VIRTUAL CLUSTER main RESET CONTINUOUS BACKUP', alter({ kind: 'reset_continuous_backup' })],
  [
    'ALTER VIRTUAL CLUSTER main START SERVICE SHARED',
    alter({ kind: 'start_service_shared', withForce: false }),
  ],
  [
    'ALTER VIRTUAL CLUSTER main START SERVICE SHARED WITH FORCE',
    alter({ kind: 'start_service_shared', withForce: true }),
  ],
  [
    'ALTER VIRTUAL CLUSTER main COMPLETE REPLICATION TO LATEST WITH DRAIN',
    alter({ kind: 'complete_replication', to: 'latest_drained' }),
  ],
  ['ALTER TENANT main STOP SERVICE', alter({ kind: 'stop_service' })],
  ['ALTER VIRTUAL CLUSTER main RENAME TO dest-system', alter({ kind: 'rename_to', name: 'dest-system' })],
  [
    'ALTER VIRTUAL CLUSTER main GRANT ALL CAPABILITIES',
    alter({ kind: 'grant_capabilities', capabilities: { kind: 'all' } }),
  ],
  [
    'ALTER VIRTUAL CLUSTER main REVOKE CAPABILITY a, b = true, c TO off, d = 1',
    alter({
      kind: 'revoke_capabilities',
      capabilities: {
        kind: 'some',
        capabilities: [
          { name: 'a', value: undefined },
          { name: 'b', value: { kind: 'boolean', value: true } },
          { name: 'c', value: { kind: 'identifier', name: 'off' } },
          { name: 'd', value: { kind: 'number', text: '1' } },
        ],
      },
    }),
  ],
  [
    "ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING a.b = 'x'",
    alter({ kind: 'set_cluster_setting', name: 'a.b', value: string('x') }),
  ],
  ['ALTER VIRTUAL CLUSTER main RESET CLUSTER SETTING a', alter({ kind: 'reset_cluster_setting', name: 'a' })],
  [
    'DROP VIRTUAL CLUSTER main',
    { kind: 'drop_virtual_cluster', ifExists: false, name: 'main', immediate: false },
  ],
  [
    'DROP VIRTUAL CLUSTER IF EXISTS main IMMEDIATE',
    { kind: 'drop_virtual_cluster', ifExists: true, name: 'main', immediate: true },
  ],
  [
    'SHOW VIRTUAL CLUSTERS',
    {
      kind: 'show_virtual_clusters',
      name: undefined,
      withCapabilities: false,
      withReplicationStatus: false,
      withDropped: false,
      withSuspension: false,
    },
  ],
  [
    'SHOW TENANT main-readonly WITH REPLICATION STATUS, CAPABILITIES',
    {
      kind: 'show_virtual_clusters',
      name: 'main-readonly',
      withCapabilities: true,
      withReplicationStatus: true,
      withDropped: false,
      withSuspension: false,
    },
  ],
  [
    'SHOW VIRTUAL CLUSTER main WITH SUSPENSION',
    {
      kind: 'show_virtual_clusters',
      name: 'main',
      withCapabilities: false,
      withReplicationStatus: false,
      withDropped: false,
      withSuspension: true,
    },
  ],
  [
    'SHOW VIRTUAL CLUSTERS WITH DROPPED',
    {
      kind: 'show_virtual_clusters',
      name: undefined,
      withCapabilities: false,
      withReplicationStatus: false,
      withDropped: true,
      withSuspension: false,
    },
  ],
  ['SHOW TIMELINE FOR VIRTUAL CLUSTER dest-system', { kind: 'show_timeline', name: 'dest-system' }],
  ['show timeline for tenant main;', { kind: 'show_timeline', name: 'main' }],
  [
    'SHOW TIMELINE CHECKS FOR VIRTUAL CLUSTER dest-system',
    { kind: 'show_timeline_checks', name: 'dest-system' },
  ],
  [
    'SHOW TIMELINE RETENTION FOR VIRTUAL CLUSTER dest-system',
    { kind: 'show_timeline_retention', name: 'dest-system' },
  ],
  ['show timeline retention for tenant main', { kind: 'show_timeline_retention', name: 'main' }],
  [
    'SHOW ZONE CONFIGURATION FOR RANGE default',
    { kind: 'show_zone_configuration', target: { kind: 'range', name: 'default' } },
  ],
  [
    'show zone configuration from range "x"',
    { kind: 'show_zone_configuration', target: { kind: 'range', name: 'x' } },
  ],
  [
    'SHOW ZONE CONFIGURATION FROM DATABASE d',
    { kind: 'show_zone_configuration', target: { kind: 'database', name: 'd' } },
  ],
  [
    'SHOW ZONE CONFIGURATION FROM TABLE d.s."T"',
    {
      kind: 'show_zone_configuration',
      target: { kind: 'table', table: { qualifiers: ['d', 's'], name: 'T' } },
    },
  ],
  ['SHOW CREATE TABLE t', { kind: 'show_create_table', table: { qualifiers: [], name: 't' } }],
  ['show create table d.s."T";', { kind: 'show_create_table', table: { qualifiers: ['d', 's'], name: 'T' } }],
  ['SHOW ALL ZONE CONFIGURATIONS', { kind: 'show_zone_configurations' }],
  ['SHOW ZONE CONFIGURATIONS', { kind: 'show_zone_configurations' }],
  ['SHOW REGIONS', { kind: 'show_regions', from: { kind: 'all' } }],
  ['SHOW REGIONS FROM CLUSTER', { kind: 'show_regions', from: { kind: 'cluster' } }],
  ['SHOW REGIONS FROM ALL DATABASES', { kind: 'show_regions', from: { kind: 'all_databases' } }],
  ['SHOW REGIONS FROM DATABASE', { kind: 'show_regions', from: { kind: 'database', name: undefined } }],
  ['SHOW REGIONS FROM DATABASE d', { kind: 'show_regions', from: { kind: 'database', name: 'd' } }],
  ...(
    [
      ['PRIMARY REGION "us-east1"', { kind: 'set_primary', region: 'us-east1' }],
      ['SET PRIMARY REGION = us-east1', { kind: 'set_primary', region: 'us-east1' }],
      ["ADD REGION 'eu'", { kind: 'add', ifNotExists: false, region: 'eu' }],
      ['ADD REGION IF NOT EXISTS eu', { kind: 'add', ifNotExists: true, region: 'eu' }],
      ['DROP REGION eu', { kind: 'drop', ifExists: false, region: 'eu' }],
      ['DROP REGION IF EXISTS eu', { kind: 'drop', ifExists: true, region: 'eu' }],
    ] as const
  ).map(
    ([text, action]) =>
      [`ALTER DATABASE d ${text}`, { kind: 'alter_database_regions', database: 'd', action }] as const,
  ),
  ['SHOW virtual_cluster_name', { kind: 'show_virtual_cluster_name' }],
  ['table System . jobs;', { kind: 'show_system_table', table: 'jobs' }],
  [
    `create table if not exists a."B" (c int default (1), "with" text) with (fillfactor = 70, Exclude_Data_From_Backup) tablespace x ;`,
    {
      kind: 'exclude_table_data',
      action: 'with',
      table: ['a', 'B'],
      isGuarded: true,
      isExcluded: true,
      head: `CREATE TABLE if not exists a."B" (c int default (1), "with" text)`,
      parameters: ['fillfactor = 70'],
      tail: 'tablespace x',
    },
  ],
  [
    `CREATE UNLOGGED TABLE a WITH (exclude_data_from_backup = 'off') AS SELECT ';' AS b`,
    {
      kind: 'exclude_table_data',
      action: 'with',
      table: ['a'],
      isGuarded: false,
      isExcluded: false,
      head: 'CREATE UNLOGGED TABLE a',
      parameters: [],
      tail: `AS SELECT ';' AS b`,
    },
  ],
  [
    'ALTER TABLE IF EXISTS ONLY s.t SET (exclude_data_from_backup = TRUE, fillfactor=50)',
    {
      kind: 'exclude_table_data',
      action: 'set',
      table: ['s', 't'],
      isGuarded: true,
      isExcluded: true,
      head: 'ALTER TABLE IF EXISTS ONLY s.t',
      parameters: ['fillfactor=50'],
      tail: '',
    },
  ],
  [
    'alter table t reset (fillfactor, exclude_data_from_backup)',
    {
      kind: 'exclude_table_data',
      action: 'reset',
      table: ['t'],
      isGuarded: false,
      isExcluded: false,
      head: 'ALTER TABLE t',
      parameters: ['fillfactor'],
      tail: '',
    },
  ],
  [
    'SET CLUSTER SETTING feature.backup.enabled = true',
    set('feature.backup.enabled', { kind: 'boolean', value: true }),
  ],
  ['set cluster setting a to on', set('a', { kind: 'identifier', name: 'on' })],
  ['SET CLUSTER SETTING a = OFF', set('a', { kind: 'identifier', name: 'off' })],
  ['SET CLUSTER SETTING a = default', set('a', 'default')],
  ['SET CLUSTER SETTING a = "default"', set('a', { kind: 'identifier', name: 'default' })],
  ['SET CLUSTER SETTING a = $1', set('a', { kind: 'placeholder', number: 1 })],
  ['SET CLUSTER SETTING a = NULL', set('a', { kind: 'null' })],
  ['SET CLUSTER SETTING a =-5', set('a', { kind: 'number', text: '-5' })],
  ['SET CLUSTER SETTING a = +1_000.5', set('a', { kind: 'number', text: '1000.5' })],
  ['SET CLUSTER SETTING a = -0x1F', set('a', { kind: 'number', text: '-31' })],
  ["SET CLUSTER SETTING a.all.default = E'\\x41'", set('a.all.default', string('A'))],
  [
    'alter range default configure zone using gc.ttlseconds = 3600, b to default',
    {
      kind: 'configure_zone',
      target: { kind: 'range', name: 'default' },
      variables: [
        { name: 'gc.ttlseconds', value: { kind: 'number', text: '3600' } },
        { name: 'b', value: 'default' },
      ],
    },
  ],
  [
    'ALTER RANGE "default" CONFIGURE ZONE DISCARD',
    { kind: 'configure_zone', target: { kind: 'range', name: 'default' }, variables: 'discard' },
  ],
  [
    'ALTER DATABASE d CONFIGURE ZONE DISCARD',
    { kind: 'configure_zone', target: { kind: 'database', name: 'd' }, variables: 'discard' },
  ],
  [
    'ALTER TABLE s.t CONFIGURE ZONE USING num_replicas = 5',
    {
      kind: 'configure_zone',
      target: { kind: 'table', table: { qualifiers: ['s'], name: 't' } },
      variables: [{ name: 'num_replicas', value: { kind: 'number', text: '5' } }],
    },
  ],
  ['RESET CLUSTER SETTING "a".B', { kind: 'reset_cluster_setting', name: 'a.b' }],
  [
    'SHOW CLUSTER SETTING version',
    { kind: 'show_cluster_setting', name: 'version', forVirtualCluster: undefined },
  ],
  [
    'SHOW CLUSTER SETTING a.b FOR VIRTUAL CLUSTER dest-system',
    { kind: 'show_cluster_setting', name: 'a.b', forVirtualCluster: 'dest-system' },
  ],
  [
    'SHOW CLUSTER SETTINGS',
    { kind: 'show_cluster_settings', visibility: 'public', forVirtualCluster: undefined },
  ],
  [
    'SHOW PUBLIC CLUSTER SETTINGS',
    { kind: 'show_cluster_settings', visibility: 'public', forVirtualCluster: undefined },
  ],
  [
    'SHOW ALL CLUSTER SETTINGS FOR TENANT x',
    { kind: 'show_cluster_settings', visibility: 'all', forVirtualCluster: 'x' },
  ],
  ["BACKUP INTO 'u'", backup({})],
  ['BACKUP INTO "u"', backup({})],
  ["BACKUP INTO ('u')", backup({})],
  ["BACKUP INTO ('u', $2)", backup({ destination: [string('u'), { kind: 'placeholder', number: 2 }] })],
  ["BACKUP INTO LATEST IN 'u'", backup({ appendTo: latest })],
  ["BACKUP INTO 'latest' IN 'u'", backup({ appendTo: latest })],
  [
    "BACKUP INTO '2021/03/23-213101.37' IN ('u')",
    backup({ appendTo: { kind: 'subdirectory', path: string('2021/03/23-213101.37') } }),
  ],
  ["BACKUP INTO 'u' AS OF SYSTEM TIME '-10s'", backup({ asOf: string('-10s') })],
  [
    "BACKUP INTO 'u' AS OF SYSTEM TIME 1704816945291575000.0000000000",
    backup({ asOf: { kind: 'number', text: '1704816945291575000.0000000000' } }),
  ],
  [
    'BACKUP DATABASE bank, "E x" INTO \'u\'',
    backup({ targets: { kind: 'databases', names: ['bank', 'E x'] } }),
  ],
  ["BACKUP bank.customers, t INTO 'u'", backup({ targets: tables(table('bank', 'customers'), table('t')) })],
  ["BACKUP TABLE database INTO 'u'", backup({ targets: tables(table('database')) })],
  [
    "BACKUP TABLE a.b.c, s.*, d.s.*, * INTO 'u'",
    backup({
      targets: tables(
        table('a', 'b', 'c'),
        table('s', undefined),
        table('d', 's', undefined),
        table(undefined),
      ),
    }),
  ],
  [
    "BACKUP INTO 'u' WITH revision_history, DETACHED = 'True', encryption_passphrase 'p', kms = ('a','b')",
    backup({
      options: [
        { name: 'revision_history', value: undefined },
        { name: 'detached', value: { kind: 'boolean', value: true } },
        { name: 'encryption_passphrase', value: string('p') },
        { name: 'kms', value: [string('a'), string('b')] },
      ],
    }),
  ],
  [
    "BACKUP INTO 'u' WITH OPTIONS (Execution Locality = 'region=a', detached false, incremental_location = ('x'))",
    backup({
      options: [
        { name: 'execution_locality', value: string('region=a') },
        { name: 'detached', value: { kind: 'boolean', value: false } },
        { name: 'incremental_location', value: string('x') },
      ],
    }),
  ],
  ["RESTORE FROM LATEST IN 'u'", restore({})],
  [
    'RESTORE FROM $1 IN $2',
    restore({
      from: { kind: 'subdirectory', path: { kind: 'placeholder', number: 1 } },
      source: [{ kind: 'placeholder', number: 2 }],
    }),
  ],
  ["RESTORE SYSTEM USERS FROM 'LATEST' IN 'u'", restore({ targets: { kind: 'system_users' } })],
  [
    "RESTORE system.users FROM LATEST IN 'u' WITH into_db = newdb",
    restore({
      targets: tables(table('system', 'users')),
      options: [{ name: 'into_db', value: string('newdb') }],
    }),
  ],
  [
    "RESTORE DATABASE d FROM '/2021/x' IN ('u', 'v') AS OF SYSTEM TIME '-1h' WITH new_db_name = 'e', schema_only",
    restore({
      targets: { kind: 'databases', names: ['d'] },
      from: { kind: 'subdirectory', path: string('/2021/x') },
      source: [string('u'), string('v')],
      asOf: string('-1h'),
      options: [
        { name: 'new_db_name', value: string('e') },
        { name: 'schema_only', value: undefined },
      ],
    }),
  ],
  [
    "RESTORE FROM LATEST IN 'u' WITH EXPERIMENTAL DEFERRED COPY",
    restore({ options: [{ name: 'experimental_deferred_copy', value: undefined }] }),
  ],
  ["SHOW BACKUPS IN 'u'", { kind: 'show_backups', collection: [string('u')] }],
  ["SHOW BACKUP LATEST IN 'u'", showBackup({})],
  [
    'SHOW BACKUP FROM "2021/x" IN "u"',
    showBackup({ from: { kind: 'subdirectory', path: string('2021/x') } }),
  ],
  ["SHOW BACKUP SCHEMAS FROM LATEST IN ('u')", showBackup({ variant: 'schemas' })],
  [
    "SHOW BACKUP FILES LATEST IN 'u' WITH check_files, SKIP SIZE",
    showBackup({
      variant: 'files',
      options: [
        { name: 'check_files', value: undefined },
        { name: 'skip_size', value: undefined },
      ],
    }),
  ],
  ['SHOW JOBS', SHOW_JOBS],
  ['SHOW AUTOMATIC JOBS', { ...SHOW_JOBS, automatic: true }],
  ['SHOW JOBS WITH EXECUTION DETAILS', { ...SHOW_JOBS, withExecutionDetails: true }],
  [
    "SHOW JOBS (SELECT Job_id FROM [SHOW JOBS] WHERE a = ')')",
    { ...SHOW_JOBS, jobs: { kind: 'query', text: "select job_id from [ show jobs ] where a = ')'" } },
  ],
  [
    'SHOW JOBS WHEN COMPLETE WITH x AS (SHOW JOBS) SELECT job_id FROM x WITH EXECUTION DETAILS',
    {
      ...SHOW_JOBS,
      jobs: { kind: 'query', text: 'with x as ( show jobs ) select job_id from x' },
      whenComplete: true,
      withExecutionDetails: true,
    },
  ],
  [
    'SHOW JOBS FOR SCHEDULE 5',
    {
      ...SHOW_JOBS,
      jobs: { kind: 'of_schedules', schedules: { kind: 'one', id: { kind: 'number', text: '5' } } },
    },
  ],
  [
    'SHOW JOB 27',
    {
      kind: 'show_job',
      jobId: { kind: 'number', text: '27' },
      whenComplete: false,
      withExecutionDetails: false,
    },
  ],
  [
    "SHOW JOB WHEN COMPLETE '27'",
    { kind: 'show_job', jobId: string('27'), whenComplete: true, withExecutionDetails: false },
  ],
  ['CANCEL JOB $1', controlJobs('cancel', { kind: 'one', id: { kind: 'placeholder', number: 1 } })],
  ['pause job 1', controlJobs('pause', { kind: 'one', id: { kind: 'number', text: '1' } })],
  ['RESUME JOB 1;;', controlJobs('resume', { kind: 'one', id: { kind: 'number', text: '1' } })],
  [
    "PAUSE JOB 1 WITH REASON = 'night'",
    { ...controlJobs('pause', { kind: 'one', id: { kind: 'number', text: '1' } }), reason: string('night') },
  ],
  [
    "PAUSE JOBS SELECT 1 UNION (VALUES (2)) WITH REASON = 'x'",
    {
      ...controlJobs('pause', { kind: 'query', text: 'select 1 union ( values ( 2 ) )' }),
      reason: string('x'),
    },
  ],
  ['CANCEL JOBS (SELECT 1)', controlJobs('cancel', { kind: 'query', text: 'select 1' })],
  [
    'CANCEL JOBS FOR SCHEDULES SELECT 1',
    controlJobs('cancel', { kind: 'of_schedules', schedules: { kind: 'query', text: 'select 1' } }),
  ],
  ['PAUSE ALL BACKUP JOBS', controlJobs('pause', { kind: 'of_type', type: 'backup' })],
  [
    "CREATE SCHEDULE schedule_label FOR BACKUP INTO 's3://test/a' RECURRING '@daily'",
    {
      kind: 'create_schedule',
      ifNotExists: false,
      label: string('schedule_label'),
      backup: { targets: { kind: 'virtual_cluster' }, destination: [string('s3://test/a')], options: [] },
      recurring: string('@daily'),
      fullBackup: undefined,
      scheduleOptions: [],
    },
  ],
  [
    "CREATE SCHEDULE IF NOT EXISTS 'a b' FOR BACKUP DATABASE x INTO ('u', $1) WITH revision_history, detached " +
      "RECURRING '0 * * * *' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS (first_run = now, on_execution_failure='pause', ignore_existing_backups)",
    {
      kind: 'create_schedule',
      ifNotExists: true,
      label: string('a b'),
      backup: {
        targets: { kind: 'databases', names: ['x'] },
        destination: [string('u'), { kind: 'placeholder', number: 1 }],
        options: [
          { name: 'revision_history', value: undefined },
          { name: 'detached', value: undefined },
        ],
      },
      recurring: string('0 * * * *'),
      fullBackup: 'always',
      scheduleOptions: [
        { name: 'first_run', value: string('now') },
        { name: 'on_execution_failure', value: string('pause') },
        { name: 'ignore_existing_backups', value: undefined },
      ],
    },
  ],
  [
    "ALTER BACKUP SCHEDULE 7 SET LABEL x, SET INTO 'u', SET WITH revision_history = 'false', SET RECURRING '@daily', " +
      "SET FULL BACKUP ALWAYS, SET SCHEDULE OPTION on_previous_running = 'skip', EXECUTE FULL IMMEDIATELY",
    {
      kind: 'alter_backup_schedule',
      scheduleId: { kind: 'number', text: '7' },
      actions: [
        { kind: 'set_label', label: string('x') },
        { kind: 'set_into', destination: [string('u')] },
        { kind: 'set_with', option: { name: 'revision_history', value: { kind: 'boolean', value: false } } },
        { kind: 'set_recurring', recurring: string('@daily') },
        { kind: 'set_full_backup', fullBackup: 'always' },
        { kind: 'set_schedule_option', option: { name: 'on_previous_running', value: string('skip') } },
        { kind: 'execute_immediately', full: true },
      ],
    },
  ],
  ['SHOW SCHEDULES', { kind: 'show_schedules', status: 'all', of: undefined }],
  ['SHOW PAUSED SCHEDULES FOR BACKUP', { kind: 'show_schedules', status: 'paused', of: 'backup' }],
  ['SHOW SCHEDULE 1', { kind: 'show_schedule', scheduleId: { kind: 'number', text: '1' } }],
  ['SHOW CREATE ALL SCHEDULES', { kind: 'show_create_schedule', scheduleId: undefined }],
  ['SHOW CREATE SCHEDULE 1', { kind: 'show_create_schedule', scheduleId: { kind: 'number', text: '1' } }],
  [
    "PAUSE SCHEDULES WITH x AS (SHOW SCHEDULES) SELECT id FROM x WHERE label = 'Nightly'",
    {
      kind: 'control_schedules',
      action: 'pause',
      schedules: {
        kind: 'query',
        text: "with x as ( show schedules ) select id from x where label = 'Nightly'",
      },
    },
  ],
  [
    'alter job $1 owner to Clerk',
    {
      kind: 'alter_job_owner',
      jobId: { kind: 'placeholder', number: 1 },
      owner: { kind: 'role', name: 'clerk' },
    },
  ],
  [
    'DROP SCHEDULE 1',
    {
      kind: 'control_schedules',
      action: 'drop',
      schedules: { kind: 'one', id: { kind: 'number', text: '1' } },
    },
  ],
  [
    "CREATE EXTERNAL CONNECTION backup_s3 AS 's3://a'",
    { kind: 'create_external_connection', ifNotExists: false, name: 'backup_s3', uri: string('s3://a') },
  ],
  ["create file upload into 'u'", { kind: 'create_file_upload', uri: string('u') }],
  [
    "ALTER FILE UPLOAD 'i' APPEND 'YQ==' AT 3",
    {
      kind: 'alter_file_upload',
      uploadId: string('i'),
      action: { kind: 'append', content: string('YQ=='), offset: { kind: 'number', text: '3' } },
    },
  ],
  ["DROP FILE 'u'", { kind: 'drop_file', uri: string('u') }],
  ["SHOW FILES IN 'u'", { kind: 'show_files', uri: string('u') }],
  ['DROP EXTERNAL CONNECTION "A"', { kind: 'drop_external_connection', name: 'A' }],
  ['SHOW EXTERNAL CONNECTIONS', { kind: 'show_external_connections', name: undefined }],
  ['SHOW CREATE EXTERNAL CONNECTION a', { kind: 'show_create_external_connections', name: 'a' }],
  [
    "CHECK EXTERNAL CONNECTION 'u' WITH transfer = '1MiB', concurrently = '2'",
    {
      kind: 'check_external_connection',
      uri: string('u'),
      options: [
        { name: 'transfer', value: string('1MiB') },
        { name: 'concurrently', value: string('2') },
      ],
    },
  ],
];

/** Text, what the message names, one-based position. */
const MALFORMED: readonly (readonly [string, string, number])[] = [
  ['CREATE VIRTUAL CLUSTER', 'EOF', 23],
  ['CREATE VIRTUAL CLUSTER ;', ';', 24],
  ['CREATE VIRTUAL CLUSTER LIKE a', 'LIKE', 24],
  ['CREATE VIRTUAL CLUSTER main-', '-', 28],
  ["CREATE VIRTUAL CLUSTER a FROM REPLICATION OF b ON 'u' WITH", 'EOF', 59],
  ["CREATE VIRTUAL CLUSTER a FROM REPLICATION OF b ON 'u' WITH RETENTION '1h'", "'...'", 70],
  ["CREATE VIRTUAL CLUSTER a FROM REPLICATION OF b ON 'u' WITH READ", 'READ', 60],
  ['ALTER VIRTUAL CLUSTER a SET REPLICATION SOURCE', 'SOURCE', 41],
  ['CREATE VIRTUAL CLUSTER main - x', '-', 29],
  ['CREATE VIRTUAL CLUSTER ""', '""', 24],
  ['CREATE VIRTUAL CLUSTER a b', 'b', 26],
  ['CREATE TENANT 1a', '1a', 15],
  ['ALTER VIRTUAL CLUSTER main', 'EOF', 27],
  ['ALTER VIRTUAL CLUSTER main FROB', 'FROB', 28],
  ['ALTER VIRTUAL CLUSTER main START SERVICE EXTERNAL', 'EXTERNAL', 42],
  ['ALTER VIRTUAL CLUSTER main GRANT CAPABILITY', 'EOF', 44],
  ['ALTER VIRTUAL CLUSTER main GRANT ALL', 'EOF', 37],
  ['ALTER VIRTUAL CLUSTER main SET CLUSTER SETTING a', 'EOF', 49],
  ['DROP VIRTUAL CLUSTER IF EXISTS', 'EOF', 31],
  ['DROP VIRTUAL CLUSTER main CASCADE', 'CASCADE', 27],
  ['SHOW VIRTUAL CLUSTERS WITH', 'EOF', 27],
  ['SHOW VIRTUAL CLUSTER main WITH CAPABILITIES,', 'EOF', 45],
  ['SHOW virtual_cluster_name x', 'x', 27],
  ['SET CLUSTER SETTING', 'EOF', 20],
  ['SET CLUSTER SETTING a', 'EOF', 22],
  ['SET CLUSTER SETTING a =', 'EOF', 24],
  ['SET CLUSTER SETTING a == 1', '==', 23],
  ['SET CLUSTER SETTING a. = 1', '=', 24],
  ['SET CLUSTER SETTING a = 1 2', '2', 27],
  ['SET CLUSTER SETTING a = $0', '$0', 25],
  ['SET CLUSTER SETTING a = $65536', '$65536', 25],
  [`SET CLUSTER SETTING a = ${'9'.repeat(129)}`, '9'.repeat(64), 25],
  ["SET CLUSTER SETTING a = E'\\xff'", "'...'", 25],
  ['SHOW CLUSTER SETTING', 'EOF', 21],
  ['SHOW CLUSTER SETTING a FOR x', 'x', 28],
  ['BACKUP', 'EOF', 7],
  ["BACKUP INTO 'u' WITH", 'EOF', 21],
  ["BACKUP INTO 'u' WITH nonsense", 'nonsense', 22],
  ["BACKUP INTO 'u' WITH schema_only", 'schema_only', 22],
  ["BACKUP INTO 'u' WITH detached,", 'EOF', 31],
  ["BACKUP INTO 'u' WITH detached = 3", '3', 33],
  ["BACKUP INTO 'u' WITH OPTIONS detached", 'detached', 30],
  ["BACKUP INTO 'u' WITH OPTIONS (detached", 'EOF', 39],
  ["BACKUP INTO 'u' WITH encryption_passphrase", 'EOF', 43],
  ["BACKUP INTO 'u' AS OF SYSTEM", 'EOF', 29],
  ["BACKUP INTO LATEST 'u'", "'...'", 20],
  ["BACKUP INTO 'u' WHERE a = 1", 'WHERE', 17],
  ["BACKUP TABLE a.b.c.d INTO 'u'", '.', 19],
  ['BACKUP INTO ()', ')', 14],
  ['RESTORE FROM LATEST', 'EOF', 20],
  ['RESTORE LATEST IN', 'IN', 16],
  ["RESTORE DATABASE FROM LATEST IN 'u'", 'FROM', 18],
  ['SHOW BACKUP', 'EOF', 12],
  ['SHOW BACKUP LATEST', 'EOF', 19],
  ["SHOW BACKUPS 'u'", "'...'", 14],
  ['SHOW JOB', 'EOF', 9],
  ['SHOW JOB x', 'x', 10],
  ['PAUSE JOB', 'EOF', 10],
  ['PAUSE JOB 1 2', '2', 13],
  ['SHOW JOBS; SELECT 1', 'SELECT', 12],
  ['SHOW JOBS foo', 'foo', 11],
  ['PAUSE JOBS (SELECT 1', 'EOF', 21],
  ['PAUSE JOBS SELECT 1)', ')', 20],
  ['RESUME JOB 1 WITH REASON = 1', 'WITH', 14],
  ["CREATE SCHEDULE a FOR BACKUP INTO 'u'", 'EOF', 38],
  ["/* é🙂 */ BACKUP INTO 'u' x", 'x', 26],
];

const UNTERMINATED: readonly (readonly [string, string, number])[] = [
  ["BACKUP INTO 's3://secret", `at or near "'": unterminated string`, 13],
  [
    'ALTER VIRTUAL CLUSTER a SET REPLICATION READ VIRTUAL CLUSTER, READ VIRTUAL CLUSTER',
    'option given twice',
    63,
  ],
  ['CREATE VIRTUAL CLUSTER "a', 'at or near """: unterminated quoted identifier', 24],
  ['SHOW JOBS /* x', 'at or near "/*": unterminated comment', 11],
];

/** Text, what the message must name, and what the hint must. */
const REFUSED: readonly (readonly [string, RegExp, RegExp])[] = [
  ["BACKUP TO 'u'", /INTO/, /INTO/],
  ["BACKUP DATABASE a TO 'u'", /INTO/, /INTO/],
  ["BACKUP a.b TO ('u', 'v')", /INTO/, /INTO/],
  ["RESTORE FROM 'u'", /IN$/, /LATEST IN/],
  ["RESTORE DATABASE a FROM 'u', 'v'", /IN$/, /LATEST IN/],
  ["RESTORE a FROM $1 AS OF SYSTEM TIME '-1s'", /IN$/, /LATEST IN/],
  ["RESTORE a FROM ('u')", /IN$/, /LATEST IN/],
  ["SHOW BACKUP 'u'", /IN$/, /SHOW BACKUPS IN/],
  ['EXECUTE SCHEDULE 123', /backup schedules/, /ALTER BACKUP SCHEDULE/],
  ["SHOW BACKUP SCHEMAS FROM 'u' WITH privileges;", /IN$/, /SHOW BACKUPS IN/],
  ["ALTER VIRTUAL CLUSTER a COMPLETE REPLICATION TO SYSTEM TIME '-1s' WITH DRAIN", /DRAIN/, /all of it/],
  ["BACKUP VIRTUAL CLUSTER a INTO 'u'", /virtual cluster/, /BACKUP INTO/],
  ["RESTORE VIRTUAL CLUSTER a FROM LATEST IN 'u'", /virtual cluster/, /RESTORE FROM/],
  ["CREATE SCHEDULE FOR BACKUP INTO LATEST IN 'a' RECURRING '@daily'", /chooses by itself/, /FULL BACKUP/],
  [
    "CREATE SCHEDULE FOR BACKUP INTO 'a' AS OF SYSTEM TIME '-1s' RECURRING '@daily'",
    /scheduled time/,
    /leave/,
  ],
  ["CREATE SCHEDULE x FOR CHANGEFEED INTO 'a' RECURRING '@daily'", /only backups/, /FOR BACKUP/],
];

const READ_ONLY = [
  "SET virtual_cluster_name = 'system'",
  'set session Virtual_Cluster_Name to x',
  'SET LOCAL virtual_cluster_name = DEFAULT',
  'RESET virtual_cluster_name',
];

const FOREIGN = [
  'EXECUTE schedule',
  'EXECUTE schedule(1)',
  'SET virtual_cluster_names = 1',
  'SHOW virtual_cluster_names',
  '',
  ';',
  '-- BACKUP',
  '/* x',
  "'BACKUP'",
  '"backup" into',
  'SELECT 1',
  'SHOW search_path',
  'SHOW ALL',
  'SHOW "virtual_cluster_name"',
  'SHOW cluster',
  'SHOW virtual',
  'SHOW CLUSTER TO',
  'SHOW ALL CLUSTER',
  'SET x = 1',
  "SET cluster = 'x'",
  'SET CLUSTER TO setting',
  'SET LOCAL CLUSTER SETTING a = 1',
  'RESET ALL',
  'RESET cluster',
  'CREATE VIRTUAL TABLE x',
  'CREATE TABLE virtual (cluster int)',
  'CREATE TABLE a (exclude_data_from_backup bool)',
  `CREATE TABLE a AS WITH b AS (SELECT 1 AS exclude_data_from_backup) SELECT * FROM b`,
  `CREATE TABLE a WITH (fillfactor = 70) AS SELECT 'exclude_data_from_backup'`,
  'ALTER TABLE a ADD exclude_data_from_backup bool',
  'CREATE TABLE a WITH (exclude_data',
  'ALTER DATABASE a',
  'ALTER DATABASE a SET search_path = b',
  'ALTER DATABASE region SET configure = zone',
  'ALTER DATABASE a RENAME TO region',
  'ALTER TABLE a ADD COLUMN configure text',
  'ALTER TABLE configure.zone RENAME TO region',
  'DROP TABLE tenant',
  'EXPLAIN BACKUP INTO x',
  'BACKUPS',
  'PAUSE',
  'CANCEL',
  'bac\u212Aup into x',
];

describe('parseStatement', () => {
  for (const [text, expected] of ACCEPTED) {
    it(`reads ${text}`, () => {
      const statement = parseStatement(`  ${text}`);
      assert.deepEqual(statement?.node, expected);
      assert.equal(statement.begin, 2);
      assert.ok(Object.isFrozen(statement.node));
    });
  }

  for (const [text, near, position] of MALFORMED) {
    it(`points at what is wrong in ${text.slice(0, 80)}`, () => {
      assert.throws(
        () => parseStatement(text),
        (error) => {
          assert.ok(isAppError(error, 'syntax'));
          const name = near.startsWith('"') ? near : `"${near}"`;
          assert.equal(error.message, `at or near ${name}: syntax error`);
          assert.equal(error.position, position);
          assert.match(error.hint ?? '', /^usage: [A-Z{]/);
          return true;
        },
      );
    });
  }

  for (const [text, message, position] of UNTERMINATED) {
    it(`reports what is left open in ${text}`, () => {
      assert.throws(
        () => parseStatement(text),
        (error) => isAppError(error, 'syntax') && error.message === message && error.position === position,
      );
    });
  }

  for (const [text, message, hint] of REFUSED) {
    it(`refuses ${text}`, () => {
      assert.throws(
        () => parseStatement(text),
        (error) => {
          assert.ok(isAppError(error, 'feature_not_supported'));
          assert.match(error.message, message);
          assert.match(error.hint ?? '', hint);
          assert.ok((error.position ?? 0) > 1);
          return true;
        },
      );
    });
  }

  for (const text of READ_ONLY) {
    it(`refuses ${text}`, () => {
      assert.throws(
        () => parseStatement(text),
        (error) => isAppError(error, 'parameter_read_only') && error.sqlstate === '55P02',
      );
    });
  }
  for (const text of FOREIGN) {
    it(`leaves ${JSON.stringify(text)} to Postgres`, () => assert.equal(parseStatement(text), undefined));
  }

  it('refuses an option that is given twice or is neither true nor false', () => {
    assert.throws(
      () => parseStatement("BACKUP INTO 'u' WITH detached, DETACHED = true"),
      (error) =>
        isAppError(error, 'syntax') &&
        error.message === 'option "detached" given twice' &&
        error.position === 32,
    );
    assert.throws(
      () => parseStatement("BACKUP INTO 'u' WITH detached = 'maybe'"),
      (error) => isAppError(error, 'syntax') && error.position === 33,
    );
  });

  it('repeats no string in an error, for it may hold a secret', () => {
    for (const text of [
      "BACKUP INTO 'a' 's3://b?k=hush'",
      'BACKUP INTO \'a\' "s3://b?k=hush"',
      "BACKUP INTO 'a' $$hush",
      "BACKUP INTO 'a' E'hush' x",
      "BACKUP INTO 'a' WITH detached = 'hush'",
      "BACKUP INTO 'a' \"hush://",
      "BACKUP INTO 'a' WITH encryption_passphrase = U&'\\hush'",
    ]) {
      assert.throws(
        () => parseStatement(text),
        (error) => isAppError(error) && !`${error.message} ${error.hint}`.includes('hush'),
      );
    }
  });

  it('says where the statement stood', () => {
    const statement = parseStatement(' /* é */ SHOW JOBS /* x */ ; ');
    assert.deepEqual([statement?.begin, statement?.end], [9, 18]);
  });

  it('has a rule for every kind of statement, and no rule that hides another', () => {
    const kinds = new Set<StatementKind>(RULES.map(({ kind }) => kind));
    assert.deepEqual([...kinds].sort(), Object.keys(statementHelp).sort());
    const heads = RULES.map(({ words }) => `${words.join(' ')} `);
    for (const [index, head] of heads.entries()) {
      // One that may decline leaves the rest to the next.
      if (RULES[index]?.claims !== undefined) continue;
      assert.deepEqual(
        heads.slice(index + 1).filter((later) => later.startsWith(head)),
        [],
        `${head}stands before a longer one`,
      );
    }
  });
});
