/** CREATE ROLE and ALTER ROLE with options that stand for system privileges; SHOW ROLES and SHOW USERS. */
import { AUTHORITY_ROLES, SYSTEM_PRIVILEGE_ROLES, type SystemPrivilege } from '../../catalog/index.ts';
import {
  type RoleOption,
  type RoleReference,
  rolePrivilegeOf,
  type Statement,
  type Value,
} from '../../sql/index.ts';
import type { ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { sqlBlock, sqlName, sqlRole, sqlText } from '../sql-text.ts';
import { requireMayGrant } from './system-privileges.ts';
import { type UseCase, askerOf, columnsOf, inSession, rowsResult } from '../use-case.ts';
import { textValue } from '../values.ts';

type CreateRole = Extract<Statement, { kind: 'create_role' }>;
type AlterRole = Extract<Statement, { kind: 'alter_role' }>;
type ShowRoles = Extract<Statement, { kind: 'show_roles' | 'show_users' }>;

const COLUMNS = columnsOf({ username: 'text', options: 'text', member_of: 'text' });

export const createRole: UseCase<CreateRole> = {
  columns: () => undefined,
  refusedInTransaction: undefined,
  run: (core, statement, context) =>
    changeRole(core, {
      head: statement.isUser ? 'create user' : 'create role',
      role: { kind: 'role', name: statement.name },
      options: statement.options,
      context,
    }),
};

export const alterRole: UseCase<AlterRole> = {
  columns: () => undefined,
  refusedInTransaction: undefined,
  run: (core, { role, options }, context) => changeRole(core, { head: 'alter role', role, options, context }),
};

async function changeRole(
  core: Core,
  options: {
    head: 'create user' | 'create role' | 'alter role';
    role: RoleReference;
    options: readonly RoleOption[];
    context: ExecuteContext;
  },
): Promise<StatementResult> {
  const { head, role, context } = options;
  const own = options.options.flatMap(({ name }) => {
    const found = rolePrivilegeOf(name);
    return found === undefined
      ? []
      : [{ ...found, privilege: found.privilege.toUpperCase() as SystemPrivilege }];
  });
  const foreign = options.options.filter(({ name }) => rolePrivilegeOf(name) === undefined).map(optionSql);
  await requireMayGrant(
    core,
    own.map(({ privilege }) => privilege),
    context,
  );
  const isNew = head !== 'alter role';
  const body = own
    .filter(({ isGranted }) => isGranted || !isNew)
    .map(({ privilege, isGranted }) => membershipSql({ privilege, isGranted, role }));
  const first = isNew || foreign.length > 0 ? [`${head} ${sqlRole(role)} ${foreign.join(' ')};`] : [];
  const { session } = context;
  loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
    `${head.toUpperCase()} with ${own.map(({ privilege }) => privilege).join(', ')} asked by ${session.user}`,
  );
  const block = sqlBlock({ declare: ['entry record;'], body: [...first, ...body] });
  return inSession(block, isNew ? 'CREATE ROLE' : 'ALTER ROLE');
}

function membershipSql(options: {
  privilege: SystemPrivilege;
  isGranted: boolean;
  role: RoleReference;
}): string {
  const { privilege, isGranted, role } = options;
  const marker = sqlName(SYSTEM_PRIVILEGE_ROLES[privilege]);
  return isGranted ? `grant ${marker} to ${sqlRole(role)};` : `revoke ${marker} from ${sqlRole(role)};`;
}

function optionSql({ name, argument }: RoleOption): string {
  if (argument === undefined) return name;
  return `${name} ${isNames(argument) ? argument.map(sqlName).join(', ') : valueSql(name, argument)}`;
}

function isNames(argument: Value | readonly string[]): argument is readonly string[] {
  return Array.isArray(argument);
}

function valueSql(option: string, value: Value): string {
  if (value.kind === 'null') return 'null';
  if (value.kind === 'number') return value.text;
  return sqlText(textValue(value, option));
}

export const showRoles: UseCase<ShowRoles> = {
  columns: () => COLUMNS,
  refusedInTransaction: undefined,
  async run(core, _statement, context) {
    const asker = askerOf(core, context);
    const hidden = [
      'atoll_reader',
      ...Object.values(SYSTEM_PRIVILEGE_ROLES),
      ...Object.values(AUTHORITY_ROLES),
    ];
    const rows = await asker.instance.withSystemClient(
      (client) =>
        client.query(
          `select r.rolname as username, pg_catalog.array_to_string(pg_catalog.array_remove(array[
              case when r.rolcreatedb then 'CREATEDB' end, case when r.rolcreaterole then 'CREATEROLE' end,
              case when not r.rolcanlogin then 'NOLOGIN' end, case when r.rolreplication then 'REPLICATION' end,
              case when r.rolvaliduntil is not null then 'VALID UNTIL=' || r.rolvaliduntil::text end,
              (select pg_catalog.string_agg(pg_catalog.upper(pg_catalog.substr(m.rolname, 7)), ', ' order by m.rolname)
                from pg_catalog.pg_auth_members a join pg_catalog.pg_roles m on m.oid = a.roleid
                where a.member = r.oid and a.grantor <> 10 and m.rolname = any (pg_catalog.string_to_array($2, ',')))
            ], null), ', ') as options,
            (select coalesce(pg_catalog.array_agg(distinct m.rolname), '{}')::text from pg_catalog.pg_auth_members a
              join pg_catalog.pg_roles m on m.oid = a.roleid
              where a.member = r.oid and a.inherit_option and not m.rolname = any (pg_catalog.string_to_array($1, ','))
                and m.rolname not like 'pg\\_%') as member_of
            from pg_catalog.pg_roles r where r.oid <> 10 and r.rolname not like 'pg\\_%'
              and not r.rolname = any (pg_catalog.string_to_array($1, ',')) order by r.rolname`,
          [hidden.join(','), OPTION_ROLES.join(',')],
        ),
      asker,
    );
    return rowsResult(
      COLUMNS,
      rows.map((row) => [row['username'] ?? '', row['options'] ?? '', row['member_of'] ?? '{}']),
    );
  },
};

/** Privileges that are also role options. */
const OPTION_ROLES = (['CONTROLJOB', 'VIEWJOB', 'MODIFYCLUSTERSETTING', 'VIEWCLUSTERSETTING'] as const).map(
  (privilege) => SYSTEM_PRIVILEGE_ROLES[privilege],
);
