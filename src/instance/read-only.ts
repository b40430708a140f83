/**
 * That an instance may not write: a record of the node beside its configuration. Such an instance runs in recovery that never ends, as a
 * standby of nobody, where Postgres refuses every write, whoever asks: docs/decisions/0036-disk-pressure.md.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type IncarnationId, errnoOf, parseIncarnationId } from '../base/index.ts';
import type { ControlFile } from '../pg/index.ts';
import { syncDirectory, updateFileDurably } from './durable-files.ts';
import { type RecordFormat, readRecord, sealRecord } from './sealed-record.ts';

const RECORD_FILE = 'read-only.json';

export interface ReadOnlyRecord {
  /** Another life of the data is not concerned. */
  readonly incarnation: IncarnationId;
  /** `leaving`: the next start ends the recovery, as that of an instance that was killed. */
  readonly phase: 'on' | 'leaving';
}

const FORMAT: RecordFormat<ReadOnlyRecord> = {
  format: 'atoll-read-only',
  version: 1,
  body: z.strictObject({
    incarnation: z.string().transform(parseIncarnationId),
    phase: z.enum(['on', 'leaving']),
  }) as unknown as z.ZodType<ReadOnlyRecord>,
};

/** Null when it may write. @throws CorruptError, AppError `format_unsupported` */
export async function readReadOnly(configuration: string): Promise<ReadOnlyRecord | null> {
  try {
    return await readRecord(FORMAT, join(configuration, RECORD_FILE));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/** Durable when it returns; null removes it. */
export async function writeReadOnly(configuration: string, record: ReadOnlyRecord | null): Promise<void> {
  const path = join(configuration, RECORD_FILE);
  if (record !== null) return updateFileDurably({ path, content: sealRecord(FORMAT, record), mode: 0o600 });
  await rm(path, { force: true });
  await syncDirectory(configuration);
}

/** Configuration on top of that of every instance: a standby needs as many places of every kind as it had when it wrote. */
export function readOnlyParameters({
  control,
  connections,
}: {
  control: ControlFile;
  connections: number;
}): Readonly<Record<string, string>> {
  return {
    primary_conninfo: '',
    restore_command: '',
    // No other: a history file that lies about is not a reason to follow it.
    recovery_target_timeline: 'current',
    max_connections: String(Math.max(connections, control.maxConnections)),
    max_worker_processes: String(Math.max(8, control.maxWorkerProcesses)),
    max_wal_senders: String(Math.max(12, control.maxWalSenders)),
    max_prepared_transactions: String(control.maxPreparedTransactions),
    max_locks_per_transaction: String(Math.max(64, control.maxLocksPerTransaction)),
    // What a query may still write.
    temp_file_limit: '64MB',
  };
}
