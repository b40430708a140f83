import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../base/index.ts';
import { encodeIncarnationRecord, parseIncarnationRecord } from '../format/incarnation-record.ts';
import type { IncarnationRecord } from '../store-contract.ts';
import { INCARNATION_RECORD_NAME } from '../store/layout.ts';
import { writeDurably } from './files.ts';

/** What the folder says of its incarnation; null when it says nothing yet. @throws CorruptError, AppError `format_unsupported` */
export async function readRecord(directory: string): Promise<IncarnationRecord | null> {
  const path = join(directory, INCARNATION_RECORD_NAME);
  try {
    return parseIncarnationRecord(await readFile(path, 'utf8'), path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

export async function writeRecord(directory: string, record: IncarnationRecord): Promise<void> {
  await writeDurably(join(directory, INCARNATION_RECORD_NAME), encodeIncarnationRecord(record));
}
