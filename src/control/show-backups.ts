/** SHOW BACKUPS IN 'collection', and SHOW BACKUP [FROM] LATEST | 'path' IN 'collection' [WITH check_files, ...] */
import type { Statement } from '../sql/index.ts';
import type { BackupObject, BackupSummary } from '../timeline/index.ts';
import { openCollection, requireComplete, requireKnownOptions, selectBackup } from './collection.ts';
import { layersOf } from './backup-place.ts';
import type { Cell, Column } from './contract.ts';
import { estimateRestore } from './restore-estimate.ts';
import { type UseCase, boolCell, columnsOf, rowsResult, timestampCell } from './use-case.ts';
import { isFlagOn, notAvailable } from './values.ts';

type ShowBackups = Extract<Statement, { kind: 'show_backups' }>;
type ShowBackup = Extract<Statement, { kind: 'show_backup' }>;

const PATHS = columnsOf({ path: 'text' });
const CONTENTS = columnsOf({
  database_name: 'text',
  parent_schema_name: 'text',
  object_name: 'text',
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
const FILES = columnsOf({ file_bytes: 'int8' });
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
    if (statement.variant !== 'default' && statement.variant !== 'schemas') {
      throw notAvailable(
        `SHOW BACKUP ${statement.variant.toUpperCase()}`,
        'write SHOW BACKUP FROM ... IN ...',
      );
    }
    const { options } = statement;
    requireKnownOptions(options, { statement: 'SHOW BACKUP', known: KNOWN_OPTIONS });
    const collection = await openCollection(core, statement.collection, context, { options });
    const full = await selectBackup(core, { collection, selector: statement.from, signal });
    const layers = await layersOf(core, { collection, full, signal });
    requireDescribed(statement, layers);
    if (isFlagOn(options, 'check_files')) await requireComplete(core, { collection, full, signal });
    if (isFlagOn(options, 'as_json')) return rowsResult(JSON_COLUMNS, layers.map(jsonCells));
    const cellsOf = (summary: BackupSummary) =>
      summary.objects.map((object) => objectCells(object, { summary, statement }));
    return rowsResult(columnsOfBackup(statement), layers.flatMap(cellsOf));
  },
};

const KNOWN_OPTIONS = [
  'check_files',
  'incremental_location',
  'as_json',
  'privileges',
  'restore_estimate',
  'revision_start_time',
  'skip_size',
];

/** An image of a whole virtual cluster tells names; definitions and rights only its catalogs know. @throws InputError `feature_not_supported` */
function requireDescribed({ variant, options }: ShowBackup, layers: readonly BackupSummary[]): void {
  const asked = variant === 'schemas' ? 'SCHEMAS' : 'with option "privileges"';
  const isAsked = variant === 'schemas' || isFlagOn(options, 'privileges');
  if (!isAsked || layers.every(({ selection }) => selection !== null)) return;
  throw notAvailable(
    `SHOW BACKUP ${asked} of a whole virtual cluster`,
    'restore it into a new virtual cluster and look there',
  );
}

function columnsOfBackup({ options, variant }: ShowBackup): readonly Column[] {
  if (isFlagOn(options, 'as_json')) return JSON_COLUMNS;
  const added = (name: string, columns: readonly Column[]) => (isFlagOn(options, name) ? columns : []);
  return [
    ...CONTENTS,
    ...(variant === 'schemas' ? SCHEMAS : []),
    ...added('check_files', FILES),
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

function objectCells(
  object: BackupObject,
  { summary, statement }: { summary: BackupSummary; statement: ShowBackup },
): readonly Cell[] {
  const { options, variant } = statement;
  const added = (name: string, cells: () => readonly Cell[]) => (isFlagOn(options, name) ? cells() : []);
  return [
    object.kind === 'database' ? null : object.database,
    object.kind === 'table' || object.kind === 'type' ? object.schema : null,
    object.name,
    object.kind,
    summary.baseSubdirectory === null ? 'full' : 'incremental',
    timestampCell(summary.startTime),
    timestampCell(summary.endTime),
    isFlagOn(options, 'skip_size') ? null : countCell(object.sizeBytes),
    // A database's rows are those of its tables, which are listed; one that could not be entered has none listed.
    countCell(object.kind === 'database' ? null : object.rows),
    boolCell(summary.selection === null),
    null,
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
