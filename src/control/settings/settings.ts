/** Values of cluster settings as each virtual cluster sees them, held in memory while it serves. */
import type { Clock, VirtualClusterId } from '../../base/index.ts';
import { AppError, Mutex, SYSTEM_VIRTUAL_CLUSTER_ID, assert } from '../../base/index.ts';
import {
  type KnownSettingName,
  type Setting,
  type SettingValue,
  type SystemDatabase,
  type VirtualClusterCatalog,
  decodeSettingValue,
  deleteSetting,
  knownSetting,
  readSettings,
  writeSetting,
} from '../../catalog/index.ts';

/** Where a value comes from: the registry, the virtual cluster itself, or the operator. */
export type SettingOrigin = 'default' | 'override' | 'external-override';

export interface EffectiveSetting {
  /** In stored, which is printed, form. */
  readonly value: string;
  readonly origin: SettingOrigin;
}

/** Pure: which of the candidate values counts. */
export function effectiveSetting(
  setting: Setting,
  candidates: {
    /** The operator's value for this virtual cluster. */
    readonly override: string | undefined;
    /** The virtual cluster's own value. */
    readonly own: string | undefined;
    /** The system VC's value. */
    readonly system: string | undefined;
  },
): EffectiveSetting {
  if (candidates.override !== undefined) return { value: candidates.override, origin: 'external-override' };
  const set = setting.scope === 'application' ? candidates.own : candidates.system;
  return set === undefined
    ? { value: setting.defaultValue, origin: 'default' }
    : { value: set, origin: 'override' };
}

export class Settings {
  readonly #catalog: VirtualClusterCatalog;
  readonly #clock: Clock;
  readonly #own = new Map<VirtualClusterId, Map<string, string>>();
  /** Memory follows the order in which changes became durable. */
  readonly #changes = new Mutex();

  constructor(options: { catalog: VirtualClusterCatalog; clock: Clock }) {
    this.#catalog = options.catalog;
    this.#clock = options.clock;
  }

  /** Reads what a virtual cluster that begins to serve has set. */
  async load(
    virtualClusterId: VirtualClusterId,
    options: { database: SystemDatabase; signal: AbortSignal },
  ): Promise<void> {
    const values = await options.database.withSystemClient(readSettings, options);
    this.#own.set(virtualClusterId, new Map(values));
  }

  unload(virtualClusterId: VirtualClusterId): void {
    this.#own.delete(virtualClusterId);
  }

  isLoaded(virtualClusterId: VirtualClusterId): boolean {
    return this.#own.has(virtualClusterId);
  }

  /** What the virtual cluster itself has set, without defaults and without the operator's values. */
  ownValues(virtualClusterId: VirtualClusterId): ReadonlyMap<string, string> {
    return this.#own.get(virtualClusterId) ?? new Map();
  }

  /** @throws AppError `object_state` when only the virtual cluster itself knows, and it does not serve */
  effective(virtualClusterId: VirtualClusterId, setting: Setting): EffectiveSetting {
    const override = this.#catalog.get(virtualClusterId)?.settingOverrides.get(setting.name);
    const needsOwn = setting.scope === 'application' && override === undefined;
    if (needsOwn && !this.isLoaded(virtualClusterId)) {
      const name = this.#catalog.get(virtualClusterId)?.name ?? virtualClusterId;
      throw new AppError('object_state', `the settings of virtual cluster "${name}" cannot be read`, {
        hint: 'start its service first',
      });
    }
    return effectiveSetting(setting, {
      override,
      own: this.#own.get(virtualClusterId)?.get(setting.name),
      system: this.#own.get(SYSTEM_VIRTUAL_CLUSTER_ID)?.get(setting.name),
    });
  }

  isOverridden(virtualClusterId: VirtualClusterId, setting: Setting): boolean {
    return this.#catalog.get(virtualClusterId)?.settingOverrides.has(setting.name) ?? false;
  }

  /** The value that counts, decoded; while a virtual cluster does not serve, its own values count as not set. */
  value(virtualClusterId: VirtualClusterId, name: KnownSettingName): SettingValue {
    const setting = knownSetting(name);
    const { value } = effectiveSetting(setting, {
      override: this.#catalog.get(virtualClusterId)?.settingOverrides.get(setting.name),
      own: this.#own.get(virtualClusterId)?.get(setting.name),
      system: this.#own.get(SYSTEM_VIRTUAL_CLUSTER_ID)?.get(setting.name),
    });
    return decodeSettingValue(setting.type, value);
  }

  isOn(virtualClusterId: VirtualClusterId, name: KnownSettingName): boolean {
    return this.value(virtualClusterId, name) === true;
  }

  /** Of an integer, a size in bytes, or a duration in microseconds. */
  integer(virtualClusterId: VirtualClusterId, name: KnownSettingName): bigint {
    const value = this.value(virtualClusterId, name);
    assert(typeof value === 'bigint', `setting ${name} is no integer`);
    return value;
  }

  text(virtualClusterId: VirtualClusterId, name: KnownSettingName): string {
    return String(this.value(virtualClusterId, name));
  }

  /** Durable when it returns, and then what everybody sees. `undefined` goes back to the default. */
  async set(options: {
    virtualClusterId: VirtualClusterId;
    database: SystemDatabase;
    setting: Setting;
    value: string | undefined;
    signal: AbortSignal;
  }): Promise<void> {
    await this.#changes.run(() => this.#set(options));
  }

  async #set(options: {
    virtualClusterId: VirtualClusterId;
    database: SystemDatabase;
    setting: Setting;
    value: string | undefined;
    signal: AbortSignal;
  }): Promise<void> {
    const { virtualClusterId, database, setting, value } = options;
    await database.withSystemClient(
      (client) =>
        value === undefined
          ? deleteSetting(client, setting.name)
          : writeSetting(client, { name: setting.name, value, now: this.#clock.now() }),
      options,
    );
    const own = this.#own.get(virtualClusterId) ?? new Map<string, string>();
    if (value === undefined) own.delete(setting.name);
    else own.set(setting.name, value);
    this.#own.set(virtualClusterId, own);
  }
}
