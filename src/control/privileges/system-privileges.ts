/** GRANT SYSTEM, REVOKE SYSTEM and SHOW SYSTEM GRANTS: memberships in the roles that stand for system privileges. */
import { InputError } from '../../base/index.ts';
import { SYSTEM_PRIVILEGE_ROLES, type SystemPrivilege } from '../../catalog/index.ts';
import type { RoleReference, Statement } from '../../sql/index.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { requireRoles, roleNames } from './role-lookup.ts';
import { sqlBlock, sqlName, sqlRole, sqlRoleOid, sqlText, sqlTextArray } from '../sql-text.ts';
import { type UseCase, askerOf, columnsOf, inSession, rowsResult } from '../use-case.ts';

type GrantSystem = Extract<Statement, { kind: 'grant_system' }>;
type RevokeSystem = Extract<Statement, { kind: 'revoke_system' }>;
type ShowSystemGrants = Extract<Statement, { kind: 'show_system_grants' }>;

const ALL = Object.keys(SYSTEM_PRIVILEGE_ROLES) as readonly SystemPrivilege[];
/** Other names of the same privilege. */
const SYNONYMS: Readonly<Record<string, SystemPrivilege>> = { VIEWSYSTEMTABLE: 'VIEWSYSTEMDATA' };
const COLUMNS = columnsOf({ grantee: 'text', privilege_type: 'text', is_grantable: 'bool' });

export const grantSystem: UseCase<GrantSystem> = {
  columns: () => undefined,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const privileges = parseSystemPrivileges(statement.privileges);
    refusePublic(statement.grantees);
    await requireMayGrant(core, privileges, context);
    audit(core, context, `GRANT SYSTEM ${privileges.join(', ')}`);
    const roles = privileges.map((privilege) => sqlName(SYSTEM_PRIVILEGE_ROLES[privilege])).join(', ');
    const grantees = statement.grantees.map(sqlRole).join(', ');
    const option = statement.withGrantOption ? ' with admin option' : '';
    return inSession(`grant ${roles} to ${grantees}${option}`, 'GRANT');
  },
};

export const revokeSystem: UseCase<RevokeSystem> = {
  columns: () => undefined,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const privileges = parseSystemPrivileges(statement.privileges);
    refusePublic(statement.grantees);
    await requireMayGrant(core, privileges, context);
    audit(core, context, `REVOKE SYSTEM ${privileges.join(', ')}`);
    return inSession(revokeSql(statement, privileges), 'REVOKE');
  },
};

export const showSystemGrants: UseCase<ShowSystemGrants> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const asker = askerOf(core, context);
    await requireRoles(asker, statement.grantees);
    const names = roleNames(statement.grantees, context.session.user);
    // What admins were born with is how they pass privileges on, and was granted by nobody.
    const rows = await asker.instance.withSystemClient(
      (client) =>
        client.query(
          `select u.rolname as grantee, m.rolname as role, a.admin_option::text as is_grantable
            from pg_catalog.pg_auth_members a
            join pg_catalog.pg_roles m on m.oid = a.roleid join pg_catalog.pg_roles u on u.oid = a.member
            where a.grantor <> 10 and m.rolname = any (pg_catalog.string_to_array($1, ','))
            order by u.rolname, m.rolname, a.admin_option desc`,
          [Object.values(SYSTEM_PRIVILEGE_ROLES).join(',')],
        ),
      asker,
    );
    const cells = rows
      .filter(({ grantee }) => names === undefined || names.includes(grantee ?? ''))
      .map((row) => [
        row['grantee'] ?? '',
        privilegeOf(row['role'] ?? ''),
        row['is_grantable'] === 'true' ? 't' : 'f',
      ]);
    return rowsResult(COLUMNS, withoutWeaker(cells));
  },
};

/** Two people may have granted the same: the row that can be passed on stands first and says it all. */
function withoutWeaker(rows: readonly (readonly string[])[]): readonly (readonly string[])[] {
  const seen = new Set<string>();
  return rows.filter(([grantee, privilege]) => {
    const key = JSON.stringify([grantee, privilege]);
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}

function privilegeOf(role: string): string {
  return ALL.find((privilege) => SYSTEM_PRIVILEGE_ROLES[privilege] === role) ?? role;
}

/** @throws InputError `parameter_invalid` for a name that is none */
export function parseSystemPrivileges(names: readonly string[]): readonly SystemPrivilege[] {
  const found = names.flatMap((name): readonly SystemPrivilege[] => {
    const word = name.toUpperCase();
    if (word === 'ALL') return ALL;
    const privilege = SYNONYMS[word] ?? ALL.find((candidate) => candidate === word);
    if (privilege === undefined) {
      throw new InputError('parameter_invalid', `"${name}" is not a system privilege`, {
        hint: `system privileges are ${ALL.join(', ')}`,
      });
    }
    return [privilege];
  });
  return [...new Set(found)];
}

/** What everybody holds is no privilege. @throws InputError `parameter_invalid` */
function refusePublic(grantees: readonly RoleReference[]): void {
  if (!grantees.some(({ kind }) => kind === 'public')) return;
  throw new InputError('parameter_invalid', 'system privileges cannot be granted to PUBLIC', {
    hint: 'grant them to a role, and that role to those who need them',
  });
}

/** Admins pass on every privilege, others those they hold with grant option. @throws InputError `insufficient_privilege` */
export async function requireMayGrant(
  core: Core,
  privileges: readonly SystemPrivilege[],
  context: ExecuteContext,
): Promise<void> {
  const asker = askerOf(core, context);
  const roles = privileges.map((privilege) => SYSTEM_PRIVILEGE_ROLES[privilege]);
  const rows = await asker.instance.withSystemClient(
    (client) =>
      client.query(
        `select m.rolname as role from pg_catalog.pg_roles u, pg_catalog.pg_roles m
          where u.rolname = $1 and m.rolname = any (pg_catalog.string_to_array($2, ','))
            and pg_catalog.pg_has_role(u.oid, m.oid, 'MEMBER WITH ADMIN OPTION')`,
        [asker.user, roles.join(',')],
      ),
    asker,
  );
  const held = new Set(rows.map(({ role }) => role));
  const missing = privileges.filter((privilege) => !held.has(SYSTEM_PRIVILEGE_ROLES[privilege]));
  if (missing.length === 0) return;
  throw new InputError(
    'insufficient_privilege',
    `user ${asker.user} may not grant or revoke system privilege ${missing.join(', ')}`,
    { hint: 'it takes the admin role, or the privilege WITH GRANT OPTION' },
  );
}

/**
 * Whoever granted it, as far as the session's role may undo that. What remains by another hand is an error: a REVOKE that leaves the
 * privilege where it was must not look like one that worked.
 */
function revokeSql(statement: RevokeSystem, privileges: readonly SystemPrivilege[]): string {
  const roles = sqlTextArray(privileges.map((privilege) => SYSTEM_PRIVILEGE_ROLES[privilege]));
  const grantees = `array[${statement.grantees.map(sqlRoleOid).join(', ')}]`;
  const what = statement.grantOptionFor ? 'admin option for ' : '';
  const scope = statement.cascade ? 'cascade' : 'restrict';
  return sqlBlock({
    declare: ['entry record;'],
    body: [
      'for entry in select m.rolname as held, u.rolname as holder, g.rolname as giver,',
      "  pg_catalog.pg_has_role(current_user, g.oid, 'USAGE') as may_undo",
      '  from pg_catalog.pg_auth_members a join pg_catalog.pg_roles m on m.oid = a.roleid',
      '  join pg_catalog.pg_roles u on u.oid = a.member join pg_catalog.pg_roles g on g.oid = a.grantor',
      `  where a.grantor <> 10 and m.rolname = any (${roles}) and a.member = any (${grantees}) loop`,
      '  if not entry.may_undo then',
      "    raise exception using errcode = '2BP01',",
      "      message = pg_catalog.format('role %I granted this privilege to role %I, and only members of that role can revoke it', entry.giver, entry.holder),",
      "      hint = pg_catalog.format('revoke the grant option of role %I with CASCADE', entry.giver);",
      '  end if;',
      `  execute pg_catalog.format(${sqlText(`revoke ${what}%I from %I granted by %I ${scope}`)}, entry.held, entry.holder, entry.giver);`,
      'end loop;',
    ],
  });
}

function audit(core: Core, context: ExecuteContext, said: string): void {
  const { session } = context;
  loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
    `${said} asked by ${session.user}`,
  );
}
