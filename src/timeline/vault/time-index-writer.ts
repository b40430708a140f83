import { type FileHandle, open, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, type IncarnationId, isAppError, type Lsn } from '../../base/index.ts';
import {
  encodeTimeIndexEntry,
  encodeTimeIndexHeader,
  TIME_INDEX_ENTRY_BYTES,
  TIME_INDEX_HEADER_BYTES,
  type TimeIndexEntry,
} from '../format/time-index.ts';
import { timeIndexName } from '../store/layout.ts';
import { readTimeIndexFile } from '../store/read-time-index.ts';
import { listWalFolder, type WalFolder } from '../store/wal-folder.ts';
import { removeDurably, syncFolder } from './files.ts';

/** From this length on the next segment begins a new file, so that old times can be forgotten file by file. */
const FILE_BYTES_MAX = 1024 * 1024;

/** Appends to the index. Only what cannot be found in the log again needs to be synced at once. */
export class TimeIndexWriter implements AsyncDisposable {
  readonly #directory: string;
  readonly #identity: { readonly incarnation: IncarnationId; readonly systemIdentifier: bigint };
  #file: FileHandle | null = null;
  #bytes = 0;
  #isSynced = true;

  constructor(options: {
    readonly directory: string;
    readonly identity: { readonly incarnation: IncarnationId; readonly systemIdentifier: bigint };
  }) {
    this.#directory = options.directory;
    this.#identity = options.identity;
  }

  /**
   * The newest entry whose position the log has, and how many steps of the clock there are. What lies beyond `endLsn`, or is not whole, is
   * cut off, a damaged file removed: the log tells it again.
   */
  static async repair(
    folder: WalFolder,
    { endLsn }: { readonly endLsn: Lsn | null },
  ): Promise<{ readonly last: TimeIndexEntry | null; readonly clockSteps: number }> {
    let last: TimeIndexEntry | null = null;
    let clockSteps = 0;
    for (const { name } of folder.timeIndexes) {
      const file = await readTimeIndexFile(folder.directory, name).catch((error: unknown) => {
        if (isAppError(error, 'data_corrupt')) return null;
        throw error;
      });
      if (file === null) {
        await removeDurably(join(folder.directory, name));
        continue;
      }
      const kept: readonly TimeIndexEntry[] =
        endLsn === null ? file.entries : file.entries.filter(({ lsn }) => lsn <= endLsn);
      const keptBytes = TIME_INDEX_HEADER_BYTES + kept.length * TIME_INDEX_ENTRY_BYTES;
      if (keptBytes !== file.bytes) await truncate(file.path, keptBytes);
      last = kept.at(-1) ?? last;
      clockSteps += kept.filter(({ kind }) => kind === 'clock_step').length;
    }
    return { last, clockSteps };
  }

  async append(entries: readonly TimeIndexEntry[]): Promise<void> {
    const first = entries[0];
    if (first === undefined) return;
    this.#file ??= await this.#open(first.lsn);
    const bytes = Buffer.concat(entries.map(encodeTimeIndexEntry));
    for (let at = 0; at < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, at, bytes.length - at, this.#bytes + at);
      at += bytesWritten;
    }
    this.#bytes += bytes.length;
    this.#isSynced = false;
  }

  async sync(): Promise<void> {
    if (this.#isSynced) return;
    await this.#file?.datasync();
    this.#isSynced = true;
  }

  /** At the end of a segment: what was appended is synced, and a long file is left. */
  async endSegment(): Promise<void> {
    await this.sync();
    if (this.#bytes >= FILE_BYTES_MAX) await this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const file = this.#file;
    this.#file = null;
    this.#bytes = 0;
    await file?.close();
  }

  /** Goes on in the newest file, unless that is long. */
  async #open(lsn: Lsn): Promise<FileHandle> {
    const newest = await this.#newest();
    if (newest !== null) return newest;
    const path = join(this.#directory, timeIndexName(lsn));
    const file = await open(path, 'w+', 0o600);
    try {
      await file.write(
        encodeTimeIndexHeader({ ...this.#identity, beginLsn: lsn }),
        0,
        TIME_INDEX_HEADER_BYTES,
        0,
      );
      await file.datasync();
      await syncFolder(this.#directory);
    } catch (error) {
      await file.close();
      throw error;
    }
    this.#bytes = TIME_INDEX_HEADER_BYTES;
    return file;
  }

  async #newest(): Promise<FileHandle | null> {
    const name = (await listWalFolder(this.#directory)).timeIndexes.at(-1)?.name;
    if (name === undefined) return null;
    try {
      const file = await open(join(this.#directory, name), 'r+');
      const { size } = await file.stat();
      if (size < FILE_BYTES_MAX) {
        this.#bytes = size;
        return file;
      }
      await file.close();
      return null;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null;
      throw error;
    }
  }
}
