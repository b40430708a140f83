/** Names and page headers of write-ahead log segments. */
import { InputError, type Lsn } from '../base/index.ts';

/** `XLOG_BLCKSZ` of every build we run. */
export const WAL_PAGE_BYTES = 8192;
/** Sizes that `initdb --wal-segsize` accepts: powers of two in this range. */
export const WAL_SEGMENT_BYTES_MIN = 1024 * 1024;
export const WAL_SEGMENT_BYTES_MAX = 1024 * 1024 * 1024;

const LONG_HEADER_FLAG = 0x0002;
/** `SizeOfXLogLongPHD`: header of a segment's first page. */
export const WAL_LONG_HEADER_BYTES = 40;
/** `SizeOfXLogShortPHD`: header of every other page. */
export const WAL_SHORT_HEADER_BYTES = 24;
/** `XLOG_PAGE_MAGIC` has been 0xD1nn since PostgreSQL 9.5; its second byte differs by version. */
const MAGIC_HIGH_BYTE = 0xd1;

export interface WalSegment {
  readonly timelineId: number;
  readonly segmentNo: bigint;
  readonly segmentBytes: number;
}

/** Number of the segment that holds the byte at `lsn`. */
export function walSegmentNoOf({
  lsn,
  segmentBytes,
}: {
  readonly lsn: Lsn;
  readonly segmentBytes: number;
}): bigint {
  return lsn / BigInt(segmentBytes);
}

/** Position of a segment's first byte. */
export function walSegmentStart({ segmentNo, segmentBytes }: Omit<WalSegment, 'timelineId'>): Lsn {
  return (segmentNo * BigInt(segmentBytes)) as Lsn;
}

/** Where the first record at or after `lsn` may begin: headers of pages are no place for one. */
export function firstRecordLsnFrom({
  lsn,
  segmentBytes,
}: {
  readonly lsn: Lsn;
  readonly segmentBytes: number;
}): Lsn {
  const inPage = lsn % BigInt(WAL_PAGE_BYTES);
  const isFirstPage = (lsn - inPage) % BigInt(segmentBytes) === 0n;
  const header = BigInt(isFirstPage ? WAL_LONG_HEADER_BYTES : WAL_SHORT_HEADER_BYTES);
  return (inPage < header ? lsn - inPage + header : lsn) as Lsn;
}

/** Name of a segment's file: `000000010000000000000002`. */
export function formatWalSegmentName({ timelineId, segmentNo, segmentBytes }: WalSegment): string {
  const perName = 0x1_0000_0000n / BigInt(segmentBytes);
  const hex = (value: bigint) => value.toString(16).toUpperCase().padStart(8, '0');
  return hex(BigInt(timelineId)) + hex(segmentNo / perName) + hex(segmentNo % perName);
}

/** Reads a segment's file name. @throws InputError `name_invalid` */
export function parseWalSegmentName({
  name,
  segmentBytes,
}: {
  readonly name: string;
  readonly segmentBytes: number;
}): WalSegment {
  const match = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/.exec(name);
  const perName = 0x1_0000_0000n / BigInt(segmentBytes);
  const low = match === null ? 0n : BigInt(`0x${match[3]}`);
  if (match === null || low >= perName) throw new InputError('name_invalid', `not a log segment: "${name}"`);
  const segmentNo = BigInt(`0x${match[2]}`) * perName + low;
  return { timelineId: Number.parseInt(match[1] ?? '', 16), segmentNo, segmentBytes };
}

export function isWalSegmentBytes(value: number): boolean {
  const inRange = value >= WAL_SEGMENT_BYTES_MIN && value <= WAL_SEGMENT_BYTES_MAX;
  return Number.isInteger(value) && inRange && (value & (value - 1)) === 0;
}

export interface WalPageHeader {
  readonly magic: number;
  readonly timelineId: number;
  /** Position of the page's first byte, as the page itself says. */
  readonly pageStart: Lsn;
  /** Only the first page of a segment has these. */
  readonly long: {
    readonly systemIdentifier: bigint;
    readonly segmentBytes: number;
    readonly pageBytes: number;
  } | null;
}

/** Header of the log page at byte `at`, or null when there is none. */
export function parseWalPageHeader(bytes: Uint8Array, at = 0): WalPageHeader | null {
  if (bytes.length - at < WAL_SHORT_HEADER_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, bytes.length - at);
  const magic = view.getUint16(0, true);
  if (magic >>> 8 !== MAGIC_HIGH_BYTE) return null;
  const isLong = (view.getUint16(2, true) & LONG_HEADER_FLAG) !== 0;
  if (isLong && view.byteLength < WAL_LONG_HEADER_BYTES) return null;
  const long = isLong
    ? {
        systemIdentifier: view.getBigUint64(24, true),
        segmentBytes: view.getUint32(32, true),
        pageBytes: view.getUint32(36, true),
      }
    : null;
  return { magic, timelineId: view.getUint32(4, true), pageStart: view.getBigUint64(8, true) as Lsn, long };
}
