/** SQL made for Postgres. Values travel as parameters where they can; here they cannot, so everything is quoted, always. */
import type { RoleReference } from '../sql/index.ts';

/** Every name in quotes: Postgres reserves more words than our grammar does. */
export function sqlName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A constant that reads the same whatever `standard_conforming_strings` says. */
export function sqlText(text: string): string {
  return `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}

export function sqlTextArray(texts: readonly string[]): string {
  return `array[${texts.map(sqlText).join(', ')}]::pg_catalog.text[]`;
}

export function sqlRole(role: RoleReference): string {
  return role.kind === 'role' ? sqlName(role.name) : role.kind.toUpperCase();
}

/** The OID of a role, an error (42704) for one that does not exist, 0 for PUBLIC. */
export function sqlRoleOid(role: RoleReference): string {
  switch (role.kind) {
    case 'public':
      return '0::pg_catalog.oid';
    case 'role':
      return `${sqlText(sqlName(role.name))}::pg_catalog.regrole::pg_catalog.oid`;
    case 'current_role':
    case 'current_user':
    case 'session_user':
      return `pg_catalog.quote_ident(${role.kind})::pg_catalog.regrole::pg_catalog.oid`;
  }
}

/** A block of PL/pgSQL as one statement, so that it fits both protocols and either happens or does not. */
export function sqlBlock(options: { declare?: readonly string[]; body: readonly string[] }): string {
  const declare = options.declare === undefined ? '' : `declare ${options.declare.join(' ')} `;
  return `do ${sqlText(`${declare}begin\n${options.body.join('\n')}\nend`)}`;
}
