/**
 * Empties tables of a restored data directory: those whose rows are kept out of backups, or all, of which only definitions were asked for. An
 * image has their files like all others; their rows go before anybody can log in.
 */
import { AppError, isAppError, required } from '../base/index.ts';
import { isExcluded } from '../logical-copy/index.ts';
import type { InternalClient } from './contract.ts';
import { withDefinerSession } from './sessions.ts';

interface Place {
  readonly socketDirectory: string;
  readonly clusterName: string;
  readonly signal: AbortSignal;
}

/** Large objects that go in one transaction: each takes a lock. */
const LARGE_OBJECTS_AT_ONCE = 1000;

/**
 * Leaves no row in any database that can be entered but ours. Definitions stay, and so do sequences where they are. Runs nothing of a tenant's.
 * May run twice. @throws AppError `object_state` naming what could not be emptied
 */
export async function emptyAll(client: InternalClient, place: Place): Promise<void> {
  for (const { database, quoted } of await enterable(client)) {
    await withDefinerSession({ ...place, database }, async (definer) => {
      const kept = await emptyInDatabase(definer, ALL);
      await emptyMaterializedViews(definer);
      await removeLargeObjects(definer);
      const [first] = kept;
      if (first === undefined) return;
      throw new AppError('object_state', `database ${quoted}: ${first}`, {
        hint: 'leave schema_only out, and empty it afterwards',
      });
    });
  }
}

async function emptyMaterializedViews(definer: InternalClient): Promise<void> {
  const views = await definer.query(
    `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'm' AND c.relispopulated AND c.oid >= 16384`,
  );
  for (const { name } of views) {
    await definer.query(`REFRESH MATERIALIZED VIEW ${required(name, 'name of a view')} WITH NO DATA`);
  }
}

async function removeLargeObjects(definer: InternalClient): Promise<void> {
  for (let removed = LARGE_OBJECTS_AT_ONCE; removed > 0; ) {
    const [row] = await definer.query(
      `SELECT pg_catalog.count(pg_catalog.lo_unlink(each.oid)) AS count
        FROM (SELECT oid FROM pg_catalog.pg_largeobject_metadata LIMIT ${LARGE_OBJECTS_AT_ONCE}) each`,
    );
    removed = Number(row?.['count'] ?? 0);
  }
}

/** Gives what could not be emptied, a sentence each. Runs nothing of a tenant's: no trigger, no rule. May run twice. */
export async function emptyExcluded(client: InternalClient, place: Place): Promise<readonly string[]> {
  const kept: string[] = [];
  for (const { database, quoted } of await enterable(client)) {
    const found = await withDefinerSession({ ...place, database }, (definer) =>
      emptyInDatabase(definer, EXCLUDED),
    );
    kept.push(...found.map((finding) => `database ${quoted}: ${finding}`));
  }
  return kept;
}

async function enterable(
  client: InternalClient,
): Promise<readonly { readonly database: string; readonly quoted: string }[]> {
  const databases = await client.query(
    `SELECT datname AS name, pg_catalog.quote_ident(datname) AS quoted FROM pg_catalog.pg_database
      WHERE datallowconn AND datconnlimit <> -2 AND datname <> 'system' ORDER BY datname`,
  );
  return databases.map(({ name, quoted }) => ({
    database: required(name, 'name of a database'),
    quoted: required(quoted, 'name of a database'),
  }));
}

/** Which tables, and why one that is kept should not be. */
interface Emptied {
  readonly condition: string;
  readonly reason: string;
}

const EXCLUDED: Emptied = {
  condition: isExcluded('c.oid'),
  reason: 'though it has exclude_data_from_backup: others refer to them',
};
const ALL: Emptied = { condition: 'true', reason: 'though only definitions are wanted' };

async function emptyInDatabase(
  definer: InternalClient,
  { condition, reason }: Emptied,
): Promise<readonly string[]> {
  const rows = await definer.query(
    `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.oid >= 16384 AND ${condition} ORDER BY 1`,
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
      kept.push(`table ${table} keeps the rows that it had, ${reason}`);
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
