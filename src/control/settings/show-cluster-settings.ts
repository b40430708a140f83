/** SHOW CLUSTER SETTING name and SHOW [PUBLIC | ALL] CLUSTER SETTINGS, each also FOR VIRTUAL CLUSTER vc. */
import { InputError, type VirtualClusterId } from '../../base/index.ts';
import {
  SETTINGS,
  type Setting,
  type SettingType,
  decodeSettingValue,
  lookupSetting,
  printInterval,
  settingTypeLetter,
} from '../../catalog/index.ts';
import { REDACTED, type Statement } from '../../sql/index.ts';
import type { Cell, Column, ColumnType, ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { holdsPrivilege, isSystem, requirePrivilege, requireSystem } from '../privileges/privileges.ts';
import { isListed, isReadable } from './setting-scope.ts';
import { type UseCase, askerOf, boolCell, columnsOf, rowsResult } from '../use-case.ts';
import { lookupVirtualCluster } from '../virtual-clusters/virtual-cluster-lookup.ts';

type ShowClusterSetting = Extract<Statement, { kind: 'show_cluster_setting' }>;
type ShowClusterSettings = Extract<Statement, { kind: 'show_cluster_settings' }>;

export const showClusterSetting: UseCase<ShowClusterSetting> = {
  columns: settingColumns,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const setting = lookupSetting(statement.name);
    const target = await targetOf(core, context, {
      named: statement.forVirtualCluster,
      refusal: `only users with the admin role are allowed to show cluster setting '${setting.name}'`,
    });
    if (!isReadable(setting, { isSystem: isSystem(target) }) && !setting.perVirtualCluster) {
      throw new InputError(
        'insufficient_privilege',
        `cluster setting '${setting.name}' is not visible from a virtual cluster`,
        { hint: 'Connect to the system interface and show the cluster setting from there.' },
      );
    }
    const { value } = core.settings.effective(target, setting);
    const isHidden = isRedacted(setting, { value, ...(await whatIsHidden(core, context)) });
    const cell = isHidden ? REDACTED : valueCell(setting, value);
    return rowsResult(settingColumns(statement), [[cell]]);
  },
};

export const showClusterSettings: UseCase<ShowClusterSettings> = {
  columns: listColumns,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const target = await targetOf(core, context, {
      named: statement.forVirtualCluster,
      refusal: 'only users with the admin role are allowed to show cluster settings',
    });
    const options = {
      isSystem: isSystem(target),
      isVirtualized: core.catalog.fact('virtualized') !== 'none',
      visibility: statement.visibility,
    };
    const hidden = await whatIsHidden(core, context);
    // What the operator sets for a virtual cluster is shown to the operator alone.
    const isOfOperator = (setting: Setting) =>
      statement.forVirtualCluster !== undefined &&
      setting.perVirtualCluster === true &&
      (statement.visibility === 'all' || setting.visibility === 'public');
    const listed = SETTINGS.filter((setting) => isListed(setting, options) || isOfOperator(setting));
    const rows = listed.map((setting) =>
      listRow(core, { setting, target, visibility: statement.visibility, ...hidden }),
    );
    return rowsResult(listColumns(statement), rows);
  },
};

/** One column, named like the setting and of its type. @throws InputError `object_not_found` */
function settingColumns(statement: ShowClusterSetting): readonly Column[] {
  const setting = lookupSetting(statement.name);
  return [{ name: setting.name, type: columnType(setting.type) }];
}

function listColumns(statement: ShowClusterSettings): readonly Column[] {
  return columnsOf({
    variable: 'text',
    value: 'text',
    setting_type: 'text',
    ...(statement.visibility === 'all' ? { public: 'bool' as const } : {}),
    description: 'text',
    default_value: 'text',
    origin: 'text',
  });
}

function listRow(
  core: Core,
  options: {
    setting: Setting;
    target: VirtualClusterId;
    visibility: 'public' | 'all';
    areSensitiveHidden: boolean;
  },
): readonly Cell[] {
  const { setting, target, visibility } = options;
  const { value, origin } = core.settings.effective(target, setting);
  return [
    setting.name,
    isRedacted(setting, { ...options, value }) ? REDACTED : value,
    settingTypeLetter(setting.type),
    ...(visibility === 'all' ? [boolCell(setting.visibility === 'public')] : []),
    setting.description,
    setting.defaultValue,
    origin,
  ];
}

/** Who may change settings sees them all; the value of a licence nobody sees. */
export async function whatIsHidden(
  core: Core,
  context: ExecuteContext,
): Promise<{ areSensitiveHidden: boolean }> {
  const { virtualClusterId } = context.session;
  const isOn = core.settings.isOn(virtualClusterId, 'server.redact_sensitive_settings.enabled');
  return {
    areSensitiveHidden: isOn && !(await holdsPrivilege(askerOf(core, context), ['MODIFYCLUSTERSETTING'])),
  };
}

/** That a value is not set is no secret. */
export function isRedacted(setting: Setting, of: { value: string; areSensitiveHidden: boolean }): boolean {
  if (of.value === setting.defaultValue) return false;
  return setting.holds === 'secret' || (setting.holds === 'sensitive' && of.areSensitiveHidden);
}

/** The virtual cluster whose settings are asked for; the operator may ask for any. */
async function targetOf(
  core: Core,
  context: ExecuteContext,
  options: { named: string | undefined; refusal: string },
): Promise<VirtualClusterId> {
  const isForeign = options.named !== undefined;
  if (isForeign) requireSystem(context.session);
  await requirePrivilege(askerOf(core, context), {
    anyOf: isForeign ? ['VIEWSYSTEMDATA'] : ['VIEWCLUSTERSETTING', 'MODIFYCLUSTERSETTING', 'VIEWSYSTEMDATA'],
    refusal: options.refusal,
    hint: `an admin can GRANT SYSTEM ${isForeign ? 'VIEWSYSTEMDATA' : 'VIEWCLUSTERSETTING'}`,
  });
  if (options.named === undefined) return context.session.virtualClusterId;
  const { id } = lookupVirtualCluster(core, options.named);
  // Only itself knows what it has set; after a restart of the daemon nobody remembers for one that sleeps.
  if (!core.settings.isLoaded(id)) await core.suspender.wake(id);
  return id;
}

function columnType(type: SettingType): ColumnType {
  switch (type.kind) {
    case 'bool':
      return 'bool';
    case 'int':
      return 'int8';
    case 'float':
      return 'float8';
    case 'duration':
      return 'interval';
    default:
      return 'text';
  }
}

function valueCell(setting: Setting, stored: string): Cell {
  const value = decodeSettingValue(setting.type, stored);
  if (typeof value === 'boolean') return boolCell(value);
  if (setting.type.kind === 'duration' && typeof value === 'bigint') return printInterval(value);
  return stored;
}
