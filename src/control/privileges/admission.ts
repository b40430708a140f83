/** What the settings say of those who log in. */
import { SYSTEM_VIRTUAL_CLUSTER_ID, type VirtualClusterId } from '../../base/index.ts';
import type { KnownSettingName } from '../../catalog/index.ts';
import type { AdmissionLimits } from '../contract.ts';
import type { Settings } from '../settings/settings.ts';

export function admissionLimits(settings: Settings, virtualClusterId: VirtualClusterId): AdmissionLimits {
  const ofNode = (name: KnownSettingName) => Number(settings.integer(SYSTEM_VIRTUAL_CLUSTER_ID, name));
  const timeoutMicros = settings.integer(virtualClusterId, 'server.user_login.timeout');
  return {
    connectionsMax: ofNode('server.sql_connections.max'),
    pendingMax: ofNode('server.sql_connections.pending_max'),
    failuresMax: ofNode('server.user_login.failures_max'),
    failuresPerMinute: ofNode('server.user_login.failures_per_minute'),
    loginTimeoutMs: Math.max(1, Number(timeoutMicros / 1_000n)),
  };
}
