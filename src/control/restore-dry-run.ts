/** RESTORE ... WITH dry_run: what would happen, how much, how long. */
import { statfs } from 'node:fs/promises';
import type { BackupSummary } from '../timeline/index.ts';
import type { RestorableMoment } from './backup-place.ts';
import type { StatementResult } from './contract.ts';
import type { Core } from './core.ts';
import { estimateRestore } from './restore-estimate.ts';
import { columnsOf, rowsResult, timestampCell } from './use-case.ts';

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
export async function dryRun(core: Core, { layer, asOf }: RestorableMoment): Promise<StatementResult> {
  const { bytesToWrite, bytesToReplay, durationMs } = estimateRestore(layer);
  const { bavail, bsize } = await statfs(core.options.instanceHost.storeDirectory, { bigint: true });
  const cells = [
    `/${layer.subdirectory}`,
    layer.baseSubdirectory === null ? 'full' : 'incremental',
    timestampCell(asOf ?? layer.endTime),
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

function countOf({ objects }: BackupSummary, kind: BackupSummary['objects'][number]['kind']): number {
  return objects.filter((object) => object.kind === kind).length;
}
