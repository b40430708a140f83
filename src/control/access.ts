/** What the front door asks before it lets somebody in. */
import { InputError } from '../base/index.ts';
import { AUTHORITY_ROLES, SYSTEM_PRIVILEGE_ROLES, type SystemPrivilege } from '../catalog/index.ts';
import type { Credential } from './contract.ts';
import { type Asker, holdsPrivilege, isSystem } from './privileges.ts';

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
      hint: 'an admin of the system virtual cluster can grant it the admin role; workloads belong into another virtual cluster',
    },
  );
}
