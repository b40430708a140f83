/** RESTORE FROM LATEST | 'path' IN 'collection' [AS OF SYSTEM TIME time] [WITH detached, dry_run, ...] */
import { InputError, SYSTEM_VIRTUAL_CLUSTER_ID, type Timestamp } from '../../base/index.ts';
import { CURRENT_RELEASE, RELEASES, type VirtualClusterRecord } from '../../catalog/index.ts';
import { requireRegions, RESTORE_JOB, restorePayload } from '../../jobs/index.ts';
import { type Option, type Statement, type Value, printStatement, redactUri } from '../../sql/index.ts';
import { type BackupSummary, type CollectionLocation, CONTINUOUS_CHAIN } from '../../timeline/index.ts';
import { type BackupKeys, KEY_OPTIONS, readBackupKeys } from '../backup/backup-keys.ts';
import { type RestorableMoment, layerAt, newestLayer } from '../backup/backup-place.ts';
import { bulkColumns, requireBulkAllowed, resultOf } from '../jobs/bulk-statement.ts';
import { openChain } from '../backup/chain-keys.ts';
import { openCollection, requireComplete, requireKnownOptions, selectBackup } from '../backup/collection.ts';
import { continuousMoment } from '../backup/continuous-restore.ts';
import type { ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { requireExecutionLocality } from '../backup/execution-locality.ts';
import { requireEmpty } from '../virtual-clusters/emptiness.ts';
import { newIncarnation } from '../virtual-clusters/new-incarnation.ts';
import { requireRestorePrivilege } from '../privileges/object-decisions.ts';
import { isSystem } from '../privileges/privileges.ts';
import { regionTermsOf } from '../regions/cluster-regions.ts';
import { OBJECT_OPTIONS, requireObjectOptions, restoreObjects } from './restore-objects.ts';
import { DRY_RUN, dryRun } from './restore-dry-run.ts';
import { restoreSystemTables, systemTablesOf } from './restore-system-tables.ts';
import { restoreUsers, USERS_OPTIONS } from './restore-users.ts';
import { recordedUri } from '../backup/storage-location.ts';
import { systemTime } from '../timeline/system-time.ts';
import { type UseCase, askerOf } from '../use-case.ts';
import { isFlagOn, notAvailable } from '../values.ts';
import { requireNoRestore, requireRecord } from '../virtual-clusters/virtual-cluster-lookup.ts';

type Restore = Extract<Statement, { kind: 'restore' }>;

export const restore: UseCase<Restore> = {
  columns: ({ options }) => (isFlagOn(options, 'dry_run') ? DRY_RUN : bulkColumns(options)),
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const { session, signal } = context;
    requireBulkAllowed(context, { statement: 'RESTORE', options: statement.options });
    requireAvailable(statement);
    requireExecutionLocality(statement.options, core.options.locality);
    await requireAllowed(core, statement, context);
    const found = await openCollection(core, statement.source, context, statement);
    const keys = await readBackupKeys(core, statement.options, context);
    const moment = await selectMoment(core, { statement, collection: found, keys, signal });
    const { collection } = moment;
    const { layer: summary, asOf, full, isContinuous = false } = moment;
    const { subdirectory } = summary;
    requireRestorable(core, { summary, options: statement.options }, context);
    if (summary.selection !== null || statement.targets.kind !== 'virtual_cluster') {
      return restoreParts(core, { statement, collection, full, moment }, context);
    }
    // The names that the backup lists are those of its base; what there is at its end the job sees before anything is replaced.
    const regions = regionTermsOf(core, statement.options, context);
    for (const object of summary.objects) requireRegions(object.regions ?? [], regions);
    if (isFlagOn(statement.options, 'dry_run')) {
      await requireTarget(core, context);
      await requireComplete(core, { collection, full, signal });
      return dryRun(core, moment);
    }
    const job = await core.locks.run(session.virtualClusterId, async () => {
      const record = await requireTarget(core, context);
      return core.runner.create(
        SYSTEM_VIRTUAL_CLUSTER_ID,
        {
          type: RESTORE_JOB,
          description: describe(statement, full),
          user: session.user,
          payload: restorePayload({
            collectionUri: recordedUri(collection),
            subdirectory,
            asOf,
            isContinuous,
            schemaOnly: isFlagOn(statement.options, 'schema_only'),
            incarnation: newIncarnation(core),
            regions,
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

/** @throws InputError `object_state` when it holds anything, `object_in_use` while another restore goes on */
async function requireTarget(core: Core, context: ExecuteContext): Promise<VirtualClusterRecord> {
  const record = requireRecord(core, context.session.virtualClusterId);
  await requireNoRestore(core, record);
  await requireEmpty(askerOf(core, context).instance, context);
  return record;
}

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
  const { targets } = statement;
  // The names of tables say where they go: that is asked for when it is known what they mean.
  if (targets.kind === 'tables') return;
  await requireRestorePrivilege(askerOf(core, context), { targets, intoDatabase: session.database });
}

/** @throws InputError `feature_not_supported` naming what this release does not offer */
function requireAvailable(statement: Restore): void {
  if (statement.targets.kind === 'databases' || statement.targets.kind === 'tables') {
    requireObjectOptions(statement);
    requireKnownOptions(statement.options, { statement: 'RESTORE', known: OBJECT_OPTIONS });
    return;
  }
  requireMatchingOptions(statement.options);
  const known = statement.targets.kind === 'system_users' ? USERS_OPTIONS : KNOWN_OPTIONS;
  requireKnownOptions(statement.options, { statement: 'RESTORE', known });
}

/** Databases or tables. @throws InputError `object_missing` when the backup is of another kind than what is asked for */
async function restoreParts(
  core: Core,
  options: {
    statement: Restore;
    collection: CollectionLocation;
    full: string;
    moment: RestorableMoment;
  },
  context: ExecuteContext,
): Promise<StatementResult> {
  const { statement, collection, full, moment } = options;
  const { layer: summary, asOf } = moment;
  const { kind } = statement.targets;
  const parts = { statement, collection, full, summary, asOf, description: describe(statement, full) };
  if (kind === 'system_users' && summary.selection === null) return restoreUsers(core, parts, context);
  const ours = systemTablesOf(statement, { summary, current: context.session.database });
  if (ours !== undefined) return restoreSystemTables(core, { ...parts, ...ours }, context);
  if (kind === 'virtual_cluster' || kind === 'system_users') {
    throw new InputError(
      'object_missing',
      'full cluster RESTORE can only be used on full cluster BACKUP files',
      { hint: 'restore what the backup holds: RESTORE DATABASE ..., RESTORE TABLE ...' },
    );
  }
  return restoreObjects(core, parts, context);
}

/** What leaves objects out that others need says nothing where everything is restored: it is taken and changes nothing. */
const KNOWN_OPTIONS = [
  ...KEY_OPTIONS,
  'detached',
  'dry_run',
  'execution_locality',
  'incremental_location',
  'remove_regions',
  'schema_only',
  'skip_localities_check',
  'skip_missing_foreign_keys',
  'skip_missing_sequences',
  'skip_missing_sequence_owners',
  'skip_missing_views',
  'skip_missing_udfs',
  'unsafe_restore_incompatible_version',
  // Whatever is restored is read and checked first, also what is emptied then.
  'verify_backup_table_data',
];

/** @throws InputError `parameter_invalid` for options that only parts of a virtual cluster, or others beside them, give a sense */
function requireMatchingOptions(options: readonly Option[]): void {
  const has = (name: string) => options.some((option) => option.name === name);
  if (has('new_db_name')) {
    throw new InputError(
      'parameter_invalid',
      'new_db_name can only be used for RESTORE DATABASE with a single target database',
      {
        hint: 'leave it out, or restore one database: RESTORE DATABASE name FROM ... WITH new_db_name = ...',
      },
    );
  }
  if (has('into_db')) {
    throw new InputError('parameter_invalid', 'into_db can only be used when running RESTORE TABLE', {
      hint: 'leave it out: a whole virtual cluster brings its databases',
    });
  }
  if (isFlagOn(options, 'verify_backup_table_data') && !isFlagOn(options, 'schema_only')) {
    throw new InputError(
      'parameter_invalid',
      'to set the verify_backup_table_data option, the schema_only option must be set',
      { hint: 'a restore that is not schema_only reads and checks all data anyway' },
    );
  }
}

/** By the newest backup, or base of a continuous backup; or by the one that is named. */
async function selectMoment(
  core: Core,
  options: { statement: Restore; collection: CollectionLocation; keys: BackupKeys; signal: AbortSignal },
): Promise<RestorableMoment & { readonly full: string; readonly collection: CollectionLocation }> {
  const { statement, collection, keys, signal } = options;
  const isLatest = statement.from.kind === 'latest';
  if (isLatest && (await core.options.collectionReader.isContinuous(collection, { signal }))) {
    requireWhole(statement);
    const time = statement.asOf === undefined ? null : momentOf(core, statement.asOf);
    const opened = await openChain(core, { collection, folder: CONTINUOUS_CHAIN, keys, signal });
    const moment = await continuousMoment(core, { collection: opened, time, signal });
    return { ...moment, collection: opened, full: moment.layer.subdirectory };
  }
  const full = await selectBackup(core, { collection, selector: statement.from, signal });
  const opened = await openChain(core, { collection, folder: full, keys, signal });
  return { ...(await selectLayer(core, { ...options, collection: opened, full })), collection: opened, full };
}

/** @throws InputError `feature_not_supported` */
function requireWhole({ targets, from }: Restore): void {
  if (targets.kind === 'virtual_cluster') return;
  throw notAvailable(
    `RESTORE of a part ${from.kind === 'latest' ? 'FROM LATEST ' : ''}of a continuous backup`,
    'restore the whole into a new virtual cluster, or name a base, which SHOW BACKUPS lists, instead of LATEST',
  );
}

/** The end of the chain, or the backup of the moment that is asked for. */
async function selectLayer(
  core: Core,
  options: { statement: Restore; collection: CollectionLocation; full: string; signal: AbortSignal },
): Promise<RestorableMoment> {
  const { asOf } = options.statement;
  if (asOf === undefined) return { layer: await newestLayer(core, options), asOf: null };
  return layerAt(core, { ...options, time: momentOf(core, asOf) });
}

/** @throws InputError `parameter_invalid` for a position */
function momentOf(core: Core, asOf: Value): Timestamp {
  const moment = systemTime(asOf, { now: core.options.clock.now() });
  if (moment.kind === 'time') return moment.time;
  throw new InputError('parameter_invalid', 'a backup is restored as of a time, not of a position', {
    hint: 'SHOW BACKUP shows the end time of each backup',
  });
}

/** @throws InputError `feature_not_supported` */
function requireRestorable(
  core: Core,
  { summary, options }: { summary: BackupSummary; options: readonly Option[] },
  context: ExecuteContext,
): void {
  const isKnown = RELEASES.some(({ name }) => name === summary.release);
  if (!isKnown && !isFlagOn(options, 'unsafe_restore_incompatible_version')) {
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
