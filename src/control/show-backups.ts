/** SHOW BACKUPS IN 'collection', and SHOW BACKUP [FROM] LATEST | 'path' IN 'collection' [WITH check_files] */
import { CorruptError } from '../base/index.ts';
import type { Statement } from '../sql/index.ts';
import type { BackupObject, BackupSummary } from '../timeline/index.ts';
import { openCollection, requireKnownOptions, selectBackup } from './collection.ts';
import { layersOf } from './backup-place.ts';
import type { Cell, Column } from './contract.ts';
import { type UseCase, boolCell, columnsOf, rowsResult, timestampCell } from './use-case.ts';
import { isFlagOn, notAvailable } from './values.ts';

type ShowBackups = Extract<Statement, { kind: 'show_backups' }>;
type ShowBackup = Extract<Statement, { kind: 'show_backup' }>;

/** How many missing files the error names. */
const MISSING_NAMED_MAX = 10;

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
const FILES = columnsOf({ file_bytes: 'int8' });

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
    if (statement.variant !== 'default') {
      throw notAvailable(
        `SHOW BACKUP ${statement.variant.toUpperCase()}`,
        'write SHOW BACKUP FROM ... IN ...',
      );
    }
    requireKnownOptions(statement.options, { statement: 'SHOW BACKUP', known: ['check_files'] });
    const collection = await openCollection(core, statement.collection, context);
    const full = await selectBackup(core, { collection, selector: statement.from, signal });
    const { collectionReader, cluster } = core.options;
    const withFiles = isFlagOn(statement.options, 'check_files');
    const rows: (readonly Cell[])[] = [];
    for (const summary of await layersOf(core, { collection, full, signal })) {
      if (withFiles) {
        const { subdirectory } = summary;
        const { key } = cluster;
        requireNoneMissing(await collectionReader.missingFiles({ collection, subdirectory, key, signal }));
      }
      rows.push(...summary.objects.map((object) => objectCells(object, { summary, withFiles })));
    }
    return rowsResult(columnsOfBackup(statement), rows);
  },
};

function columnsOfBackup(statement: ShowBackup): readonly Column[] {
  return isFlagOn(statement.options, 'check_files') ? [...CONTENTS, ...FILES] : CONTENTS;
}

/** @throws CorruptError naming the first of them */
function requireNoneMissing(missing: readonly string[]): void {
  if (missing.length === 0) return;
  const named = missing.slice(0, MISSING_NAMED_MAX).map((path) => `\t${path}`);
  const more = missing.length > named.length ? [`\tand ${missing.length - named.length} more`] : [];
  throw new CorruptError(['The following files are missing from the backup:', ...named, ...more].join('\n'));
}

function objectCells(
  object: BackupObject,
  options: { summary: BackupSummary; withFiles: boolean },
): readonly Cell[] {
  const { summary, withFiles } = options;
  return [
    object.kind === 'database' ? null : object.database,
    object.kind === 'table' || object.kind === 'type' ? object.schema : null,
    object.name,
    object.kind,
    summary.baseSubdirectory === null ? 'full' : 'incremental',
    timestampCell(summary.startTime),
    timestampCell(summary.endTime),
    countCell(object.sizeBytes),
    // A database's rows are those of its tables, which are listed; one that could not be entered has none listed.
    countCell(object.kind === 'database' ? null : object.rows),
    boolCell(true),
    null,
    ...(withFiles ? [countCell(fileBytes(object, summary))] : []),
  ];
}

/** An estimate: what is stored is shared among the tables by their size, for files hold several. */
function fileBytes(object: BackupObject, summary: BackupSummary): bigint | null {
  if (object.sizeBytes === null) return null;
  return summary.bytes === 0n ? 0n : (object.sizeBytes * summary.storedBytes) / summary.bytes;
}

function countCell(count: bigint | null): Cell {
  return count === null ? null : String(count);
}
