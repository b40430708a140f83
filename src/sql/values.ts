/** Walks over the values of a statement, for those who fill in placeholders or hide secrets. */
import { InputError } from '../base/index.ts';
import type {
  AlterVirtualClusterAction,
  BackupSelector,
  CapabilityList,
  Option,
  Statement,
  Value,
} from './ast.ts';
import { optionSpec } from './options.ts';
import { selectorOf } from './parse-backup.ts';
import { flagOf } from './parse-options.ts';

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
    case 'alter_virtual_cluster':
      return { ...statement, action: mapAction(statement.action, plain) };
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
    case 'control_job':
      return { ...statement, jobId: plain(statement.jobId) };
    case 'create_virtual_cluster':
    case 'drop_virtual_cluster':
    case 'show_virtual_clusters':
    case 'show_virtual_cluster_name':
    case 'reset_cluster_setting':
    case 'show_cluster_setting':
    case 'show_cluster_settings':
    case 'show_jobs':
      return statement;
  }
}

function mapAction(
  action: AlterVirtualClusterAction,
  map: (value: Value) => Value,
): AlterVirtualClusterAction {
  switch (action.kind) {
    case 'set_cluster_setting':
      return { ...action, value: action.value === 'default' ? 'default' : map(action.value) };
    case 'grant_capabilities':
    case 'revoke_capabilities':
      return { ...action, capabilities: mapCapabilities(action.capabilities, map) };
    default:
      return action;
  }
}

function mapCapabilities(list: CapabilityList, map: (value: Value) => Value): CapabilityList {
  if (list.kind === 'all') return list;
  const capabilities = list.capabilities.map(({ name, value }) => ({ name, value: value && map(value) }));
  return { kind: 'some', capabilities };
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
