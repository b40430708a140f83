/** Arbitrary statements, and arbitrary ways to write them, for property tests. Nothing but tests imports this. */
import fc from 'fast-check';
import {
  type AlterScheduleAction,
  type AlterVirtualClusterAction,
  type BackupSelector,
  type BackupTargets,
  type CapabilityList,
  type ControlledJobs,
  type IdQuery,
  JOB_TYPES,
  type Option,
  type ScheduleSelection,
  type Statement,
  type StatementKind,
  SYSTEM_TABLES,
  type Value,
  type ZoneTarget,
} from './ast.ts';
import { readToken } from './lexer.ts';
import { quoteName } from './quote.ts';
import { privilegeArbitraries, roleArbitrary } from './testing-privileges.ts';
import { type OptionSpec, type OptionStatement, optionsOf } from './options.ts';

/** Plain objects, as the parser makes them. */
function record<T>(model: { [Key in keyof T]: fc.Arbitrary<T[Key]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

const text = fc.oneof(
  fc.string({ unit: 'binary' }).map((value) => value.replaceAll('\0', '')),
  fc.constantFrom('', "it's", "'';--", '/* */', 'a\\b', '$1', '$$', 'nodelocal://1/a?AUTH=implicit', 'é🙂'),
);

export const nameArbitrary = fc.oneof(
  fc.constantFrom(
    'main',
    'dest-system',
    'if',
    'like',
    'from',
    'with',
    'Mixed Case',
    'a"b',
    'é',
    '1a',
    'table',
    'x$1',
  ),
  text.filter((name) => name !== ''),
);

const string: fc.Arbitrary<Value> = text.map((value) => ({ kind: 'string', value }));
const placeholder: fc.Arbitrary<Value> = fc
  .integer({ min: 1, max: 65_535 })
  .map((number) => ({ kind: 'placeholder', number }));
const number: fc.Arbitrary<Value> = fc
  .oneof(
    fc.bigInt().map(String),
    fc.constantFrom('0', '-1', '1.5', '.5', '5.', '-.5e-3', '1e10', '1704816945291575000.0000000000'),
  )
  .map((digits) => ({ kind: 'number', text: digits }));
const boolean: fc.Arbitrary<Value> = fc.boolean().map((value) => ({ kind: 'boolean', value }));
const identifier: fc.Arbitrary<Value> = fc
  .oneof(nameArbitrary, fc.constantFrom('on', 'off', 'true', 'default', 'null'))
  .map((name) => ({ kind: 'identifier', name }));

const anyValue = fc.oneof(
  string,
  placeholder,
  number,
  boolean,
  identifier,
  fc.constant<Value>({ kind: 'null' }),
);
const textValue = fc.oneof(string, placeholder);
const scalar = fc.oneof(string, placeholder, number);
const uris = fc.array(textValue, { minLength: 1, maxLength: 3 });

const zoneTarget: fc.Arbitrary<ZoneTarget> = fc.oneof(
  record({
    kind: fc.constant('range' as const),
    name: fc.oneof(fc.constant('default'), nameArbitrary),
  }),
  record({ kind: fc.constant('database' as const), name: nameArbitrary }),
  record({
    kind: fc.constant('table' as const),
    table: record({ qualifiers: fc.array(nameArbitrary, { maxLength: 2 }), name: nameArbitrary }),
  }),
);
const settingName = fc.oneof(
  fc.constantFrom('version', 'bulkio.backup.file_size', 'a.default.table', '.', 'a..b'),
  fc.array(nameArbitrary, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('.')),
);
const settingValue = fc.oneof(anyValue, fc.constant<'default'>('default'));

const selector: fc.Arbitrary<BackupSelector> = fc.oneof(
  fc.constant<BackupSelector>({ kind: 'latest' }),
  textValue
    .filter((path) => path.kind !== 'string' || path.value.toLowerCase() !== 'latest')
    .map((path): BackupSelector => ({ kind: 'subdirectory', path })),
);

const targets: fc.Arbitrary<BackupTargets> = fc.oneof(
  fc.constant<BackupTargets>({ kind: 'virtual_cluster' }),
  record({
    kind: fc.constant('databases' as const),
    names: fc.array(nameArbitrary, { minLength: 1, maxLength: 3 }),
  }),
  record({
    kind: fc.constant('tables' as const),
    patterns: fc.array(
      record({
        qualifiers: fc.array(nameArbitrary, { maxLength: 2 }),
        name: fc.option(nameArbitrary, { nil: undefined }),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  }),
);

const capabilities: fc.Arbitrary<CapabilityList> = fc.oneof(
  fc.constant<CapabilityList>({ kind: 'all' }),
  record({
    kind: fc.constant('some' as const),
    capabilities: fc.array(record({ name: nameArbitrary, value: fc.option(anyValue, { nil: undefined }) }), {
      minLength: 1,
      maxLength: 3,
    }),
  }),
);

function optionValue(shape: OptionSpec['shape']): fc.Arbitrary<Option['value']> {
  switch (shape) {
    case 'flag':
      return fc.oneof(fc.constant(undefined), boolean, placeholder);
    case 'strings':
      return fc.oneof(textValue, fc.array(textValue, { minLength: 2, maxLength: 3 }));
    case 'string':
    case 'name':
      return textValue;
  }
}

function options(statement: OptionStatement): fc.Arbitrary<readonly Option[]> {
  const each = optionsOf(statement).map(([name, spec]) =>
    optionValue(spec.shape).map((value): Option => ({ name, value })),
  );
  return fc
    .subarray([...each.keys()])
    .chain((indexes) => fc.tuple(...indexes.flatMap((index) => each[index] ?? [])));
}

const streamOptions = record({
  readVirtualCluster: fc.boolean(),
  retention: fc.option(textValue, { nil: undefined }),
  expirationWindow: fc.option(textValue, { nil: undefined }),
});

const action: fc.Arbitrary<AlterVirtualClusterAction> = fc.oneof(
  record({ kind: fc.constant('start_service_shared' as const), withForce: fc.boolean() }),
  fc.constant<AlterVirtualClusterAction>({ kind: 'stop_service' }),
  record({ kind: fc.constant('rename_to' as const), name: nameArbitrary }),
  record({
    kind: fc.constantFrom('grant_capabilities' as const, 'revoke_capabilities' as const),
    capabilities,
  }),
  record({ kind: fc.constant('set_cluster_setting' as const), name: settingName, value: settingValue }),
  record({ kind: fc.constant('reset_cluster_setting' as const), name: settingName }),
  record({ kind: fc.constant('reset_data' as const), source: nameArbitrary, asOf: scalar }),
  record({ kind: fc.constant('check_timeline' as const), asOf: fc.option(scalar, { nil: undefined }) }),
  fc.constantFrom<AlterVirtualClusterAction>(
    { kind: 'undrop' },
    { kind: 'reset_suspend_after' },
    { kind: 'reset_continuous_backup' },
  ),
  record({
    kind: fc.constant('set_continuous_backup' as const),
    location: textValue,
    options: options('alter_virtual_cluster'),
  }),
  record({ kind: fc.constant('set_suspend_after' as const), after: scalar }),
  fc.constantFrom<AlterVirtualClusterAction>({ kind: 'pause_replication' }, { kind: 'resume_replication' }),
  fc
    .oneof(fc.constantFrom('latest' as const, 'latest_drained' as const), scalar)
    .map((to): AlterVirtualClusterAction => ({ kind: 'complete_replication', to })),
  record({
    kind: fc.constant('start_replication' as const),
    source: nameArbitrary,
    uri: textValue,
    options: streamOptions,
  }),
  record({
    kind: fc.constant('set_replication' as const),
    options: streamOptions.filter((options) => Object.values(options).some(Boolean)),
  }),
  record({ kind: fc.constant('set_replication_source' as const), expirationWindow: textValue }),
);

const isString = (token: string | undefined) => token?.startsWith("'") === true;

/** In the normal form that the parser gives. */
const query: fc.Arbitrary<IdQuery> = fc
  .array(
    fc.constantFrom(
      'a',
      'from',
      '[ show jobs ]',
      '( select 1 )',
      "'It''s; '",
      '"A b"',
      '$1',
      '>=',
      ',',
      '::',
    ),
    { maxLength: 5 },
  )
  // Two strings one after the other are one, or none, as the blanks between them decide.
  .filter((tokens) => tokens.every((token, index) => !isString(token) || !isString(tokens[index + 1])))
  .map((tokens) => ({ kind: 'query', text: ['select', ...tokens].join(' ') }));
const scheduleSelection: fc.Arbitrary<ScheduleSelection> = fc.oneof(
  scalar.map((id): ScheduleSelection => ({ kind: 'one', id })),
  query,
);
const jobsOfSchedules = record({ kind: fc.constant('of_schedules' as const), schedules: scheduleSelection });
const controlledJobs: fc.Arbitrary<ControlledJobs> = fc.oneof(
  scalar.map((id): ControlledJobs => ({ kind: 'one', id })),
  query,
  jobsOfSchedules,
  fc.constantFrom(...JOB_TYPES).map((type): ControlledJobs => ({ kind: 'of_type', type })),
);
const fullBackup = fc.oneof(textValue, fc.constant<'always'>('always'));

function oneOption(statement: OptionStatement): fc.Arbitrary<Option> {
  return fc
    .constantFrom(...optionsOf(statement))
    .chain(([name, spec]) => optionValue(spec.shape).map((value): Option => ({ name, value })));
}

const scheduleAction: fc.Arbitrary<AlterScheduleAction> = fc.oneof(
  textValue.map((label): AlterScheduleAction => ({ kind: 'set_label', label })),
  uris.map((destination): AlterScheduleAction => ({ kind: 'set_into', destination })),
  oneOption('backup').map((option): AlterScheduleAction => ({ kind: 'set_with', option })),
  textValue.map((recurring): AlterScheduleAction => ({ kind: 'set_recurring', recurring })),
  fullBackup.map((value): AlterScheduleAction => ({ kind: 'set_full_backup', fullBackup: value })),
  oneOption('create_schedule').map(
    (option): AlterScheduleAction => ({ kind: 'set_schedule_option', option }),
  ),
  fc.boolean().map((full): AlterScheduleAction => ({ kind: 'execute_immediately', full })),
);

const optionalName = fc.option(nameArbitrary, { nil: undefined });
const optionalTime = fc.option(scalar, { nil: undefined });

function kind<Kind extends StatementKind>(name: Kind): fc.Arbitrary<Kind> {
  return fc.constant(name);
}

/** One arbitrary per kind of statement: a kind that is forgotten does not compile. */
export const statementArbitraries: Readonly<Record<StatementKind, fc.Arbitrary<Statement>>> = {
  create_virtual_cluster: fc.oneof(
    record({
      kind: kind('create_virtual_cluster'),
      ifNotExists: fc.boolean(),
      name: nameArbitrary,
      like: optionalName,
      from: fc.option(record({ source: nameArbitrary, asOf: optionalTime }), { nil: undefined }),
      replication: fc.constant(undefined),
    }),
    record({
      kind: kind('create_virtual_cluster'),
      ifNotExists: fc.boolean(),
      name: nameArbitrary,
      like: optionalName,
      from: fc.constant(undefined),
      replication: record({ source: nameArbitrary, uri: textValue, options: streamOptions }),
    }),
  ),
  create_replication_stream: record({
    kind: kind('create_replication_stream'),
    name: nameArbitrary,
    after: fc.option(textValue, { nil: undefined }),
  }),
  report_replication_stream: record({
    kind: kind('report_replication_stream'),
    streamId: scalar,
    report: textValue,
  }),
  drop_replication_stream: record({ kind: kind('drop_replication_stream'), streamId: scalar }),
  alter_virtual_cluster: record({ kind: kind('alter_virtual_cluster'), name: nameArbitrary, action }),
  drop_virtual_cluster: record({
    kind: kind('drop_virtual_cluster'),
    ifExists: fc.boolean(),
    name: nameArbitrary,
    immediate: fc.boolean(),
  }),
  show_virtual_clusters: record({
    kind: kind('show_virtual_clusters'),
    name: optionalName,
    withCapabilities: fc.boolean(),
    withReplicationStatus: fc.boolean(),
    withDropped: fc.boolean(),
    withSuspension: fc.boolean(),
  }),
  show_timeline: record({ kind: kind('show_timeline'), name: nameArbitrary }),
  show_salvage: record({ kind: kind('show_salvage'), name: nameArbitrary }),
  show_timeline_retention: record({ kind: kind('show_timeline_retention'), name: nameArbitrary }),
  show_zone_configuration: record({
    kind: kind('show_zone_configuration'),
    target: zoneTarget,
  }),
  show_zone_configurations: record({ kind: kind('show_zone_configurations') }),
  show_regions: record({
    kind: kind('show_regions'),
    from: fc.oneof(
      fc.constantFrom(
        { kind: 'all' as const },
        { kind: 'cluster' as const },
        { kind: 'all_databases' as const },
      ),
      record({ kind: fc.constant('database' as const), name: optionalName }),
    ),
  }),
  alter_database_regions: record({
    kind: kind('alter_database_regions'),
    database: nameArbitrary,
    action: fc.oneof(
      record({ kind: fc.constant('set_primary' as const), region: nameArbitrary }),
      record({ kind: fc.constant('add' as const), ifNotExists: fc.boolean(), region: nameArbitrary }),
      record({ kind: fc.constant('drop' as const), ifExists: fc.boolean(), region: nameArbitrary }),
    ),
  }),
  show_fingerprints: record({
    kind: kind('show_fingerprints'),
    name: nameArbitrary,
    asOf: fc.option(scalar, { nil: undefined }),
  }),
  show_timeline_checks: record({ kind: kind('show_timeline_checks'), name: nameArbitrary }),
  show_virtual_cluster_name: record({ kind: kind('show_virtual_cluster_name') }),
  set_cluster_setting: record({
    kind: kind('set_cluster_setting'),
    name: settingName,
    value: settingValue,
  }),
  reset_cluster_setting: record({ kind: kind('reset_cluster_setting'), name: settingName }),
  configure_zone: record({
    kind: kind('configure_zone'),
    target: zoneTarget,
    variables: fc.oneof(
      fc.constant('discard' as const),
      fc.array(record({ name: settingName, value: settingValue }), { minLength: 1, maxLength: 3 }),
    ),
  }),
  exclude_table_data: fc
    .record({
      action: fc.constantFrom('with' as const, 'set' as const, 'reset' as const),
      table: fc.array(nameArbitrary, { minLength: 1, maxLength: 3 }),
      isGuarded: fc.boolean(),
      isExcluded: fc.boolean(),
      parameters: fc.subarray(['fillfactor = 70', "parallel_workers='2'", 'toast.autovacuum_enabled']),
      tail: fc.constantFrom('', 'AS SELECT 1 AS a', 'TABLESPACE pg_default', 'ON COMMIT PRESERVE ROWS'),
    })
    .map(({ action, table, isGuarded, isExcluded, parameters, tail }) => {
      const name = table.map(quoteName).join('.');
      const head =
        action === 'with'
          ? `CREATE TABLE ${isGuarded ? 'IF NOT EXISTS ' : ''}${name} (a int DEFAULT (1), "with" text)`
          : `ALTER TABLE ${isGuarded ? 'IF EXISTS ' : ''}${name}`;
      return {
        kind: 'exclude_table_data' as const,
        action,
        table,
        isGuarded,
        isExcluded: action !== 'reset' && isExcluded,
        head,
        parameters,
        tail: action === 'with' ? tail : '',
      };
    }),
  show_create_table: record({
    kind: kind('show_create_table'),
    table: record({ qualifiers: fc.array(nameArbitrary, { maxLength: 2 }), name: nameArbitrary }),
  }),
  show_system_table: record({
    kind: kind('show_system_table'),
    table: fc.constantFrom(...SYSTEM_TABLES),
  }),
  show_cluster_setting: record({
    kind: kind('show_cluster_setting'),
    name: settingName,
    forVirtualCluster: optionalName,
  }),
  show_cluster_settings: record({
    kind: kind('show_cluster_settings'),
    visibility: fc.constantFrom('public' as const, 'all' as const),
    forVirtualCluster: optionalName,
  }),
  backup: record({
    kind: kind('backup'),
    targets,
    appendTo: fc.option(selector, { nil: undefined }),
    destination: uris,
    asOf: optionalTime,
    options: options('backup'),
  }),
  restore: record({
    kind: kind('restore'),
    targets: fc.oneof(targets, record({ kind: fc.constant('system_users' as const) })),
    from: selector,
    source: uris,
    asOf: optionalTime,
    options: options('restore'),
  }),
  alter_backup: record({
    kind: kind('alter_backup'),
    from: selector,
    collection: uris,
    newKms: uris,
    oldKms: uris,
  }),
  show_backups: record({ kind: kind('show_backups'), collection: uris }),
  show_backup: record({
    kind: kind('show_backup'),
    variant: fc.constantFrom('default' as const, 'schemas' as const, 'files' as const, 'ranges' as const),
    from: selector,
    collection: uris,
    options: options('show_backup'),
  }),
  show_jobs: fc.oneof(
    record({
      kind: kind('show_jobs'),
      automatic: fc.constant(false),
      jobs: fc.oneof(fc.constant({ kind: 'all' as const }), query, jobsOfSchedules),
      whenComplete: fc.constant(false),
      withExecutionDetails: fc.boolean(),
    }),
    record({
      kind: kind('show_jobs'),
      automatic: fc.constant(true),
      jobs: fc.constant({ kind: 'all' as const }),
      whenComplete: fc.constant(false),
      withExecutionDetails: fc.boolean(),
    }),
    record({
      kind: kind('show_jobs'),
      automatic: fc.constant(false),
      jobs: query,
      whenComplete: fc.constant(true),
      withExecutionDetails: fc.boolean(),
    }),
  ),
  show_job: record({
    kind: kind('show_job'),
    jobId: scalar,
    whenComplete: fc.boolean(),
    withExecutionDetails: fc.boolean(),
  }),
  alter_job_owner: record({
    kind: kind('alter_job_owner'),
    jobId: scalar,
    owner: roleArbitrary(nameArbitrary),
  }),
  control_jobs: fc.oneof(
    record({
      kind: kind('control_jobs'),
      action: fc.constantFrom('resume' as const, 'cancel' as const),
      jobs: controlledJobs,
      reason: fc.constant(undefined),
    }),
    record({
      kind: kind('control_jobs'),
      action: fc.constant('pause' as const),
      jobs: controlledJobs,
      reason: fc.option(textValue, { nil: undefined }),
    }),
  ),
  create_schedule: record({
    kind: kind('create_schedule'),
    ifNotExists: fc.boolean(),
    label: fc.option(textValue, { nil: undefined }),
    backup: record({ targets, destination: uris, options: options('backup') }),
    recurring: textValue,
    fullBackup: fc.oneof(fc.constant(undefined), fullBackup),
    scheduleOptions: options('create_schedule'),
  }),
  alter_backup_schedule: record({
    kind: kind('alter_backup_schedule'),
    scheduleId: scalar,
    actions: fc.array(scheduleAction, { minLength: 1, maxLength: 4 }),
  }),
  show_schedules: record({
    kind: kind('show_schedules'),
    status: fc.constantFrom('all' as const, 'running' as const, 'paused' as const),
    of: fc.constantFrom(undefined, 'backup' as const, 'sql_statistics' as const, 'changefeed' as const),
  }),
  show_schedule: record({ kind: kind('show_schedule'), scheduleId: scalar }),
  show_create_schedule: record({
    kind: kind('show_create_schedule'),
    scheduleId: fc.option(scalar, { nil: undefined }),
  }),
  control_schedules: record({
    kind: kind('control_schedules'),
    action: fc.constantFrom('pause' as const, 'resume' as const, 'drop' as const),
    schedules: scheduleSelection,
  }),
  create_external_connection: record({
    kind: kind('create_external_connection'),
    ifNotExists: fc.boolean(),
    name: nameArbitrary,
    uri: textValue,
  }),
  alter_external_connection: record({
    kind: kind('alter_external_connection'),
    ifExists: fc.boolean(),
    name: nameArbitrary,
    uri: textValue,
  }),
  drop_external_connection: record({ kind: kind('drop_external_connection'), name: nameArbitrary }),
  show_external_connections: record({ kind: kind('show_external_connections'), name: optionalName }),
  show_create_external_connections: record({
    kind: kind('show_create_external_connections'),
    name: optionalName,
  }),
  check_external_connection: record({
    kind: kind('check_external_connection'),
    uri: textValue,
    options: options('check_external_connection'),
  }),
  create_file_upload: record({ kind: kind('create_file_upload'), uri: textValue }),
  alter_file_upload: record({
    kind: kind('alter_file_upload'),
    uploadId: textValue,
    action: fc.oneof(
      record({ kind: fc.constant('append' as const), content: textValue, offset: scalar }),
      record({ kind: fc.constant('finish' as const), checksum: textValue }),
      record({ kind: fc.constant('cancel' as const) }),
    ),
  }),
  drop_file: record({ kind: kind('drop_file'), uri: textValue }),
  show_files: record({ kind: kind('show_files'), uri: textValue }),
  show_file: record({ kind: kind('show_file'), uri: textValue, offset: scalar }),
  ...privilegeArbitraries({ name: nameArbitrary, text }),
};

export const statementArbitrary: fc.Arbitrary<Statement> = fc.oneof(...Object.values(statementArbitraries));

const blank = fc.constantFrom(
  ' ',
  '\n',
  '\t \r\n',
  ' /* ; [ */ ',
  '/**/',
  "/* /* nested */ ' */",
  " -- SHOW '\n",
  ' --\r',
);

/** The same statement written otherwise: other blanks, comments, and capital letters in its words. */
export function rewritten(source: string): fc.Arbitrary<string> {
  const tokens: { readonly source: string; readonly isWord: boolean }[] = [];
  for (let token = readToken(source, 0); token.kind !== 'end'; token = readToken(source, token.end)) {
    tokens.push({ source: source.slice(token.begin, token.end), isWord: token.kind === 'identifier' });
  }
  const pieces = tokens.map((token) =>
    token.isWord
      ? fc.boolean().map((isUpper) => (isUpper ? token.source.toUpperCase() : token.source))
      : fc.constant(token.source),
  );
  return fc
    .tuple(
      fc.tuple(...pieces),
      fc.array(blank, { minLength: tokens.length + 1, maxLength: tokens.length + 1 }),
    )
    .map(
      ([words, blanks]) =>
        words.map((word, index) => `${blanks[index] ?? ' '}${word}`).join('') + (blanks.at(-1) ?? ''),
    );
}

/** Pieces of SQL, ours and foreign, whole and broken. */
const FRAGMENTS = (
  'show backup backups restore create alter drop virtual cluster clusters tenant set reset setting settings all public job jobs ' +
  'automatic pause resume cancel when complete from join in into latest as of system time with options detached kms database ' +
  "table users begin atomic end case function procedure or replace select where array a b main x'00' $1 $2 $0 $99999999999 1 0x1f " +
  "1_0 1e5 .5 1..2 3x ' '' 'a' E'\\' E'\\'' U&'\\0041' U&\" uescape \" \"\" \"a\" $$ $a$ $ [ ] ( ) ; , . * = - -- + / /* */ : :: := " +
  '~ ! @ # % ^ & | ? < > { } \\ é 🙂 virtual_cluster_name replication status capabilities capability grant revoke start stop service ' +
  'shared rename to default null true on if not exists like immediate for schedule schedules recurring full always label external ' +
  'connection connections option execute immediately reason check new_kms old_kms add'
).split(' ');

/** Texts that are likely to lead a lexer or a parser astray. */
export const soupArbitrary: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      { weight: 12, arbitrary: fc.constantFrom(...FRAGMENTS) },
      { weight: 3, arbitrary: fc.constantFrom(' ', '\n', '\r', '\t', '\0', '\uFEFF', '\ud800') },
      { weight: 1, arbitrary: fc.string({ unit: 'binary' }) },
    ),
    { maxLength: 40, size: 'max' },
  )
  .chain((words) => fc.constantFrom(' ', '', '\n').map((separator) => words.join(separator)));
