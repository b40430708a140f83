/** RESTORE FROM LATEST | 'path' IN 'collection' [AS OF SYSTEM TIME time] [WITH detached] */
import { InputError, SYSTEM_VIRTUAL_CLUSTER_ID } from '../base/index.ts';
import { CURRENT_RELEASE, RELEASES } from '../catalog/index.ts';
import { RESTORE_JOB, restorePayload } from '../jobs/index.ts';
import { type Statement, printStatement, redactUri } from '../sql/index.ts';
import type { BackupSummary, CollectionLocation } from '../timeline/index.ts';
import { type RestorableMoment, layerAt, newestLayer } from './backup-place.ts';
import { bulkColumns, requireBulkAllowed, resultOf } from './bulk-statement.ts';
import { openCollection, requireKnownOptions, selectBackup } from './collection.ts';
import type { ExecuteContext } from './contract.ts';
import { type Core, loggerOf } from './core.ts';
import { requireEmpty } from './emptiness.ts';
import { newIncarnation } from './new-incarnation.ts';
import { requireRestorePrivilege } from './object-decisions.ts';
import { isSystem } from './privileges.ts';
import { systemTime } from './system-time.ts';
import { type UseCase, askerOf } from './use-case.ts';
import { notAvailable } from './values.ts';
import { requireNoRestore, requireRecord } from './virtual-cluster-lookup.ts';

type Restore = Extract<Statement, { kind: 'restore' }>;

export const restore: UseCase<Restore> = {
  columns: (statement) => bulkColumns(statement.options),
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const { session, signal } = context;
    requireBulkAllowed(context, { statement: 'RESTORE', options: statement.options });
    requireAvailable(statement);
    await requireAllowed(core, statement, context);
    const collection = await openCollection(core, statement.source, context);
    const full = await selectBackup(core, { collection, selector: statement.from, signal });
    const { layer: summary, asOf } = await selectLayer(core, { statement, collection, full, signal });
    const { subdirectory } = summary;
    requireRestorable(core, summary, context);
    const job = await core.locks.run(session.virtualClusterId, async () => {
      const record = requireRecord(core, session.virtualClusterId);
      await requireNoRestore(core, record);
      await requireEmpty(askerOf(core, context).instance, { signal });
      return core.runner.create(
        SYSTEM_VIRTUAL_CLUSTER_ID,
        {
          type: RESTORE_JOB,
          description: describe(statement, full),
          user: session.user,
          payload: restorePayload({
            collectionUri: collection.displayUri,
            subdirectory,
            asOf,
            incarnation: newIncarnation(core),
          }),
          targetVirtualClusterId: record.id,
        },
        { signal: core.signal },
      );
    });
    loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
      `RESTORE job ${job.id} from ${collection.displayUri}/${subdirectory} begun by ${session.user}`,
    );
    const reference = { virtualClusterId: SYSTEM_VIRTUAL_CLUSTER_ID, jobId: job.id };
    return resultOf(core, { job, reference, options: statement.options, tag: 'RESTORE', context });
  },
};

async function requireAllowed(core: Core, statement: Restore, context: ExecuteContext): Promise<void> {
  const { session } = context;
  if (isSystem(session.virtualClusterId)) {
    throw notAvailable(
      'RESTORE of the system virtual cluster',
      'connect to the virtual cluster that is to be restored: options=-ccluster=NAME',
    );
  }
  if (!core.settings.isOn(session.virtualClusterId, 'feature.restore.enabled')) {
    throw new InputError('feature_disabled', 'feature RESTORE was disabled by the database administrator');
  }
  await requireRestorePrivilege(askerOf(core, context), {
    targets: statement.targets,
    intoDatabase: session.database,
  });
}

/** @throws InputError `feature_not_supported` naming what this release does not offer */
function requireAvailable(statement: Restore): void {
  if (statement.targets.kind !== 'virtual_cluster') {
    const what = { databases: 'DATABASE', tables: 'TABLE', system_users: 'SYSTEM USERS' };
    throw notAvailable(
      `RESTORE ${what[statement.targets.kind]}`,
      'restore the whole virtual cluster into a new one: RESTORE FROM ... IN ...',
    );
  }
  requireKnownOptions(statement.options, { statement: 'RESTORE', known: ['detached'] });
}

/** The end of the chain, or the backup of the moment that is asked for. */
async function selectLayer(
  core: Core,
  options: { statement: Restore; collection: CollectionLocation; full: string; signal: AbortSignal },
): Promise<RestorableMoment> {
  const { asOf } = options.statement;
  if (asOf === undefined) return { layer: await newestLayer(core, options), asOf: null };
  const moment = systemTime(asOf, { now: core.options.clock.now() });
  if (moment.kind === 'lsn') {
    throw new InputError('parameter_invalid', 'a backup is restored as of a time, not of a position', {
      hint: 'SHOW BACKUP shows the end time of each backup',
    });
  }
  return layerAt(core, { ...options, time: moment.time });
}

/** @throws InputError `feature_not_supported` */
function requireRestorable(core: Core, summary: BackupSummary, context: ExecuteContext): void {
  if (!RELEASES.some(({ name }) => name === summary.release)) {
    throw new InputError(
      'feature_not_supported',
      `the backup was taken by release ${summary.release}, which release ${CURRENT_RELEASE} does not know`,
      { hint: `restore it with release ${summary.release} or a later one` },
    );
  }
  const { engineMajor } = askerOf(core, context).instance.identity;
  if (summary.engineMajor === engineMajor) return;
  throw new InputError(
    'feature_not_supported',
    `the backup was taken from PostgreSQL ${summary.engineMajor}, virtual cluster "${context.session.virtualClusterName}" runs PostgreSQL ${engineMajor}`,
    { hint: `restore it where PostgreSQL ${summary.engineMajor} runs` },
  );
}

function describe(statement: Restore, subdirectory: string): string {
  const path = { kind: 'string', value: `/${subdirectory}` } as const;
  const resolved: Restore = { ...statement, from: { kind: 'subdirectory', path } };
  return printStatement(resolved, { redact: redactUri });
}
