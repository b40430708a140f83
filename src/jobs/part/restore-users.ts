/** RESTORE SYSTEM USERS: roles that are missing here, with their options, passwords and memberships, as they were in the backup. */
import { inTransaction, type Row, type SqlClient, textOf } from '../../catalog/index.ts';

/** Postgres's own, those that a recovered copy is read by, and superusers, of whom there is but one in every virtual cluster. */
const IS_TENANTS = `a.rolname !~ '^pg_' AND a.rolname !~ '^atoll_(?:check|reader)_[0-9a-f]{16}$' AND NOT a.rolsuper`;

const ROLES = `SELECT a.rolname AS name, pg_catalog.format('CREATE ROLE %I %s %s %s %s %s %s CONNECTION LIMIT %s PASSWORD %L%s', a.rolname,
      CASE WHEN a.rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END, CASE WHEN a.rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END,
      CASE WHEN a.rolcreatedb THEN 'CREATEDB' ELSE 'NOCREATEDB' END, CASE WHEN a.rolcreaterole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END,
      CASE WHEN a.rolreplication THEN 'REPLICATION' ELSE 'NOREPLICATION' END, CASE WHEN a.rolbypassrls THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END,
      a.rolconnlimit, a.rolpassword, coalesce(' VALID UNTIL ' || pg_catalog.quote_literal(a.rolvaliduntil), '')) AS definition
  FROM pg_catalog.pg_authid a WHERE ${IS_TENANTS} ORDER BY a.oid`;

const MEMBERSHIPS = `SELECT a.rolname AS role, m.rolname AS member, pg_catalog.format('GRANT %I TO %I WITH ADMIN %s, INHERIT %s, SET %s', a.rolname, m.rolname,
      g.admin_option::text, g.inherit_option::text, g.set_option::text) AS definition
  FROM pg_catalog.pg_auth_members g JOIN pg_catalog.pg_authid a ON a.oid = g.roleid JOIN pg_catalog.pg_authid m ON m.oid = g.member
  ORDER BY g.oid`;

/**
 * Adds in one transaction what is missing, and gives the names of the roles that it has added. Roles that are here stay as they are, and so
 * do the memberships among them: a backup must not give back what was taken from somebody since.
 */
export async function restoreUsers(from: SqlClient, to: SqlClient): Promise<readonly string[]> {
  const roles = await from.query(ROLES);
  const memberships = await from.query(MEMBERSHIPS);
  return inTransaction(to, async () => {
    const present = new Set((await to.query('SELECT rolname FROM pg_catalog.pg_authid')).map(nameOf));
    const added = new Set<string>();
    for (const role of roles.filter((row) => !present.has(textOf(row, 'name')))) {
      await to.query(textOf(role, 'definition'));
      added.add(textOf(role, 'name'));
    }
    for (const membership of memberships) {
      const names = [textOf(membership, 'role'), textOf(membership, 'member')];
      const isKnown = names.every((name) => present.has(name) || added.has(name));
      if (isKnown && names.some((name) => added.has(name))) await to.query(textOf(membership, 'definition'));
    }
    return [...added];
  });
}

function nameOf(row: Row): string {
  return textOf(row, 'rolname');
}
