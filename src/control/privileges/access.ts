/** What the front door asks before it lets somebody in. */
import { AppError, InputError } from '../../base/index.ts';
import { AUTHORITY_ROLES, SYSTEM_PRIVILEGE_ROLES, type SystemPrivilege } from '../../catalog/index.ts';
import type { Credential } from '../contract.ts';
import { ADMIN_ROLE, type Asker, holdsPrivilege, isSystem } from './privileges.ts';

/** Roles that are the node's own: for a client they do not exist. */
const INTERNAL_ROLES = `(oid = 10 or rolsuper or rolname in ('atoll_reader', '${Object.values(AUTHORITY_ROLES).join("', '")}'))`;

/** Read from the virtual cluster on every login: a changed password counts at once. The verifier is never logged. */
export async function readCredential(asker: Asker): Promise<Credential | undefined> {
  const rows = await asker.instance.withSystemClient(
    (client) =>
      client.query(
        `select rolcanlogin::text as can_login, rolpassword as verifier,
            coalesce(rolvaliduntil < pg_catalog.clock_timestamp(), false)::text as is_expired
          from pg_catalog.pg_authid where rolname = $1 and not ${INTERNAL_ROLES}`,
        [asker.user],
      ),
    asker,
  );
  const row = rows[0];
  if (row === undefined) return undefined;
  return {
    canLogin: row['can_login'] === 'true',
    verifier: row['verifier'] ?? null,
    isExpired: row['is_expired'] === 'true',
  };
}

/** @throws InputError `authorization_invalid` */
export async function requireEntry(asker: Asker): Promise<void> {
  const { user, instance } = asker;
  const credential = await readCredential(asker);
  if (credential === undefined) {
    throw new InputError('authorization_invalid', `role "${user}" does not exist`);
  }
  if (!credential.canLogin) {
    throw new InputError('authorization_invalid', `role "${user}" is not permitted to log in`);
  }
  if (!isSystem(instance.identity.virtualClusterId)) return;
  const grantees = Object.keys(SYSTEM_PRIVILEGE_ROLES) as SystemPrivilege[];
  if (await holdsPrivilege(asker, grantees)) return;
  throw new InputError(
    'authorization_invalid',
    `role "${user}" is not permitted to enter the system virtual cluster`,
    {
      hint: 'workloads belong into another virtual cluster; an admin of the system virtual cluster can grant a system privilege, as GRANT SYSTEM REPLICATION to the user of a standby, or the admin role',
    },
  );
}

/**
 * Admits so many sessions of roles that are no admins, as the virtual cluster itself counts them, in whichever process they are relayed.
 * Admins come in regardless: somebody must be able to raise the limit. Logins at the same moment don't see each other.
 * @throws AppError `too_many_connections`
 */
export async function requireRoom(asker: Asker, sessionsMax: bigint): Promise<void> {
  if (await holdsPrivilege(asker, [])) return;
  const [row] = await asker.instance.withSystemClient(
    (client) =>
      client.query(
        `select count(*)::text as sessions from pg_catalog.pg_stat_activity
          where backend_type = 'client backend'
            and exists (select from pg_catalog.pg_authid where oid = usesysid and not ${INTERNAL_ROLES})
            and not exists (select from pg_catalog.pg_roles where rolname = '${ADMIN_ROLE}'
                             and pg_catalog.pg_has_role(usesysid, oid, 'MEMBER'))`,
      ),
    asker,
  );
  if (BigInt(row?.['sessions'] ?? 0) < sessionsMax) return;
  throw new AppError('too_many_connections', 'sorry, too many clients already', {
    detail: `${sessionsMax} sessions of roles that are no admins are admitted`,
    hint: 'close sessions that are not needed; an admin can raise server.max_connections_per_gateway',
  });
}

/** Of the twelve that a server has, these are left to the vault, scans and streams. */
const TENANTS_WALSENDERS_MAX = 8;

/** Keeps tenants who may replicate from using up what the vault needs. @throws AppError `too_many_connections` */
export async function requireReplicationRoom(asker: Asker): Promise<void> {
  const [row] = await asker.instance.withSystemClient(
    (client) =>
      client.query(
        `select count(*)::text as sessions from pg_catalog.pg_stat_activity
          where backend_type = 'walsender'
            and exists (select from pg_catalog.pg_authid where oid = usesysid and not ${INTERNAL_ROLES})`,
      ),
    asker,
  );
  if (Number(row?.['sessions'] ?? 0) < TENANTS_WALSENDERS_MAX) return;
  throw new AppError('too_many_connections', 'sorry, too many replication sessions already', {
    detail: `${TENANTS_WALSENDERS_MAX} replication sessions are admitted`,
    hint: 'close those that are not needed',
  });
}
