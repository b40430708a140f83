import type { SmallResult, SqlSession } from './session.ts';
import { parsePattern } from './pattern.ts';

/** A table to be printed, with lines below it. */
export interface Description {
  readonly title: string;
  readonly result: SmallResult;
  readonly footer: readonly string[];
}

/** Relations that one `\d PATTERN` describes in full. */
const DESCRIBED_MAX = 50;

const RELATION_KINDS = `CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
  WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' WHEN 'I' THEN 'partitioned index' WHEN 'S' THEN 'sequence'
  WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'composite type' ELSE c.relkind::text END`;

/** Relations of some kinds: `\d`, `\dt`, `\di`, `\dv`, `\ds`. */
export async function listRelations(
  session: SqlSession,
  options: { kinds: string; pattern: string | undefined },
): Promise<Description> {
  const { schema, name } = parsePattern(options.pattern ?? '*');
  const result = await session.query(
    `SELECT n.nspname AS "Schema", c.relname AS "Name", ${RELATION_KINDS} AS "Type",
       pg_catalog.pg_get_userbyid(c.relowner) AS "Owner",
       pg_catalog.pg_size_pretty(pg_catalog.pg_table_size(c.oid)) AS "Size"
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind::text = ANY (pg_catalog.string_to_array($1, NULL)) AND c.relname LIKE $2
       AND CASE WHEN $3::text IS NOT NULL THEN n.nspname LIKE $3
                ELSE pg_catalog.pg_table_is_visible(c.oid) AND n.nspname NOT IN ('pg_catalog', 'information_schema')
                  AND n.nspname NOT LIKE 'pg\\_toast%' END
     ORDER BY 1, 2`,
    [options.kinds, name, schema ?? null],
  );
  return { title: 'List of relations', result, footer: [] };
}

export async function listDatabases(session: SqlSession): Promise<Description> {
  const result = await session.query(
    `SELECT d.datname AS "Name", pg_catalog.pg_get_userbyid(d.datdba) AS "Owner",
       pg_catalog.pg_encoding_to_char(d.encoding) AS "Encoding",
       CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT')
         THEN pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(d.oid)) END AS "Size",
       pg_catalog.array_to_string(d.datacl, E'\\n') AS "Access privileges"
     FROM pg_catalog.pg_database d WHERE NOT d.datistemplate ORDER BY 1`,
  );
  return { title: 'List of databases', result, footer: [] };
}

export async function listSchemas(session: SqlSession, pattern: string | undefined): Promise<Description> {
  const result = await session.query(
    `SELECT n.nspname AS "Name", pg_catalog.pg_get_userbyid(n.nspowner) AS "Owner"
     FROM pg_catalog.pg_namespace n
     WHERE n.nspname LIKE $1 AND ($2 OR (n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema')) ORDER BY 1`,
    [parsePattern(pattern ?? '*').name, pattern === undefined ? 'false' : 'true'],
  );
  return { title: 'List of schemas', result, footer: [] };
}

export async function listRoles(session: SqlSession, pattern: string | undefined): Promise<Description> {
  const result = await session.query(
    `SELECT r.rolname AS "Role name",
       pg_catalog.concat_ws(', ', CASE WHEN r.rolsuper THEN 'Superuser' END, CASE WHEN r.rolcreaterole THEN 'Create role' END,
         CASE WHEN r.rolcreatedb THEN 'Create DB' END, CASE WHEN NOT r.rolcanlogin THEN 'Cannot login' END,
         CASE WHEN r.rolreplication THEN 'Replication' END) AS "Attributes",
       (SELECT pg_catalog.string_agg(m.rolname, ', ' ORDER BY m.rolname) FROM pg_catalog.pg_auth_members a
        JOIN pg_catalog.pg_roles m ON m.oid = a.roleid WHERE a.member = r.oid) AS "Member of"
     FROM pg_catalog.pg_roles r WHERE r.rolname LIKE $1 AND ($2 OR r.rolname NOT LIKE 'pg\\_%') ORDER BY 1`,
    [parsePattern(pattern ?? '*').name, pattern === undefined ? 'false' : 'true'],
  );
  return { title: 'List of roles', result, footer: [] };
}

/** Columns, indexes and constraints of every relation that a pattern names. Empty when there is none. */
export async function describeRelations(
  session: SqlSession,
  pattern: string,
): Promise<readonly Description[]> {
  const { schema, name } = parsePattern(pattern);
  const found = await session.query(
    `SELECT c.oid::text, n.nspname, c.relname, ${RELATION_KINDS}, c.relkind::text
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relname LIKE $1
       AND CASE WHEN $2::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname LIKE $2 END
     ORDER BY 2, 3 LIMIT ${DESCRIBED_MAX}`,
    [name, schema ?? null],
  );
  const descriptions: Description[] = [];
  for (const [oid = null, namespace, relation, kind = '', relkind = ''] of found.rows) {
    const title = `${capitalize(kind ?? '')} "${namespace}.${relation}"`;
    descriptions.push(await describeRelation(session, { oid, title, relkind: relkind ?? '' }));
  }
  return descriptions;
}

async function describeRelation(
  session: SqlSession,
  relation: { oid: string | null; title: string; relkind: string },
): Promise<Description> {
  const result = await session.query(
    `SELECT a.attname AS "Column", pg_catalog.format_type(a.atttypid, a.atttypmod) AS "Type",
       CASE WHEN a.attnotnull THEN 'not null' ELSE '' END AS "Nullable",
       e.expression AS "Default"
     FROM pg_catalog.pg_attribute a
     LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     CROSS JOIN LATERAL (SELECT CASE a.attidentity WHEN 'a' THEN 'generated always as identity'
       WHEN 'd' THEN 'generated by default as identity'
       ELSE CASE WHEN a.attgenerated <> '' THEN 'generated always as (' || pg_catalog.pg_get_expr(d.adbin, d.adrelid) || ')'
            ELSE COALESCE(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') END END AS expression) e
     WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
    [relation.oid],
  );
  const footer: string[] = [];
  for (const section of SECTIONS) {
    if (!section.kinds.includes(relation.relkind)) continue;
    const { rows } = await session.query(section.sql, [relation.oid]);
    if (rows.length > 0) footer.push(`${section.heading}:`, ...rows.map(([line]) => `    ${line}`));
  }
  return { title: relation.title, result, footer };
}

/** What stands below the columns; each query gives one column of lines. */
const SECTIONS: readonly { heading: string; kinds: string; sql: string }[] = [
  {
    heading: 'Indexes',
    kinds: 'rpm',
    sql: `SELECT '"' || c.relname || '"' || CASE WHEN i.indisprimary THEN ' PRIMARY KEY,' WHEN k.contype = 'u'
         THEN ' UNIQUE CONSTRAINT,' WHEN i.indisunique THEN ' UNIQUE,' ELSE '' END ||
         pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(i.indexrelid), '^.* USING ', ' ') ||
         CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
       FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
       LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
         AND k.conrelid = i.indrelid
       WHERE i.indrelid = $1::oid ORDER BY i.indisprimary DESC, c.relname`,
  },
  {
    heading: 'Check constraints',
    kinds: 'rp',
    sql: `SELECT '"' || conname || '" ' || pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
       WHERE conrelid = $1::oid AND contype = 'c' ORDER BY conname`,
  },
  {
    heading: 'Foreign-key constraints',
    kinds: 'rp',
    sql: `SELECT '"' || conname || '" ' || pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
       WHERE conrelid = $1::oid AND contype = 'f' ORDER BY conname`,
  },
  {
    heading: 'Referenced by',
    kinds: 'rp',
    sql: `SELECT 'TABLE ' || conrelid::pg_catalog.regclass::text || ' CONSTRAINT "' || conname || '" ' ||
         pg_catalog.pg_get_constraintdef(oid)
       FROM pg_catalog.pg_constraint WHERE confrelid = $1::oid AND contype = 'f' ORDER BY conname`,
  },
  {
    heading: 'View definition',
    kinds: 'vm',
    sql: `SELECT pg_catalog.regexp_split_to_table(pg_catalog.pg_get_viewdef($1::oid, true), E'\\n')`,
  },
  {
    heading: 'Index definition',
    kinds: 'iI',
    sql: 'SELECT pg_catalog.pg_get_indexdef($1::oid)',
  },
];

function capitalize(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
