/** SHOW BACKUPS IN 'collection', and SHOW BACKUP [SCHEMAS | FILES | RANGES] [FROM] LATEST | 'path' IN 'collection' [WITH check_files, ...] */
import { regionStatements } from '../../logical-copy/index.ts';
import type { Statement } from '../../sql/index.ts';
import type { BackupObject, BackupSummary } from '../../timeline/index.ts';
import { KEY_OPTIONS, readBackupKeys } from './backup-keys.ts';
import { openChain } from './chain-keys.ts';
import { openCollection, requireComplete, requireKnownOptions, selectBackup } from './collection.ts';
import { layersOf } from './backup-place.ts';
import type { Cell, Column } from '../contract.ts';
import { estimateRestore } from '../restore/restore-estimate.ts';
import { type UseCase, boolCell, columnsOf, rowsResult, timestampCell } from '../use-case.ts';
import { describeLayers } from './describe-backup.ts';
import { FILES, fileRows, RANGES, rangeRows } from './show-backup-files.ts';
import { isFlagOn } from '../values.ts';

type ShowBackups = Extract<Statement, { kind: 'show_backups' }>;
type ShowBackup = Extract<Statement, { kind: 'show_backup' }>;

const PATHS = columnsOf({ path: 'text' });
const NAMES = columnsOf({ database_name: 'text', parent_schema_name: 'text', object_name: 'text' });
const NAMES_AND_IDS = columnsOf({
  database_name: 'text',
  database_id: 'int8',
  parent_schema_name: 'text',
  parent_schema_id: 'int8',
  object_name: 'text',
  object_id: 'int8',
});
const CONTENTS = columnsOf({
  object_type: 'text',
  backup_type: 'text',
  start_time: 'timestamptz',
  end_time: 'timestamptz',
  size_bytes: 'int8',
  rows: 'int8',
  is_full_cluster: 'bool',
  regions: 'text',
});
const SCHEMAS = columnsOf({ create_statement: 'text' });
const RIGHTS = columnsOf({ privileges: 'text', owner: 'text' });
const CHECKED = columnsOf({ file_bytes: 'int8' });
const ESTIMATE = columnsOf({
  restore_bytes: 'int8',
  restore_replay_bytes: 'int8',
  restore_seconds: 'float8',
});
const REVISION = columnsOf({ revision_start_time: 'timestamptz' });

export const showBackups: UseCase<ShowBackups> = {
  columns: () => PATHS,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const collection = await openCollection(core, statement.collection, context);
    const paths = await core.options.collectionReader.list(collection, context);
    return rowsResult(
      PATHS,
      paths.map((path) => [`/${path.replace(/^\//, '')}`]),
    );
  },
};

export const showBackup: UseCase<ShowBackup> = {
  columns: columnsOfBackup,
  refusedInTransaction: undefined,
  async run(core, statement, context) {
    const { signal } = context;
    const { options, variant } = statement;
    requireKnownOptions(options, { statement: 'SHOW BACKUP', known: KNOWN_OPTIONS });
    const found = await openCollection(core, statement.collection, context, { options });
    const keys = await readBackupKeys(core, options, context);
    const full = await selectBackup(core, { collection: found, selector: statement.from, signal });
    const collection = await openChain(core, { collection: found, folder: full, keys, signal });
    const layers = await layersOf(core, { collection, full, signal });
    if (isFlagOn(options, 'check_files')) await requireComplete(core, { collection, full, signal });
    const columns = columnsOfBackup(statement);
    if (isFlagOn(options, 'as_json')) return rowsResult(columns, layers.map(jsonCells));
    const shown = { collection, layers, signal };
    if (variant === 'files') return rowsResult(columns, await fileRows(core, shown));
    if (variant === 'ranges') return rowsResult(columns, await rangeRows(core, shown));
    const isDescribed = variant === 'schemas' || isFlagOn(options, 'privileges');
    const described = isDescribed ? await describeLayers(core, shown, context) : layers;
    return rowsResult(columns, described.flatMap(rowsOf(statement)));
  },
};

const KNOWN_OPTIONS = [
  ...KEY_OPTIONS,
  'check_files',
  'incremental_location',
  'as_json',
  'debug_ids',
  'privileges',
  'restore_estimate',
  'revision_start_time',
  'skip_size',
];

function columnsOfBackup({ options, variant }: ShowBackup): readonly Column[] {
  if (isFlagOn(options, 'as_json')) return JSON_COLUMNS;
  if (variant === 'files') return FILES;
  if (variant === 'ranges') return RANGES;
  const added = (name: string, columns: readonly Column[]) => (isFlagOn(options, name) ? columns : []);
  return [
    ...(isFlagOn(options, 'debug_ids') ? NAMES_AND_IDS : NAMES),
    ...CONTENTS,
    ...(variant === 'schemas' ? SCHEMAS : []),
    ...added('check_files', CHECKED),
    ...added('privileges', RIGHTS),
    ...added('restore_estimate', ESTIMATE),
    ...added('revision_start_time', REVISION),
  ];
}

const JSON_COLUMNS = columnsOf({ manifest: 'jsonb' });

/** What a manifest says, one row for each backup of the chain. Its keys may change from release to release. */
function jsonCells({ objects, ...summary }: BackupSummary): readonly Cell[] {
  const { rows, indexEntries, bytes, ...rest } = summary;
  const manifest = { ...rest, entryCounts: { rows, indexEntries, dataSize: bytes }, objects };
  const json = JSON.stringify(manifest, (_key, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
  return [json];
}

/** The rows of one backup of the chain. */
function rowsOf(statement: ShowBackup): (summary: BackupSummary) => readonly (readonly Cell[])[] {
  return (summary) => {
    const ids = isFlagOn(statement.options, 'debug_ids') ? idsOf(summary) : null;
    return summary.objects.map((object) => objectCells(object, { summary, statement, ids }));
  };
}

/** Numbers of databases and schemas by name. */
interface Ids {
  readonly databases: ReadonlyMap<string, number | undefined>;
  readonly schemas: ReadonlyMap<string, number | undefined>;
}

function idsOf({ objects }: BackupSummary): Ids {
  const found = (kind: BackupObject['kind'], keyOf: (object: BackupObject) => string) =>
    new Map(
      objects.filter((object) => object.kind === kind).map((object) => [keyOf(object), object.oid] as const),
    );
  return {
    databases: found('database', ({ name }) => name),
    schemas: found('schema', ({ database, name }) => JSON.stringify([database, name])),
  };
}

function nameCells(object: BackupObject, ids: Ids | null): readonly Cell[] {
  const database = object.kind === 'database' ? null : object.database;
  const schema = object.kind === 'table' || object.kind === 'type' ? object.schema : null;
  if (ids === null) return [database, schema, object.name];
  const databaseId = database === null ? undefined : ids.databases.get(database);
  const schemaId = schema === null ? undefined : ids.schemas.get(JSON.stringify([database, schema]));
  return [database, idCell(databaseId), schema, idCell(schemaId), object.name, idCell(object.oid)];
}

/** Unknown in backups of databases and tables, and in old ones. */
function idCell(id: number | undefined): Cell {
  return id === undefined ? null : String(id);
}

function objectCells(
  object: BackupObject,
  { summary, statement, ids }: { summary: BackupSummary; statement: ShowBackup; ids: Ids | null },
): readonly Cell[] {
  const { options, variant } = statement;
  const added = (name: string, cells: () => readonly Cell[]) => (isFlagOn(options, name) ? cells() : []);
  return [
    ...nameCells(object, ids),
    object.kind,
    summary.baseSubdirectory === null ? 'full' : 'incremental',
    timestampCell(summary.startTime),
    timestampCell(summary.endTime),
    isFlagOn(options, 'skip_size') ? null : countCell(object.sizeBytes),
    // A database's rows are those of its tables, which are listed; one that could not be entered has none listed.
    countCell(object.kind === 'database' ? null : object.rows),
    boolCell(summary.selection === null),
    object.kind === 'database' ? regionStatements(object.name, object.regions ?? []) : null,
    ...(variant === 'schemas' ? [object.definition ?? null] : []),
    ...added('check_files', () => [countCell(fileBytes(object, summary))]),
    ...added('privileges', () => [object.privileges ?? null, object.owner ?? null]),
    ...added('restore_estimate', () => estimateCells(summary)),
    ...added('revision_start_time', () => [timestampCell(summary.revisionStart)]),
  ];
}

/** Of the whole backup: no table of a virtual cluster is restored alone in less. */
function estimateCells(summary: BackupSummary): readonly Cell[] {
  const { bytesToWrite, bytesToReplay, durationMs } = estimateRestore(summary);
  return [String(bytesToWrite), String(bytesToReplay), String(Number(durationMs) / 1000)];
}

/** An estimate: what is stored is shared among the tables by their size, for files hold several. */
function fileBytes(object: BackupObject, summary: BackupSummary): bigint | null {
  if (object.sizeBytes === null) return null;
  return summary.bytes === 0n ? 0n : (object.sizeBytes * summary.storedBytes) / summary.bytes;
}

function countCell(count: bigint | null): Cell {
  return count === null ? null : String(count);
}
