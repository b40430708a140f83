/** What every database of a virtual cluster must hold of ours: born with it, or given it later. */
import { createHash } from 'node:crypto';
import { privilegeStoreStatements } from './privilege-store-sql.ts';

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

function withholdingStatements(): string[] {
  const withheld = `p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN (${WITHHELD_FUNCTIONS.map((name) => `'${name}'`).join(', ')})`;
  return [
    `DO $$DECLARE f regprocedure; BEGIN FOR f IN SELECT p.oid FROM pg_proc p WHERE ${withheld} LOOP EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f); END LOOP; END$$`,
    // Dumps leave out privileges that a database was born with: these must not turn up in a tenant's dump.
    `DELETE FROM pg_init_privs WHERE classoid = 'pg_proc'::regclass AND objoid IN (SELECT p.oid FROM pg_proc p WHERE ${withheld})`,
    `INSERT INTO pg_init_privs (objoid, classoid, objsubid, privtype, initprivs) SELECT p.oid, 'pg_proc'::regclass, 0, 'i', p.proacl FROM pg_proc p WHERE ${withheld}`,
  ];
}

/** Names the guards of this release: changes with every change of them. */
export const GUARD_DIGEST = createHash('sha256')
  .update(JSON.stringify([privilegeStoreStatements(), withholdingStatements()]))
  .digest('hex');

/** Run by the bootstrap superuser with no event trigger of anybody's, in one transaction or alone. May run twice; calls nothing of a tenant's. */
export function guardStatements(): string[] {
  return [
    ...privilegeStoreStatements(),
    ...withholdingStatements(),
    `COMMENT ON SCHEMA pg_atoll IS '${GUARD_DIGEST}'`,
  ];
}

/**
 * In `system`: which databases were seen to have which guards, and which are open only while we are in them. No migration: it only remembers
 * what can be found out again, and is made wherever it is missing.
 */
export const DATABASE_GUARDS_TABLE = `CREATE TABLE IF NOT EXISTS public.database_guards
  (database oid PRIMARY KEY, digest text NOT NULL, is_shut boolean NOT NULL)`;

/** Run in `system` of the template, when all of its databases are there. */
export function guardMarkStatements(): string[] {
  return [
    DATABASE_GUARDS_TABLE,
    `INSERT INTO public.database_guards SELECT oid, '${GUARD_DIGEST}', false FROM pg_database`,
  ];
}
