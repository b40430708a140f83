/** Making a physical cluster out of an empty store. Every step may run again: an interrupted initialisation is finished by the next start. */
import {
  InputError,
  SYSTEM_VIRTUAL_CLUSTER_ID,
  SYSTEM_VIRTUAL_CLUSTER_NAME,
  formatTimestamp,
  parseVirtualClusterName,
} from '../../base/index.ts';
import {
  ALL_CAPABILITIES,
  type KnownSettingName,
  type VirtualClusterRecord,
  knownSetting,
} from '../../catalog/index.ts';
import type { Core } from '../core.ts';

/** `main`: with an app VC of that name. `empty`: virtualized, without one. `none`: the system VC holds the workload. */
export type Virtualization = 'main' | 'empty' | 'none';

const MAIN = parseVirtualClusterName('main');

/** The kind of an initialisation that has been begun, whether finished or not. */
export function begunVirtualization(core: Core): Virtualization | undefined {
  const kind = core.catalog.fact('virtualized');
  return kind === 'main' || kind === 'empty' || kind === 'none' ? kind : undefined;
}

export function isInitialized(core: Core): boolean {
  return core.catalog.fact('initialized') !== undefined;
}

/** @throws InputError `object_state` when another kind of initialisation was begun before */
export async function initializeCluster(core: Core, virtualized: Virtualization): Promise<void> {
  const { catalog, signal } = core;
  const begun = begunVirtualization(core);
  if (begun !== undefined && begun !== virtualized) {
    throw new InputError('object_state', `initialisation was begun as "${begun}" and interrupted`, {
      hint: 'finish it in the same way, or begin with an empty store',
    });
  }
  await catalog.setFact({ name: 'virtualized', value: virtualized, signal });
  await recordSystem(core);
  if (virtualized === 'main') {
    await makeMain(core);
    await setSystemSetting(core, 'server.controller.default_target_cluster', MAIN);
  }
  if (virtualized !== 'none') {
    await setSystemSetting(core, 'sql.restrict_system_interface.enabled', 'true');
    await setSystemSetting(core, 'sql.error_tip_system_interface.enabled', 'true');
  }
  await catalog.setFact({
    name: 'initialized',
    value: formatTimestamp(core.options.clock.now()),
    signal,
  });
}

async function recordSystem(core: Core): Promise<void> {
  const { catalog, signal } = core;
  const id = SYSTEM_VIRTUAL_CLUSTER_ID;
  if (catalog.get(id) === undefined) {
    await catalog.add({ id, name: SYSTEM_VIRTUAL_CLUSTER_NAME, capabilities: ALL_CAPABILITIES, signal });
  }
  await catalog.apply({ id, event: { kind: 'directory_made' }, signal });
  await catalog.apply({ id, event: { kind: 'service_started' }, signal });
}

async function makeMain(core: Core): Promise<void> {
  const { catalog, signal } = core;
  const record =
    catalog.find(MAIN) ?? (await catalog.add({ name: MAIN, capabilities: ALL_CAPABILITIES, signal }));
  const { id } = record;
  if (core.options.instanceHost.get(id) === undefined) {
    await core.options.instanceHost.create({
      virtualClusterId: id,
      name: MAIN,
      settings: core.services.instanceSettings(id),
      signal,
    });
  }
  await catalog.apply({ id, event: { kind: 'directory_made' }, signal });
  const ready: VirtualClusterRecord = await catalog.apply({ id, event: { kind: 'service_started' }, signal });
  await core.services.open(ready, { signal });
}

async function setSystemSetting(core: Core, name: KnownSettingName, value: string): Promise<void> {
  await core.settings.set({
    virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID,
    database: core.services.instanceOf({
      id: SYSTEM_VIRTUAL_CLUSTER_ID,
      name: SYSTEM_VIRTUAL_CLUSTER_NAME,
    }),
    setting: knownSetting(name),
    value,
    signal: core.signal,
  });
}
