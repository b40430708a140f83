/** The index from times to positions of the log. Byte by byte in docs/formats/vault.md. */
import {
  assert,
  CorruptError,
  type IncarnationId,
  type Lsn,
  parseIncarnationId,
  type Timestamp,
} from '../../base/index.ts';
import { crc32c } from '../../pg/index.ts';
import { requireVersion } from './pack.ts';

export const TIME_INDEX_VERSION = 1;
export const TIME_INDEX_HEADER_BYTES = 64;
export const TIME_INDEX_ENTRY_BYTES = 40;

const MAGIC = Buffer.from('ATOLTIDX', 'latin1');
const HEADER_CRC_AT = TIME_INDEX_HEADER_BYTES - 4;
const ENTRY_CRC_AT = TIME_INDEX_ENTRY_BYTES - 4;
const KINDS = { commit: 1, idle: 2, clock_step: 3, segment_end: 4 } as const;

export interface TimeIndexHeader {
  readonly incarnation: IncarnationId;
  readonly systemIdentifier: bigint;
  /** No entry of the file lies before. */
  readonly beginLsn: Lsn;
}

export interface TimeIndexEntry {
  /**
   * `commit`: a commit record begins at `lsn`. `idle`: nothing was committed at or before `lsn` up to `time`. `clock_step`: a commit at
   * `lsn` whose own time lies well before `time`: what lies between the two was lived through twice. `segment_end`: no commit, only a
   * place to begin reading at.
   */
  readonly kind: keyof typeof KINDS;
  readonly timelineId: number;
  readonly lsn: Lsn;
  /** The running maximum of the times of all commits that begin at or before `lsn`, and of all signs of idleness. */
  readonly time: Timestamp;
  /** The commit's own time; `time` for entries that are none. */
  readonly ownTime: Timestamp;
}

export function encodeTimeIndexHeader(header: TimeIndexHeader): Uint8Array {
  const bytes = Buffer.alloc(TIME_INDEX_HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt16LE(TIME_INDEX_VERSION, 8);
  bytes.writeUInt16LE(TIME_INDEX_ENTRY_BYTES, 10);
  Buffer.from(header.incarnation.replaceAll('-', ''), 'hex').copy(bytes, 16);
  bytes.writeBigUInt64LE(header.systemIdentifier, 32);
  bytes.writeBigUInt64LE(header.beginLsn, 40);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, HEADER_CRC_AT)), HEADER_CRC_AT);
  return bytes;
}

/** @throws CorruptError, AppError `format_unsupported` */
export function parseTimeIndexHeader(source: Uint8Array, name: string): TimeIndexHeader {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length);
  if (bytes.length !== TIME_INDEX_HEADER_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) {
    throw new CorruptError(`${name} is damaged: it does not begin as a time index`);
  }
  requireVersion({ version: bytes.readUInt16LE(8), supported: TIME_INDEX_VERSION, name });
  if (crc32c(bytes.subarray(0, HEADER_CRC_AT)) !== bytes.readUInt32LE(HEADER_CRC_AT)) {
    throw new CorruptError(`checksum mismatch in the header of ${name}`);
  }
  const isReservedClear =
    bytes.readUInt32LE(12) === 0 && bytes.subarray(48, HEADER_CRC_AT).every((byte) => byte === 0);
  if (!isReservedClear || bytes.readUInt16LE(10) !== TIME_INDEX_ENTRY_BYTES) {
    throw new CorruptError(`${name} is damaged: its header is malformed`);
  }
  const uuid = bytes.toString('hex', 16, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  return {
    incarnation: parseIncarnationId(uuid),
    systemIdentifier: bytes.readBigUInt64LE(32),
    beginLsn: bytes.readBigUInt64LE(40) as Lsn,
  };
}

export function encodeTimeIndexEntry(entry: TimeIndexEntry): Uint8Array {
  assert(isPossible(entry), 'an entry of the time index makes sense');
  const bytes = Buffer.alloc(TIME_INDEX_ENTRY_BYTES);
  bytes.writeBigUInt64LE(entry.lsn, 0);
  bytes.writeBigInt64LE(entry.time, 8);
  bytes.writeBigInt64LE(entry.ownTime, 16);
  bytes.writeUInt32LE(entry.timelineId, 24);
  bytes.writeUInt16LE(KINDS[entry.kind], 28);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, ENTRY_CRC_AT)), ENTRY_CRC_AT);
  return bytes;
}

/** The entry, or null when these bytes are none: at the end of a file it was not written whole, elsewhere it is damage. */
export function parseTimeIndexEntry(source: Uint8Array): TimeIndexEntry | null {
  if (source.length !== TIME_INDEX_ENTRY_BYTES) return null;
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.length);
  if (crc32c(bytes.subarray(0, ENTRY_CRC_AT)) !== bytes.readUInt32LE(ENTRY_CRC_AT)) return null;
  const number = bytes.readUInt16LE(28);
  const kind = (Object.keys(KINDS) as TimeIndexEntry['kind'][]).find((name) => KINDS[name] === number);
  if (kind === undefined || bytes.readUInt16LE(30) !== 0 || bytes.readUInt32LE(32) !== 0) return null;
  const entry: TimeIndexEntry = {
    kind,
    timelineId: bytes.readUInt32LE(24),
    lsn: bytes.readBigUInt64LE(0) as Lsn,
    time: bytes.readBigInt64LE(8) as Timestamp,
    ownTime: bytes.readBigInt64LE(16) as Timestamp,
  };
  return isPossible(entry) ? entry : null;
}

/**
 * The entries that a file's bytes behind its header hold, as far as they are whole and in order; what follows them is not counted.
 * A file may end in the midst of an entry, for the machine may stop in the midst of writing it.
 */
export function parseTimeIndexEntries(bytes: Uint8Array): readonly TimeIndexEntry[] {
  const entries: TimeIndexEntry[] = [];
  for (let at = 0; at + TIME_INDEX_ENTRY_BYTES <= bytes.length; at += TIME_INDEX_ENTRY_BYTES) {
    const entry = parseTimeIndexEntry(bytes.subarray(at, at + TIME_INDEX_ENTRY_BYTES));
    const last = entries.at(-1);
    if (entry === null || (last !== undefined && !isInOrder(last, entry))) break;
    entries.push(entry);
  }
  return entries;
}

/** Positions and running maxima never go back. */
export function isInOrder(before: TimeIndexEntry, after: TimeIndexEntry): boolean {
  return before.lsn <= after.lsn && before.time <= after.time && before.timelineId <= after.timelineId;
}

function isPossible({ kind, timelineId, time, ownTime }: TimeIndexEntry): boolean {
  if (timelineId < 1) return false;
  return kind === 'clock_step' || kind === 'commit' ? ownTime <= time : ownTime === time;
}
