/** RESTORE system.users FROM ... IN ... WITH into_db: what a table of ours held, in a plain table to be looked at. */
import { InputError } from '../../base/index.ts';
import {
  isRestorableSystemTable,
  RESTORABLE_SYSTEM_TABLES,
  type RestorableSystemTable,
  RESTORE_JOB,
  systemTablesPayload,
} from '../../jobs/index.ts';
import type { Statement } from '../../sql/index.ts';
import type { BackupSummary } from '../../timeline/index.ts';
import { KEY_OPTIONS } from '../backup/backup-keys.ts';
import { resultOf } from '../jobs/bulk-statement.ts';
import type { ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { requirePrivilege } from '../privileges/privileges.ts';
import { requireDatabases } from '../privileges/privilege-targets.ts';
import { requireTenantsDatabase } from '../privileges/tenants-database.ts';
import { type PartRestore, textOption } from './restore-objects.ts';
import { recordedUri } from '../backup/storage-location.ts';
import { askerOf } from '../use-case.ts';

type Restore = Extract<Statement, { kind: 'restore' }>;

/** Options that say something of tables that have neither indexes nor dependents. */
const OPTIONS: readonly string[] = [...KEY_OPTIONS, 'detached', 'into_db'];

/**
 * Tables of ours that a statement names; undefined when it names others. A schema `system` of the session's database comes first.
 * @throws InputError `feature_not_supported` for those that RESTORE does not know, and for others beside them
 */
export function systemTablesOf(
  { targets, options }: Restore,
  { summary, current }: { summary: BackupSummary; current: string },
): { readonly tables: readonly RestorableSystemTable[] } | undefined {
  if (targets.kind !== 'tables' || summary.selection !== null) return undefined;
  const isSchema = summary.objects.some(
    ({ kind, database, name }) => kind === 'schema' && database === current && name === 'system',
  );
  const names = targets.patterns.flatMap(({ qualifiers, name }) => {
    const [first, second = 'public'] = qualifiers;
    const isOurs = first === 'system' && second === 'public' && (qualifiers.length === 2 || !isSchema);
    return isOurs ? [name ?? '*'] : [];
  });
  if (names.length === 0) return undefined;
  const unknown = names.find((name) => !isRestorableSystemTable(name));
  const foreign = options.find(({ name }) => !OPTIONS.includes(name));
  if (unknown === undefined && foreign === undefined && names.length === targets.patterns.length) {
    return { tables: [...new Set(names.filter(isRestorableSystemTable))] };
  }
  const what =
    unknown === undefined ? 'system tables together with others, or with such options' : `system.${unknown}`;
  throw new InputError('feature_not_supported', `RESTORE of ${what} is not available`, {
    hint: `by themselves ${RESTORABLE_SYSTEM_TABLES.map((name) => `system.${name}`).join(' and ')} are, WITH into_db`,
  });
}

/** @throws InputError `insufficient_privilege`, `parameter_invalid`, `database_not_found` */
export async function restoreSystemTables(
  core: Core,
  options: PartRestore & { readonly tables: readonly RestorableSystemTable[] },
  context: ExecuteContext,
): Promise<StatementResult> {
  const { statement, description, collection, asOf, tables } = options;
  const { subdirectory } = options.summary;
  const { session } = context;
  const asker = askerOf(core, context);
  await requirePrivilege(asker, {
    refusal: 'only users with the admin role are allowed to restore system tables',
  });
  const into = textOption(statement.options, 'into_db');
  if (into === undefined) {
    throw new InputError('parameter_invalid', 'system tables cannot be restored in their own place', {
      hint: "name a database to look at them in: WITH into_db = '...'; RESTORE SYSTEM USERS brings users back",
    });
  }
  requireTenantsDatabase(into, { hint: 'name another with into_db' });
  await requireDatabases(asker, [into]);
  const job = await core.runner.create(
    session.virtualClusterId,
    {
      type: RESTORE_JOB,
      description,
      user: session.user,
      payload: systemTablesPayload({
        collectionUri: recordedUri(collection),
        subdirectory,
        asOf,
        tables,
        into,
      }),
    },
    { signal: core.signal },
  );
  loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
    `RESTORE job ${job.id} of system tables from ${collection.displayUri}/${subdirectory} begun by ${session.user}`,
  );
  const reference = { virtualClusterId: session.virtualClusterId, jobId: job.id };
  return resultOf(core, { job, reference, options: statement.options, tag: 'RESTORE', context });
}
