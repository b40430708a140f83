/** The answers a SQL front door gets, once there is a core to give them. */
import { SYSTEM_VIRTUAL_CLUSTER_ID, type VirtualClusterId } from '../base/index.ts';
import { readCredential, requireEntry, requireReplicationRoom, requireRoom } from './privileges/access.ts';
import { authorizeBySystem } from './privileges/authority.ts';
import { changesPrivileges } from '../sql/index.ts';
import { auditPassedOn } from './audit.ts';
import type { FrontDoorService } from './contract.ts';
import type { Core } from './core.ts';
import { refuseCreation } from './privileges/ddl-guard.ts';
import { type Asker, isSystem } from './privileges/privileges.ts';
import { requireReadable } from './replication/reader.ts';
import { route } from './virtual-clusters/routing.ts';
import { describeStatement, executeStatement } from './statements.ts';

/** @param requireCore throws `cannot_connect_now` while there is none */
export function frontDoorService(
  requireCore: () => Core,
): FrontDoorService & Required<Pick<FrontDoorService, 'screen'>> {
  const asker = (options: {
    virtualClusterId: VirtualClusterId;
    user: string;
    signal: AbortSignal;
  }): Asker => {
    const { services, catalog } = requireCore();
    const { virtualClusterId: id, user, signal } = options;
    const name = catalog.get(id)?.name ?? String(id);
    return { instance: services.instanceOf({ id, name }), user, signal };
  };
  return {
    route: async (options) => route(requireCore(), options),
    credential: async (options) => readCredential(asker(options)),
    authorize: async (options) => {
      requireReadable(requireCore(), options);
      await requireEntry(asker(options));
      if (options.isReplication === true) await requireReplicationRoom(asker(options));
      const { settings } = requireCore();
      const sessionsMax = settings.integer(options.virtualClusterId, 'server.max_connections_per_gateway');
      if (sessionsMax >= 0n) await requireRoom(asker(options), sessionsMax);
    },
    authorizeBySystem: async (options) => {
      requireReadable(requireCore(), { ...options, isReplication: options.isStream });
      return authorizeBySystem(requireCore(), options);
    },
    screen: ({ session, text }) => {
      const core = requireCore();
      if (changesPrivileges(text)) auditPassedOn(core, { session, text });
      if (!isSystem(session.virtualClusterId)) return;
      const { settings } = core;
      if (settings.isOn(SYSTEM_VIRTUAL_CLUSTER_ID, 'sql.restrict_system_interface.enabled')) {
        refuseCreation(text);
      }
    },
    describe: describeStatement,
    execute: async (statement, context) => executeStatement(requireCore(), statement, context),
  };
}
