/**
 * What the bootstrap superuser of another cluster has made, and that would run with the rights of ours. In a virtual cluster of our own it
 * owns nothing in databases of tenants but what is in `pg_atoll` and members of extensions; of what comes from elsewhere we cannot know.
 */
import type { InternalClient } from './contract.ts';

/** Whoever owns the database; never a superuser, and always there. */
const HEIR = 'pg_database_owner';

/** Roles whose members reach the host, or are the superuser himself. Nobody holds them in a virtual cluster. */
const HOST_ROLES = ['pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'];

/** Memberships of all databases. Gives what was taken away, a sentence each. May run twice. */
export async function revokeHostRoles(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    `SELECT r.rolname AS role, pg_catalog.quote_ident(r.rolname) AS quoted, pg_catalog.quote_ident(m.rolname) AS member,
        pg_catalog.quote_ident(g.rolname) AS grantor
       FROM pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
         JOIN pg_catalog.pg_roles m ON m.oid = a.member JOIN pg_catalog.pg_roles g ON g.oid = a.grantor
      WHERE a.roleid = 10 OR r.rolname = ANY (pg_catalog.string_to_array($1, ',')) ORDER BY 1, 3`,
    [HOST_ROLES.join(',')],
  );
  for (const { quoted, member, grantor } of rows) {
    // One of them may have gone with another already: then it warns.
    await client.query(`REVOKE ${quoted} FROM ${member} GRANTED BY ${grantor} CASCADE`);
  }
  return rows.map(({ role, member }) => `role ${member} is no member of ${role} any more`);
}

/**
 * In one database. Functions run as who calls them; tables, views and materialized views belong to the database's owner, as whom their
 * rules, indexes and refreshes then run. Also members of extensions, since a superuser can make anything one. Ours are made anew
 * afterwards. Gives a sentence each. May run twice.
 */
export async function disown(client: InternalClient): Promise<string[]> {
  return [
    ...(await removeDefaultPrivileges(client)),
    ...(await dropAlteredStores(client)),
    ...(await disownRelations(client)),
    ...(await reclaim(client)),
    ...(await disownFunctions(client)),
  ];
}

/** What the superuser would grant on whatever he makes, our guards among it. Rows of what depends on them go along. */
async function removeDefaultPrivileges(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    `WITH gone AS (DELETE FROM pg_catalog.pg_default_acl WHERE defaclrole = 10 RETURNING oid),
        shared AS (DELETE FROM pg_catalog.pg_shdepend d USING gone WHERE d.classid = 'pg_catalog.pg_default_acl'::pg_catalog.regclass
          AND d.objid = gone.oid AND d.dbid = (SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database())),
        own AS (DELETE FROM pg_catalog.pg_depend d USING gone
          WHERE d.classid = 'pg_catalog.pg_default_acl'::pg_catalog.regclass AND d.objid = gone.oid)
      SELECT oid::text AS oid FROM gone`,
  );
  return rows.length === 0 ? [] : ['default privileges of the superuser are removed'];
}

/** Tables of `pg_atoll` with anything on them that would run as their owner: ours have nothing of the kind. */
async function dropAlteredStores(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    `SELECT c.oid::pg_catalog.regclass::text AS name, c.relkind::text AS kind
       FROM pg_catalog.pg_class c
      WHERE ${IS_STORE} AND (c.relkind <> 'r' OR c.relowner <> 10
        OR EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> '')
        OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)))
      ORDER BY 1`,
  );
  for (const { name, kind } of rows) {
    await client.query(`DROP ${KINDS[kind ?? ''] ?? 'TABLE'} ${name} CASCADE`);
  }
  return rows.map(({ name }) => `${name} was not as this program makes it, and is made anew`);
}

const IS_STORE = `c.relnamespace = pg_catalog.to_regnamespace('pg_atoll')::pg_catalog.oid
  AND c.relname IN ('database_privileges', 'default_privileges')`;

/** By the kind of relation in `pg_class`; indexes and owned sequences go with their table. */
const KINDS: Readonly<Record<string, string>> = {
  r: 'TABLE',
  p: 'TABLE',
  v: 'VIEW',
  m: 'MATERIALIZED VIEW',
  f: 'FOREIGN TABLE',
  S: 'SEQUENCE',
};

async function disownRelations(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    `SELECT c.oid::pg_catalog.regclass::text AS name, c.relkind::text AS kind
       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relowner = 10 AND c.relkind IN (${Object.keys(KINDS)
        .map((kind) => `'${kind}'`)
        .join(', ')})
        AND (c.oid >= 16384 OR n.nspname NOT IN ('pg_catalog', 'information_schema'))
        AND n.nspname !~ '^pg_(toast|temp|toast_temp)' AND NOT (${IS_STORE})
        AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_catalog.pg_depend d
          WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')))
      ORDER BY 1`,
  );
  for (const { name, kind } of rows) {
    await client.query(`ALTER ${KINDS[kind ?? '']} ${name} OWNER TO ${HEIR}`);
  }
  return rows.map(
    ({ name, kind }) =>
      `${KINDS[kind ?? '']?.toLowerCase()} ${name} of the superuser belongs to the owner of the database`,
  );
}

/** The schema `pg_atoll` and its functions: whoever owns them can change them. Before `disownFunctions`, which takes their rights away. */
async function reclaim(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    `SELECT 'schema pg_atoll' AS name, 'SCHEMA pg_atoll' AS object FROM pg_catalog.pg_namespace WHERE nspname = 'pg_atoll' AND nspowner <> 10
     UNION ALL
     SELECT 'function ' || p.oid::pg_catalog.regprocedure, 'ROUTINE ' || p.oid::pg_catalog.regprocedure
       FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      WHERE n.nspname = 'pg_atoll' AND p.proowner <> 10 ORDER BY 1`,
  );
  for (const { object } of rows) await client.query(`ALTER ${object} OWNER TO CURRENT_USER`);
  return rows.map(({ name }) => `${name} did not belong to the superuser`);
}

async function disownFunctions(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    `UPDATE pg_catalog.pg_proc p SET prosecdef = false WHERE p.prosecdef AND p.proowner = 10
     RETURNING p.oid::pg_catalog.regprocedure::text AS name, (p.pronamespace = pg_catalog.to_regnamespace('pg_atoll')::pg_catalog.oid)::text AS is_ours`,
  );
  return rows
    .filter(({ is_ours }) => is_ours !== 'true')
    .map(({ name }) => `function ${name} of the superuser runs with the rights of who calls it`)
    .toSorted();
}
