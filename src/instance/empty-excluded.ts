/**
 * Empties the tables of a restored data directory whose rows are kept out of backups. An image has their files like all others; their rows go
 * before anybody can log in.
 */
import { isAppError, required } from '../base/index.ts';
import { isExcluded } from '../logical-copy/index.ts';
import type { InternalClient } from './contract.ts';
import { withDefinerSession } from './sessions.ts';

interface Place {
  readonly socketDirectory: string;
  readonly clusterName: string;
  readonly signal: AbortSignal;
}

/** Gives what could not be emptied, a sentence each. Runs nothing of a tenant's: no trigger, no rule. May run twice. */
export async function emptyExcluded(client: InternalClient, place: Place): Promise<readonly string[]> {
  const databases = await client.query(
    `SELECT datname AS name, pg_catalog.quote_ident(datname) AS quoted FROM pg_catalog.pg_database
      WHERE datallowconn AND datconnlimit <> -2 AND datname <> 'system' ORDER BY datname`,
  );
  const kept: string[] = [];
  for (const { name, quoted } of databases) {
    const database = required(name, 'name of a database');
    const found = await withDefinerSession({ ...place, database }, emptyInDatabase);
    kept.push(...found.map((finding) => `database ${quoted}: ${finding}`));
  }
  return kept;
}

async function emptyInDatabase(definer: InternalClient): Promise<readonly string[]> {
  const rows = await definer.query(
    `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.oid >= 16384 AND ${isExcluded('c.oid')} ORDER BY 1`,
  );
  const tables = rows.map(({ name }) => required(name, 'name of a table'));
  if (tables.length === 0) return [];
  try {
    await empty(definer, tables);
    return [];
  } catch (error) {
    if (isAppError(error, 'cancelled')) throw error;
    await definer.query('ROLLBACK');
  }
  // One is in the way of all: each for itself.
  const kept: string[] = [];
  for (const table of tables) {
    try {
      await empty(definer, [table]);
    } catch (error) {
      if (isAppError(error, 'cancelled')) throw error;
      await definer.query('ROLLBACK');
      kept.push(
        `table ${table} keeps the rows that it had, though it has exclude_data_from_backup: others refer to them`,
      );
    }
  }
  return kept;
}

/** All or none. Triggers are as they were afterwards. */
async function empty(definer: InternalClient, tables: readonly string[]): Promise<void> {
  await definer.query('BEGIN');
  const triggers = await definer.query(
    `SELECT t.tgrelid::pg_catalog.regclass::text AS "table", pg_catalog.quote_ident(t.tgname) AS name, t.tgenabled AS state
      FROM pg_catalog.pg_trigger t WHERE t.tgrelid = ANY ($1::pg_catalog.regclass[]) AND NOT t.tgisinternal AND t.tgenabled <> 'D'`,
    [`{${tables.map((table) => `"${table.replaceAll(/(["\\])/g, '\\$1')}"`).join(',')}}`],
  );
  for (const { table, name } of triggers) await definer.query(`ALTER TABLE ${table} DISABLE TRIGGER ${name}`);
  await definer.query(`TRUNCATE TABLE ONLY ${tables.join(', ONLY ')}`);
  for (const { table, name, state } of triggers) {
    await definer.query(`ALTER TABLE ${table} ENABLE ${ENABLED[state ?? ''] ?? ''} TRIGGER ${name}`);
  }
  await definer.query('COMMIT');
}

/** `pg_trigger.tgenabled` */
const ENABLED: Readonly<Record<string, string>> = { A: 'ALWAYS', R: 'REPLICA' };
