/** CREATE VIRTUAL CLUSTER ... FROM REPLICATION OF system ON a plain PostgreSQL server: how people move in. docs/decisions/0077-moving-in.md */
import { DatabaseError } from 'pg';
import { InputError, SYSTEM_VIRTUAL_CLUSTER_ID } from '../../base/index.ts';
import { CURRENT_RELEASE } from '../../catalog/index.ts';
import type { InternalClient } from '../../instance/index.ts';
import {
  inspectPlainServer,
  notSystem,
  readServerFacts,
  type SourceAddress,
  type StreamTerms,
} from '../../replication/index.ts';
import type { ReplicationSource, StreamOptions } from '../../sql/index.ts';
import type { ExecuteContext } from '../contract.ts';
import type { Core } from '../core.ts';
import { notAvailable } from '../values.ts';
import { newIncarnation } from '../virtual-clusters/new-incarnation.ts';

/** As a server without virtual clusters is called. */
const PLAIN_NAME = 'system';
/** What Postgres says of a locale that the machine does not have. */
const NO_SUCH_LOCALE = '22023';

/** Changes nothing at the source. @throws InputError as `inspectPlainServer`, and for what a plain server cannot do */
export async function inspectPlain(
  core: Core,
  options: { source: ReplicationSource; address: SourceAddress; context: ExecuteContext },
): Promise<StreamTerms> {
  const { source, address, context } = options;
  if (source.source !== PLAIN_NAME) throw notSystem();
  requirePlainOptions(source.options);
  const system = core.services.instanceOf({ id: SYSTEM_VIRTUAL_CLUSTER_ID, name: PLAIN_NAME });
  const { signal } = context;
  const own = await system.withSystemClient(
    async (client) => ({ ...(await readServerFacts(client)), extensions: await readExtensions(client) }),
    { signal },
  );
  const { terms, warnings } = await inspectPlainServer(address, {
    own,
    probeLocale: (locale) => system.withSystemClient((client) => probeLocale(client, locale), { signal }),
    incarnation: newIncarnation(core),
    release: CURRENT_RELEASE,
    signal,
  });
  for (const { message, hint } of warnings) {
    context.onNotice({ severity: 'WARNING', sqlstate: '01000', message, hint });
  }
  return terms;
}

/** @throws InputError `feature_not_supported` for options that need an Atoll at the other side */
export function requirePlainOptions(options: StreamOptions): void {
  if (options.readVirtualCluster) {
    throw notAvailable('a reader of a plain PostgreSQL server', 'read the server itself, or fail over first');
  }
  if (options.expirationWindow !== undefined) {
    throw notAvailable(
      'an expiration window at a plain PostgreSQL server',
      'max_slot_wal_keep_size there limits the log that is kept',
    );
  }
}

/** @throws InputError `feature_not_supported`, `parameter_invalid`: nothing that exists follows a plain server */
export function refuseToGoBack(name: string): never {
  if (name !== PLAIN_NAME) throw notSystem();
  throw new InputError(
    'feature_not_supported',
    'a virtual cluster that exists cannot follow a plain PostgreSQL server: there is no way back to one, nor from one',
    {
      hint: 'move in with CREATE VIRTUAL CLUSTER ... FROM REPLICATION; to go back, copy the databases with pg_dump or logical replication',
    },
  );
}

async function readExtensions(client: InternalClient): Promise<ReadonlySet<string>> {
  const rows = await client.query('SELECT name FROM pg_catalog.pg_available_extensions');
  return new Set(rows.map(({ name }) => name ?? ''));
}

/** By asking for it: what the machine has can change at any time. */
async function probeLocale(
  client: InternalClient,
  locale: string,
): Promise<{ isPresent: boolean; version: string | null }> {
  const [literal] = await client.query('SELECT pg_catalog.quote_literal($1) AS locale', [locale]);
  await client.query('BEGIN');
  try {
    await client.query(
      `CREATE COLLATION pg_temp.atoll_probe (PROVIDER = libc, LOCALE = ${literal?.['locale']})`,
    );
    const [row] = await client.query(
      `SELECT pg_catalog.pg_collation_actual_version(oid) AS version FROM pg_catalog.pg_collation WHERE collname = 'atoll_probe'`,
    );
    return { isPresent: true, version: row?.['version'] ?? null };
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    // Of another encoding than this database: it is there, and more is not known.
    return { isPresent: error.code !== NO_SUCH_LOCALE, version: null };
  } finally {
    await client.query('ROLLBACK');
  }
}
