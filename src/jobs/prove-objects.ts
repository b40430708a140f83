/**
 * Proves a backup of databases or tables by what it is for: restores all of it into databases that nobody asks for, with its indexes and
 * constraints, counts the rows, and drops them.
 */
import { CorruptError, isAppError, required, toError } from '../base/index.ts';
import type { Instance, InstanceHost } from '../instance/index.ts';
import {
  type CopyDatabase,
  createDatabaseSql,
  SKIP_NOTHING,
  type SkipMissing,
} from '../logical-copy/index.ts';
import type {
  BackupSummary,
  BulkWorker,
  ClusterKey,
  CollectionLocation,
  CollectionReader,
  CopyOrigin,
  LogicalSelection,
} from '../timeline/index.ts';
import type { ObjectsDependencies } from './backup-objects.ts';
import { recordedRole, recordRole } from './copy-role.ts';
import type { JobContext } from './job-type.ts';
import { readDefinition } from './part/read-copy.ts';
import { withPartOfBackup } from './part/part-of-backup.ts';

export interface ProveObjectsDependencies extends ObjectsDependencies {
  readonly key: ClusterKey;
  readonly collectionReader: Pick<CollectionReader, 'databases'>;
  readonly bulkWorker: Pick<BulkWorker, 'materialize'>;
  /** Left out on a node that keeps no timelines, which has no backups with revision history either. */
  readonly instanceHost?: Pick<InstanceHost, 'withServingCopy'>;
}

export interface ProvedBackup {
  readonly collection: CollectionLocation;
  readonly selection: LogicalSelection;
  readonly summary: BackupSummary;
}

/** A table alone comes back without what it refers to. */
const SKIP_ALL: SkipMissing = {
  foreignKeys: true,
  sequences: true,
  sequenceOwners: true,
  views: true,
  functions: true,
};
/** Of the proof, until a copy serves that files of a backup are recovered in. */
const SERVED_FRACTION = 0.4;

/**
 * Returns when all of it was there and had the rows that the backup counts. Nothing of it is left then, nor when it failed.
 * @throws CorruptError telling what is wrong with the backup, which stays where it is
 */
export async function proveObjects(
  context: JobContext,
  dependencies: ProveObjectsDependencies,
  backup: ProvedBackup,
): Promise<void> {
  const { domain, logger, job } = context;
  const instance = dependencies.instanceOf(domain.virtualClusterId);
  await dropTrials(context, instance);
  try {
    const rows = await restoreAll(context, dependencies, { ...backup, instance });
    const { summary } = backup;
    if (!summary.isImage && rows !== summary.rows) {
      throw new CorruptError(`it has ${rows} rows instead of ${summary.rows}`);
    }
    logger.info(`BACKUP job ${job.id}: a trial restore of ${summary.subdirectory} is sound, ${rows} rows`);
  } catch (error) {
    if (isAppError(error) && (error.row.retry === 'backoff' || error.code === 'disk_full')) throw error;
    if (isAppError(error, 'cancelled')) throw error;
    throw new CorruptError(
      `backup ${backup.summary.subdirectory} was written, but a trial restore of it failed: ${toError(error).message}`,
      { cause: error, hint: 'do not rely on this backup' },
    );
  }
}

/** Takes away what a proof has left that was broken off. Harmless when there is nothing. */
export async function dropTrials(
  { job, signal }: Pick<JobContext, 'job' | 'signal'>,
  instance: Instance,
): Promise<void> {
  await instance.withSystemClient(
    async (client) => {
      const rows = await client.query(
        'SELECT pg_catalog.quote_ident(datname) AS name FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname, $1)',
        [trialName(job.id, '')],
      );
      for (const { name } of rows) await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    },
    { signal },
  );
  const role = recordedRole(job);
  if (role !== null) await instance.copyRoles.remove({ role, signal });
}

function trialName(jobId: JobContext['job']['id'], number: number | ''): string {
  return `atoll_verify_${jobId}_${number}`;
}

type Trial = ProvedBackup & { readonly instance: Instance };

async function restoreAll(
  context: JobContext,
  dependencies: ProveObjectsDependencies,
  trial: Trial,
): Promise<bigint> {
  const { collection, selection, summary } = trial;
  const { key, collectionReader } = dependencies;
  const { subdirectory } = summary;
  const names = selection.kind === 'databases' ? selection.names : [selection.database];
  if (!summary.isImage) {
    const held = await collectionReader.databases({ collection, subdirectory, key, signal: context.signal });
    return restoreEach(context, dependencies, {
      ...trial,
      names,
      likeOf: (name) => {
        const found = held.find(({ database }) => database.name === name);
        return Promise.resolve(required(found, `database ${name} of the backup`).database);
      },
      originOf: (database) => ({ kind: 'backup', collection, subdirectory, key, database }),
    });
  }
  const { bulkWorker } = dependencies;
  const instanceHost = required(dependencies.instanceHost, 'host of copies');
  const { virtualClusterId } = context.domain;
  const target =
    selection.kind === 'databases'
      ? selection
      : ({ kind: 'tables', database: selection.database, relations: selection.patterns } as const);
  const parts = { instanceHost, bulkWorker, key, virtualClusterId, collection, subdirectory, target };
  return withPartOfBackup(
    { ...parts, asOf: null, context, fraction: SERVED_FRACTION },
    ({ system, socketDirectory, reader: role }) =>
      restoreEach(afterServing(context), dependencies, {
        ...trial,
        names,
        likeOf: (name) => readDefinition(system, name),
        originOf: (database) => ({ kind: 'instance', socketDirectory, database, role }),
      }),
  );
}

function afterServing(context: JobContext): JobContext {
  return {
    ...context,
    report: ({ fraction, runningStatus }) =>
      context.report({ fraction: SERVED_FRACTION + (1 - SERVED_FRACTION) * fraction, runningStatus }),
  };
}

async function restoreEach(
  context: JobContext,
  dependencies: ProveObjectsDependencies,
  options: Trial & {
    readonly names: readonly string[];
    readonly likeOf: (name: string) => Promise<CopyDatabase>;
    readonly originOf: (database: string) => CopyOrigin;
  },
): Promise<bigint> {
  const { instance, selection, names } = options;
  const { job, domain, signal } = context;
  let rows = 0n;
  for (const [index, name] of names.entries()) {
    const database = trialName(job.id, index);
    const role = await recordRole(context, dependencies.rng);
    try {
      await makeDatabase(instance, { database, role, like: await options.likeOf(name), context });
      const made = await dependencies.worker.restoreObjects(
        {
          origin: options.originOf(name),
          patterns: selection.kind === 'databases' ? null : selection.patterns,
          target: {
            virtualClusterName: domain.virtualClusterName,
            socketDirectory: instance.socketDirectory,
            database,
            role,
            owner: null,
          },
          schemaOnly: false,
          verifyTableData: false,
          skip: selection.kind === 'databases' ? SKIP_NOTHING : SKIP_ALL,
        },
        {
          onProgress: ({ fraction, phase }) =>
            context.report({
              fraction: (index + fraction) / names.length,
              runningStatus: `trial restore: ${phase}`,
            }),
          signal,
        },
      );
      rows += made.rows;
    } finally {
      // When this attempt is broken off the next one, or the end of the job, does it.
      if (!signal.aborted) await dropOne(instance, { database, role, signal });
    }
  }
  return rows;
}

async function makeDatabase(
  instance: Instance,
  options: { database: string; role: string; like: CopyDatabase; context: JobContext },
): Promise<void> {
  const { database, role, like, context } = options;
  const { job, signal } = context;
  const system = (sql: string) => instance.withSystemClient((client) => client.query(sql), { signal });
  await system(createDatabaseSql(database, like));
  await system(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`);
  await instance.copyRoles.makeMaker({ role, onBehalfOf: job.user, database, signal });
  await system(`ALTER DATABASE ${database} OWNER TO ${role}`);
}

async function dropOne(
  instance: Instance,
  { database, role, signal }: { database: string; role: string; signal: AbortSignal },
): Promise<void> {
  await instance.withSystemClient(
    (client) => client.query(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`),
    {
      signal,
    },
  );
  await instance.copyRoles.remove({ role, signal });
}
