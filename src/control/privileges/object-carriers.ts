/**
 * Where BACKUP and RESTORE on databases and tables are kept: in the database itself, so that a grant obeys the client's transaction and
 * goes where the object goes. docs/decisions/0050-object-privileges.md
 *
 * BACKUP on a table is a column privilege of Postgres's that opens nothing: REFERENCES on the system column `tableoid` (no foreign key can
 * refer to it), on a view, which has no system columns, REFERENCES on its first column, on a sequence SELECT on `tableoid`. On a
 * database, BACKUP and RESTORE are rows of `pg_atoll.database_privileges`.
 */

/** Of a relation `c`: the number of the column that carries the privilege. */
export const CARRIER_COLUMN = "case c.relkind when 'v' then 1 else -6 end";
/** Of a relation `c`: the privilege of Postgres's that stands for BACKUP. */
export const CARRIER_PRIVILEGE = "case c.relkind when 'S' then 'SELECT' else 'REFERENCES' end";

/** Kinds of relations that hold something of their own to back up: tables, views, materialized views, foreign tables, sequences. */
export const RELATION_KINDS = "('r', 'p', 'v', 'm', 'f', 'S')";
/** What `ALL TABLES IN SCHEMA` means to Postgres. */
export const TABLE_KINDS = "('r', 'p', 'v', 'm', 'f')";

/** A schema `n` that is the tenant's own. */
export const IS_TENANTS_SCHEMA = "n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'";

/** Everybody who holds BACKUP on the relation `c`, as rows `(grantee, is_grantable)`: for a lateral join. */
export const CARRIED = `(select x.grantee, x.is_grantable from pg_catalog.pg_attribute a,
    lateral pg_catalog.aclexplode(a.attacl) x
  where a.attrelid = c.oid and a.attnum = ${CARRIER_COLUMN} and x.privilege_type = ${CARRIER_PRIVILEGE})`;
