/** BACKUP INTO 'collection' [WITH detached] */
import { InputError } from '../base/index.ts';
import { BACKUP_JOB, backupPayload } from '../jobs/index.ts';
import { type Statement, printStatement, redactUri } from '../sql/index.ts';
import { bulkColumns, requireBulkAllowed, resultOf } from './bulk-statement.ts';
import { openCollection, requireKnownOptions, requireNodelocal } from './collection.ts';
import { loggerOf } from './core.ts';
import { requirePrivilege } from './privileges.ts';
import { type UseCase, askerOf } from './use-case.ts';
import { notAvailable } from './values.ts';

type Backup = Extract<Statement, { kind: 'backup' }>;

export const backup: UseCase<Backup> = {
  columns: (statement) => bulkColumns(statement.options),
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const { session, signal } = context;
    requireBulkAllowed(context, { statement: 'BACKUP', options: statement.options });
    requireAvailable(statement);
    if (!core.settings.isOn(session.virtualClusterId, 'feature.backup.enabled')) {
      throw new InputError('feature_disabled', 'feature BACKUP was disabled by the database administrator');
    }
    await requirePrivilege(askerOf(core, context), {
      anyOf: ['BACKUP'],
      refusal:
        'only users with the admin role or the BACKUP system privilege are allowed to perform full cluster backups',
    });
    const collection = await openCollection(core, statement.destination);
    await requireNodelocal(core, context);
    const taken = await core.options.collectionReader.list(collection, { signal });
    const subdirectory = core.backupPaths.next({ now: core.options.clock.now(), taken });
    const job = await core.runner.create(
      session.virtualClusterId,
      {
        type: BACKUP_JOB,
        description: describe(statement, subdirectory),
        user: session.user,
        payload: backupPayload({ collectionUri: collection.displayUri, subdirectory }),
      },
      { signal: core.signal },
    );
    loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
      `BACKUP job ${job.id} into ${collection.displayUri}/${subdirectory} begun by ${session.user}`,
    );
    const reference = { virtualClusterId: session.virtualClusterId, jobId: job.id };
    return resultOf(core, { job, reference, options: statement.options, tag: 'BACKUP', context });
  },
};

/** @throws InputError `feature_not_supported` naming what this release does not offer */
function requireAvailable(statement: Backup): void {
  if (statement.targets.kind !== 'virtual_cluster') {
    throw notAvailable(
      `BACKUP ${statement.targets.kind === 'databases' ? 'DATABASE' : 'TABLE'}`,
      'back up the whole virtual cluster: BACKUP INTO ...',
    );
  }
  if (statement.appendTo !== undefined) {
    throw notAvailable('an incremental backup', 'take a full backup: BACKUP INTO ...');
  }
  if (statement.asOf !== undefined) {
    throw notAvailable('BACKUP with AS OF SYSTEM TIME', 'leave it out to back up the present state');
  }
  requireKnownOptions(statement.options, { statement: 'BACKUP', known: ['detached'] });
}

/** The statement with the path that was chosen for it. */
function describe(statement: Backup, subdirectory: string): string {
  const path = { kind: 'string', value: `/${subdirectory}` } as const;
  const resolved: Backup = { ...statement, appendTo: { kind: 'subdirectory', path } };
  return printStatement(resolved, { redact: redactUri });
}
