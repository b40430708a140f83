/** What a BACKUP or RESTORE reports when it is done, as kept in the job's progress. */
import type { JsonObject } from '../catalog/index.ts';
import type { BackupSummary } from '../timeline/index.ts';

export interface BackupTotals {
  readonly rows: bigint;
  readonly indexEntries: bigint;
  readonly bytes: bigint;
}

export function recordTotals(totals: BackupTotals): JsonObject {
  return {
    rows: String(totals.rows),
    indexEntries: String(totals.indexEntries),
    bytes: String(totals.bytes),
  };
}

export function totalsOf(summary: BackupSummary): BackupTotals {
  return { rows: summary.rows, indexEntries: summary.indexEntries, bytes: summary.bytes };
}

/** Zeroes where the job has not recorded any. */
export function readTotals(progress: JsonObject): BackupTotals {
  const count = (name: string) => {
    const value = progress[name];
    return typeof value === 'string' && /^\d+$/.test(value) ? BigInt(value) : 0n;
  };
  return { rows: count('rows'), indexEntries: count('indexEntries'), bytes: count('bytes') };
}
