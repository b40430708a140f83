import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CorruptError } from '../../base/index.ts';
import {
  parseTimeIndexEntries,
  parseTimeIndexHeader,
  TIME_INDEX_ENTRY_BYTES,
  TIME_INDEX_HEADER_BYTES,
  type TimeIndexEntry,
} from '../format/time-index.ts';

export interface TimeIndexFile {
  readonly path: string;
  readonly entries: readonly TimeIndexEntry[];
  /** Length up to the last whole entry. What follows was being written when the machine stopped. */
  readonly validBytes: number;
  readonly bytes: number;
}

/**
 * A file of the index; it is small. What is whole of it counts: whatever an index lacks is found in the log.
 * @throws CorruptError when not even its header is whole, AppError `format_unsupported`
 */
export async function readTimeIndexFile(directory: string, name: string): Promise<TimeIndexFile> {
  const path = join(directory, name);
  const bytes = await readFile(path);
  parseTimeIndexHeader(bytes.subarray(0, TIME_INDEX_HEADER_BYTES), path);
  const entries = parseTimeIndexEntries(bytes.subarray(TIME_INDEX_HEADER_BYTES));
  const validBytes = TIME_INDEX_HEADER_BYTES + entries.length * TIME_INDEX_ENTRY_BYTES;
  return { path, entries, validBytes, bytes: bytes.length };
}

/** A file of the index that is complete: only the newest may end in the midst of an entry. @throws CorruptError */
export async function readWholeTimeIndexFile(directory: string, name: string): Promise<TimeIndexFile> {
  const file = await readTimeIndexFile(directory, name);
  if (file.validBytes !== file.bytes) {
    throw new CorruptError(`${file.path} is damaged behind byte ${file.validBytes}`);
  }
  return file;
}
