/** The roles a statement names. */
import { InputError } from '../../base/index.ts';
import type { RoleReference } from '../../sql/index.ts';
import type { Asker } from './privileges.ts';

/** Their names; undefined for an empty list, which means everybody. */
export function roleNames(roles: readonly RoleReference[], user: string): readonly string[] | undefined {
  if (roles.length === 0) return undefined;
  return roles.map((role) => {
    if (role.kind === 'role') return role.name;
    return role.kind === 'public' ? 'public' : user;
  });
}

/** @throws InputError `object_not_found` for the first that does not exist */
export async function requireRoles(asker: Asker, roles: readonly RoleReference[]): Promise<void> {
  for (const role of roles) {
    if (role.kind !== 'role') continue;
    const found = await asker.instance.withSystemClient(
      (client) => client.query('select from pg_catalog.pg_roles where rolname = $1', [role.name]),
      asker,
    );
    if (found.length === 0) {
      throw new InputError('object_not_found', `role "${role.name}" does not exist`, {
        hint: 'SHOW ROLES lists those there are',
      });
    }
  }
}
