/** The SQL that GRANT and REVOKE on databases and tables become: one block, Postgres's part and ours in one effect. */
import { InputError } from '../../base/index.ts';
import { type NamedPrivilege, OBJECT_PRIVILEGES, type RoleReference } from '../../sql/index.ts';
import {
  CARRIED,
  CARRIER_COLUMN,
  CARRIER_PRIVILEGE,
  IS_TENANTS_SCHEMA,
  TABLE_KINDS,
} from './object-carriers.ts';
import type { TableTarget } from './privilege-targets.ts';
import { sqlBlock, sqlName, sqlRole, sqlRoleOid, sqlText } from '../sql-text.ts';

/** What is done with privileges, to whom. */
export type GrantChange =
  | { readonly kind: 'grant'; readonly grantees: readonly RoleReference[]; readonly withGrantOption: boolean }
  | {
      readonly kind: 'revoke';
      readonly grantOptionFor: boolean;
      readonly grantees: readonly RoleReference[];
      readonly cascade: boolean;
    };

/** The privileges of a statement, taken apart. */
export interface SplitPrivileges {
  /** `SELECT, UPDATE ("a")`: Postgres's, as it reads them; undefined for none. */
  readonly foreign: string | undefined;
  /** Conditions on a table `target.relation` under which the role may pass them on. */
  readonly foreignChecks: readonly string[];
  /** Ours, in capitals. */
  readonly own: readonly ('BACKUP' | 'RESTORE')[];
}

const FOREIGN = {
  database: ['create', 'connect', 'temporary', 'temp'],
  table: ['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger', 'maintain'],
} as const;
const OWN = { database: ['backup', 'restore'], table: ['backup'] } as const;

/** @throws InputError `grant_invalid` for a privilege that such an object does not have */
export function splitPrivileges(
  privileges: readonly NamedPrivilege[],
  objectType: 'database' | 'table',
): SplitPrivileges {
  const own = new Set<'BACKUP' | 'RESTORE'>();
  const foreign: string[] = [];
  const foreignChecks: string[] = [];
  for (const { name, columns } of privileges) {
    const isOwn = OWN[objectType].some((known) => known === name);
    const isForeign = FOREIGN[objectType].some((known) => known === name);
    if (!isOwn && !isForeign) throw wrongPrivilege(name, objectType);
    if (columns.length > 0 && (isOwn || objectType === 'database')) {
      throw new InputError('grant_invalid', `privilege ${name.toUpperCase()} is not granted on columns`);
    }
    if (isOwn) own.add(name === 'backup' ? 'BACKUP' : 'RESTORE');
    else {
      foreign.push(columns.length === 0 ? name : `${name} (${columns.map(sqlName).join(', ')})`);
      foreignChecks.push(...passingOn(name, columns));
    }
  }
  return { foreign: foreign.length === 0 ? undefined : foreign.join(', '), foreignChecks, own: [...own] };
}

function passingOn(name: string, columns: readonly string[]): readonly string[] {
  const option = sqlText(`${name} with grant option`);
  if (columns.length === 0) {
    return [`pg_catalog.has_table_privilege(current_user, target.relation::pg_catalog.oid, ${option})`];
  }
  return columns.map(
    (column) =>
      `pg_catalog.has_column_privilege(current_user, target.relation::pg_catalog.oid, ${sqlText(column)}, ${option})`,
  );
}

function wrongPrivilege(name: string, objectType: 'database' | 'table'): InputError {
  const word = name.toUpperCase();
  const hints: Readonly<Record<string, string>> = {
    RESTORE: 'to restore tables takes RESTORE on the database they go into',
    ALL: 'ALL is granted by itself; name the privileges to grant BACKUP or RESTORE with them',
  };
  const hint = OBJECT_PRIVILEGES.has(name) || word === 'ALL' ? hints[word] : undefined;
  return new InputError(
    'grant_invalid',
    `invalid privilege type ${word} for ${objectType}`,
    hint === undefined ? {} : { hint },
  );
}

/** For the database that the block runs in. */
export function databaseGrantSql(options: {
  database: string;
  privileges: SplitPrivileges;
  change: GrantChange;
}): string {
  const { database, privileges, change } = options;
  const name = sqlName(database);
  return sqlBlock({
    declare: [
      `granted_on pg_catalog.oid := (select oid from pg_catalog.pg_database where datname = ${sqlText(database)});`,
    ],
    body: [
      ...(privileges.foreign === undefined
        ? []
        : [foreignSql({ privileges: privileges.foreign, object: `database ${name}`, change })]),
      ...privileges.own.flatMap((privilege) => [
        requirePassingOn(privilege, database),
        ...change.grantees.map((grantee) => databaseRowSql({ privilege, grantee, change })),
      ]),
      'delete from pg_atoll.database_privileges where database <> granted_on',
      '  or (grantee <> 0 and not exists (select from pg_catalog.pg_roles r where r.oid = grantee));',
    ],
  });
}

function requirePassingOn(privilege: string, database: string): string {
  const message = sqlText(
    `role %s may not grant or revoke ${privilege} on database ${sqlName(database).replaceAll('%', '%%')}`,
  );
  const hint = sqlText(
    `it takes the database's owner, the admin role, or ${privilege} on it WITH GRANT OPTION`,
  );
  return `if not pg_atoll.may_pass_on(current_user, ${sqlText(privilege)}) then
    raise exception using errcode = '42501', message = pg_catalog.format(${message}, current_user), hint = ${hint};
  end if;`;
}

function databaseRowSql(options: { privilege: string; grantee: RoleReference; change: GrantChange }): string {
  const { privilege, grantee, change } = options;
  const key = `database = granted_on and privilege = ${sqlText(privilege)} and grantee = ${sqlRoleOid(grantee)}`;
  if (change.kind === 'grant') {
    return `insert into pg_atoll.database_privileges
      values (granted_on, ${sqlText(privilege)}, ${sqlRoleOid(grantee)}, ${change.withGrantOption})
      on conflict (database, privilege, grantee) do update
        set is_grantable = database_privileges.is_grantable or excluded.is_grantable;`;
  }
  return change.grantOptionFor
    ? `update pg_atoll.database_privileges set is_grantable = false where ${key};`
    : `delete from pg_atoll.database_privileges where ${key};`;
}

/** For tables of the database that the block runs in. */
export function tableGrantSql(options: {
  tables: readonly TableTarget[];
  privileges: SplitPrivileges;
  change: GrantChange;
}): string {
  const { tables, privileges, change } = options;
  return sqlBlock({
    declare: [
      'target record;',
      'carrier record;',
      'left_over record;',
      'grantees text;',
      'former_role text;',
    ],
    body: [
      `for target in ${tables.map(relationsSql).join(' union ')} loop`,
      // Ours first: its refusal says more.
      ...(privileges.own.length === 0 ? [] : carrierSql(change)),
      ...foreignTableSql(privileges, change),
      'end loop;',
    ],
  });
}

function carrierSql(change: GrantChange): readonly string[] {
  const option = change.kind === 'grant' && change.withGrantOption ? ' with grant option' : '';
  const scope = change.kind === 'revoke' ? (change.cascade ? ' cascade' : ' restrict') : option;
  const sql = `${verbOf(change)} %s (%I) on table %s ${change.kind === 'grant' ? 'to' : 'from'} %s${scope}`;
  return [
    `select a.attname as name, ${CARRIER_PRIVILEGE} as privilege, o.rolname as owner,`,
    "    pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE') as is_owner,",
    "    pg_catalog.pg_has_role(current_user, c.relowner, 'SET') and current_user <> o.rolname as acts_as_owner,",
    `    exists (select from ${CARRIED} w where w.is_grantable and w.grantee <> 0`,
    "      and pg_catalog.pg_has_role(current_user, w.grantee, 'USAGE')) as may_pass_on into carrier",
    '  from pg_catalog.pg_class c join pg_catalog.pg_roles o on o.oid = c.relowner',
    `  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = ${CARRIER_COLUMN} where c.oid = target.relation;`,
    "if carrier.name is null then raise exception using errcode = '0LP01',",
    "  message = pg_catalog.format('%s is no table that could be backed up by itself', target.relation); end if;",
    "if pg_catalog.pg_has_role(current_user, 'admin', 'USAGE') then",
    `  perform pg_atoll.change_backup(target.relation, ${sqlText(changeName(change))}, ${roleOids(change)});`,
    'elsif carrier.is_owner or carrier.may_pass_on then',
    `  grantees := (select pg_catalog.string_agg(case g when 0 then 'PUBLIC' else g::pg_catalog.regrole::text end, ', ')`,
    `    from pg_catalog.unnest(${roleOids(change)}) g);`,
    "  former_role := pg_catalog.current_setting('role');",
    // Of several roles that it could act for, Postgres would take any.
    "  if carrier.acts_as_owner then execute pg_catalog.format('set local role %I', carrier.owner); end if;",
    `  execute pg_catalog.format(${sqlText(sql)}, carrier.privilege, carrier.name, target.relation, grantees);`,
    "  if carrier.acts_as_owner then perform pg_catalog.set_config('role', former_role, true); end if;",
    'else',
    // Postgres would speak of a column, or only warn.
    "  raise exception using errcode = '42501',",
    "    message = pg_catalog.format('role %s may not grant or revoke BACKUP on table %s', current_user, target.relation),",
    "    hint = 'it takes the owner of the table, the admin role, or BACKUP on it WITH GRANT OPTION';",
    'end if;',
    ...(change.kind === 'revoke' ? requireGoneSql(change) : []),
  ];
}

/** Postgres's own part of a mixed statement: where it would only warn, the whole is refused. */
function foreignTableSql(privileges: SplitPrivileges, change: GrantChange): readonly string[] {
  const { foreign, foreignChecks } = privileges;
  if (foreign === undefined) return [];
  const sql = `${verbOf(change)} ${foreign.replaceAll('%', '%%')} on table %s ${wherefore(change).replaceAll('%', '%%')}`;
  return [
    `if not (${foreignChecks.join(' and ')}) then raise exception using errcode = '42501',`,
    `  message = pg_catalog.format('role %s may not grant or revoke %s on table %s', current_user, ${sqlText(foreign)}, target.relation),`,
    "  hint = 'it takes the owner of the table, or the privileges WITH GRANT OPTION'; end if;",
    `execute pg_catalog.format(${sqlText(sql)}, target.relation);`,
  ];
}

function roleOids(change: GrantChange): string {
  return `array[${change.grantees.map(sqlRoleOid).join(', ')}]`;
}

/** What `pg_atoll.change_backup` calls it. */
function changeName(change: GrantChange): string {
  if (change.kind === 'grant') return change.withGrantOption ? 'grant with grant option' : 'grant';
  return `${verbOf(change)}${change.cascade ? ' cascade' : ''}`;
}

/** Postgres takes back only what the session's role could have granted; what remains must not look revoked. */
function requireGoneSql(change: Extract<GrantChange, { kind: 'revoke' }>): readonly string[] {
  const grantees = roleOids(change);
  const held = `select w.grantee from pg_catalog.pg_class c, lateral ${CARRIED} w where c.oid = target.relation and w.grantee = any (${grantees})`;
  const remains = change.grantOptionFor ? `${held} and w.is_grantable` : held;
  return [
    `for left_over in ${remains} loop`,
    "  raise exception using errcode = '2BP01',",
    "    message = pg_catalog.format('BACKUP on table %s was granted to %s by a role that %s cannot act for', target.relation,",
    "      case left_over.grantee when 0 then 'PUBLIC' else left_over.grantee::pg_catalog.regrole::text end, current_user),",
    "    hint = 'the owner of the table can revoke it, from the role that passed it on with CASCADE';",
    'end loop;',
  ];
}

/** A query for the relations that a target stands for, as `relation`. */
function relationsSql({ schema, name }: TableTarget): string {
  if (name !== undefined) {
    const path = schema === undefined ? sqlName(name) : `${sqlName(schema)}.${sqlName(name)}`;
    return `select ${sqlText(path)}::pg_catalog.regclass as relation`;
  }
  const place =
    schema === undefined ? IS_TENANTS_SCHEMA : `n.oid = ${sqlText(sqlName(schema))}::pg_catalog.regnamespace`;
  return `select c.oid::pg_catalog.regclass as relation from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ${TABLE_KINDS} and ${place}`;
}

/** For new tables in the database that the block runs in. */
export function defaultPrivilegesSql(options: {
  creators: readonly RoleReference[];
  schemas: readonly string[];
  privileges: SplitPrivileges;
  change: GrantChange;
}): string {
  const { creators, schemas, privileges, change } = options;
  const whose = creators.length === 0 ? '' : ` for role ${creators.map(sqlRole).join(', ')}`;
  const where = schemas.length === 0 ? '' : ` in schema ${schemas.map(sqlName).join(', ')}`;
  const makers: readonly RoleReference[] = creators.length === 0 ? [{ kind: 'current_user' }] : creators;
  const places =
    schemas.length === 0
      ? ['0']
      : schemas.map((schema) => `${sqlText(sqlName(schema))}::pg_catalog.regnamespace::pg_catalog.oid`);
  const rows = makers.flatMap((maker) =>
    places.flatMap((place) =>
      change.grantees.map((grantee) => [sqlRoleOid(maker), place, sqlRoleOid(grantee)] as const),
    ),
  );
  return sqlBlock({
    declare: [
      'granted_on pg_catalog.oid := (select oid from pg_catalog.pg_database where datname = current_database());',
    ],
    body: [
      ...makers.map(requireOwnTables),
      ...(privileges.foreign === undefined
        ? []
        : [
            `alter default privileges${whose}${where} ${foreignSql({ privileges: privileges.foreign, object: 'tables', change })}`,
          ]),
      ...rows.map(([creator, namespace, grantee]) => defaultRowSql({ creator, namespace, grantee, change })),
      'delete from pg_atoll.default_privileges where database <> granted_on',
      '  or (grantee <> 0 and not exists (select from pg_catalog.pg_roles r where r.oid = grantee))',
      '  or not exists (select from pg_catalog.pg_roles r where r.oid = creator);',
    ],
  });
}

function requireOwnTables(creator: RoleReference): string {
  return `if not pg_catalog.pg_has_role(current_user, ${sqlRoleOid(creator)}, 'MEMBER')
      and not pg_catalog.pg_has_role(current_user, 'admin', 'MEMBER') then
    raise exception using errcode = '42501',
      message = pg_catalog.format('role %s may not change default privileges of role %s', current_user, ${sqlRoleOid(creator)}::pg_catalog.regrole),
      hint = 'it takes that role, a member of it, or the admin role';
  end if;`;
}

function defaultRowSql(options: {
  creator: string;
  namespace: string;
  grantee: string;
  change: GrantChange;
}): string {
  const { creator, namespace, grantee, change } = options;
  if (change.kind === 'grant') {
    return `insert into pg_atoll.default_privileges
      values (granted_on, ${creator}, ${namespace}, 'BACKUP', ${grantee}, ${change.withGrantOption})
      on conflict (database, creator, namespace, privilege, grantee) do update
        set is_grantable = default_privileges.is_grantable or excluded.is_grantable;`;
  }
  const key = `database = granted_on and creator = ${creator} and namespace = ${namespace} and grantee = ${grantee}`;
  return change.grantOptionFor
    ? `update pg_atoll.default_privileges set is_grantable = false where ${key};`
    : `delete from pg_atoll.default_privileges where ${key};`;
}

function foreignSql(options: { privileges: string; object: string; change: GrantChange }): string {
  const { privileges, object, change } = options;
  return `${verbOf(change)} ${privileges} on ${object} ${wherefore(change)};`;
}

function verbOf(change: GrantChange): string {
  if (change.kind === 'grant') return 'grant';
  return change.grantOptionFor ? 'revoke grant option for' : 'revoke';
}

function wherefore(change: GrantChange): string {
  const roles = change.grantees.map(sqlRole).join(', ');
  if (change.kind === 'grant') return `to ${roles}${change.withGrantOption ? ' with grant option' : ''}`;
  return `from ${roles} ${change.cascade ? 'cascade' : 'restrict'}`;
}
