/** What the log in a data directory makes anew: forks of relations, and databases. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, type Lsn } from '../../base/index.ts';
import { throwIfAborted } from '../../blob/index.ts';
import {
  decodeStorageEvent,
  DEFAULT_TABLESPACE_OID,
  firstRecordLsnFrom,
  formatWalSegmentName,
  RMGR,
  type WalRecord,
  WalRecordReader,
  walSegmentNoOf,
  walSegmentStart,
} from '../../pg/index.ts';
import type { DatabaseCopy, LogOrigins } from './contract.ts';
import { OpenTransactions } from './open-transactions.ts';
import { forkKey } from './prove-part.ts';

const READ_BYTES = 1024 * 1024;

/** Log of one timeline, from where replay enters it to where it leaves it. */
export interface ReplayedStretch {
  readonly timelineId: number;
  readonly engineMajor: number;
  readonly systemIdentifier: bigint;
  readonly beginLsn: Lsn;
  readonly endLsn: Lsn;
}

/** Put together record by record, in the order of the log. */
export class LogOriginsBuilder {
  /** By database, then by `forkKey`: where it was created first. */
  readonly #created = new Map<number, Map<number, Lsn>>();
  readonly #logged = new Set<number>();
  readonly #copies: DatabaseCopy[] = [];
  readonly #open = new OpenTransactions();

  addRecord(record: WalRecord): void {
    this.#open.add(record);
    if (record.rmid !== RMGR.storage && record.rmid !== RMGR.database) return;
    const event = decodeStorageEvent(record);
    if (event?.kind === 'fork_created' && event.relation.tablespaceOid === DEFAULT_TABLESPACE_OID) {
      const { databaseOid, filenode } = event.relation;
      this.addFork({ databaseOid, key: forkKey(filenode, event.fork), lsn: record.lsn });
    }
    if (event?.kind === 'database_created') {
      this.addDatabase({
        databaseOid: event.databaseOid,
        fromDatabaseOid: event.copiedFrom?.databaseOid ?? null,
        lsn: record.lsn,
      });
    }
  }

  addFork({ databaseOid, key, lsn }: { databaseOid: number; key: number; lsn: Lsn }): void {
    const forks = this.#created.get(databaseOid) ?? new Map<number, Lsn>();
    this.#created.set(databaseOid, forks);
    if (!forks.has(key)) forks.set(key, lsn);
  }

  /** `fromDatabaseOid`: null when every page of it was logged. */
  addDatabase(database: { databaseOid: number; fromDatabaseOid: number | null; lsn: Lsn }): void {
    const { databaseOid, fromDatabaseOid, lsn } = database;
    if (fromDatabaseOid === null) this.#logged.add(databaseOid);
    else this.#copies.push({ databaseOid, fromDatabaseOid, lsn });
  }

  /** @param endLsn where the log ends that was added; null when some of it was not */
  build(endLsn: Lsn | null): LogOrigins {
    const created = Array.from(this.#created, ([databaseOid, forks]) => {
      const keys = Float64Array.from(forks.keys()).sort();
      const lsns = BigUint64Array.from(keys, (key) => forks.get(key) ?? 0n);
      return { databaseOid, keys, lsns };
    });
    const quietLsn = endLsn === null ? null : this.#open.quietLsn(endLsn);
    return { created, loggedDatabases: [...this.#logged], copies: this.#copies, quietLsn };
  }
}

/**
 * Reads what replay will read. Log that ends early, or cannot be read, only makes for fewer origins: what they would have proved is then
 * found missing, and never taken for whole.
 */
export async function readLogOrigins(
  dataDirectory: string,
  options: { stretches: readonly ReplayedStretch[]; segmentBytes: number; signal: AbortSignal },
): Promise<LogOrigins> {
  const builder = new LogOriginsBuilder();
  let endLsn: Lsn | null = null;
  for (const [index, stretch] of options.stretches.entries()) {
    const isWhole = await readStretch(dataDirectory, { ...options, stretch, builder });
    endLsn = isWhole && (index === 0 || endLsn !== null) ? stretch.endLsn : null;
  }
  return builder.build(endLsn);
}

/** Tells whether all of it was read. */
async function readStretch(
  dataDirectory: string,
  options: {
    stretch: ReplayedStretch;
    segmentBytes: number;
    builder: LogOriginsBuilder;
    signal: AbortSignal;
  },
): Promise<boolean> {
  const { stretch, segmentBytes, builder, signal } = options;
  const { beginLsn, endLsn, ...facts } = stretch;
  let segmentNo = walSegmentNoOf({ lsn: beginLsn, segmentBytes });
  const reader = new WalRecordReader({
    ...facts,
    beginLsn: walSegmentStart({ segmentNo, segmentBytes }),
    segmentBytes,
    atDamage: 'end',
    onRecord(record) {
      if (record.lsn >= beginLsn && record.lsn < endLsn) builder.addRecord(record);
    },
  });
  for (; walSegmentStart({ segmentNo, segmentBytes }) < endLsn && reader.end === null; segmentNo++) {
    const name = formatWalSegmentName({ timelineId: stretch.timelineId, segmentNo, segmentBytes });
    const isThere = await pushSegment(join(dataDirectory, 'pg_wal', name), reader, signal);
    if (!isThere) break;
  }
  // No record fits between the end of the last one and the end of the stretch.
  return firstRecordLsnFrom({ lsn: reader.completeLsn, segmentBytes }) >= endLsn;
}

async function pushSegment(path: string, reader: WalRecordReader, signal: AbortSignal): Promise<boolean> {
  const file = await open(path, 'r').catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  });
  if (file === null) return false;
  await using opened = file;
  const buffer = new Uint8Array(READ_BYTES);
  while (reader.end === null) {
    throwIfAborted(signal);
    const { bytesRead } = await opened.read(buffer, 0, buffer.length, null);
    if (bytesRead === 0) return true;
    reader.push(buffer.subarray(0, bytesRead));
  }
  return true;
}
