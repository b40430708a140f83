/** The authority of the system VC over the others: `-cauthority=system` with credentials of the system VC. */
import { InputError, sensitive, SYSTEM_VIRTUAL_CLUSTER_ID, type VirtualClusterId } from '../../base/index.ts';
import { AUTHORITY_ROLES } from '../../catalog/index.ts';
import { requireEntry } from './access.ts';
import type { ServedAs } from '../contract.ts';
import { auditLogger } from '../audit.ts';
import type { Core } from '../core.ts';
import { ADMIN_ROLE, type Asker, holdsPrivilege } from './privileges.ts';
import { requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

/**
 * Admins of the system VC are served as members of `admin`; holders of VIEWSYSTEMDATA as a role that can read Atoll's own tables and
 * nothing else. @throws InputError `authorization_invalid`
 */
export async function authorizeBySystem(
  core: Core,
  options: { virtualClusterId: VirtualClusterId; user: string; isStream: boolean; signal: AbortSignal },
): Promise<ServedAs> {
  const { user, isStream, signal } = options;
  const record = requireRecord(core, options.virtualClusterId);
  const system = requireRecord(core, SYSTEM_VIRTUAL_CLUSTER_ID);
  const asker: Asker = { instance: core.services.instanceOf(system), user, signal };
  await requireEntry(asker);
  if (isStream) {
    await requireStreamRight(asker);
    return { role: AUTHORITY_ROLES.replicator, database: undefined, settings: {} };
  }
  const served = await rightsOf(asker);
  if (served === undefined) {
    throw new InputError(
      'authorization_invalid',
      `role "${user}" of the system virtual cluster has no authority over virtual cluster "${record.name}"`,
      { hint: 'it takes the admin role there, or VIEWSYSTEMDATA to read: GRANT SYSTEM VIEWSYSTEMDATA' },
    );
  }
  auditLogger(core, { virtualClusterId: record.id, virtualClusterName: record.name }).info(
    `user ${sensitive(user)} of the system virtual cluster entered by its authority, as ${served.role}`,
  );
  return served;
}

/** Who may follow a virtual cluster of this physical cluster. @throws InputError `insufficient_privilege` */
export async function requireStreamRight(asker: Asker): Promise<void> {
  if (await holdsPrivilege(asker, ['REPLICATION', 'REPLICATIONSOURCE'])) return;
  throw new InputError(
    'insufficient_privilege',
    `user ${asker.user} does not have REPLICATION system privilege`,
    {
      hint: `an admin of this system virtual cluster can grant it: GRANT SYSTEM REPLICATION TO ${asker.user}`,
    },
  );
}

async function rightsOf(asker: Asker): Promise<ServedAs | undefined> {
  if (await holdsPrivilege(asker, [])) {
    // What is made in the session is the admins', not a role's that nobody else can act as.
    return { role: AUTHORITY_ROLES.admin, database: undefined, settings: { role: ADMIN_ROLE } };
  }
  if (!(await holdsPrivilege(asker, ['VIEWSYSTEMDATA']))) return undefined;
  return {
    role: AUTHORITY_ROLES.observer,
    database: 'system',
    settings: { default_transaction_read_only: 'on' },
  };
}
