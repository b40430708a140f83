/** The canonical text of statements about privileges and roles. */
import type { TablePattern, Value } from './ast.ts';
import type {
  NamedPrivilege,
  PrivilegeObject,
  PrivilegeStatement,
  RoleOption,
  RoleReference,
} from './ast-privileges.ts';
import { printValue, words } from './print-parts.ts';
import { quoteName } from './quote.ts';

export function printPrivilegeStatement(statement: PrivilegeStatement): string {
  switch (statement.kind) {
    case 'grant_system':
      return words('GRANT SYSTEM', printNames(statement.privileges), printGranting(statement));
    case 'revoke_system':
      return words(
        'REVOKE',
        statement.grantOptionFor && 'GRANT OPTION FOR',
        'SYSTEM',
        printNames(statement.privileges),
        printRevoking(statement),
      );
    case 'show_system_grants':
      return words('SHOW SYSTEM GRANTS', printFor(statement.grantees));
    case 'grant_on_object':
      return words(
        'GRANT',
        printPrivileges(statement.privileges),
        `ON ${printObject(statement.object)}`,
        printGranting(statement),
      );
    case 'revoke_on_object':
      return words(
        'REVOKE',
        statement.grantOptionFor && 'GRANT OPTION FOR',
        printPrivileges(statement.privileges),
        `ON ${printObject(statement.object)}`,
        printRevoking(statement),
      );
    case 'alter_default_privileges':
      return printDefaultPrivileges(statement);
    case 'show_grants':
      return words(
        'SHOW GRANTS',
        statement.object !== undefined && `ON ${printObject(statement.object)}`,
        printFor(statement.grantees),
      );
    case 'show_roles':
      return 'SHOW ROLES';
    case 'show_users':
      return 'SHOW USERS';
    case 'create_role':
      return words(
        `CREATE ${statement.isUser ? 'USER' : 'ROLE'} ${quoteName(statement.name)}`,
        printOptions(statement.options),
      );
    case 'alter_role':
      return words(
        `ALTER ${statement.isUser ? 'USER' : 'ROLE'} ${printRole(statement.role)}`,
        printOptions(statement.options),
      );
  }
}

/** A privilege's name: in capitals where that reads back, for it is folded. */
function printPrivilegeName(name: string): string {
  return /^[a-z_]+$/.test(name) ? name.toUpperCase() : quoteName(name);
}

function printNames(names: readonly string[]): string {
  return names.map(printPrivilegeName).join(', ');
}

function printPrivileges(privileges: readonly NamedPrivilege[]): string {
  return privileges
    .map(({ name, columns }) =>
      columns.length === 0
        ? printPrivilegeName(name)
        : `${printPrivilegeName(name)} (${columns.map(quoteName).join(', ')})`,
    )
    .join(', ');
}

function printObject(object: PrivilegeObject): string {
  switch (object.kind) {
    case 'databases':
      return `DATABASE ${object.names.map(quoteName).join(', ')}`;
    case 'tables':
      return `TABLE ${object.patterns.map(printPattern).join(', ')}`;
    case 'tables_in_schemas':
      return `ALL TABLES IN SCHEMA ${object.names.map(quoteName).join(', ')}`;
    case 'external_connections':
      return `EXTERNAL CONNECTION ${object.names.map(quoteName).join(', ')}`;
  }
}

function printPattern(pattern: TablePattern): string {
  const last = pattern.name === undefined ? '*' : quoteName(pattern.name);
  return [...pattern.qualifiers.map(quoteName), last].join('.');
}

function printGranting(statement: {
  readonly grantees: readonly RoleReference[];
  readonly withGrantOption: boolean;
}): string {
  return words(`TO ${printRoles(statement.grantees)}`, statement.withGrantOption && 'WITH GRANT OPTION');
}

function printRevoking(statement: {
  readonly grantees: readonly RoleReference[];
  readonly cascade: boolean;
}): string {
  return words(`FROM ${printRoles(statement.grantees)}`, statement.cascade && 'CASCADE');
}

function printFor(grantees: readonly RoleReference[]): string | undefined {
  return grantees.length === 0 ? undefined : `FOR ${printRoles(grantees)}`;
}

function printRoles(roles: readonly RoleReference[]): string {
  return roles.map(printRole).join(', ');
}

const ROLE_WORDS: ReadonlySet<string> = new Set(['current_role', 'current_user', 'session_user']);

export function printRole(role: RoleReference): string {
  if (role.kind !== 'role') return role.kind.toUpperCase();
  return ROLE_WORDS.has(role.name) ? `"${role.name}"` : quoteName(role.name);
}

function printDefaultPrivileges(
  statement: Extract<PrivilegeStatement, { kind: 'alter_default_privileges' }>,
): string {
  const { creators, schemas, privileges, change } = statement;
  return words(
    'ALTER DEFAULT PRIVILEGES',
    creators.length > 0 && `FOR ROLE ${printRoles(creators)}`,
    schemas.length > 0 && `IN SCHEMA ${schemas.map(quoteName).join(', ')}`,
    change.kind.toUpperCase(),
    change.kind === 'revoke' && change.grantOptionFor && 'GRANT OPTION FOR',
    `${printPrivileges(privileges)} ON TABLES`,
    change.kind === 'grant' ? printGranting(change) : printRevoking(change),
  );
}

function printOptions(options: readonly RoleOption[]): string {
  const texts = options.map(({ name, argument }) => {
    const word = name.toUpperCase();
    if (argument === undefined) return word;
    return `${word} ${isNames(argument) ? argument.map(quoteName).join(', ') : printValue(argument)}`;
  });
  return words('WITH', ...texts);
}

function isNames(argument: Value | readonly string[]): argument is readonly string[] {
  return Array.isArray(argument);
}
