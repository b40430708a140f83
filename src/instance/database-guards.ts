/**
 * What every database of a virtual cluster must hold of ours before a tenant reaches it: the schema `pg_atoll`, its event triggers, and
 * what is withheld from everybody. New databases inherit it from the templates. Virtual clusters that were made by an earlier release, or
 * restored from its backups, get it here: before they serve. docs/decisions/0053-guards-in-every-database.md
 */
import type { InternalClient } from './contract.ts';
import { type Place, inDatabase, readDatabases, shutAgain } from './every-database.ts';
import { GUARD_DIGEST, guardStatements } from './guard-sql.ts';

/** A prepared transaction may hold what has to be changed: then it fails, and does not wait for ever. */
const LOCK_TIMEOUT = '30s';

/**
 * Puts them into every database and template that has not got those of this release, on a server that no tenant can reach. Gives what was
 * done, a sentence each. May run twice; where nothing is missing, it is one query in `system`.
 */
export async function guardDatabases(client: InternalClient, place: Place): Promise<readonly string[]> {
  await shutAgain(client);
  const marked = await client.query(
    'SELECT database::text AS oid FROM public.database_guards WHERE digest = $1',
    [GUARD_DIGEST],
  );
  const done = new Set(marked.map(({ oid }) => oid));
  const missing = (await readDatabases(client)).filter(({ oid }) => !done.has(oid));
  const changes: string[] = [];
  for (const database of missing) {
    const isInstalled = await inDatabase(client, { ...place, database }, installGuards);
    await client.query(
      `INSERT INTO public.database_guards VALUES ($1, $2, false) ON CONFLICT (database) DO UPDATE SET digest = excluded.digest`,
      [database.oid, GUARD_DIGEST],
    );
    if (isInstalled) changes.push(`database ${database.quoted}: guards of this release are installed`);
  }
  if (missing.length > 0) {
    await client.query(
      'DELETE FROM public.database_guards g WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.oid = g.database)',
    );
  }
  return changes;
}

/**
 * In one database, by the bootstrap superuser. One at a time; who comes later finds it made. False when nothing was missing. With `isForced` what
 * is there is replaced, whatever it says of itself.
 */
export async function installGuards(client: InternalClient, { isForced = false } = {}): Promise<boolean> {
  // Tenants may set defaults for a database that would stand in the way.
  await client.query('BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE');
  await client.query("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pg_atoll'))");
  const isMissing = isForced || (await readDigest(client)) !== GUARD_DIGEST;
  if (isMissing) {
    await client.query(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`);
    await client.query("SET LOCAL default_tablespace = ''");
    await client.query('SET LOCAL default_table_access_method = heap');
    for (const statement of guardStatements()) await client.query(statement);
  }
  await client.query('COMMIT');
  return isMissing;
}

/** Only the owner of the schema can write it, and it goes with the database wherever that is copied to. */
async function readDigest(client: InternalClient): Promise<string | null> {
  const [row] = await client.query(
    "SELECT pg_catalog.obj_description(pg_catalog.to_regnamespace('pg_atoll')::pg_catalog.oid, 'pg_namespace') AS digest",
  );
  return row?.['digest'] ?? null;
}
