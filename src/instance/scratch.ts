/**
 * A copy of a virtual cluster that is made, looked at and thrown away. It has a socket and a log of its own, is part of no lineage, and
 * serves nobody but us; what a crash leaves of it, the next scan of the store removes.
 */
import { rm } from 'node:fs/promises';
import { AppError, formatLsn, parseLsn, type Rng, required } from '../base/index.ts';
import type { InternalClient, RecoveryTarget, ScratchCopy } from './contract.ts';
import { makeDirectory } from './durable-files.ts';
import type { InstanceEnvironment, LocalInstance } from './local-instance.ts';
import { proveIncarnation, serveRecovered } from './prove-incarnation.ts';
import { discard } from './scan-store.ts';
import { withDefinerSession, withRoleSession } from './sessions.ts';
import { randomSuffix } from './store-layout.ts';

const PARAMETERS = {
  // Most of the files may have been left out: nobody may clean up in them, however old their transactions are.
  autovacuum_freeze_max_age: '2000000000',
  autovacuum_multixact_freeze_max_age: '2000000000',
  // Nothing of a tenant's runs because we log in.
  event_triggers: 'off',
};

/** No file has this number: those of catalogs begin above, and all others above them. */
const NO_FILENODE = 1;
/** `FirstNormalObjectId`, and the catalog that large objects lie in, with its index: no catalog that definitions need. */
const FIRST_NORMAL_OID = 16_384;
const LARGE_OBJECT_OIDS = '2613, 2683';

/** Extensions whose functions look for damage. Their schema's prefix keeps tenants from having one of that name. */
const CHECK_EXTENSIONS = ['amcheck', 'pg_visibility'];
export const CHECK_SCHEMA = 'pg_atoll_check';

/** Whose copy it is, and how it is filled. */
export interface ScratchPlace {
  readonly instance: LocalInstance;
  readonly environment: InstanceEnvironment;
  readonly rng: Rng;
  /** Ends the removal, which the job's own signal must not. */
  readonly closing: AbortSignal;
  readonly fill: (target: {
    readonly dataDirectory: string;
    readonly uid: number | null;
  }) => Promise<RecoveryTarget>;
  readonly signal: AbortSignal;
}

export interface ScratchOptions<T> extends ScratchPlace {
  readonly whileServing: (copy: ScratchCopy) => Promise<void>;
  readonly whenStopped: (dataDirectory: string) => Promise<T>;
}

/** Nothing is left of it when this returns or throws. There may be several of one virtual cluster. */
export function withScratch<T>(options: ScratchOptions<T>): Promise<T> {
  return withFilled(options, async (copy) => {
    await proveIncarnation({
      ...copy.start,
      async prepare(client) {
        await options.whileServing(await copy.open(client));
      },
      onDisabledSubscriptions: () => undefined,
    });
    return options.whenStopped(copy.start.dataDirectory);
  });
}

/** The same for a copy that is only asked while it serves: nobody waits for it to be written out. */
export function withServingScratch<T>(
  options: ScratchPlace & { readonly use: (copy: ScratchCopy) => Promise<T> },
): Promise<T> {
  return withFilled(options, (copy) =>
    serveRecovered(copy.start, async (client) => options.use(await copy.open(client))),
  );
}

interface FilledCopy {
  readonly start: Parameters<typeof serveRecovered>[0];
  /** What the first session of the server does. */
  readonly open: (client: InternalClient) => Promise<ScratchCopy>;
}

async function withFilled<T>(options: ScratchPlace, use: (copy: FilledCopy) => Promise<T>): Promise<T> {
  const { instance, environment, rng, closing, signal } = options;
  const { layout, identity, user } = instance;
  const { dataDirectory, sockets, log } = layout.scratch(randomSuffix(rng));
  try {
    await makeDirectory({ path: dataDirectory, mode: 0o700, owner: user });
    const recovery = await options.fill({ dataDirectory, uid: user?.uid ?? null });
    const clusterName = identity.virtualClusterName;
    const sessions = { socketDirectory: sockets, clusterName, signal };
    return await use({
      start: {
        ...environment,
        dataDirectory,
        configuration: layout.configuration,
        sockets,
        log,
        user,
        clusterName,
        recovery,
        parameters: PARAMETERS,
        logger: environment.logger.for(identity),
        signal,
      },
      async open(client) {
        await requireReplayed(client, recovery);
        await disarm(client);
        return openCopy(client, { sessions, rng });
      },
    });
  } finally {
    await discard(dataDirectory, { ...environment, signal: closing });
    await rm(sockets, { recursive: true, force: true });
    await rm(log, { force: true });
  }
}

/**
 * Without a target replay ends where the log cannot be read any more: nothing may be taken from the copy unless that was its end.
 * @throws AppError `instance_failed`
 */
async function requireReplayed(client: InternalClient, { logEndLsn = null }: RecoveryTarget): Promise<void> {
  if (logEndLsn === null) return;
  const [row] = await client.query('SELECT pg_catalog.pg_last_wal_replay_lsn()::text AS lsn');
  const lsn = parseLsn(required(row?.['lsn'], 'position that was replayed'));
  if (lsn >= logEndLsn) return;
  throw new AppError(
    'instance_failed',
    `recovery ended at ${formatLsn(lsn)}, before the end of the log at ${formatLsn(logEndLsn)}`,
  );
}

/** The original's subscriptions receive what is theirs; and every database lets us in, templates too. */
async function disarm(client: InternalClient): Promise<void> {
  await client.query('UPDATE pg_catalog.pg_subscription SET subenabled = false WHERE subenabled');
  for (const { name = '' } of await client.query(
    `SELECT pg_catalog.quote_ident(datname) AS name FROM pg_catalog.pg_database
      WHERE datconnlimit <> -2 AND (NOT datallowconn OR datconnlimit <> -1)`,
  )) {
    await client.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true CONNECTION LIMIT -1`);
  }
}

/** An entry without a file is met by whoever opens it, be it in a plan, by a trigger or through an index. */
const FENCE = `UPDATE pg_catalog.pg_class SET relfilenode = ${NO_FILENODE}
  WHERE relfilenode <> 0 AND (oid >= ${FIRST_NORMAL_OID} OR oid IN (${LARGE_OBJECT_OIDS})) AND NOT (oid = ANY ($1::oid[]))`;

async function rollBackPrepared(definer: InternalClient): Promise<void> {
  const prepared = await definer.query(
    'SELECT pg_catalog.quote_literal(gid) AS gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()',
  );
  for (const { gid } of prepared) await definer.query(`ROLLBACK PREPARED ${gid}`);
}

interface Sessions {
  readonly socketDirectory: string;
  readonly clusterName: string;
  readonly signal: AbortSignal;
}

/** The checks run as a role that is no superuser: what they call of a tenant's, in indexes' expressions, is called as its owner. */
async function openCopy(
  client: InternalClient,
  { sessions, rng }: { sessions: Sessions; rng: Rng },
): Promise<ScratchCopy> {
  const suffix = randomSuffix(rng);
  const role = `atoll_check_${suffix}`;
  const reader = `atoll_reader_${suffix}`;
  await client.query(`CREATE ROLE ${role} LOGIN`);
  // What row security hides would be missing without a word.
  await client.query(`CREATE ROLE ${reader} LOGIN BYPASSRLS`);
  await client.query(`GRANT pg_use_reserved_connections TO ${role}, ${reader}`);
  await client.query(`GRANT pg_read_all_data TO ${reader}`);
  // That role does not say a word of large objects.
  await client.query(`ALTER ROLE ${reader} SET lo_compat_privileges = on`);
  const rows = await client.query(
    `SELECT datname AS name, pg_catalog.quote_ident(datname) AS quoted FROM pg_catalog.pg_database
      WHERE datconnlimit <> -2 ORDER BY oid`,
  );
  for (const { quoted = '' } of rows)
    await client.query(`GRANT CONNECT ON DATABASE ${quoted} TO ${role}, ${reader}`);
  return {
    databases: rows.map(({ name }) => required(name, 'name of a database')),
    async withChecker(database, use) {
      await withDefinerSession({ ...sessions, database }, (definer) => installChecks(definer, role));
      return withRoleSession({ ...sessions, database, role }, use);
    },
    socketDirectory: sessions.socketDirectory,
    reader,
    system: client,
    withReader: (database, use) => withRoleSession({ ...sessions, database, role: reader }, use),
    fence: (database, { readable }) =>
      withDefinerSession({ ...sessions, database }, async (definer) => {
        await definer.query(FENCE, [`{${readable.join(',')}}`]);
      }),
    rollBackPrepared: (database) => withDefinerSession({ ...sessions, database }, rollBackPrepared),
  };
}

/** Calls, reads and fires nothing of the tenant's: a schema of ours, with nothing but the extensions in it. */
async function installChecks(definer: InternalClient, role: string): Promise<void> {
  await definer.query('SET allow_system_table_mods = on');
  await definer.query(`CREATE SCHEMA ${CHECK_SCHEMA}`);
  await definer.query('RESET allow_system_table_mods');
  for (const extension of CHECK_EXTENSIONS) {
    // One that came with the data may lie where the tenant may put functions beside.
    await definer.query(`DROP EXTENSION IF EXISTS ${extension} CASCADE`);
    await definer.query(`CREATE EXTENSION ${extension} SCHEMA ${CHECK_SCHEMA}`);
  }
  await definer.query(`GRANT USAGE ON SCHEMA ${CHECK_SCHEMA} TO ${role}`);
  await definer.query(`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ${CHECK_SCHEMA} TO ${role}`);
}
