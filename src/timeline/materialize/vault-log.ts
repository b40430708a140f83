/**
 * The log that leads from a base to a point, from the vault into `pg_wal`. It is copied before recovery begins rather than fetched by
 * it: an instance's user may not read the vault, and recovery then depends on nobody. The base policy bounds how much it is.
 */
import { open, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CorruptError, errnoOf, formatLsn, type Lsn, required } from '../../base/index.ts';
import { formatWalSegmentName, WalRecordReader, walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';
import type { PointRecovery, TimelinePoint, TimelineStoreLocation } from '../store-contract.ts';
import { closedSegmentName, openSegmentName, walDirectory } from '../store/layout.ts';
import { historyFileName, type LogStretch, timelineHistory } from '../store/lineage.ts';
import { forEachConcurrently } from '../worker/thread-pool.ts';
import type { FileFinisher } from './file-finisher.ts';
import type { LogToWrite, MaterializePool } from './materialize.ts';
import type { VaultTask } from './tasks.ts';

/** How much of a segment is read at once when its records are looked at. */
const READ_BYTES = 1024 * 1024;

export interface VaultLogOptions {
  readonly store: TimelineStoreLocation;
  readonly targetDirectory: string;
  readonly segmentBytes: number;
  /** Where replay begins. */
  readonly beginLsn: Lsn;
  readonly point: Pick<TimelinePoint, 'lsn' | 'timelineId'>;
  /** From where replay begins to the point. */
  readonly stretches: readonly LogStretch[];
}

/** Copies the log and finds out, on the way, how recovery has to be told where to end. */
export class VaultLog implements LogToWrite {
  readonly #options: VaultLogOptions;
  readonly #planned: readonly VaultTask[];
  #recovery: PointRecovery | null = null;

  /** @throws CorruptError when the vault lacks a segment on the way */
  static async plan(options: VaultLogOptions): Promise<VaultLog> {
    const { segmentBytes, beginLsn, point } = options;
    const planned: VaultTask[] = [];
    const last = walSegmentNoOf({ lsn: point.lsn, segmentBytes });
    for (let segmentNo = walSegmentNoOf({ lsn: beginLsn, segmentBytes }); segmentNo <= last; segmentNo++) {
      planned.push(...(await findSegment(segmentNo, options)));
    }
    return new VaultLog(options, planned);
  }

  private constructor(options: VaultLogOptions, planned: readonly VaultTask[]) {
    this.#options = options;
    this.#planned = planned;
  }

  get stretches(): readonly LogStretch[] {
    const { stretches, beginLsn } = this.#options;
    return stretches.map((stretch) => (stretch.beginLsn < beginLsn ? { ...stretch, beginLsn } : stretch));
  }

  get bytes(): bigint {
    // Recovery may need one more to see that it has arrived, and writes the first of its own.
    return BigInt(this.#planned.length + 2) * BigInt(this.#options.segmentBytes);
  }

  /** Known once the log was written. */
  get recovery(): PointRecovery {
    return required(this.#recovery, 'recovery of a log that was written');
  }

  /** Reads all that will be written, and checks it. @throws CorruptError */
  async check({ pool }: { pool: MaterializePool }): Promise<void> {
    await forEachConcurrently(this.#planned, { concurrency: pool.size }, async (task) => {
      await pool.run({ ...task, isCheck: true });
    });
  }

  async write(options: { pool: MaterializePool; finisher: FileFinisher }): Promise<bigint> {
    const { pool, finisher } = options;
    let written = 0;
    const copy = async (task: VaultTask) => {
      const { writtenBytes } = await pool.run(task);
      written += writtenBytes; // Read when the others' are in it.
      finisher.addOther(task.path);
    };
    await forEachConcurrently(this.#planned, { concurrency: pool.size }, copy);
    this.#recovery = await this.#lookForEnd(copy);
    await this.#writeHistory(finisher);
    return BigInt(written);
  }

  /**
   * Postgres ends recovery in an error when its target never comes, so whether a record begins at or after the point decides how it is
   * told. Further segments are copied until that record is complete, for it may be long.
   */
  async #lookForEnd(copy: (task: VaultTask) => Promise<void>): Promise<PointRecovery> {
    const { segmentBytes, point, targetDirectory, stretches } = this.#options;
    const { lsn } = point;
    const last = required(stretches.at(-1), 'stretch that ends at the point');
    const { timelineId } = last;
    // A point where a segment begins may have nothing of it: then the one before tells where the log ends.
    const first = this.#planned.findLast(({ segment }) => segment.timelineId === timelineId);
    if (first === undefined) throw missingSegment(walSegmentNoOf({ lsn, segmentBytes }), this.#options);
    let hasArrived = false;
    const reader = new WalRecordReader({
      beginLsn: walSegmentStart(first.segment),
      segmentBytes,
      engineMajor: last.engineMajor,
      timelineId,
      systemIdentifier: last.systemIdentifier,
      atDamage: 'end',
      onRecord: (record) => {
        hasArrived ||= record.lsn >= lsn;
      },
    });
    for (let task: VaultTask | null = first; task !== null; ) {
      await pushFile(join(targetDirectory, task.path), reader, () => hasArrived);
      if (hasArrived) return { lsn, timelineId, logEndLsn: null };
      // Zeroes after the last record end the log; what was cut off in the midst of a record goes on in the next segment.
      if (reader.end !== null) break;
      const segmentNo: bigint = task.segment.segmentNo + 1n;
      task = await findVersion(last, { ...this.#options, segmentNo });
      if (task !== null) await copy(task);
    }
    const heldLsn = reader.end?.lsn ?? reader.receivedLsn;
    if (reader.completeLsn < lsn && heldLsn < lsn && !(await this.#holdsBytesTo(lsn))) {
      throw new CorruptError(
        `the log ends at ${formatLsn(reader.completeLsn)}, before the point ${formatLsn(lsn)} that is asked for`,
      );
    }
    return { lsn, timelineId, logEndLsn: reader.completeLsn };
  }

  /** Whether the vault has the bytes before `lsn`, be they a whole record or not: what is received ends anywhere. */
  async #holdsBytesTo(lsn: Lsn): Promise<boolean> {
    const { segmentBytes } = this.#options;
    const task = this.#planned.at(-1);
    if (task?.segment.segmentNo !== walSegmentNoOf({ lsn, segmentBytes })) return false;
    const { segment, directory } = task;
    if ((await sizeOf(join(directory, closedSegmentName(segment)))) !== null) return true;
    const received = await sizeOf(join(directory, openSegmentName(segment)));
    return received !== null && walSegmentStart(segment) + BigInt(received) >= lsn;
  }

  async #writeHistory(finisher: FileFinisher): Promise<void> {
    const history = timelineHistory(this.#options.stretches);
    if (history === null) return;
    const path = `pg_wal/${historyFileName(history.timelineId)}`;
    await writeFile(join(this.#options.targetDirectory, path), history.text, { mode: 0o600 });
    finisher.addOther(path);
  }
}

/**
 * The segment of every timeline that wrote in it: the newest is replayed, and Postgres's summarizer reads each of its own.
 * @throws CorruptError when the newest is missing: an older one goes on as the lineage did not
 */
async function findSegment(segmentNo: bigint, options: VaultLogOptions): Promise<readonly VaultTask[]> {
  const { segmentBytes, stretches, point } = options;
  const begin = walSegmentStart({ segmentNo, segmentBytes });
  const end = walSegmentStart({ segmentNo: segmentNo + 1n, segmentBytes });
  const last = stretches.at(-1);
  // The last stretch goes on behind the point, where what ends recovery lies.
  const touched = stretches.filter(
    (stretch) => stretch.beginLsn < end && (stretch === last || begin < stretch.endLsn),
  );
  const versions = await Promise.all(
    touched.map((stretch) => findVersion(stretch, { ...options, segmentNo })),
  );
  // A point at the very beginning of a segment needs nothing of it.
  if (begin < point.lsn && (versions.at(-1) ?? null) === null) throw missingSegment(segmentNo, options);
  return versions.filter((version) => version !== null);
}

async function findVersion(
  { timelineId, systemIdentifier, incarnation }: LogStretch,
  { store, segmentBytes, segmentNo }: VaultLogOptions & { segmentNo: bigint },
): Promise<VaultTask | null> {
  const endLsn = walSegmentStart({ segmentNo: segmentNo + 1n, segmentBytes });
  const segment = { timelineId, segmentNo, segmentBytes, endLsn, systemIdentifier, incarnation };
  const directory = walDirectory(store, incarnation);
  // A segment that is closed between two looks is found by the third.
  for (const name of [closedSegmentName(segment), openSegmentName(segment), closedSegmentName(segment)]) {
    if ((await sizeOf(join(directory, name))) === null) continue;
    return { kind: 'vault', directory, segment, path: `pg_wal/${formatWalSegmentName(segment)}` };
  }
  return null;
}

function missingSegment(segmentNo: bigint, { segmentBytes, stretches }: VaultLogOptions): CorruptError {
  const beginLsn = walSegmentStart({ segmentNo, segmentBytes });
  const incarnations = stretches.map(({ incarnation }) => incarnation).join(', ');
  return new CorruptError(
    `the log from ${formatLsn(beginLsn)} on is missing in the timeline of incarnation ${incarnations}`,
    { hint: 'SHOW TIMELINE tells what can be restored' },
  );
}

/** Shows a file of the log to the reader, a piece at a time, until it is done. */
async function pushFile(path: string, reader: WalRecordReader, isDone: () => boolean): Promise<void> {
  await using file = await open(path, 'r');
  const buffer = new Uint8Array(READ_BYTES);
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
    if (bytesRead === 0) return;
    reader.push(buffer.subarray(0, bytesRead));
    if (isDone() || reader.end !== null) return;
  }
}

async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}
