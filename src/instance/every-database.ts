/** Work of the bootstrap superuser in each database and template of a server that no tenant can reach. */
import type { InternalClient } from './contract.ts';
import { DATABASE_GUARDS_TABLE } from './guard-sql.ts';
import { withDefinerSession } from './sessions.ts';

export interface Place {
  readonly socketDirectory: string;
  readonly clusterName: string;
  readonly signal: AbortSignal;
}

export interface Database {
  readonly oid: string;
  readonly name: string;
  readonly quoted: string;
  /** Nobody can connect to the others, the superuser neither. */
  readonly isOpen: boolean;
}

/** All but what an interrupted DROP has left: that can be neither entered nor copied. */
export async function readDatabases(client: InternalClient): Promise<readonly Database[]> {
  const rows = await client.query(
    `SELECT oid::text AS oid, datname AS name, pg_catalog.quote_ident(datname) AS quoted, datallowconn::text AS is_open
       FROM pg_catalog.pg_database WHERE datconnlimit <> -2 ORDER BY datname`,
  );
  return rows.map(({ oid, name, quoted, is_open }) => ({
    oid: oid ?? '',
    name: name ?? '',
    quoted: quoted ?? '',
    isOpen: is_open === 'true',
  }));
}

/** A session in the database. One that is shut is opened for it, and that is written down before: `shutAgain` finds it after a crash. */
export async function inDatabase<T>(
  client: InternalClient,
  options: Place & { readonly database: Database },
  use: (session: InternalClient) => Promise<T>,
): Promise<T> {
  const { database } = options;
  const enter = () => withDefinerSession({ ...options, database: database.name }, use);
  if (database.isOpen) return enter();
  await client.query(
    `INSERT INTO public.database_guards VALUES ($1, '', true) ON CONFLICT (database) DO UPDATE SET is_shut = true`,
    [database.oid],
  );
  await client.query(`ALTER DATABASE ${database.quoted} ALLOW_CONNECTIONS true`);
  const result = await enter();
  await shutAgain(client);
  return result;
}

/** Makes the table of marks, and shuts what was opened for a session. */
export async function shutAgain(client: InternalClient): Promise<void> {
  await client.query(DATABASE_GUARDS_TABLE);
  const rows = await client.query(
    `SELECT pg_catalog.quote_ident(d.datname) AS quoted
       FROM public.database_guards g JOIN pg_catalog.pg_database d ON d.oid = g.database WHERE g.is_shut`,
  );
  for (const { quoted } of rows) await client.query(`ALTER DATABASE ${quoted} ALLOW_CONNECTIONS false`);
  if (rows.length > 0) await client.query('UPDATE public.database_guards SET is_shut = false WHERE is_shut');
}
