/**
 * Makes the data of a plain PostgreSQL server into that of a virtual cluster, on a server that nobody else can reach: our roles, the database
 * `system`, the guards in every database; and no superuser but ours. docs/decisions/0077-moving-in.md
 */
import { required } from '../base/index.ts';
import type { InternalClient } from './contract.ts';
import { inDatabase, type Place, readDatabases } from './every-database.ts';
import { removeForeignCode } from './foreign-code.ts';
import { type Login, OWN_LOGIN } from './login.ts';
import { withDefinerSession, withSystemSession } from './sessions.ts';
import { LIBC_LOCALE } from './template.ts';
import { clusterStatements, publicSchemaStatements } from './template-sql.ts';

/** `system` until it is complete: whoever can log in to `system` need do nothing here. */
const BEING_MADE = 'atoll_system_being_made';
/** What is said of the role that takes the superuser's place, by which it is known after a crash. */
const HEIR_COMMENT =
  'in the place of the superuser of the server that this virtual cluster was moved in from';
const OWN_ROLES = ['atoll_reader', 'admin', 'root'];
/** Databases that are born with `public` open to admins; new ones inherit it from the templates. */
const OPENED_DATABASES = ['template0', 'template1', 'postgres', 'defaultdb'];

/**
 * `login` is how the server lets us in now; afterwards it does as any other of ours. `onFindings` is told what was found and changed, a
 * sentence each. Cut off anywhere, it may be run again, and tells only what was left to do.
 */
export async function adoptServer(
  place: Place,
  { login, onFindings }: { login: Login; onFindings: (findings: readonly string[]) => void },
): Promise<void> {
  await withSystemSession({ ...place, login }, async (client) => {
    onFindings(await makeRoles(client));
    await makeDatabases(client);
  });
  await withDefinerSession({ ...place, database: BEING_MADE }, async (client) => {
    const heir = await findHeir(client);
    const ownDatabases = [BEING_MADE];
    onFindings(await removeForeignCode(client, { ...place, isOfOtherCluster: true, heir, ownDatabases }));
    if (heir !== null) await bequeathDatabases(client, heir);
    await openSchemas(client, place);
    onFindings([...(await findWeakPasswords(client)), ...(await findOtherCollations(client))]);
  });
  // Who is in a database cannot rename it.
  await withDefinerSession({ ...place, database: 'template1' }, async (client) => {
    const [taken] = await client.query(`SELECT 1 FROM pg_catalog.pg_database WHERE datname = 'system'`);
    if (taken !== undefined) {
      await client.query('ALTER DATABASE system RENAME TO system_of_source');
      onFindings(['database system, which had a name of ours, is called system_of_source']);
    }
    await client.query(`ALTER DATABASE ${BEING_MADE} RENAME TO system`);
    await client.query('CHECKPOINT');
  });
}

/** In one transaction: our superuser, the heir of theirs, and the roles that every virtual cluster is born with. */
async function makeRoles(client: InternalClient): Promise<string[]> {
  const [superuser] = await client.query('SELECT rolname AS name FROM pg_catalog.pg_authid WHERE oid = 10');
  const former = required(superuser?.['name'], 'name of the superuser');
  if (former === OWN_LOGIN.user) return [];
  const findings: string[] = [];
  await client.query('BEGIN');
  findings.push(...(await clearNames(client)));
  const others = await client.query(
    `SELECT pg_catalog.quote_ident(rolname) AS quoted, rolsuper::text AS is_superuser FROM pg_catalog.pg_authid
      WHERE oid >= 16384 ORDER BY oid`,
  );
  // Whoever is logged in cannot be renamed by ALTER ROLE.
  await client.query('UPDATE pg_catalog.pg_authid SET rolname = $1 WHERE oid = 10', [OWN_LOGIN.user]);
  const heirName = OWN_ROLES.includes(former) && former !== 'root' ? `${former}_of_source` : former;
  const heir = await quotedName(client, heirName);
  await client.query(`CREATE ROLE ${heir} LOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS`);
  // A verifier of SCRAM does not depend on the name.
  await client.query(
    `UPDATE pg_catalog.pg_authid SET rolpassword = (SELECT p.rolpassword FROM pg_catalog.pg_authid p WHERE p.oid = 10)
      WHERE rolname = $1`,
    [heirName],
  );
  await client.query('UPDATE pg_catalog.pg_authid SET rolpassword = NULL WHERE oid = 10');
  await client.query(
    `UPDATE pg_catalog.pg_db_role_setting SET setrole = (SELECT oid FROM pg_catalog.pg_authid WHERE rolname = $1) WHERE setrole = 10`,
    [heirName],
  );
  await client.query(`COMMENT ON ROLE ${heir} IS '${HEIR_COMMENT}'`);
  for (const statement of clusterStatements()) {
    if (former === 'root' && statement.startsWith('CREATE ROLE root ')) continue;
    await client.query(statement);
  }
  findings.push(`superuser "${former}" is now role ${heir}, which is a member of admin and no superuser`);
  await client.query(`GRANT admin TO ${heir} WITH ADMIN OPTION`);
  if (former !== 'root') await client.query(`GRANT ${heir} TO root WITH ADMIN OPTION`);
  for (const { quoted: other, is_superuser: isSuperuser } of others) {
    // Who administers them was a superuser, and is an administrator now.
    const heads = former === 'root' ? 'root' : `root, ${heir}`;
    await client.query(`GRANT ${other} TO ${heads} WITH ADMIN OPTION`);
    if (isSuperuser === 'true') {
      await client.query(`ALTER ROLE ${other} CREATEDB CREATEROLE BYPASSRLS`);
      await client.query(`GRANT admin TO ${other}`);
      findings.push(`superuser ${other} is a member of admin`);
    }
  }
  await client.query('COMMIT');
  return findings;
}

async function quotedName(client: InternalClient, name: string): Promise<string> {
  const [row] = await client.query('SELECT pg_catalog.quote_ident($1) AS quoted', [name]);
  return required(row?.['quoted'], 'quoted name');
}

/** Names that only we use. Whoever made the stream was told, if they were there then. */
async function clearNames(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    `SELECT pg_catalog.quote_ident(rolname) AS quoted, pg_catalog.quote_ident(pg_catalog.left(rolname, 53) || '_of_source') AS aside
       FROM pg_catalog.pg_authid WHERE oid >= 16384
        AND (rolname = ANY (pg_catalog.string_to_array($1, ',')) OR rolname = 'atoll' OR rolname LIKE 'atoll\\_%') ORDER BY 1`,
    [OWN_ROLES.join(',')],
  );
  for (const { quoted, aside } of rows) await client.query(`ALTER ROLE ${quoted} RENAME TO ${aside}`);
  return rows.map(({ quoted, aside }) => `role ${quoted}, which had a name of ours, is called ${aside}`);
}

async function makeDatabases(client: InternalClient): Promise<void> {
  const present = new Set(
    (await client.query('SELECT datname FROM pg_catalog.pg_database')).map(({ datname }) => datname),
  );
  const how = `TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE '${LIBC_LOCALE}'`;
  if (!present.has(BEING_MADE)) await client.query(`CREATE DATABASE ${BEING_MADE} ${how}`);
  await client.query(`REVOKE ALL ON DATABASE ${BEING_MADE} FROM PUBLIC`);
  for (const name of ['postgres', 'defaultdb']) {
    if (!present.has(name)) await client.query(`CREATE DATABASE ${name} OWNER root ${how}`);
    await client.query(`GRANT ALL ON DATABASE ${name} TO admin`);
  }
}

async function findHeir(client: InternalClient): Promise<string | null> {
  const [row] = await client.query(
    `SELECT r.rolname AS name FROM pg_catalog.pg_roles r
      WHERE r.oid >= 16384 AND pg_catalog.shobj_description(r.oid, 'pg_authid') = $1 ORDER BY r.oid LIMIT 1`,
    [HEIR_COMMENT],
  );
  return row?.['name'] ?? null;
}

/** The templates stay ours: what is made of them must have the guards. */
async function bequeathDatabases(client: InternalClient, heir: string): Promise<void> {
  const rows = await client.query(
    `SELECT pg_catalog.quote_ident(datname) AS quoted, pg_catalog.quote_ident($1) AS heir FROM pg_catalog.pg_database
      WHERE datdba = 10 AND datconnlimit <> -2 AND datname NOT IN ('template0', 'template1', '${BEING_MADE}') ORDER BY 1`,
    [heir],
  );
  for (const { quoted, heir: owner } of rows)
    await client.query(`ALTER DATABASE ${quoted} OWNER TO ${owner}`);
}

async function openSchemas(client: InternalClient, place: Place): Promise<void> {
  for (const database of await readDatabases(client)) {
    if (!OPENED_DATABASES.includes(database.name)) continue;
    await inDatabase(client, { ...place, database }, async (session) => {
      const [schema] = await session.query(`SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'public'`);
      if (schema === undefined) return;
      for (const statement of publicSchemaStatements()) await session.query(statement);
    });
  }
}

async function findWeakPasswords(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    `SELECT pg_catalog.quote_ident(rolname) AS quoted FROM pg_catalog.pg_authid WHERE rolpassword LIKE 'md5%' ORDER BY 1`,
  );
  return rows.map(
    ({ quoted }) =>
      `the password of role ${quoted} is kept as MD5, which nobody can log in with here: set it anew`,
  );
}

/** Indexes are sorted as the library of the other machine does. */
async function findOtherCollations(client: InternalClient): Promise<string[]> {
  const rows = await client.query(
    `SELECT pg_catalog.quote_ident(datname) AS quoted, datcollversion AS theirs, pg_catalog.pg_database_collation_actual_version(oid) AS ours
       FROM pg_catalog.pg_database WHERE datcollversion <> pg_catalog.pg_database_collation_actual_version(oid) ORDER BY 1`,
  );
  return rows.map(
    ({ quoted, theirs, ours }) =>
      `database ${quoted} was sorted by version ${theirs} of its collation, and here is ${ours}: REINDEX DATABASE, then ALTER DATABASE ${quoted} REFRESH COLLATION VERSION`,
  );
}
