/** Which virtual cluster a connection is taken to. Unknown names cost one look-up in memory and leave nothing behind. */
import { AppError, SYSTEM_VIRTUAL_CLUSTER_ID, SYSTEM_VIRTUAL_CLUSTER_NAME } from '../../base/index.ts';
import { type VirtualClusterRecord, serviceModeOf } from '../../catalog/index.ts';
import { admissionLimits } from '../privileges/admission.ts';
import type { Route } from '../contract.ts';
import type { Core } from '../core.ts';
import { isKeptForFollowers } from '../replication/drain.ts';

/** How long a client waits for a virtual cluster that is starting. */
export const START_WAIT_MS = 10_000;

export function defaultTarget(core: Core): string {
  const name = core.settings.text(SYSTEM_VIRTUAL_CLUSTER_ID, 'server.controller.default_target_cluster');
  return name === '' ? SYSTEM_VIRTUAL_CLUSTER_NAME : name;
}

/** @throws AppError `service_unavailable`, `cannot_connect_now` */
export async function route(
  core: Core,
  options: { name: string | undefined; isStream?: boolean; signal: AbortSignal },
): Promise<Route> {
  const { signal } = options;
  const name = options.name ?? defaultTarget(core);
  const record = core.catalog.find(name);
  // One that went out of service for a planned failover still gives the last of its log to its followers.
  if (record !== undefined && options.isStream === true && isKeptForFollowers(core, record.id)) {
    return routeTo(core, record, { timeoutMs: START_WAIT_MS, signal });
  }
  if (record === undefined || serviceModeOf(record.state) !== 'shared') throw unavailable(name);
  const deadlineMs = core.options.clock.monotonicMs() + START_WAIT_MS;
  // Why one does not wake is logged, and none of a stranger's business: the gate says that it is starting.
  const woken = core.suspender.wake(record.id).catch(() => undefined);
  await core.gates.whenOpen(record.id, { name, timeoutMs: START_WAIT_MS, signal });
  await woken;
  const timeoutMs = Math.max(0, deadlineMs - core.options.clock.monotonicMs());
  return routeTo(core, record, { timeoutMs, signal });
}

async function routeTo(
  core: Core,
  record: VirtualClusterRecord,
  options: { timeoutMs: number; signal: AbortSignal },
): Promise<Route> {
  const instance = core.services.instanceOf(record);
  await instance.whenServing(options);
  return {
    virtualClusterId: record.id,
    virtualClusterName: record.name,
    socketPath: instance.socketPath,
    instanceGeneration: instance.generation,
    admission: admissionLimits(core.settings, record.id),
  };
}

function unavailable(name: string): AppError {
  return new AppError(
    'service_unavailable',
    `service unavailable for target virtual cluster (${name.slice(0, 63)})`,
  );
}
