/** Finding a cluster setting by what a user called it. */
import { InputError, required } from '../base/index.ts';
import { type KnownSettingName, SETTING_DECLARATIONS, type SettingDeclaration } from './settings-declared.ts';

export interface Setting extends SettingDeclaration {
  /** The canonical name. */
  readonly name: string;
}

/** All settings, ordered by name. */
export const SETTINGS: readonly Setting[] = Object.entries(SETTING_DECLARATIONS)
  .map(([name, declaration]) => ({ name, ...declaration }))
  .toSorted((a, b) => (a.name < b.name ? -1 : 1));

const BY_NAME: ReadonlyMap<string, Setting> = new Map(
  SETTINGS.flatMap((setting) =>
    [setting.name, ...(setting.aliases ?? [])].map((name) => [name, setting] as const),
  ),
);

/** By canonical name or alias, in any case. */
export function findSetting(name: string): Setting | undefined {
  return BY_NAME.get(name.toLowerCase());
}

/** @throws InputError `object_not_found` */
export function lookupSetting(name: string): Setting {
  const setting = findSetting(name);
  if (setting === undefined) {
    throw new InputError('object_not_found', `unknown cluster setting '${name}'`, {
      hint: 'SHOW ALL CLUSTER SETTINGS lists the settings there are',
    });
  }
  return setting;
}

/** A setting that the code itself relies on. */
export function knownSetting(name: KnownSettingName): Setting {
  return required(BY_NAME.get(name), `setting ${name}`);
}
