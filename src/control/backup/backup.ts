/** BACKUP INTO [LATEST | 'path' IN] 'collection' [AS OF SYSTEM TIME moment] [WITH detached, revision_history, verify] */
import { InputError } from '../../base/index.ts';
import { isFrozen } from '../../blob/index.ts';
import { BACKUP_JOB, backupPayload, transactionPayload } from '../../jobs/index.ts';
import { type Statement, printStatement, redactUri } from '../../sql/index.ts';
import type { CollectionLocation } from '../../timeline/index.ts';
import { type BackupKeys, KEY_OPTIONS, readBackupKeys } from './backup-keys.ts';
import { backupMoment, objectsMoment } from './backup-moment.ts';
import { placeBackup } from './backup-place.ts';
import { bulkColumns, requireBulkAllowed, resultOf } from '../jobs/bulk-statement.ts';
import { ChainKeys } from './chain-keys.ts';
import { openCollection, requireKnownOptions, requireOutsideStore } from './collection.ts';
import { requireNoContinuousBackup } from './continuous-backups.ts';
import type { ExecuteContext } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { requireExecutionLocality } from './execution-locality.ts';
import { requireBackupPrivilege } from '../privileges/object-decisions.ts';
import { requirePrivilege } from '../privileges/privileges.ts';
import { selectObjects } from './select-objects.ts';
import { recordedUri } from './storage-location.ts';
import { requireTimeline } from '../timeline/timeline-point.ts';
import { type UseCase, askerOf } from '../use-case.ts';
import { isFlagOn, notAvailable } from '../values.ts';

type Backup = Extract<Statement, { kind: 'backup' }>;

export const backup: UseCase<Backup> = {
  columns: (statement) => bulkColumns(statement.options),
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const { session } = context;
    requireBulkAllowed(context, { statement: 'BACKUP', options: statement.options });
    const { collection, keys } = await admitBackup(core, statement, context);
    const selection = await selectObjects(askerOf(core, context), {
      targets: statement.targets,
      currentDatabase: session.database,
      isOfPresent: statement.asOf === undefined,
    });
    const isOfFiles = selection === null || isFlagOn(statement.options, 'revision_history');
    const momentOf = isOfFiles ? backupMoment : objectsMoment;
    const moment = await momentOf(core, statement, context);
    const chains = new ChainKeys(core, {
      collection,
      keys,
      onKmsFailure: () => noteKmsFailure(core, statement, context),
      signal: context.signal,
    });
    await chains.prepare(statement.appendTo);
    const { job, subdirectory, notice } = await core.backupPaths.choosing.run(async () => {
      const { appendTo } = statement;
      const where = { collection, keys: chains, appendTo, moment, selection, isOfFiles };
      const place = await placeBackup(core, where, context);
      const { onto, ontoLsn } = place;
      const created = await core.runner.create(
        session.virtualClusterId,
        {
          type: BACKUP_JOB,
          description: describe(statement, place.full),
          user: session.user,
          payload: {
            ...transactionPayload(context.transactionId),
            ...backupPayload({
              collectionUri: recordedUri(place.collection),
              subdirectory: place.subdirectory,
              onto,
              ontoLsn,
              moment,
              hasRevisionHistory: isFlagOn(statement.options, 'revision_history'),
              isProved: isFlagOn(statement.options, 'verify'),
              selection,
            }),
          },
          ...(context.run === undefined ? {} : { schedule: context.run }),
        },
        { signal: core.signal },
      );
      return { job: created, subdirectory: place.subdirectory, notice: place.notice };
    });
    loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
      `BACKUP job ${job.id} into ${collection.displayUri}/${subdirectory} begun by ${session.user}`,
    );
    const reference = { virtualClusterId: session.virtualClusterId, jobId: job.id };
    const result = await resultOf(core, {
      job,
      reference,
      options: statement.options,
      tag: 'BACKUP',
      context,
    });
    // Of what was refused, or has failed, it would not be true.
    if (notice !== undefined) context.onNotice(notice);
    return result;
  },
};

/**
 * Everything that is checked before a backup begins; a schedule is checked by it when it is made.
 * @throws InputError `feature_not_supported`, `feature_disabled`, `insufficient_privilege`, and what the URI is refused for
 */
export async function admitBackup(
  core: Core,
  statement: Backup,
  context: ExecuteContext,
): Promise<{ readonly collection: CollectionLocation; readonly keys: BackupKeys }> {
  requireAvailable(core, statement);
  if (!core.settings.isOn(context.session.virtualClusterId, 'feature.backup.enabled')) {
    throw new InputError('feature_disabled', 'feature BACKUP was disabled by the database administrator');
  }
  await requireBackupPrivilege(askerOf(core, context), {
    targets: statement.targets,
    currentDatabase: context.session.database,
    isOfPast: statement.asOf !== undefined,
  });
  if (isFlagOn(statement.options, 'revision_history'))
    await requireHistoryPrivilege(core, statement, context);
  const collection = await openCollection(core, statement.destination, context, {
    isWriting: true,
    options: statement.options,
  });
  if (statement.targets.kind === 'virtual_cluster') requireOutsideStore(collection);
  if (statement.appendTo !== undefined) requireReadable(collection);
  await requireNoContinuousBackup(core, collection, context);
  return { collection, keys: await readBackupKeys(core, statement.options, context) };
}

/** The log that leads from one moment to the next is everybody's. @throws InputError `insufficient_privilege` */
async function requireHistoryPrivilege(
  core: Core,
  { targets }: Backup,
  context: ExecuteContext,
): Promise<void> {
  if (targets.kind === 'virtual_cluster') return;
  await requirePrivilege(askerOf(core, context), {
    anyOf: ['BACKUP'],
    refusal: `only users with the admin role or the BACKUP system privilege are allowed to back up ${targets.kind} with revision_history, which keeps the log of the whole virtual cluster`,
    hint: 'an admin can GRANT SYSTEM BACKUP; without revision_history the privileges on the targets are enough',
  });
}

/** An incremental backup reads what it builds on. @throws InputError `feature_not_supported` for objects that must be thawed first */
function requireReadable(collection: CollectionLocation): void {
  const places = 'places' in collection ? collection.places : [collection];
  if (!places.some((place) => 'service' in place && isFrozen(place.service))) return;
  throw notAvailable(
    'an incremental backup in storage class GLACIER or DEEP_ARCHIVE',
    'give the collection a class that can be read at once, for example GLACIER_IR, or take full backups',
  );
}

/** @throws InputError `feature_not_supported` naming what this release does not offer */
function requireAvailable(core: Core, statement: Backup): void {
  if (isFlagOn(statement.options, 'include_all_virtual_clusters')) {
    throw notAvailable(
      'option "include_all_virtual_clusters" of BACKUP',
      'a collection belongs to one virtual cluster, which alone can restore it: take a backup, or CREATE SCHEDULE, in each that SHOW VIRTUAL CLUSTERS lists',
    );
  }
  requireKnownOptions(statement.options, {
    statement: 'BACKUP',
    known: [
      'detached',
      'execution_locality',
      'incremental_location',
      'revision_history',
      'updates_cluster_monitoring_metrics',
      'verify',
      ...KEY_OPTIONS,
    ],
  });
  requireExecutionLocality(statement.options, core.options.locality);
  // Before anything is written. Parts are tried in databases, of which every virtual cluster has some.
  const isWhole = statement.targets.kind === 'virtual_cluster';
  if (isWhole && isFlagOn(statement.options, 'verify')) requireTimeline(core);
}

/** For the metric that alerts are made of, where the statement asks for it. */
function noteKmsFailure(core: Core, { options }: Backup, { session }: ExecuteContext): void {
  if (!isFlagOn(options, 'updates_cluster_monitoring_metrics')) return;
  core.kmsFailures.set(session.virtualClusterId, core.options.clock.now());
}

/** The statement with the path that was chosen for it. */
function describe(statement: Backup, subdirectory: string): string {
  const path = { kind: 'string', value: `/${subdirectory}` } as const;
  const resolved: Backup = { ...statement, appendTo: { kind: 'subdirectory', path } };
  return printStatement(resolved, { redact: redactUri });
}
