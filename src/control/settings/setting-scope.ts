/** Whether a virtual cluster may set or see a cluster setting: pure decisions, with the documented texts. */
import { InputError } from '../../base/index.ts';
import type { Setting } from '../../catalog/index.ts';
import type { Notice } from '../contract.ts';

export interface SettingPlace {
  /** The session is in the system VC. */
  readonly isSystem: boolean;
  /** `sql.restrict_system_interface.enabled` */
  readonly isSystemRestricted: boolean;
  /** `sql.error_tip_system_interface.enabled` */
  readonly areIgnored: boolean;
  /** The operator has fixed it for this virtual cluster. */
  readonly isOverridden: boolean;
}

export const RESTRICT_SYSTEM_INTERFACE = 'sql.restrict_system_interface.enabled';
const ERROR_TIP = 'sql.error_tip_system_interface.enabled';

/** `ignore`: nothing is changed, and the notice says so. */
export type SettingDecision = { readonly kind: 'set' } | { readonly kind: 'ignore'; readonly notice: Notice };

/** @throws InputError `insufficient_privilege`, `object_state` */
export function decideSetting(setting: Setting, place: SettingPlace): SettingDecision {
  if (place.isSystem) {
    if (setting.scope === 'application' && !setting.alsoForSystem && place.isSystemRestricted) {
      throw new InputError(
        'insufficient_privilege',
        'blocked update to application-level cluster setting from the system interface',
        {
          hint: `blocked via ${RESTRICT_SYSTEM_INTERFACE} to prevent likely user errors. Try changing the setting from a virtual cluster instead, or with ALTER VIRTUAL CLUSTER ... SET CLUSTER SETTING`,
        },
      );
    }
    return { kind: 'set' };
  }
  if (setting.scope !== 'application') return decideForeign(setting, place);
  if (place.isOverridden) {
    throw new InputError(
      'object_state',
      `cluster setting '${setting.name}' is currently overridden by the operator`,
    );
  }
  return { kind: 'set' };
}

function decideForeign(setting: Setting, place: SettingPlace): SettingDecision {
  if (setting.wasApplication && place.areIgnored) {
    return {
      kind: 'ignore',
      notice: {
        severity: 'NOTICE',
        sqlstate: '00000',
        message: `ignoring attempt to modify "${setting.name}"`,
        hint: `The setting is only modifiable by the operator.\nNormally, an error would be reported, but the operation is silently accepted here as configured by "${ERROR_TIP}".`,
      },
    };
  }
  throw new InputError(
    'insufficient_privilege',
    setting.scope === 'system-visible'
      ? `setting ${setting.name} is only settable by the operator`
      : 'cannot modify storage-level setting from virtual cluster',
    { hint: 'Connect to the system interface and modify the cluster setting from there.' },
  );
}

/** Whether SHOW CLUSTER SETTING of it is answered in a virtual cluster. */
export function isReadable(setting: Setting, options: { isSystem: boolean }): boolean {
  return options.isSystem || setting.scope !== 'system-only';
}

/** Whether SHOW CLUSTER SETTINGS lists it. In a virtualized cluster the system VC is no place for application settings. */
export function isListed(
  setting: Setting,
  options: { isSystem: boolean; isVirtualized: boolean; visibility: 'public' | 'all' },
): boolean {
  if (options.visibility === 'public' && setting.visibility !== 'public') return false;
  if (!options.isSystem) return setting.scope !== 'system-only';
  return setting.scope !== 'application' || setting.alsoForSystem === true || !options.isVirtualized;
}
