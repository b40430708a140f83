/**
 * What the template holds beyond `initdb`: roles, databases and privileges that every virtual cluster is born with.
 * Run in single-user mode, where each statement ends in a semicolon and an empty line.
 */

import { guardMarkStatements, guardStatements } from './guard-sql.ts';

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
  return [...guardStatements(), ...publicSchemaStatements()];
}

/** Where there is a schema `public`. */
export function publicSchemaStatements(): string[] {
  return [
    'GRANT ALL ON SCHEMA public TO admin',
    // Dumps leave out privileges that a database was born with: this one must not turn up in a tenant's dump.
    "DELETE FROM pg_init_privs WHERE classoid = 'pg_namespace'::regclass AND objoid = 'public'::regnamespace",
    "INSERT INTO pg_init_privs (objoid, classoid, objsubid, privtype, initprivs) SELECT oid, 'pg_namespace'::regclass, 0, 'i', nspacl FROM pg_namespace WHERE nspname = 'public'",
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
  ];
}

/** Runs in `system`, last of all. */
export function systemStatements(): string[] {
  return [
    ...guardMarkStatements(),
    // The log begins anew, so that a copy needs to carry one nearly empty segment.
    'SELECT pg_switch_wal()',
  ];
}

/** The text single-user mode reads. */
export function singleUserScript(statements: readonly string[]): string {
  return statements.map((statement) => `${statement};\n\n`).join('');
}
