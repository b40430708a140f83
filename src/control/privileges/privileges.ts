/** Who may do what: the one place that knows how admins and system privileges are recognised. */
import type { VirtualClusterId } from '../../base/index.ts';
import { InputError, SYSTEM_VIRTUAL_CLUSTER_ID } from '../../base/index.ts';
import { SYSTEM_PRIVILEGE_ROLES, type SystemPrivilege } from '../../catalog/index.ts';
import type { Instance } from '../../instance/index.ts';
import type { SessionIdentity } from '../contract.ts';

export const ADMIN_ROLE = 'admin';

export interface Asker {
  readonly instance: Instance;
  /** The role that logged in. */
  readonly user: string;
  readonly signal: AbortSignal;
}

/** Whether the user is a member of `admin`, or of the role that stands for one of the privileges. */
export async function holdsPrivilege(asker: Asker, anyOf: readonly SystemPrivilege[]): Promise<boolean> {
  const roles = [ADMIN_ROLE, ...anyOf.map((privilege) => SYSTEM_PRIVILEGE_ROLES[privilege])];
  const rows = await asker.instance.withSystemClient(
    (client) =>
      client.query(
        `select from pg_catalog.pg_roles u, pg_catalog.pg_roles m
          where u.rolname = $1 and m.rolname = any (pg_catalog.string_to_array($2, ','))
            and pg_catalog.pg_has_role(u.oid, m.oid, 'MEMBER') limit 1`,
        [asker.user, roles.join(',')],
      ),
    asker,
  );
  return rows.length > 0;
}

/** @throws InputError `insufficient_privilege` with `refusal`, unless the user is admin or holds one of the privileges */
export async function requirePrivilege(
  asker: Asker,
  options: { anyOf?: readonly SystemPrivilege[]; refusal: string; hint?: string },
): Promise<void> {
  if (await holdsPrivilege(asker, options.anyOf ?? [])) return;
  throw new InputError(
    'insufficient_privilege',
    options.refusal,
    options.hint === undefined ? {} : { hint: options.hint },
  );
}

/** @throws InputError `insufficient_privilege` anywhere but in the system VC */
export function requireSystem(session: Pick<SessionIdentity, 'virtualClusterId'>): void {
  if (isSystem(session.virtualClusterId)) return;
  throw new InputError(
    'insufficient_privilege',
    'virtual clusters can only be managed from the system virtual cluster',
    { hint: 'connect to it with options=-ccluster=system' },
  );
}

export function isSystem(virtualClusterId: VirtualClusterId): boolean {
  return virtualClusterId === SYSTEM_VIRTUAL_CLUSTER_ID;
}
