/**
 * Gives what the superuser of a plain server has made to the role that takes his place: one with his name and password, and without his power.
 * So whoever worked as the superuser finds what is his, and nothing of it runs with the rights of the node's.
 */
import { DatabaseError } from 'pg';
import type { InternalClient } from './contract.ts';

/** Oids that Postgres gives to what is made after `initdb`. */
const FIRST_NORMAL_OID = 16_384;
const NOT_GUARDS = "IS DISTINCT FROM pg_catalog.to_regnamespace('pg_atoll')::pg_catalog.oid";

/**
 * By catalog: the column of the owner, and what else must hold. What belongs to something else goes with it: indexes, row types, arrays, the
 * sequences of columns. Languages, foreign-data wrappers and event triggers must be a superuser's; they are not here. Nor are the guards that a
 * run before has installed.
 */
const CATALOGS: Readonly<Record<string, { readonly owner: string; readonly filter?: string }>> = {
  pg_namespace: { owner: 'nspowner', filter: "o.nspname !~ '^pg_'" },
  pg_class: {
    owner: 'relowner',
    filter: `o.relnamespace ${NOT_GUARDS} AND o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND o.relpersistence <> 't' AND NOT (o.relkind = 'S' AND EXISTS (
      SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = o.oid
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')))`,
  },
  pg_type: {
    owner: 'typowner',
    filter: `o.typnamespace ${NOT_GUARDS} AND o.typtype <> 'm' AND NOT (o.typelem <> 0 AND o.typcategory = 'A') AND (o.typrelid = 0 OR EXISTS (
      SELECT FROM pg_catalog.pg_class c WHERE c.oid = o.typrelid AND c.relkind = 'c'))`,
  },
  pg_proc: { owner: 'proowner', filter: `o.pronamespace ${NOT_GUARDS}` },
  pg_operator: { owner: 'oprowner' },
  pg_opclass: { owner: 'opcowner' },
  pg_opfamily: { owner: 'opfowner' },
  pg_collation: { owner: 'collowner' },
  pg_conversion: { owner: 'conowner' },
  pg_ts_config: { owner: 'cfgowner' },
  pg_ts_dict: { owner: 'dictowner' },
  pg_statistic_ext: { owner: 'stxowner' },
  pg_publication: { owner: 'pubowner' },
  pg_largeobject_metadata: { owner: 'lomowner' },
};

/** As ALTER calls them, where that is not how `pg_identify_object` does. */
const KEYWORDS: Readonly<Record<string, string>> = {
  'statistics object': 'STATISTICS',
};

/** How many statements are fetched at a time. */
const BATCH = 1000;

/**
 * In one database. Each change by itself, so that there is no limit to their number; cut off anywhere, the next run does the rest. Gives what
 * could not be given away, a sentence each.
 */
export async function bequeath(client: InternalClient, heir: string): Promise<string[]> {
  const findings: string[] = [...(await bequeathDefaults(client, heir))];
  for (const [catalog, { owner, filter = 'true' }] of Object.entries(CATALOGS)) {
    for (let after = '0'; ; ) {
      const rows = await client.query(
        `SELECT o.oid::text AS oid, i.type, i.identity, pg_catalog.quote_ident($1) AS heir
           FROM pg_catalog.${catalog} o
             CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.${objectCatalog(catalog)}'::pg_catalog.regclass, o.oid, 0) i
          WHERE o.${owner} = 10 AND o.oid >= ${FIRST_NORMAL_OID} AND o.oid > $2::pg_catalog.oid AND (${filter})
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.${catalog}'::pg_catalog.regclass
              AND e.objid = o.oid AND e.deptype IN ('e', 'i'))
          ORDER BY o.oid LIMIT ${BATCH}`,
        [heir, after],
      );
      for (const { oid, type, identity, heir: quoted } of rows) {
        after = oid ?? after;
        const keyword = KEYWORDS[type ?? ''] ?? (type ?? '').toUpperCase();
        const failure = await refusal(client, `ALTER ${keyword} ${identity} OWNER TO ${quoted}`);
        if (failure !== undefined)
          findings.push(`${type} ${identity} stays with the superuser of the node: ${failure}`);
      }
      if (rows.length < BATCH) break;
    }
  }
  return findings;
}

/** By the kind of object in `pg_default_acl`, as ALTER DEFAULT PRIVILEGES calls them. */
const DEFAULT_KINDS: Readonly<Record<string, string>> = {
  r: 'TABLES',
  S: 'SEQUENCES',
  f: 'ROUTINES',
  T: 'TYPES',
  n: 'SCHEMAS',
  L: 'LARGE OBJECTS',
};

/** What is granted on whatever the heir will make, as it was on what the superuser made. That he took something from PUBLIC is forgotten. */
async function bequeathDefaults(client: InternalClient, heir: string): Promise<string[]> {
  const rows = await client.query(
    `SELECT d.defaclobjtype::text AS kind, pg_catalog.quote_ident(n.nspname) AS schema, pg_catalog.quote_ident($1) AS heir,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(g.rolname) END AS grantee, a.privilege_type AS privilege,
        a.is_grantable::text AS is_grantable
       FROM pg_catalog.pg_default_acl d CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) a
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
      WHERE d.defaclrole = 10 AND a.grantee <> 10 AND (a.grantee = 0 OR g.rolname IS NOT NULL)`,
    [heir],
  );
  const findings: string[] = [];
  for (const { kind, schema, heir: quoted, grantee, privilege, is_grantable: isGrantable } of rows) {
    const place = schema == null ? '' : ` IN SCHEMA ${schema}`;
    const option = isGrantable === 'true' ? ' WITH GRANT OPTION' : '';
    const grant = `GRANT ${privilege} ON ${DEFAULT_KINDS[kind ?? ''] ?? 'TABLES'} TO ${grantee}${option}`;
    const failure = await refusal(client, `ALTER DEFAULT PRIVILEGES FOR ROLE ${quoted}${place} ${grant}`);
    if (failure !== undefined) findings.push(`default privileges could not be kept: ${grant}: ${failure}`);
  }
  return findings;
}

/** Large objects are known by the catalog of their pages. */
function objectCatalog(catalog: string): string {
  return catalog === 'pg_largeobject_metadata' ? 'pg_largeobject' : catalog;
}

/** Why a statement was refused for what it says; any other failure is the caller's. */
async function refusal(client: InternalClient, sql: string): Promise<string | undefined> {
  try {
    await client.query(sql);
    return undefined;
  } catch (error) {
    if (error instanceof DatabaseError && /^(?:0A|22|42|55000)/.test(error.code ?? '')) return error.message;
    throw error;
  }
}
