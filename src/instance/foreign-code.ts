/**
 * What comes with a data directory and runs as the server, or before anybody is asked. Tenants cannot make it: it takes a superuser,
 * so it was made elsewhere, or by somebody who should not have been able to.
 */
import type { InternalClient } from './contract.ts';
import { installGuards } from './database-guards.ts';
import { type Place, inDatabase, readDatabases, shutAgain } from './every-database.ts';
import { bequeath } from './bequeath.ts';
import { disown, revokeHostRoles } from './foreign-owner.ts';

/** Oids that Postgres gives to what is made after `initdb`. */
const FIRST_NORMAL_OID = 16_384;
/** `internal` and `C`: code of the server itself, and of libraries that it loads. */
const NATIVE_LANGUAGES = '12, 13';
/** A function of this library fails when it is called, for there is none of this name. */
const NO_LIBRARY = '$libdir/removed_by_atoll';
/** Parameters of roles and databases that make a session load a library. */
const LOADING_PARAMETERS = 'session_preload_libraries, local_preload_libraries, shared_preload_libraries'
  .split(', ')
  .map((name) => `'${name}'`)
  .join(', ');

/**
 * Functions of the server that anybody makes along with aggregates and range types. The one of an aggregate does nothing but fail; constructors
 * are told by what the range itself says of its types, for they trust their parameters to be of these.
 */
const MADE_BY_SERVER = `p.prolang = 12 AND (p.prosrc = 'aggregate_dummy' OR EXISTS (
    SELECT FROM pg_catalog.pg_range r JOIN pg_catalog.pg_type t ON t.oid = r.rngtypid
      WHERE (p.prosrc, p.prorettype, p.proargtypes::text) IN (
        ('range_constructor2', r.rngtypid, pg_catalog.concat_ws(' ', r.rngsubtype, r.rngsubtype)),
        ('range_constructor3', r.rngtypid, pg_catalog.concat_ws(' ', r.rngsubtype, r.rngsubtype, 25)),
        ('multirange_constructor0', r.rngmultitypid, ''),
        ('multirange_constructor1', r.rngmultitypid, r.rngtypid::text),
        ('multirange_constructor2', r.rngmultitypid, t.typarray::text))))`;

/** Only libraries that came with the engine lie in its folder, and only extensions that we allow define functions of theirs. */
const FOREIGN_FUNCTIONS = `SELECT p.oid, p.oid::pg_catalog.regprocedure::text AS name
  FROM pg_catalog.pg_proc p
  WHERE p.prolang IN (${NATIVE_LANGUAGES}) AND p.oid >= ${FIRST_NORMAL_OID} AND p.probin IS DISTINCT FROM '${NO_LIBRARY}'
    AND NOT (${MADE_BY_SERVER})
    AND NOT (
      EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                JOIN pg_catalog.pg_available_extensions a ON a.name = e.extname
              WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
                AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e')
      AND (p.probin IS NULL OR p.probin ~ '^\\$libdir/[A-Za-z0-9_-]+$'))
  ORDER BY 2`;

/**
 * Takes it away, in every database and template, on a server that nobody else can reach. Gives what was found, a sentence each. May run
 * twice. Functions are not dropped, since columns and indexes may depend on them: calling one fails. Of data of another cluster the
 * superuser was another one, too: nothing that he made runs as ours, and our guards are made anew whatever is there.
 */
export async function removeForeignCode(
  client: InternalClient,
  options: Place & {
    readonly isOfOtherCluster: boolean;
    /** Who inherits, before all else, what the superuser owned; nobody in particular when left out. */
    readonly heir?: string | null;
    /** Databases that are ours; `system` when left out. */
    readonly ownDatabases?: readonly string[];
  },
): Promise<readonly string[]> {
  const { isOfOtherCluster, heir = null, ownDatabases = ['system'] } = options;
  await shutAgain(client);
  const findings = [...(await disarmSuperusers(client)), ...(await removeLoadingSettings(client))];
  if (isOfOtherCluster) findings.push(...(await revokeHostRoles(client)));
  for (const database of await readDatabases(client)) {
    const found = await inDatabase(client, { ...options, database }, async (session) => {
      const removed = await removeFromDatabase(session);
      // What is in `system` only we use.
      if (!isOfOtherCluster || ownDatabases.includes(database.name)) return removed;
      if (heir !== null) removed.push(...(await bequeath(session, heir)));
      const disowned = await disown(session);
      await installGuards(session, { isForced: true });
      return [...removed, ...disowned];
    });
    findings.push(...found.map((finding) => `database ${database.quoted}: ${finding}`));
  }
  return findings;
}

/** Nobody but the bootstrap superuser is one in a virtual cluster. */
async function disarmSuperusers(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    'SELECT pg_catalog.quote_ident(rolname) AS name FROM pg_catalog.pg_authid WHERE rolsuper AND oid <> 10 ORDER BY 1',
  );
  for (const { name } of rows) await client.query(`ALTER ROLE ${name} NOSUPERUSER`);
  return rows.map(({ name }) => `role ${name} is no superuser any more`);
}

async function removeLoadingSettings(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    `SELECT coalesce(r.rolname, 'every role') AS role, coalesce(d.datname, 'every database') AS database, split_part(c, '=', 1) AS name
       FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) c
         LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
      WHERE split_part(c, '=', 1) IN (${LOADING_PARAMETERS}) ORDER BY 1, 2, 3`,
  );
  if (rows.length === 0) return [];
  await client.query(
    `UPDATE pg_catalog.pg_db_role_setting s SET setconfig = coalesce(
       (SELECT pg_catalog.array_agg(c) FROM pg_catalog.unnest(s.setconfig) c WHERE split_part(c, '=', 1) NOT IN (${LOADING_PARAMETERS})), '{}')`,
  );
  await client.query(`DELETE FROM pg_catalog.pg_db_role_setting WHERE setconfig = '{}'`);
  return rows.map(({ role, database, name }) => `${name} of ${role} in ${database} was reset`);
}

async function removeFromDatabase(client: InternalClient): Promise<string[]> {
  const findings: string[] = [];
  const triggers = await client.query(
    `SELECT pg_catalog.quote_ident(evtname) AS name FROM pg_catalog.pg_event_trigger WHERE evtevent = 'login' ORDER BY 1`,
  );
  for (const { name } of triggers) {
    await client.query(`DROP EVENT TRIGGER ${name}`);
    findings.push(`login event trigger ${name} was dropped`);
  }
  for (const { oid, name } of await client.query(FOREIGN_FUNCTIONS)) {
    await client.query(
      `UPDATE pg_catalog.pg_proc SET prolang = 13, probin = '${NO_LIBRARY}', prosrc = 'removed_by_atoll' WHERE oid = $1::pg_catalog.oid`,
      [oid ?? ''],
    );
    findings.push(`function ${name}, which is code of a library or of the server, can be called no more`);
  }
  return findings;
}
