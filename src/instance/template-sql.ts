/**
 * What the template holds beyond `initdb`: roles, databases and privileges that every virtual cluster is born with.
 * Run in single-user mode, where each statement ends in a semicolon and an empty line.
 */

import { privilegeStoreStatements } from './privilege-store-sql.ts';

/** What an administrator of a virtual cluster may do without being a superuser. Not `pg_monitor`: it shows secrets. */
const ADMIN_MEMBERSHIPS = [
  'pg_read_all_data',
  'pg_write_all_data',
  'pg_read_all_stats',
  'pg_signal_backend',
  'pg_maintain',
  'pg_checkpoint',
  'pg_create_subscription',
];

/**
 * Functions taken from everybody. Those of slots name an output plugin, which may be a path to load code from, or hold
 * WAL without limit, or reach the slot of the vault; the front door offers slots itself. Those of large objects read and write the host's files.
 */
const WITHHELD_FUNCTIONS = [
  'pg_create_logical_replication_slot',
  'pg_create_physical_replication_slot',
  'pg_copy_logical_replication_slot',
  'pg_copy_physical_replication_slot',
  'pg_drop_replication_slot',
  'pg_replication_slot_advance',
  'lo_import',
  'lo_export',
];

/** Runs in `template1`, once: what all databases of a virtual cluster share. */
export function clusterStatements(): string[] {
  return [
    'CREATE ROLE atoll_reader LOGIN',
    'GRANT pg_use_reserved_connections TO atoll_reader',
    'CREATE ROLE admin NOLOGIN CREATEDB CREATEROLE',
    `GRANT ${ADMIN_MEMBERSHIPS.join(', ')} TO admin WITH ADMIN OPTION`,
    'CREATE ROLE root LOGIN CREATEDB CREATEROLE REPLICATION',
    'GRANT admin TO root WITH ADMIN OPTION',
  ];
}

/** Runs in `template0`, `template1` and `postgres`; databases made from them inherit it. */
export function databaseStatements(): string[] {
  const withheld = `p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN (${WITHHELD_FUNCTIONS.map((name) => `'${name}'`).join(', ')})`;
  return [
    ...privilegeStoreStatements(),
    `DO $$DECLARE f regprocedure; BEGIN FOR f IN SELECT p.oid FROM pg_proc p WHERE ${withheld} LOOP EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f); END LOOP; END$$`,
    'GRANT ALL ON SCHEMA public TO admin',
    // Dumps leave out privileges that a database was born with: these must not turn up in a tenant's dump.
    `DELETE FROM pg_init_privs WHERE classoid = 'pg_proc'::regclass AND objoid IN (SELECT p.oid FROM pg_proc p WHERE ${withheld}) OR classoid = 'pg_namespace'::regclass AND objoid = 'public'::regnamespace`,
    `INSERT INTO pg_init_privs (objoid, classoid, objsubid, privtype, initprivs) SELECT p.oid, 'pg_proc'::regclass, 0, 'i', p.proacl FROM pg_proc p WHERE ${withheld} UNION ALL SELECT oid, 'pg_namespace'::regclass, 0, 'i', nspacl FROM pg_namespace WHERE nspname = 'public'`,
  ];
}

/** Runs in `template1` after the others: the databases of a virtual cluster. */
export function databaseCreation(): string[] {
  return [
    'CREATE DATABASE defaultdb OWNER root STRATEGY FILE_COPY',
    'CREATE DATABASE system STRATEGY FILE_COPY',
    'ALTER DATABASE postgres OWNER TO root',
    'GRANT ALL ON DATABASE defaultdb, postgres TO admin',
    'REVOKE ALL ON DATABASE system FROM PUBLIC',
    // The log begins anew, so that a copy needs to carry one nearly empty segment.
    'SELECT pg_switch_wal()',
  ];
}

/** The text single-user mode reads. */
export function singleUserScript(statements: readonly string[]): string {
  return statements.map((statement) => `${statement};\n\n`).join('');
}
