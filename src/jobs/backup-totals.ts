/** What a BACKUP or RESTORE reports when it is done, as kept in the job's progress. */
import type { JsonObject } from '../catalog/index.ts';
import type { BackupSummary } from '../timeline/index.ts';

export interface BackupTotals {
  readonly rows: bigint;
  readonly indexEntries: bigint;
  readonly bytes: bigint;
  /** Databases that are in the backup and whose rows and index entries nobody could count. */
  readonly uncounted: readonly string[];
}

export function recordTotals(totals: BackupTotals): JsonObject {
  return {
    rows: String(totals.rows),
    indexEntries: String(totals.indexEntries),
    bytes: String(totals.bytes),
    uncounted: totals.uncounted,
  };
}

export function totalsOf(summary: BackupSummary): BackupTotals {
  const { rows, indexEntries, bytes, objects, selection } = summary;
  // Of a logical backup every row was read; it tells them by table only.
  const uncounted = objects
    .filter((object) => selection === null && object.kind === 'database' && object.rows === null)
    .map(({ name }) => name);
  return { rows, indexEntries, bytes, uncounted };
}

/** Zeroes where the job has not recorded any. */
export function readTotals(progress: JsonObject): BackupTotals {
  const count = (name: string) => {
    const value = progress[name];
    return typeof value === 'string' && /^\d+$/.test(value) ? BigInt(value) : 0n;
  };
  const names: unknown = progress['uncounted'];
  const uncounted = Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
  return { rows: count('rows'), indexEntries: count('indexEntries'), bytes: count('bytes'), uncounted };
}
