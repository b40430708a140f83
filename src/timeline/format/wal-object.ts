/** One segment of write-ahead log, or its beginning, as an object. Byte by byte in docs/formats/wal.md. */
import { crc32 } from 'node:zlib';
import { assert, CorruptError, type IncarnationId, type Lsn, parseIncarnationId } from '../../base/index.ts';
import { isWalSegmentBytes, walSegmentStart } from '../../pg/index.ts';
import { FRAME_BYTES_MAX } from './frame.ts';
import { requireVersion } from './pack.ts';

export const WAL_OBJECT_VERSION = 1;
export const WAL_OBJECT_HEADER_BYTES = 80;

const MAGIC = Buffer.from('ATOLWALS', 'latin1');
const CRC_AT = WAL_OBJECT_HEADER_BYTES - 4;

export interface WalObjectHeader {
  readonly timelineId: number;
  readonly segmentNo: bigint;
  readonly segmentBytes: number;
  /** The object holds the segment from its beginning to here. */
  readonly endLsn: Lsn;
  readonly systemIdentifier: bigint;
  readonly incarnation: IncarnationId;
}

/** How many bytes of log the object holds. */
export function walObjectRawBytes(header: WalObjectHeader): number {
  return Number(header.endLsn - walSegmentStart(header));
}

/** The log is cut into frames of this number. */
export function walObjectFrameCount(header: WalObjectHeader): number {
  return Math.ceil(walObjectRawBytes(header) / FRAME_BYTES_MAX);
}

export function encodeWalObjectHeader(header: WalObjectHeader): Uint8Array {
  assert(isPossible(header), 'a log object lies in its segment');
  const bytes = Buffer.alloc(WAL_OBJECT_HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt16LE(WAL_OBJECT_VERSION, 8);
  bytes.writeUInt32LE(header.timelineId, 12);
  bytes.writeBigUInt64LE(header.segmentNo, 16);
  bytes.writeUInt32LE(header.segmentBytes, 24);
  bytes.writeUInt32LE(walObjectFrameCount(header), 28);
  bytes.writeBigUInt64LE(walSegmentStart(header), 32);
  bytes.writeBigUInt64LE(header.endLsn, 40);
  bytes.writeBigUInt64LE(header.systemIdentifier, 48);
  Buffer.from(header.incarnation.replaceAll('-', ''), 'hex').copy(bytes, 56);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, CRC_AT)), CRC_AT);
  return bytes;
}

/** @throws CorruptError, AppError `format_unsupported` */
export function parseWalObjectHeader(source: Uint8Array, name: string): WalObjectHeader {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length);
  if (bytes.length !== WAL_OBJECT_HEADER_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) {
    throw new CorruptError(`${name} is damaged: it does not begin as a log object`);
  }
  requireVersion({ version: bytes.readUInt16LE(8), supported: WAL_OBJECT_VERSION, name });
  if (crc32(bytes.subarray(0, CRC_AT)) !== bytes.readUInt32LE(CRC_AT)) {
    throw new CorruptError(`checksum mismatch in the header of ${name}`);
  }
  const header: WalObjectHeader = {
    timelineId: bytes.readUInt32LE(12),
    segmentNo: bytes.readBigUInt64LE(16),
    segmentBytes: bytes.readUInt32LE(24),
    endLsn: bytes.readBigUInt64LE(40) as Lsn,
    systemIdentifier: bytes.readBigUInt64LE(48),
    incarnation: uuidOf(bytes.subarray(56, 72)),
  };
  const isReservedClear = bytes.readUInt16LE(10) === 0 && bytes.readUInt32LE(72) === 0;
  const isConsistent =
    isPossible(header) &&
    bytes.readBigUInt64LE(32) === walSegmentStart(header) &&
    bytes.readUInt32LE(28) === walObjectFrameCount(header);
  if (!isReservedClear || !isConsistent)
    throw new CorruptError(`${name} is damaged: its header is malformed`);
  return header;
}

function isPossible(header: WalObjectHeader): boolean {
  if (!isWalSegmentBytes(header.segmentBytes)) return false;
  const rawBytes = header.endLsn - walSegmentStart(header);
  return rawBytes > 0n && rawBytes <= BigInt(header.segmentBytes) && header.timelineId > 0;
}

function uuidOf(bytes: Buffer): IncarnationId {
  const hex = bytes.toString('hex');
  return parseIncarnationId(hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'));
}
