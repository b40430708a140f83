/** RESTORE DATABASE a, b | TABLE t, ... FROM LATEST | 'path' IN 'collection' [WITH new_db_name, into_db, schema_only, skip_missing_...] */
import { InputError, type Timestamp } from '../../base/index.ts';
import { readDatabaseRegions } from '../../catalog/index.ts';
import {
  imagePayload,
  type RegionTerms,
  requireRegions,
  requireTableRegions,
  RESTORE_JOB,
  type RestoredObjects,
  restoreObjectsPayload,
  transactionPayload,
} from '../../jobs/index.ts';
import { regionsOf } from '../../logical-copy/index.ts';
import { type Option, type Statement, type TablePattern } from '../../sql/index.ts';
import type { BackedUpDatabase, BackupSummary, CollectionLocation } from '../../timeline/index.ts';
import { KEY_OPTIONS } from '../backup/backup-keys.ts';
import { resultOf } from '../jobs/bulk-statement.ts';
import { requireComplete } from '../backup/collection.ts';
import type { ExecuteContext, StatementResult } from '../contract.ts';
import { type Core, loggerOf } from '../core.ts';
import { requireRestorePrivilege } from '../privileges/object-decisions.ts';
import { requireNoTables } from '../backup/present-tables.ts';
import type { Asker } from '../privileges/privileges.ts';
import { requireDatabases } from '../privileges/privilege-targets.ts';
import { requireDatabaseName, requireTenantsDatabase } from '../privileges/tenants-database.ts';
import { regionTermsOf } from '../regions/cluster-regions.ts';
import { dryRunObjects } from './restore-dry-run.ts';
import { recordedUri } from '../backup/storage-location.ts';
import { askerOf } from '../use-case.ts';
import { isFlagOn, textValue } from '../values.ts';

type Restore = Extract<Statement, { kind: 'restore' }>;

/** What RESTORE of databases and tables knows besides what every RESTORE does. */
export const OBJECT_OPTIONS: readonly string[] = [
  ...KEY_OPTIONS,
  'detached',
  'dry_run',
  'execution_locality',
  'incremental_location',
  'new_db_name',
  'into_db',
  'schema_only',
  'verify_backup_table_data',
  'skip_missing_foreign_keys',
  'skip_missing_sequences',
  'skip_missing_sequence_owners',
  'skip_missing_views',
  'skip_missing_udfs',
  'skip_localities_check',
  'remove_regions',
];

/** Options that do not go together. @throws InputError `parameter_invalid` */
export function requireObjectOptions({ targets, options }: Restore): void {
  const has = (name: string) => options.some((option) => option.name === name);
  const refuse = (message: string, hint: string) => {
    throw new InputError('parameter_invalid', message, { hint });
  };
  const isSingle = targets.kind === 'databases' && targets.names.length === 1;
  if (has('new_db_name') && !isSingle) {
    refuse(
      'new_db_name can only be used for RESTORE DATABASE with a single target database',
      'restore each database by a statement of its own; for tables there is into_db',
    );
  }
  if (has('into_db') && targets.kind !== 'tables') {
    refuse(
      'cannot use into_db option when restoring database(s)',
      'give the database another name with new_db_name',
    );
  }
  if (has('verify_backup_table_data') && !isFlagOn(options, 'schema_only')) {
    refuse(
      'to set the verify_backup_table_data option, the schema_only option must be set',
      'a restore that is not schema_only reads and checks all data anyway',
    );
  }
}

/** The database that tables go into: of the option, or of their names; the session's when neither says. */
function intoDatabaseOf({ options }: Restore, fallback: string): string {
  return textOption(options, 'into_db') ?? fallback;
}

/** A statement, and which backup it means. */
export interface PartRestore {
  readonly statement: Restore;
  readonly description: string;
  readonly collection: CollectionLocation;
  /** The full backup of the chain. */
  readonly full: string;
  readonly summary: BackupSummary;
  /** A moment of the backup's revision history; null for its end. */
  readonly asOf: Timestamp | null;
}

/** From a backup of any kind. */
export async function restoreObjects(
  core: Core,
  options: PartRestore,
  context: ExecuteContext,
): Promise<StatementResult> {
  const { statement, collection, summary, asOf } = options;
  const { session } = context;
  const { isImage } = summary;
  const regions = regionTermsOf(core, statement.options, context);
  const objects = isImage
    ? await objectsOfImage(core, options, context)
    : await objectsOf(core, { ...options, regions }, context);
  const isOn = (name: string) => isFlagOn(statement.options, name);
  if (isOn('dry_run')) {
    await requireComplete(core, { ...options, signal: context.signal });
    return dryRunObjects(core, { layer: summary, asOf }, { objects, schemaOnly: isOn('schema_only') });
  }
  const place = { collectionUri: recordedUri(collection), subdirectory: summary.subdirectory };
  const job = await core.runner.create(
    session.virtualClusterId,
    {
      type: RESTORE_JOB,
      description: options.description,
      user: session.user,
      payload: {
        ...transactionPayload(context.transactionId),
        ...restoreObjectsPayload({
          ...place,
          objects,
          schemaOnly: isOn('schema_only'),
          verifyTableData: isOn('verify_backup_table_data'),
          skip: {
            foreignKeys: isOn('skip_missing_foreign_keys'),
            sequences: isOn('skip_missing_sequences'),
            sequenceOwners: isOn('skip_missing_sequence_owners'),
            views: isOn('skip_missing_views'),
            functions: isOn('skip_missing_udfs'),
          },
          regions,
        }),
        ...(isImage ? imagePayload({ ...place, asOf }) : {}),
      },
    },
    { signal: core.signal },
  );
  loggerOf(core, { id: session.virtualClusterId, name: session.virtualClusterName }).info(
    `RESTORE job ${job.id} from ${collection.displayUri}/${summary.subdirectory} begun by ${session.user}`,
  );
  const reference = { virtualClusterId: session.virtualClusterId, jobId: job.id };
  return resultOf(core, { job, reference, options: statement.options, tag: 'RESTORE', context });
}

async function objectsOf(
  core: Core,
  {
    statement,
    collection,
    summary,
    regions,
  }: {
    statement: Restore;
    collection: CollectionLocation;
    summary: BackupSummary;
    regions: RegionTerms;
  },
  context: ExecuteContext,
): Promise<RestoredObjects> {
  const { key } = core.options.cluster;
  const held = await core.options.collectionReader.databases({
    collection,
    subdirectory: summary.subdirectory,
    key,
    signal: context.signal,
  });
  const { targets, options } = statement;
  if (targets.kind === 'databases') {
    const renamed = textOption(options, 'new_db_name');
    const names = [...new Set(targets.names)];
    const databases = names.map((from) => ({
      from,
      to: renamed ?? from,
      like: requireWhole(held, from, summary),
    }));
    for (const { like } of databases) requireRegions(regionsOf(like.settings), regions);
    await requireNoDatabase(
      core,
      databases.map(({ to }) => to),
      context,
    );
    return { kind: 'databases', databases };
  }
  const patterns = targets.kind === 'tables' ? targets.patterns : [];
  const { from, resolved } = resolveInBackup(summary, { patterns, current: context.session.database });
  const into = intoDatabaseOf(statement, from);
  await requireInto(core, into, context);
  // Names in the backup decide where they go, so only now can it be asked.
  const asker = askerOf(core, context);
  await requireRestorePrivilege(asker, { targets, intoDatabase: into });
  const origin = held.find(({ database }) => database.name === from);
  const here = await asker.instance.withSystemClient(readDatabaseRegions, asker);
  requireTableRegions(
    {
      from: { name: from, regions: regionsOf(origin?.database.settings ?? []) },
      into: { name: into, regions: here.get(into) ?? [] },
    },
    regions,
  );
  const tables = summary.objects.flatMap(({ kind, database, schema, name }) => {
    const isNamed = resolved.some(
      (pattern) =>
        (pattern.schema === null || pattern.schema === schema) &&
        (pattern.name === null || pattern.name === name),
    );
    return kind === 'table' && database === from && schema !== null && isNamed ? [{ schema, name }] : [];
  });
  await requireNoTables(asker, { database: into, tables });
  return { kind: 'tables', from, into, patterns: resolved };
}

/**
 * A backup of the whole virtual cluster lists what there was when its base was captured; what there was at the moment that is restored, only
 * its log tells. So names are not looked for before the job does; the list serves to decide what a name of two parts means.
 */
async function objectsOfImage(
  core: Core,
  { statement, summary }: { statement: Restore; summary: BackupSummary },
  context: ExecuteContext,
): Promise<RestoredObjects> {
  const { targets, options } = statement;
  const asker = askerOf(core, context);
  if (targets.kind === 'databases') {
    const renamed = textOption(options, 'new_db_name');
    const names = [...new Set(targets.names)];
    for (const name of names) requireSelectedDatabase(summary, name);
    const databases = names.map((from) => ({ from, to: renamed ?? from, like: null }));
    await requireNoDatabase(
      core,
      databases.map(({ to }) => to),
      context,
    );
    return { kind: 'databases', databases };
  }
  const current = context.session.database;
  const patterns = targets.kind === 'tables' ? targets.patterns : [];
  const present = await databasesOf(asker);
  const isDatabase = (name: string) =>
    present.has(name) || summary.objects.some((object) => object.kind === 'database' && object.name === name);
  const { from, resolved } = requireOneDatabase(
    patterns.map((pattern) => resolveInImage(summary, { pattern, current, isDatabase })),
    current,
  );
  for (const pattern of resolved) requireSelectedTable(summary, { database: from, ...pattern });
  const into = intoDatabaseOf(statement, from);
  await requireInto(core, into, context);
  await requireRestorePrivilege(asker, { targets, intoDatabase: into });
  // What `*` stands for is found in the copy.
  const tables = resolved.flatMap(({ schema, name }) =>
    schema === null || name === null ? [] : [{ schema, name }],
  );
  await requireNoTables(asker, { database: into, tables });
  return { kind: 'tables', from, into, patterns: resolved };
}

/** @throws InputError `database_not_found`, `object_missing` for what a backup with revision history was not taken of */
function requireSelectedDatabase({ selection, subdirectory }: BackupSummary, name: string): void {
  if (selection === null || (selection.kind === 'databases' && selection.names.includes(name))) return;
  if (selection.kind === 'tables' && selection.database === name)
    throw incompleteDatabase(subdirectory, name);
  throw databaseNotHeld(subdirectory, name);
}

/** @throws InputError `table_not_found` */
function requireSelectedTable({ selection, subdirectory }: BackupSummary, wanted: ResolvedPattern): void {
  const { database, schema, name } = wanted;
  if (selection === null) return;
  if (selection.kind === 'databases' && selection.names.includes(database)) return;
  const isHeld =
    selection.kind === 'tables' &&
    selection.database === database &&
    selection.patterns.some(
      (held) => (held.schema ?? schema) === schema && (held.name === null || held.name === name),
    );
  if (isHeld) return;
  throw new InputError(
    'table_not_found',
    `table "${[database, schema ?? '*', name ?? '*'].join('.')}" is not in backup ${subdirectory}`,
    { hint: 'SHOW BACKUP shows what it holds' },
  );
}

async function databasesOf(asker: Asker): Promise<ReadonlySet<string>> {
  const rows = await asker.instance.withSystemClient(
    (client) => client.query('select datname from pg_catalog.pg_database'),
    asker,
  );
  return new Set(rows.flatMap(({ datname }) => datname ?? []));
}

function resolveInImage(
  { objects }: BackupSummary,
  options: { pattern: TablePattern; current: string; isDatabase: (name: string) => boolean },
): ResolvedPattern {
  const { pattern, current, isDatabase } = options;
  const name = pattern.name ?? null;
  const inDefault = name === null ? null : 'public';
  const [first, second] = pattern.qualifiers;
  if (first === undefined) return { database: current, schema: inDefault, name };
  if (second !== undefined) return { database: first, schema: second, name };
  const isSchema = objects.some(
    (object) => object.kind === 'schema' && object.database === current && object.name === first,
  );
  return isSchema || !isDatabase(first)
    ? { database: current, schema: first, name }
    : { database: first, schema: inDefault, name };
}

function requireWhole(held: readonly BackedUpDatabase[], name: string, summary: BackupSummary) {
  const found = held.find(({ database }) => database.name === name);
  if (found === undefined) throw databaseNotHeld(summary.subdirectory, name);
  if (found.isWhole) return found.database;
  throw incompleteDatabase(summary.subdirectory, name);
}

function databaseNotHeld(subdirectory: string, name: string): InputError {
  return new InputError('database_not_found', `database "${name}" is not in backup ${subdirectory}`, {
    hint: 'SHOW BACKUP shows what it holds',
  });
}

function incompleteDatabase(subdirectory: string, name: string): InputError {
  return new InputError(
    'object_missing',
    `backup ${subdirectory} does not hold the complete database "${name}"`,
    { hint: 'restore its tables: RESTORE TABLE ... WITH into_db = ...' },
  );
}

/** @throws InputError `name_invalid`, `object_exists` */
async function requireNoDatabase(
  core: Core,
  names: readonly string[],
  context: ExecuteContext,
): Promise<void> {
  const asker = askerOf(core, context);
  names.forEach(requireDatabaseName);
  for (const name of names) {
    const rows = await asker.instance.withSystemClient(
      (client) => client.query('select from pg_catalog.pg_database where datname = $1', [name]),
      asker,
    );
    if (rows.length === 0) continue;
    throw new InputError('object_exists', `database "${name}" already exists`, {
      hint: 'drop or rename it, or restore under another name: WITH new_db_name = ...',
    });
  }
}

/** @throws InputError `parameter_invalid`, `database_not_found` */
async function requireInto(core: Core, database: string, context: ExecuteContext): Promise<void> {
  requireTenantsDatabase(database, { hint: 'name another with into_db' });
  try {
    await requireDatabases(askerOf(core, context), [database]);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError('database_not_found', `a database named "${database}" needs to exist`, {
      cause: error,
      hint: 'create it first, or name another with into_db',
    });
  }
}

interface Resolved {
  readonly from: string;
  readonly resolved: readonly { readonly schema: string | null; readonly name: string | null }[];
}

/** Names mean what is in the backup: schemas of the session's database first, then databases. */
function resolveInBackup(
  summary: BackupSummary,
  { patterns, current }: { patterns: readonly TablePattern[]; current: string },
): Resolved {
  return requireOneDatabase(
    patterns.map((pattern) => resolvePattern(summary, { pattern, current })),
    current,
  );
}

interface ResolvedPattern {
  readonly database: string;
  readonly schema: string | null;
  readonly name: string | null;
}

function requireOneDatabase(found: readonly ResolvedPattern[], current: string): Resolved {
  const databases = [...new Set(found.map(({ database }) => database))];
  const [from = current] = databases;
  if (databases.length > 1) {
    throw new InputError('feature_not_supported', 'one statement names tables of one database', {
      hint: `write a statement for each of ${databases.join(', ')}`,
    });
  }
  return { from, resolved: found.map(({ schema, name }) => ({ schema, name })) };
}

function resolvePattern(
  { objects, subdirectory }: BackupSummary,
  { pattern, current }: { pattern: TablePattern; current: string },
): ResolvedPattern {
  const { qualifiers } = pattern;
  const name = pattern.name ?? null;
  const [first, second] = qualifiers;
  const inDefault = name === null ? null : 'public';
  const candidates =
    first === undefined
      ? [{ database: current, schema: inDefault, name }]
      : second !== undefined
        ? [{ database: first, schema: second, name }]
        : [
            { database: current, schema: first, name },
            { database: first, schema: inDefault, name },
          ];
  const isThere = (wanted: (typeof candidates)[number]) =>
    objects.some(
      (object) =>
        object.kind === 'table' &&
        object.database === wanted.database &&
        (wanted.schema === null || object.schema === wanted.schema) &&
        (wanted.name === null || object.name === wanted.name),
    );
  const found = candidates.find(isThere);
  if (found !== undefined) return found;
  throw new InputError(
    'table_not_found',
    `table "${[...qualifiers, name ?? '*'].join('.')}" is not in backup ${subdirectory}`,
    { hint: 'SHOW BACKUP shows what it holds' },
  );
}

export function textOption(options: readonly Option[], name: string): string | undefined {
  const option = options.find((each) => each.name === name);
  if (option?.value === undefined) return undefined;
  const [value] = Array.isArray(option.value) ? option.value : [option.value];
  return value === undefined ? undefined : textValue(value, `option ${name}`);
}
