/** Which tables a pattern names, and in which database: schemas of the current database before databases. */
import { InputError } from '../../base/index.ts';
import type { TablePattern } from '../../sql/index.ts';
import type { Asker } from './privileges.ts';

/** One table, all tables of a schema, or (no schema) all tables of the database. */
export interface TableTarget {
  /** Undefined: found by the session's search_path, or with no name the whole database. */
  readonly schema: string | undefined;
  /** Undefined: all tables. */
  readonly name: string | undefined;
}

export interface TableTargets {
  readonly database: string;
  readonly tables: readonly TableTarget[];
}

/**
 * Decided on what is committed: a schema that the session's own transaction has made is not seen yet, and matters only where a database
 * of that name exists.
 * @throws InputError `feature_not_supported` for tables of several databases
 */
export async function resolveTables(
  asker: Asker,
  options: { current: string; patterns: readonly TablePattern[] },
): Promise<TableTargets> {
  const resolved: { database: string; table: TableTarget }[] = [];
  for (const pattern of options.patterns) {
    resolved.push(await resolvePattern(asker, { current: options.current, pattern }));
  }
  const databases = new Set(resolved.map(({ database }) => database));
  if (databases.size > 1) {
    throw new InputError('feature_not_supported', 'one statement names tables of one database', {
      hint: `write a statement for each of ${[...databases].join(', ')}`,
    });
  }
  return { database: resolved[0]?.database ?? options.current, tables: resolved.map(({ table }) => table) };
}

async function resolvePattern(
  asker: Asker,
  options: { current: string; pattern: TablePattern },
): Promise<{ database: string; table: TableTarget }> {
  const { current } = options;
  const { qualifiers, name } = options.pattern;
  const [first, second] = qualifiers;
  if (first === undefined) return { database: current, table: { schema: undefined, name } };
  if (second !== undefined) return { database: first, table: { schema: second, name } };
  const isDatabase = first !== current && (await isDatabaseName(asker, first));
  if (first !== current && !isDatabase) return { database: current, table: { schema: first, name } };
  if (await hasSchema(asker, { database: current, schema: first })) {
    return { database: current, table: { schema: first, name } };
  }
  // `database.*` takes all schemas; `database.table` looks where tables are by default.
  return { database: first, table: { schema: name === undefined ? undefined : 'public', name } };
}

async function isDatabaseName(asker: Asker, name: string): Promise<boolean> {
  return (await findDatabase(asker, name))?.allowsConnections ?? false;
}

async function findDatabase(asker: Asker, name: string): Promise<{ allowsConnections: boolean } | null> {
  const [row] = await asker.instance.withSystemClient(
    (client) =>
      client.query('select datallowconn::text as allows from pg_catalog.pg_database where datname = $1', [
        name,
      ]),
    asker,
  );
  return row === undefined ? null : { allowsConnections: row['allows'] === 'true' };
}

async function hasSchema(asker: Asker, options: { database: string; schema: string }): Promise<boolean> {
  const { database, schema } = options;
  const rows = await asker.instance.withReaderClient({ database, signal: asker.signal }, (client) =>
    client.query('select from pg_catalog.pg_namespace where nspname = $1', [schema]),
  );
  return rows.length > 0;
}

/** Whether the user could look into the database: who cannot is not told what is in it. */
export async function mayConnect(asker: Asker, database: string): Promise<boolean> {
  const rows = await asker.instance.withSystemClient(
    (client) =>
      client.query(
        `select from pg_catalog.pg_roles u, pg_catalog.pg_database d where u.rolname = $1 and d.datname = $2
          and pg_catalog.has_database_privilege(u.oid, d.oid, 'CONNECT')`,
        [asker.user, database],
      ),
    asker,
  );
  return rows.length > 0;
}

/** @throws InputError `database_not_found`, `object_state` for one that nobody can look into */
export async function requireDatabases(asker: Asker, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const found = await findDatabase(asker, name);
    if (found === null) throw new InputError('database_not_found', `database "${name}" does not exist`);
    if (found.allowsConnections) continue;
    throw new InputError('object_state', `database "${name}" is not currently accepting connections`, {
      hint: `its owner can ALTER DATABASE ${name} ALLOW_CONNECTIONS true; a backup of the whole virtual cluster holds it anyway`,
    });
  }
}
