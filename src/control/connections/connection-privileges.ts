/** GRANT and REVOKE ... ON EXTERNAL CONNECTION. Connections lie in database `system`, which no client's transaction reaches. */
import { InputError } from '../../base/index.ts';
import { type ConnectionPrivilege, inTransaction, type SqlClient } from '../../catalog/index.ts';
import type { NamedPrivilege } from '../../sql/index.ts';
import { ownsConnection, requireConnection } from './connection-access.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import type { GrantChange } from '../privileges/grant-sql.ts';
import type { Asker } from '../privileges/privileges.ts';
import { requireRoles, roleNames } from '../privileges/role-lookup.ts';
import { askerOf } from '../use-case.ts';

const ALL: readonly ConnectionPrivilege[] = ['USAGE', 'DROP', 'UPDATE'];

interface ConnectionChange {
  readonly names: readonly string[];
  readonly privileges: readonly NamedPrivilege[];
  readonly change: GrantChange;
  readonly context: ExecuteContext;
}

/** All of it or nothing. @throws InputError `transaction_active`, `grant_invalid`, `object_not_found`, `insufficient_privilege` */
export async function changeConnectionPrivileges(core: Core, options: ConnectionChange): Promise<void> {
  const { names, change, context } = options;
  const { session } = context;
  if (context.transaction === 'in_transaction') {
    throw new InputError(
      'transaction_active',
      `${change.kind.toUpperCase()} ON EXTERNAL CONNECTION cannot be used inside a transaction`,
      { hint: 'end the transaction first' },
    );
  }
  const asker = askerOf(core, context);
  const privileges = parsePrivileges(options.privileges);
  await requireRoles(asker, change.grantees);
  for (const name of names) await requireMayPassOn(asker, { name, privileges });
  const grantees = roleNames(change.grantees, session.user) ?? [];
  await asker.instance.withSystemClient(
    (client) =>
      inTransaction(client, async () => {
        for (const name of names) {
          for (const grantee of grantees) await changeRows(client, { name, grantee, privileges, change });
        }
        await client.query(
          `delete from public.external_connection_privileges p where p.grantee <> 0
            and not exists (select from pg_catalog.pg_roles r where r.oid = p.grantee)`,
        );
      }),
    asker,
  );
  loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
    `${change.kind.toUpperCase()} ${privileges.join(', ')} on external connection ${names.join(', ')} by ${session.user}`,
  );
}

function parsePrivileges(privileges: readonly NamedPrivilege[]): readonly ConnectionPrivilege[] {
  const found = privileges.flatMap(({ name, columns }): readonly ConnectionPrivilege[] => {
    const word = name.toUpperCase();
    if (word === 'ALL' && columns.length === 0) return ALL;
    const privilege = ALL.find((known) => known === word);
    if (privilege !== undefined && columns.length === 0) return [privilege];
    throw new InputError('grant_invalid', `invalid privilege type ${word} for external_connection`, {
      hint: `privileges on external connections are ${ALL.join(', ')}`,
    });
  });
  return [...new Set(found)];
}

async function requireMayPassOn(
  asker: Asker,
  options: { name: string; privileges: readonly ConnectionPrivilege[] },
): Promise<void> {
  const { name, privileges } = options;
  const connection = await requireConnection(asker, name);
  if (await ownsConnection(asker, connection)) return;
  const rows = await asker.instance.withSystemClient(
    (client) =>
      client.query(
        `select p.privilege from public.external_connection_privileges p, pg_catalog.pg_roles u, pg_catalog.pg_roles g
          where u.rolname = $1 and g.oid = p.grantee and p.connection_name = $2 and p.is_grantable
            and pg_catalog.pg_has_role(u.oid, g.oid, 'MEMBER')`,
        [asker.user, name],
      ),
    asker,
  );
  const held = new Set(rows.map(({ privilege }) => privilege));
  const missing = privileges.filter((privilege) => !held.has(privilege));
  if (missing.length === 0) return;
  throw new InputError(
    'insufficient_privilege',
    `user ${asker.user} may not grant or revoke ${missing.join(', ')} on external_connection ${name}`,
    { hint: 'it takes its owner, the admin role, or the privilege WITH GRANT OPTION' },
  );
}

async function changeRows(
  client: SqlClient,
  options: {
    name: string;
    grantee: string;
    privileges: readonly ConnectionPrivilege[];
    change: GrantChange;
  },
): Promise<void> {
  const { name, grantee, privileges, change } = options;
  const role =
    "(case $2 when 'public' then 0::pg_catalog.oid else (select oid from pg_catalog.pg_roles where rolname = $2) end)";
  for (const privilege of privileges) {
    const key = [name, grantee, privilege];
    if (change.kind === 'grant') {
      await client.query(
        `insert into public.external_connection_privileges values ($1, ${role}, $3, $4::boolean)
          on conflict (connection_name, grantee, privilege) do update
            set is_grantable = external_connection_privileges.is_grantable or excluded.is_grantable`,
        [...key, String(change.withGrantOption)],
      );
    } else {
      await client.query(
        `${change.grantOptionFor ? 'update public.external_connection_privileges set is_grantable = false' : 'delete from public.external_connection_privileges'}
          where connection_name = $1 and grantee = ${role} and privilege = $3`,
        key,
      );
    }
  }
}
