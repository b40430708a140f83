/** Whether a plain PostgreSQL server can be followed, and become a virtual cluster: asked before anything is copied. */
import { InputError, isAppError, required } from '../base/index.ts';
import type { BeginOptions } from './plain-server.ts';
import { readServerFacts } from './server-facts.ts';
import type { SourceClient, SourceRow } from './source-client.ts';

export interface Preflight {
  readonly systemIdentifier: bigint;
  readonly warnings: readonly { readonly message: string; readonly hint: string }[];
}

/** Into so many databases is looked. */
const DATABASES_MAX = 500;
/** One of these is where the node logs in while the server is followed. */
const BORN_DATABASES = ['postgres', 'template1'];

interface Options extends BeginOptions {
  /** A session in one of its databases. */
  readonly open: (database: string) => Promise<SourceClient>;
}

/** @throws InputError `object_state`, `feature_not_supported`, `insufficient_privilege`, `object_exists` */
export async function inspectServer(client: SourceClient, options: Options): Promise<Preflight> {
  await requireEngine(client, options);
  await requirePlain(client);
  const settings = await requireSettings(client);
  await requirePrivilege(client);
  await requireNames(client);
  await requireDefaultTablespace(client);
  const warnings = [
    ...warnOfSettings(settings),
    ...(await checkLocales(client, options)),
    ...(await checkDatabases(client, options)),
  ];
  const system = required(settings['system'], 'system identifier');
  return { systemIdentifier: BigInt.asUintN(64, BigInt(system)), warnings };
}

function refuse(message: string, hint: string): InputError {
  return new InputError('object_state', message, { hint });
}

async function requireEngine(client: SourceClient, { own }: Options): Promise<void> {
  const [shown] = await client.query(
    `SELECT pg_catalog.current_setting('server_version_num') AS number, pg_catalog.current_setting('server_version') AS version`,
  );
  const major = Math.trunc(Number(shown?.['number']) / 10_000);
  const ownMajor = Math.trunc(own.versionNumber / 10_000);
  if (major !== ownMajor) {
    throw new InputError(
      'feature_not_supported',
      `the source runs PostgreSQL ${shown?.['version'] ?? 'of an unknown version'}, and PostgreSQL ${ownMajor} is needed to be followed by this release`,
      {
        hint:
          major < ownMajor
            ? `upgrade the source to PostgreSQL ${ownMajor} first, with pg_upgrade; or move its databases with pg_dump`
            : 'move its databases with pg_dump',
      },
    );
  }
  const facts = await readServerFacts(client);
  if (facts.catalogVersion !== own.catalogVersion || facts.layout !== own.layout) {
    throw refuse(
      `the source is another build of PostgreSQL ${ownMajor}: its files cannot be read here`,
      'move its databases with pg_dump',
    );
  }
}

/** A virtual cluster is led to by its physical cluster, which knows what becomes of it. */
async function requirePlain(client: SourceClient): Promise<void> {
  const [row] = await client.query(`SELECT 1 FROM pg_catalog.pg_roles WHERE oid = 10 AND rolname = 'atoll'`);
  if (row === undefined) return;
  throw refuse(
    'the source is a virtual cluster of Atoll, or was one',
    'follow it by options=-ccluster=system in the connection string; what was one is brought back by RESTORE',
  );
}

async function requireSettings(client: SourceClient): Promise<SourceRow> {
  const [row = {}] = await client.query(
    `SELECT s.system_identifier::text AS system, pg_catalog.pg_is_in_recovery()::text AS is_standby,
        ${[
          'data_checksums',
          'wal_level',
          'full_page_writes',
          'max_wal_senders',
          'max_replication_slots',
          'max_slot_wal_keep_size',
        ]
          .map((name) => `pg_catalog.current_setting('${name}') AS ${name}`)
          .join(', ')}
       FROM pg_catalog.pg_control_system() s`,
  );
  if (row['is_standby'] === 'true') {
    throw refuse('the source is a standby', 'name its primary in the connection string');
  }
  if (row['wal_level'] === 'minimal') {
    throw refuse(
      'the log of the source does not hold enough to be followed: wal_level is minimal',
      'at the source: ALTER SYSTEM SET wal_level = replica, and restart it',
    );
  }
  if (row['data_checksums'] !== 'on') {
    throw refuse(
      'the source has no data checksums, without which bases and backups cannot be trusted',
      'stop the source in order, run pg_checksums --enable on its data directory, and start it again',
    );
  }
  if (row['full_page_writes'] !== 'on') {
    throw refuse(
      'the source does not write full pages to its log, without which a follower has torn pages',
      'at the source: ALTER SYSTEM SET full_page_writes = on, and SELECT pg_reload_conf()',
    );
  }
  for (const name of ['max_wal_senders', 'max_replication_slots']) {
    if (row[name] !== '0') continue;
    throw refuse(
      `${name} of the source is 0`,
      `at the source: ALTER SYSTEM SET ${name} = 10, and restart it`,
    );
  }
  return row;
}

function warnOfSettings(settings: SourceRow): Preflight['warnings'] {
  if (settings['max_slot_wal_keep_size'] !== '-1') return [];
  return [
    {
      message: 'the source keeps its log without limit for as long as this follower is away',
      hint: 'at the source: ALTER SYSTEM SET max_slot_wal_keep_size, to what its disk can spare, and SELECT pg_reload_conf(); PAUSE and DROP with care',
    },
  ];
}

async function requirePrivilege(client: SourceClient): Promise<void> {
  const [row] = await client.query(
    `SELECT rolname AS name, (rolreplication OR rolsuper)::text AS may FROM pg_catalog.pg_roles WHERE rolname = current_user`,
  );
  if (row?.['may'] === 'true') return;
  throw new InputError(
    'insufficient_privilege',
    `role "${row?.['name'] ?? ''}" of the source may not replicate`,
    { hint: `at the source: ALTER ROLE ${row?.['name'] ?? ''} REPLICATION` },
  );
}

/** Names that every virtual cluster has for its own. */
async function requireNames(client: SourceClient): Promise<void> {
  const roles = await client.query(
    `SELECT pg_catalog.quote_ident(rolname) AS name FROM pg_catalog.pg_roles
      WHERE oid >= 16384 AND (rolname IN ('admin', 'root', 'atoll') OR rolname LIKE 'atoll\\_%') ORDER BY 1`,
  );
  const databases = await client.query(
    `SELECT datname AS name FROM pg_catalog.pg_database WHERE datname = 'system' OR datname LIKE 'atoll\\_system%'`,
  );
  const taken = [
    ...roles.map(({ name }) => ({ what: 'role', name, change: 'ALTER ROLE' })),
    ...databases.map(({ name }) => ({ what: 'database', name, change: 'ALTER DATABASE' })),
  ];
  const [first] = taken;
  if (first !== undefined) {
    const listed = taken.map(({ what, name }) => `${what} ${name}`).join(', ');
    throw new InputError(
      'object_exists',
      `names of the source are those of a virtual cluster's own: ${listed}`,
      {
        hint: `at the source: ${first.change} ${first.name} RENAME TO another name`,
      },
    );
  }
  const [superuser] = await client.query(
    'SELECT rolname AS name, rolcanlogin::text AS may FROM pg_catalog.pg_roles WHERE oid = 10',
  );
  if (superuser?.['may'] !== 'true') {
    throw refuse(
      `the superuser of the source, "${superuser?.['name'] ?? ''}", may not log in, which the node has to as him while it follows`,
      `at the source: ALTER ROLE ${superuser?.['name'] ?? ''} LOGIN`,
    );
  }
  const open = await client.query(
    `SELECT 1 FROM pg_catalog.pg_database WHERE datallowconn AND datname = ANY (pg_catalog.string_to_array($1, ','))`,
    [BORN_DATABASES.join(',')],
  );
  if (open.length > 0) return;
  throw refuse(
    'the source has neither database postgres nor template1 open',
    'create database postgres there',
  );
}

async function requireDefaultTablespace(client: SourceClient): Promise<void> {
  const rows = await client.query(
    `SELECT spcname AS name FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1`,
  );
  if (rows.length === 0) return;
  throw refuse(
    `the source has tablespaces, which cannot be replicated: ${rows.map(({ name }) => name).join(', ')}`,
    'move what lies in them to pg_default (ALTER DATABASE ... SET TABLESPACE, ALTER TABLE ALL IN TABLESPACE ... SET TABLESPACE), and drop them',
  );
}

/** A database whose locale this node does not have could not be entered here. */
async function checkLocales(client: SourceClient, { probeLocale }: Options): Promise<Preflight['warnings']> {
  const rows = await client.query(
    `SELECT datname AS name, datcollate AS collate, datctype AS ctype, datlocprovider::text AS provider, datcollversion AS version
       FROM pg_catalog.pg_database WHERE datconnlimit <> -2 ORDER BY 1`,
  );
  const warnings = new Map<string, Preflight['warnings'][number]>();
  for (const { name, collate, ctype, provider, version } of rows) {
    for (const locale of new Set([collate, ctype])) {
      if (locale == null || ['C', 'POSIX'].includes(locale)) continue;
      const found = await probeLocale(locale);
      if (!found.isPresent) {
        throw refuse(
          `database "${name ?? ''}" of the source has locale ${locale}, which this node does not have`,
          'install the locale on this node (locale-gen, or localedef), and try again',
        );
      }
      const isOther =
        provider === 'c' &&
        locale === collate &&
        version != null &&
        found.version !== null &&
        version !== found.version;
      if (!isOther) continue;
      warnings.set(locale, {
        message: `locale ${locale} may sort otherwise here: version ${version} there, ${found.version} here`,
        hint: 'after the failover: REINDEX DATABASE, then ALTER DATABASE ... REFRESH COLLATION VERSION',
      });
    }
  }
  return [...warnings.values()];
}

/** Extensions that this node does not have would leave types and functions that nothing can read. */
async function checkDatabases(client: SourceClient, { open, own }: Options): Promise<Preflight['warnings']> {
  const rows = await client.query(
    `SELECT datname AS name FROM pg_catalog.pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY 1 LIMIT ${DATABASES_MAX + 1}`,
  );
  const names = rows.map(({ name }) => name ?? '');
  const unseen = names.splice(DATABASES_MAX);
  const missing: string[] = [];
  for (const name of names) {
    try {
      await using session = await open(name);
      const extensions = await session.query(
        'SELECT extname AS name FROM pg_catalog.pg_extension ORDER BY 1',
      );
      for (const { name: extension } of extensions) {
        if (extension != null && !own.extensions.has(extension)) missing.push(`${extension} in "${name}"`);
      }
    } catch (error) {
      if (!isAppError(error, 'authorization_invalid', 'insufficient_privilege', 'object_not_found'))
        throw error;
      unseen.push(name);
    }
  }
  if (missing.length > 0) {
    throw refuse(
      `the source has extensions that virtual clusters do not: ${missing.join(', ')}`,
      'drop them at the source; what depends on them cannot be moved in',
    );
  }
  if (unseen.length === 0) return [];
  return [
    {
      message: `not all databases of the source could be looked into: ${unseen.join(', ')}`,
      hint: 'their extensions must be among those of pg_available_extensions here; GRANT CONNECT to the role, and let it in by pg_hba.conf, to have that checked',
    },
  ];
}
