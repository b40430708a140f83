/** Copies log from the vault into a backup. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, CorruptError, errnoOf, formatLsn, type Lsn, type Rng } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import { formatWalSegmentName, WAL_PAGE_BYTES, WalRecordReader, walSegmentStart } from '../../pg/index.ts';
import { walKey } from '../collection/layout.ts';
import type { ManifestHeader, ManifestWal } from '../format/manifest.ts';
import type { WalObjectHeader } from '../format/wal-object.ts';
import { readVaultSegment } from '../materialize/read-vault-segment.ts';
import type { ExpectedWal } from '../objects/wal-reader.ts';
import { writeWalObject } from '../objects/wal-writer.ts';
import type { IncarnationRecord, TimelinePoint, TimelineStoreLocation } from '../store-contract.ts';
import { closedSegmentName, openSegmentName, walDirectory } from '../store/layout.ts';
import { openLog } from '../store/read-log.ts';
import type { Range } from './plan-publish.ts';

export interface VaultSource {
  readonly store: TimelineStoreLocation;
  readonly record: IncarnationRecord;
  readonly timelineId: number;
  readonly segmentBytes: number;
  readonly signal: AbortSignal;
}

/**
 * How far the log of a backup must reach: beyond the first record at or after the point, for Postgres ends recovery before it. Where the
 * log ends at the point, it is the end itself, and `logEndLsn` says so.
 * @throws AppError `cannot_connect_now` while the log up to the point has not been received
 */
export async function endOfLogFor(
  source: VaultSource,
  point: TimelinePoint,
): Promise<Pick<ManifestHeader, 'walEndLsn' | 'logEndLsn'>> {
  const { store, record, timelineId, segmentBytes, signal } = source;
  const fromLsn = (point.lsn - (point.lsn % BigInt(WAL_PAGE_BYTES))) as Lsn;
  let hasArrived = false;
  const reader = new WalRecordReader({
    beginLsn: fromLsn,
    segmentBytes,
    engineMajor: record.engineMajor,
    timelineId,
    systemIdentifier: record.systemIdentifier,
    atDamage: 'end',
    onRecord: ({ lsn }) => {
      hasArrived ||= lsn >= point.lsn;
    },
  });
  for await (const { bytes } of openLog(store, { record, timelineId, fromLsn, signal })) {
    reader.push(bytes);
    if (hasArrived || reader.end !== null) break;
  }
  if (hasArrived) return { walEndLsn: reader.completeLsn };
  if (reader.completeLsn === point.lsn) return { walEndLsn: point.lsn, logEndLsn: point.lsn };
  throw new AppError(
    'cannot_connect_now',
    `the log up to ${formatLsn(point.lsn)} has not been received yet: it ends at ${formatLsn(reader.completeLsn)}`,
    { hint: 'SHOW TIMELINE tells why; try again' },
  );
}

/** Whether the vault has all segments of a range. */
export async function hasSegments(source: VaultSource, { begin, end }: Range): Promise<boolean> {
  const directory = walDirectory(source.store, source.record.incarnation);
  for (let segmentNo = begin; segmentNo < end; segmentNo++) {
    const segment = { ...source, segmentNo };
    const names = [closedSegmentName(segment), openSegmentName(segment), closedSegmentName(segment)];
    const found = await firstFound(names, async (name) => isFile(join(directory, name)));
    if (!found) return false;
  }
  return true;
}

/** Copies segments up to, not including, `end`; the last one only as far as `walEndLsn` when that lies in it. */
export async function copyLog(options: {
  readonly source: VaultSource;
  readonly into: BlobStore;
  readonly subdirectory: string;
  readonly attempt: number;
  readonly range: Range;
  readonly walEndLsn: Lsn;
  readonly rng: Rng;
  readonly onCopied: (bytes: number) => void;
}): Promise<{ readonly wal: readonly ManifestWal[]; readonly expected: readonly ExpectedWal[] }> {
  const { source, into, subdirectory, attempt, range, walEndLsn, onCopied } = options;
  const { segmentBytes, signal } = source;
  const expected: ExpectedWal[] = [];
  const buffer = new Uint8Array(segmentBytes);
  for (let segmentNo = range.begin; segmentNo < range.end; segmentNo++) {
    const header = segmentHeader(source, segmentNo);
    await readSegmentInto(buffer, { ...options, header, untilLsn: walEndLsn });
    const endLsn = walEndLsn < header.endLsn ? walEndLsn : header.endLsn;
    const written = { ...header, endLsn };
    const key = walKey({ subdirectory, attempt, segmentName: formatWalSegmentName(header) });
    const read = ({ offset, length }: { offset: number; length: number }) =>
      buffer.subarray(offset, offset + length);
    expected.push({
      key,
      header: written,
      ...(await writeWalObject({ store: into, key, header: written, read, signal })),
    });
    onCopied(segmentBytes);
  }
  return { expected, wal: expected.map(walEntry) };
}

function walEntry({ key, bytes, sha256, header }: ExpectedWal): ManifestWal {
  const { timelineId, segmentNo, endLsn } = header;
  return { path: key, bytes, sha256, timelineId, segmentNo, endLsn };
}

function segmentHeader(
  { record, timelineId, segmentBytes }: VaultSource,
  segmentNo: bigint,
): WalObjectHeader {
  const { systemIdentifier, incarnation } = record;
  const endLsn = walSegmentStart({ segmentNo: segmentNo + 1n, segmentBytes });
  return { timelineId, segmentNo, segmentBytes, endLsn, systemIdentifier, incarnation };
}

/** @throws CorruptError when the vault has not all of it */
async function readSegmentInto(
  buffer: Uint8Array,
  options: { source: VaultSource; header: WalObjectHeader; untilLsn: Lsn; rng: Rng },
): Promise<void> {
  const { source, header, untilLsn, rng } = options;
  const directory = walDirectory(source.store, source.record.incarnation);
  const path = formatWalSegmentName(header);
  const end = await readVaultSegment(
    { kind: 'vault', directory, segment: header, path },
    { rng, write: (bytes, offset) => buffer.set(bytes, offset), signal: source.signal },
  );
  const receivedLsn = walSegmentStart(header) + BigInt(end);
  if (receivedLsn >= (untilLsn < header.endLsn ? untilLsn : header.endLsn)) return;
  throw new CorruptError(`the log segment ${path} in ${directory} ends at ${formatLsn(receivedLsn as Lsn)}`);
}

async function firstFound<T>(items: readonly T[], isFound: (item: T) => Promise<boolean>): Promise<boolean> {
  for (const item of items) if (await isFound(item)) return true;
  return false;
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
