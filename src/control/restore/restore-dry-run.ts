/** RESTORE ... WITH dry_run: what would happen, how much, how long. */
import { statfs } from 'node:fs/promises';
import type { RestoredObjects } from '../../jobs/index.ts';
import type { BackupObject, BackupSummary } from '../../timeline/index.ts';
import type { RestorableMoment } from '../backup/backup-place.ts';
import type { StatementResult } from '../contract.ts';
import type { Core } from '../core.ts';
import { estimateRestore } from './restore-estimate.ts';
import { columnsOf, rowsResult, timestampCell } from '../use-case.ts';

export const DRY_RUN = columnsOf({
  path: 'text',
  backup_type: 'text',
  as_of: 'timestamptz',
  databases: 'int8',
  tables: 'int8',
  rows: 'int8',
  bytes_to_write: 'int8',
  bytes_to_replay: 'int8',
  free_bytes: 'int8',
  estimated_seconds: 'float8',
});

/** One row. Everything that RESTORE refuses was refused before. */
export async function dryRun(
  core: Core,
  { layer, asOf, through }: RestorableMoment,
): Promise<StatementResult> {
  const { bytesToWrite, bytesToReplay, durationMs } = estimateRestore(layer);
  const { bavail, bsize } = await statfs(core.options.instanceHost.storeDirectory, { bigint: true });
  const cells = [
    `/${layer.subdirectory}`,
    layer.baseSubdirectory === null ? 'full' : 'incremental',
    timestampCell(asOf ?? through ?? layer.endTime),
    countOf(layer, 'database'),
    countOf(layer, 'table'),
    layer.rows,
    bytesToWrite,
    bytesToReplay,
    bavail * bsize,
    Number(durationMs) / 1000,
  ];
  return rowsResult(DRY_RUN, [cells.map(String)], 'RESTORE');
}

/** Of databases or tables: what is named of the backup, as far as it lists them. */
export async function dryRunObjects(
  core: Core,
  { layer, asOf }: RestorableMoment,
  { objects, schemaOnly }: { readonly objects: RestoredObjects; readonly schemaOnly: boolean },
): Promise<StatementResult> {
  const named = layer.objects.filter((object) => isRestored(object, objects));
  const tables = named.filter(({ kind }) => kind === 'table');
  const sum = (count: (object: BackupObject) => bigint | null) =>
    schemaOnly ? 0n : tables.reduce((total, table) => total + (count(table) ?? 0n), 0n);
  // Rows need no log.
  const replayBytes = layer.isImage ? layer.replayBytes : 0n;
  const part = { ...layer, objects: named, rows: sum(({ rows }) => rows), replayBytes };
  return dryRun(core, { layer: { ...part, bytes: sum(({ sizeBytes }) => sizeBytes) }, asOf });
}

function isRestored({ kind, database, schema, name }: BackupObject, objects: RestoredObjects): boolean {
  if (objects.kind === 'databases') {
    const wanted = kind === 'database' ? name : database;
    return objects.databases.some(({ from }) => from === wanted);
  }
  return (
    kind === 'table' &&
    database === objects.from &&
    objects.patterns.some(
      (pattern) =>
        (pattern.schema === null || pattern.schema === schema) &&
        (pattern.name === null || pattern.name === name),
    )
  );
}

function countOf({ objects }: BackupSummary, kind: BackupSummary['objects'][number]['kind']): number {
  return objects.filter((object) => object.kind === kind).length;
}
