/** Walks over the values of a statement, for those who fill in placeholders or hide secrets. */
import { InputError } from '../base/index.ts';
import type {
  AlterScheduleAction,
  AlterVirtualClusterAction,
  BackupSelector,
  CapabilityList,
  ControlledJobs,
  FileUploadAction,
  ListedJobs,
  Option,
  ReplicationSource,
  ScheduleSelection,
  Statement,
  StreamOptions,
  Value,
  ZoneVariables,
} from './ast.ts';
import type { RoleOption } from './ast-privileges.ts';
import { optionSpec } from './options.ts';
import { selectorOf } from './parse-backup.ts';
import { flagOf } from './parse-options.ts';
import { POSTGRES_ROLE_OPTIONS } from './role-options.ts';

/** What a value is to those who may see the statement. */
export type ValueRole = 'plain' | 'uri' | 'secret';

/** Gives the value that stands in place of another. */
export type ValueMapper = (value: Value, role: ValueRole) => Value;

/**
 * The statement with `$1`, `$2`, ... replaced by what the client bound to them, in text form.
 * @throws InputError `undefined_parameter` when a placeholder has no parameter
 * @throws InputError `parameter_invalid` when an option that is true or false was given neither
 */
export function bindPlaceholders(statement: Statement, parameters: readonly (string | null)[]): Statement {
  return mapValues(statement, (value) => {
    if (value.kind !== 'placeholder') return value;
    const bound = parameters[value.number - 1];
    if (bound === undefined) {
      throw new InputError('undefined_parameter', `there is no parameter $${value.number}`);
    }
    return bound === null ? { kind: 'null' } : { kind: 'string', value: bound };
  });
}

/** A copy of the statement in which every value has been given to `map`. */
export function mapValues(statement: Statement, map: ValueMapper): Statement {
  const plain = (value: Value): Value => map(value, 'plain');
  const uris = (values: readonly Value[]): readonly Value[] => values.map((value) => map(value, 'uri'));
  switch (statement.kind) {
    case 'set_cluster_setting':
      return { ...statement, value: statement.value === 'default' ? 'default' : plain(statement.value) };
    case 'configure_zone':
      return { ...statement, variables: mapZone(statement.variables, plain) };
    case 'create_virtual_cluster': {
      const { from, replication } = statement;
      return {
        ...statement,
        from: from && { ...from, asOf: from.asOf && plain(from.asOf) },
        replication: replication && mapReplicationSource(replication, map),
      };
    }
    case 'alter_virtual_cluster':
      return { ...statement, action: mapAction(statement.action, map) };
    case 'show_fingerprints':
      return { ...statement, asOf: statement.asOf && plain(statement.asOf) };
    case 'create_replication_stream':
      return { ...statement, after: statement.after && plain(statement.after) };
    case 'report_replication_stream':
      return { ...statement, streamId: plain(statement.streamId), report: plain(statement.report) };
    case 'drop_replication_stream':
      return { ...statement, streamId: plain(statement.streamId) };
    case 'backup':
      return {
        ...statement,
        appendTo: statement.appendTo && mapSelector(statement.appendTo, plain),
        destination: uris(statement.destination),
        asOf: statement.asOf && plain(statement.asOf),
        options: statement.options.map((option) => mapOption(option, map)),
      };
    case 'restore':
      return {
        ...statement,
        from: mapSelector(statement.from, plain),
        source: uris(statement.source),
        asOf: statement.asOf && plain(statement.asOf),
        options: statement.options.map((option) => mapOption(option, map)),
      };
    case 'alter_backup': {
      const secrets = (values: readonly Value[]) => values.map((value) => map(value, 'secret'));
      return {
        ...statement,
        from: mapSelector(statement.from, plain),
        collection: uris(statement.collection),
        newKms: secrets(statement.newKms),
        oldKms: secrets(statement.oldKms),
      };
    }
    case 'show_backups':
      return { ...statement, collection: uris(statement.collection) };
    case 'show_backup':
      return {
        ...statement,
        from: mapSelector(statement.from, plain),
        collection: uris(statement.collection),
        options: statement.options.map((option) => mapOption(option, map)),
      };
    case 'show_job':
    case 'alter_job_owner':
      return { ...statement, jobId: plain(statement.jobId) };
    case 'show_jobs':
      return { ...statement, jobs: mapJobs(statement.jobs, plain) };
    case 'control_jobs':
      return {
        ...statement,
        jobs: mapJobs(statement.jobs, plain),
        reason: statement.reason && plain(statement.reason),
      };
    case 'create_schedule':
      return {
        ...statement,
        label: statement.label && plain(statement.label),
        backup: {
          ...statement.backup,
          destination: uris(statement.backup.destination),
          options: statement.backup.options.map((option) => mapOption(option, map)),
        },
        recurring: plain(statement.recurring),
        fullBackup:
          statement.fullBackup === undefined || statement.fullBackup === 'always'
            ? statement.fullBackup
            : plain(statement.fullBackup),
        scheduleOptions: statement.scheduleOptions.map((option) => mapOption(option, map)),
      };
    case 'alter_backup_schedule':
      return {
        ...statement,
        scheduleId: plain(statement.scheduleId),
        actions: statement.actions.map((action) => mapScheduleAction(action, map)),
      };
    case 'show_schedule':
      return { ...statement, scheduleId: plain(statement.scheduleId) };
    case 'show_create_schedule':
      return { ...statement, scheduleId: statement.scheduleId && plain(statement.scheduleId) };
    case 'control_schedules':
      return { ...statement, schedules: mapSchedules(statement.schedules, plain) };
    case 'create_external_connection':
    case 'alter_external_connection':
      return { ...statement, uri: map(statement.uri, 'uri') };
    case 'check_external_connection':
      return {
        ...statement,
        uri: map(statement.uri, 'uri'),
        options: statement.options.map((option) => mapOption(option, map)),
      };
    case 'create_file_upload':
    case 'drop_file':
    case 'show_files':
      return { ...statement, uri: map(statement.uri, 'uri') };
    case 'show_file':
      return { ...statement, uri: map(statement.uri, 'uri'), offset: plain(statement.offset) };
    case 'alter_file_upload':
      return {
        ...statement,
        uploadId: plain(statement.uploadId),
        action: mapUploadAction(statement.action, map),
      };
    case 'create_role':
    case 'alter_role':
      return { ...statement, options: statement.options.map((option) => mapRoleOption(option, map)) };
    case 'drop_virtual_cluster':
    case 'show_virtual_clusters':
    case 'show_timeline':
    case 'show_timeline_checks':
    case 'show_timeline_retention':
    case 'show_zone_configuration':
    case 'show_zone_configurations':
    case 'alter_database_regions':
    case 'show_regions':
    case 'show_salvage':
    case 'show_virtual_cluster_name':
    case 'reset_cluster_setting':
    case 'show_cluster_setting':
    case 'show_cluster_settings':
    case 'show_system_table':
    case 'exclude_table_data':
    case 'show_create_table':
    case 'grant_system':
    case 'revoke_system':
    case 'show_system_grants':
    case 'grant_on_object':
    case 'revoke_on_object':
    case 'alter_default_privileges':
    case 'show_grants':
    case 'show_roles':
    case 'show_users':
    case 'show_schedules':
    case 'drop_external_connection':
    case 'show_external_connections':
    case 'show_create_external_connections':
      return statement;
  }
}

/** What is in a file is nobody's business but its owner's. */
function mapUploadAction(action: FileUploadAction, map: ValueMapper): FileUploadAction {
  switch (action.kind) {
    case 'append':
      return { ...action, content: map(action.content, 'secret'), offset: map(action.offset, 'plain') };
    case 'finish':
      return { ...action, checksum: map(action.checksum, 'plain') };
    case 'cancel':
      return action;
  }
}

function mapZone(variables: ZoneVariables, map: (value: Value) => Value): ZoneVariables {
  if (variables === 'discard') return variables;
  return variables.map(({ name, value }) => ({ name, value: value === 'default' ? value : map(value) }));
}

/** A password is a secret, the other values are not. */
function mapRoleOption(option: RoleOption, map: ValueMapper): RoleOption {
  const { name, argument } = option;
  if (argument === undefined || !('kind' in argument)) return option;
  return { name, argument: map(argument, POSTGRES_ROLE_OPTIONS[name] === 'secret' ? 'secret' : 'plain') };
}

function mapAction(action: AlterVirtualClusterAction, map: ValueMapper): AlterVirtualClusterAction {
  const plain = (value: Value): Value => map(value, 'plain');
  switch (action.kind) {
    case 'set_cluster_setting':
      return { ...action, value: action.value === 'default' ? 'default' : plain(action.value) };
    case 'reset_data':
      return { ...action, asOf: plain(action.asOf) };
    case 'set_suspend_after':
      return { ...action, after: plain(action.after) };
    case 'set_continuous_backup':
      return {
        ...action,
        location: map(action.location, 'uri'),
        options: action.options.map((option) => mapOption(option, map)),
      };
    case 'check_timeline':
      return { ...action, asOf: action.asOf === undefined ? undefined : plain(action.asOf) };
    case 'complete_replication':
      return { ...action, to: typeof action.to === 'string' ? action.to : plain(action.to) };
    case 'start_replication':
      return { ...action, ...mapReplicationSource(action, map) };
    case 'set_replication':
      return { ...action, options: mapStreamOptions(action.options, map) };
    case 'set_replication_source':
      return { ...action, expirationWindow: plain(action.expirationWindow) };
    case 'grant_capabilities':
    case 'revoke_capabilities':
      return { ...action, capabilities: mapCapabilities(action.capabilities, plain) };
    default:
      return action;
  }
}

function mapReplicationSource(
  { source, uri, options }: ReplicationSource,
  map: ValueMapper,
): ReplicationSource {
  return { source, uri: map(uri, 'uri'), options: mapStreamOptions(options, map) };
}

function mapStreamOptions(options: StreamOptions, map: ValueMapper): StreamOptions {
  const { retention, expirationWindow } = options;
  return {
    ...options,
    retention: retention && map(retention, 'plain'),
    expirationWindow: expirationWindow && map(expirationWindow, 'plain'),
  };
}

function mapCapabilities(list: CapabilityList, map: (value: Value) => Value): CapabilityList {
  if (list.kind === 'all') return list;
  const capabilities = list.capabilities.map(({ name, value }) => ({ name, value: value && map(value) }));
  return { kind: 'some', capabilities };
}

/** Placeholders inside a query stay: they are bound where it runs. */
function mapJobs<Jobs extends ListedJobs | ControlledJobs>(jobs: Jobs, map: (value: Value) => Value): Jobs {
  if (jobs.kind === 'one') return { ...jobs, id: map(jobs.id) };
  if (jobs.kind === 'of_schedules') return { ...jobs, schedules: mapSchedules(jobs.schedules, map) };
  return jobs;
}

function mapSchedules(selection: ScheduleSelection, map: (value: Value) => Value): ScheduleSelection {
  return selection.kind === 'one' ? { kind: 'one', id: map(selection.id) } : selection;
}

function mapScheduleAction(action: AlterScheduleAction, map: ValueMapper): AlterScheduleAction {
  switch (action.kind) {
    case 'set_label':
      return { ...action, label: map(action.label, 'plain') };
    case 'set_into':
      return { ...action, destination: action.destination.map((value) => map(value, 'uri')) };
    case 'set_with':
    case 'set_schedule_option':
      return { ...action, option: mapOption(action.option, map) };
    case 'set_recurring':
      return { ...action, recurring: map(action.recurring, 'plain') };
    case 'set_full_backup':
      return action.fullBackup === 'always'
        ? action
        : { ...action, fullBackup: map(action.fullBackup, 'plain') };
    case 'execute_immediately':
      return action;
  }
}

function mapSelector(selector: BackupSelector, map: (value: Value) => Value): BackupSelector {
  return selector.kind === 'latest' ? selector : selectorOf(map(selector.path));
}

function mapOption(option: Option, map: ValueMapper): Option {
  const { name, value } = option;
  const spec = optionSpec(name);
  const role = spec?.holds ?? 'plain';
  if (value === undefined) return option;
  if (isList(value)) return { name, value: value.map((item) => map(item, role)) };
  const mapped = map(value, role);
  if (spec?.shape !== 'flag' || mapped.kind !== 'string') return { name, value: mapped };
  const flag = flagOf(mapped.value);
  if (flag === undefined) {
    throw new InputError('parameter_invalid', `option "${name}" must be true or false`, {
      hint: `write ${name} alone, or bind true or false`,
    });
  }
  return { name, value: flag };
}

/** Tells a list from a single value, which `Array.isArray` can't for readonly arrays. */
export function isList(value: Value | readonly Value[]): value is readonly Value[] {
  return Array.isArray(value);
}
