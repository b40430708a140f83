/** What follows from a changed cluster setting: what the user is told, and who has to know. */
import type { VirtualClusterId } from '../../base/index.ts';
import type { Setting } from '../../catalog/index.ts';
import type { Notice } from '../contract.ts';
import type { Core } from '../core.ts';
import { isSystem } from '../privileges/privileges.ts';
import { applyRateSetting } from '../backup/storage-rates.ts';
import { applySessionDefaults, isSessionDefault } from './session-defaults.ts';

/** Nothing is accepted in silence that has no effect, or not yet. */
export function noticesOfChange(setting: Setting): readonly Notice[] {
  const notices: Notice[] = [];
  if (setting.effect === 'stored') {
    notices.push({
      severity: 'NOTICE',
      sqlstate: '00000',
      message: `setting "${setting.name}" is stored, but nothing in this release acts on it`,
    });
  }
  if (setting.atNextStart) {
    notices.push({
      severity: 'NOTICE',
      sqlstate: '00000',
      message: `setting "${setting.name}" takes effect when the service starts the next time`,
      hint: 'ALTER VIRTUAL CLUSTER ... STOP SERVICE, then START SERVICE SHARED',
    });
  }
  return notices;
}

/** Hands new tunables and session defaults to the instances concerned; every other setting is read where it is used. */
export async function applySettingChange(
  core: Core,
  change: { setting: Setting; virtualClusterId: VirtualClusterId },
): Promise<void> {
  if (isSessionDefault(change.setting.name)) await changeSessionDefault(core, change.virtualClusterId);
  if (change.setting.name.startsWith('jobs.scheduler.')) core.scheduler.notify(change.virtualClusterId);
  applyRateSetting(core.options.rateTable, change.setting.name, { ...core, ...change });
  if (change.setting.perVirtualCluster !== true) return;
  await changeTimeline(core, change);
  const concerned = isSystem(change.virtualClusterId)
    ? core.catalog.list().map((record) => record.id)
    : [change.virtualClusterId];
  for (const id of concerned) {
    core.options.instanceHost.get(id)?.configure(core.services.instanceSettings(id));
  }
}

/** One that does not serve takes them up when it does. */
async function changeSessionDefault(core: Core, virtualClusterId: VirtualClusterId): Promise<void> {
  const instance = core.options.instanceHost.get(virtualClusterId);
  if (instance?.state.kind !== 'running' || !core.settings.isLoaded(virtualClusterId)) return;
  await applySessionDefaults(core.settings, { virtualClusterId, instance, signal: core.signal });
}

/** The vault is told again what to follow, with the limit there is now, and bases that are due are not put off. */
async function changeTimeline(
  core: Core,
  { setting, virtualClusterId }: { setting: Setting; virtualClusterId: VirtualClusterId },
): Promise<void> {
  if (setting.name !== 'timeline.size_max' && setting.name !== 'timeline.enabled') return;
  const isConcerned = (id: VirtualClusterId) => isSystem(virtualClusterId) || id === virtualClusterId;
  for (const record of core.catalog.list()) {
    if (isConcerned(record.id) && core.gates.isOpen(record.id)) await core.services.followLog(record);
  }
}
