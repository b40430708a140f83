/** RESTORE SYSTEM USERS FROM LATEST | 'path' IN 'collection': roles that are missing, out of a backup of a whole virtual cluster. */
import { RESTORE_JOB, usersPayload } from '../../jobs/index.ts';
import { KEY_OPTIONS } from '../backup/backup-keys.ts';
import { resultOf } from '../jobs/bulk-statement.ts';
import type { ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import type { PartRestore } from './restore-objects.ts';
import { recordedUri } from '../backup/storage-location.ts';

export const USERS_OPTIONS: readonly string[] = [
  ...KEY_OPTIONS,
  'detached',
  'unsafe_restore_incompatible_version',
];

export async function restoreUsers(
  core: Core,
  options: PartRestore,
  context: ExecuteContext,
): Promise<StatementResult> {
  const { statement, description, collection, asOf } = options;
  const { subdirectory } = options.summary;
  const { session } = context;
  const job = await core.runner.create(
    session.virtualClusterId,
    {
      type: RESTORE_JOB,
      description,
      user: session.user,
      payload: usersPayload({ collectionUri: recordedUri(collection), subdirectory, asOf }),
    },
    { signal: core.signal },
  );
  loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
    `RESTORE job ${job.id} of users from ${collection.displayUri}/${subdirectory} begun by ${session.user}`,
  );
  const reference = { virtualClusterId: session.virtualClusterId, jobId: job.id };
  return resultOf(core, { job, reference, options: statement.options, tag: 'RESTORE', context });
}
