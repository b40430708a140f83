/**
 * The schema `pg_atoll`, which every database of a virtual cluster is born with: privileges on the database as a whole, and privileges
 * that new tables get by default. docs/decisions/0050-object-privileges.md
 *
 * Rows are written by the roles themselves, in their own transactions; triggers decide who may write which, and fire always. (Not row
 * security: Postgres has none for what was made before an instance first served.) The prefix `pg_` keeps the schema from tenants' hands
 * and out of their dumps.
 */
import { replaceEventTrigger, subscriptionGuardStatements } from './subscription-guard-sql.ts';

const CURRENT_DATABASE = '(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())';

/** A role that is gone. Its rows mean nothing, and whoever writes next removes them. */
function isGone(column: string): string {
  return `(${column} <> 0 AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = ${column}))`;
}

/** A trigger's function that runs as whoever writes, and refuses unless `isAllowed` holds for the row. */
function guard(options: { table: string; isDead: string; isAllowed: string; refusal: string }): string {
  const { table, isDead, isAllowed, refusal } = options;
  const body = `DECLARE entry pg_atoll.${table} := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; BEGIN
    IF TG_OP = 'DELETE' AND (entry.database <> ${CURRENT_DATABASE} OR ${isDead}) THEN RETURN OLD; END IF;
    IF entry.database = ${CURRENT_DATABASE} AND ${isAllowed}
      AND (TG_OP <> 'UPDATE' OR to_jsonb(OLD) - 'is_grantable' = to_jsonb(NEW) - 'is_grantable') THEN RETURN entry; END IF;
    RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = ${refusal}; END`;
  return `CREATE OR REPLACE FUNCTION pg_atoll.guard_${table}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS '${body.replaceAll("'", "''")}'`;
}

/** Asked with the caller's role as a value, for inside the function the caller is not to be seen. Tells nothing that is not public. */
const MAY_PASS_ON = `CREATE OR REPLACE FUNCTION pg_atoll.may_pass_on(role name, wanted text) RETURNS boolean
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'SELECT pg_has_role(role, d.datdba, ''MEMBER'') OR pg_has_role(role, ''admin'', ''MEMBER'')
      OR EXISTS (SELECT FROM pg_atoll.database_privileges p WHERE p.database = d.oid AND p.privilege = wanted
        AND p.is_grantable AND EXISTS (SELECT FROM pg_roles r WHERE r.oid = p.grantee) AND pg_has_role(role, p.grantee, ''MEMBER''))
    FROM pg_database d WHERE d.datname = current_database()'`;

/**
 * Gives new tables what `pg_atoll.default_privileges` says, as the role that made them. BACKUP on a table is REFERENCES on its system
 * column tableoid, on a view on its first column: a right that opens nothing, kept and carried by Postgres like every other.
 */
const GRANT_DEFAULTS = `CREATE OR REPLACE FUNCTION pg_atoll.grant_defaults() RETURNS event_trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
  AS 'DECLARE entry record; BEGIN
    IF NOT EXISTS (SELECT FROM pg_atoll.default_privileges) THEN RETURN; END IF;
    FOR entry IN
      SELECT c.oid::regclass AS relation, a.attname AS carrier, d.is_grantable,
          CASE d.grantee WHEN 0 THEN ''PUBLIC'' ELSE quote_ident(r.rolname) END AS grantee
        FROM pg_event_trigger_ddl_commands() e
        JOIN pg_class c ON c.oid = e.objid AND e.classid = ''pg_class''::regclass
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = CASE c.relkind WHEN ''v'' THEN 1 ELSE -6 END
        JOIN pg_atoll.default_privileges d ON d.creator = c.relowner AND d.namespace IN (0, c.relnamespace)
        LEFT JOIN pg_roles r ON r.oid = d.grantee
        WHERE c.relkind IN (''r'', ''p'', ''v'', ''m'', ''f'') AND c.relpersistence <> ''t'' AND NOT e.in_extension
          AND e.command_tag IN (''CREATE TABLE'', ''CREATE TABLE AS'', ''SELECT INTO'', ''CREATE VIEW'',
            ''CREATE MATERIALIZED VIEW'', ''CREATE FOREIGN TABLE'', ''IMPORT FOREIGN SCHEMA'')
          AND d.database = ${CURRENT_DATABASE.replaceAll("'", "''")}
          AND (d.grantee = 0 OR r.oid IS NOT NULL)
    LOOP
      EXECUTE format(''GRANT REFERENCES (%I) ON TABLE %s TO %s%s'', entry.carrier, entry.relation, entry.grantee,
        CASE WHEN entry.is_grantable THEN '' WITH GRANT OPTION'' ELSE '''' END);
    END LOOP; END'`;

/** What `pg_atoll.change_backup` does, by the name of the change. */
const CHANGES: Readonly<Record<string, string>> = {
  grant: 'GRANT %s (%I) ON TABLE %s TO %s',
  'grant with grant option': 'GRANT %s (%I) ON TABLE %s TO %s WITH GRANT OPTION',
  revoke: 'REVOKE %s (%I) ON TABLE %s FROM %s RESTRICT',
  'revoke cascade': 'REVOKE %s (%I) ON TABLE %s FROM %s CASCADE',
  'revoke grant option for': 'REVOKE GRANT OPTION FOR %s (%I) ON TABLE %s FROM %s RESTRICT',
  'revoke grant option for cascade': 'REVOKE GRANT OPTION FOR %s (%I) ON TABLE %s FROM %s CASCADE',
};

/**
 * Admins grant BACKUP on tables they do not own; Postgres asks whoever calls it for EXECUTE, which only they have. It runs as superuser,
 * and so does no more than GRANT and REVOKE of this one privilege, which call nothing of a tenant's.
 */
const CHANGE_BACKUP = `CREATE OR REPLACE FUNCTION pg_atoll.change_backup(relation regclass, change text, grantees oid[]) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS 'DECLARE carrier record; names text; BEGIN
    SELECT a.attname AS name, CASE c.relkind WHEN ''S'' THEN ''SELECT'' ELSE ''REFERENCES'' END AS privilege INTO STRICT carrier
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = CASE c.relkind WHEN ''v'' THEN 1 ELSE -6 END
      WHERE c.oid = relation AND c.relkind IN (''r'', ''p'', ''v'', ''m'', ''f'', ''S'') AND c.oid >= 16384;
    SELECT string_agg(CASE g WHEN 0 THEN ''PUBLIC'' ELSE g::regrole::text END, '', '') INTO names FROM unnest(grantees) g;
    EXECUTE format(CASE change ${Object.entries(CHANGES)
      .map(([name, sql]) => `WHEN ''${name}'' THEN ''${sql}''`)
      .join(' ')} END, carrier.privilege, carrier.name, relation, names);
  END'`;

/** Runs as the bootstrap superuser, with no event trigger of anybody's. May run twice; then it waits for nobody who uses the tables. */
export function privilegeStoreStatements(): string[] {
  return [
    'SET allow_system_table_mods = on',
    'CREATE SCHEMA IF NOT EXISTS pg_atoll',
    'RESET allow_system_table_mods',
    `CREATE TABLE IF NOT EXISTS pg_atoll.database_privileges (
      database oid NOT NULL, privilege text NOT NULL CHECK (privilege IN ('BACKUP', 'RESTORE')), grantee oid NOT NULL,
      is_grantable boolean NOT NULL, PRIMARY KEY (database, privilege, grantee))`,
    `CREATE TABLE IF NOT EXISTS pg_atoll.default_privileges (
      database oid NOT NULL, creator oid NOT NULL, namespace oid NOT NULL, privilege text NOT NULL CHECK (privilege = 'BACKUP'),
      grantee oid NOT NULL, is_grantable boolean NOT NULL,
      PRIMARY KEY (database, creator, namespace, privilege, grantee))`,
    MAY_PASS_ON,
    GRANT_DEFAULTS,
    CHANGE_BACKUP,
    'REVOKE ALL ON FUNCTION pg_atoll.change_backup FROM PUBLIC',
    'GRANT EXECUTE ON FUNCTION pg_atoll.change_backup TO admin',
    guard({
      table: 'database_privileges',
      isDead: isGone('entry.grantee'),
      isAllowed: 'pg_atoll.may_pass_on(current_user, entry.privilege)',
      refusal:
        "format('role %I may not grant or revoke %s on database %I', current_user, entry.privilege, current_database())",
    }),
    guard({
      table: 'default_privileges',
      isDead: `${isGone('entry.grantee')} OR ${isGone('entry.creator')}`,
      isAllowed:
        "(pg_has_role(current_user, entry.creator, 'MEMBER') OR pg_has_role(current_user, 'admin', 'MEMBER'))",
      refusal: "format('role %I may not change default privileges of another role', current_user)",
    }),
    'GRANT USAGE ON SCHEMA pg_atoll TO PUBLIC',
    ...['database_privileges', 'default_privileges'].flatMap((table) => [
      `GRANT SELECT, INSERT, UPDATE, DELETE ON pg_atoll.${table} TO PUBLIC`,
      // Always: also for what a subscription writes.
      `DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'pg_atoll.${table}'::regclass AND t.tgname = 'guard'
          AND t.tgenabled = 'A' AND t.tgfoid = 'pg_atoll.guard_${table}()'::regprocedure) THEN
        CREATE OR REPLACE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON pg_atoll.${table}
          FOR EACH ROW EXECUTE FUNCTION pg_atoll.guard_${table}();
        ALTER TABLE pg_atoll.${table} ENABLE ALWAYS TRIGGER guard;
      END IF; END$$`,
    ]),
    ...replaceEventTrigger({
      name: 'pg_atoll_grant_defaults',
      definition: `ON ddl_command_end
        WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE VIEW', 'CREATE MATERIALIZED VIEW', 'CREATE FOREIGN TABLE',
          'IMPORT FOREIGN SCHEMA', 'CREATE SCHEMA')
        EXECUTE FUNCTION pg_atoll.grant_defaults()`,
    }),
    ...subscriptionGuardStatements(),
  ];
}
