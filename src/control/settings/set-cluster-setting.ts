/** SET CLUSTER SETTING name = value, and RESET CLUSTER SETTING name. */
import { type Setting, lookupSetting, parseSettingInput } from '../../catalog/index.ts';
import type { Statement, Value } from '../../sql/index.ts';
import type { ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { isSystem, requirePrivilege } from '../privileges/privileges.ts';
import { applySettingChange, noticesOfChange } from './setting-change.ts';
import { decideSetting } from './setting-scope.ts';
import { type UseCase, askerOf, done } from '../use-case.ts';
import { settingInput } from '../values.ts';

export const setClusterSetting: UseCase<Extract<Statement, { kind: 'set_cluster_setting' }>> = {
  columns: () => undefined,
  refusedInTransaction: 'SET CLUSTER SETTING',
  run: (core, statement, context) =>
    changeClusterSetting(core, { ...statement, context, tag: 'SET CLUSTER SETTING' }),
};

export const resetClusterSetting: UseCase<Extract<Statement, { kind: 'reset_cluster_setting' }>> = {
  columns: () => undefined,
  refusedInTransaction: 'RESET CLUSTER SETTING',
  run: (core, { name }, context) =>
    changeClusterSetting(core, { name, value: 'default', context, tag: 'RESET CLUSTER SETTING' }),
};

/** Changes a setting where the session is, for who may; `default` resets it. */
export async function changeClusterSetting(
  core: Core,
  options: { name: string; value: Value | 'default'; context: ExecuteContext; tag: string },
): Promise<StatementResult> {
  const { value, context, tag } = options;
  const { session } = context;
  const setting = lookupSetting(options.name);
  await requirePrivilege(askerOf(core, context), {
    anyOf: setting.name.startsWith('sql.defaults.')
      ? ['MODIFYCLUSTERSETTING', 'MODIFYSQLCLUSTERSETTING']
      : ['MODIFYCLUSTERSETTING'],
    hint: 'an admin can GRANT SYSTEM MODIFYCLUSTERSETTING',
    refusal: `only users with the admin role or the MODIFYCLUSTERSETTING system privilege are allowed to set cluster setting '${setting.name}'`,
  });
  const decision = decideSetting(setting, placeOf(core, setting, context));
  if (decision.kind === 'ignore') {
    context.onNotice(decision.notice);
    return done(tag);
  }
  const stored =
    value === 'default' ? undefined : parseSettingInput(setting.type, settingInput(value, setting.name));
  await core.settings.set({
    virtualClusterId: session.virtualClusterId,
    database: askerOf(core, context).instance,
    setting,
    value: stored,
    signal: core.signal,
  });
  await applySettingChange(core, { setting, virtualClusterId: session.virtualClusterId });
  if (stored !== undefined) for (const notice of noticesOfChange(setting)) context.onNotice(notice);
  // Values may be secrets: the log has the name only.
  loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
    `cluster setting ${setting.name} ${stored === undefined ? 'reset' : 'set'} by ${session.user}`,
  );
  return done(tag);
}

function placeOf(core: Core, setting: Setting, { session }: ExecuteContext) {
  const { virtualClusterId } = session;
  return {
    isSystem: isSystem(virtualClusterId),
    isSystemRestricted: core.settings.isOn(virtualClusterId, 'sql.restrict_system_interface.enabled'),
    areIgnored: core.settings.isOn(virtualClusterId, 'sql.error_tip_system_interface.enabled'),
    isOverridden: core.settings.isOverridden(virtualClusterId, setting),
  };
}
