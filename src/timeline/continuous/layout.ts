/** Names of the objects of a continuous backup, beside those of its bases. See docs/formats/continuous.md. */
import {
  type IncarnationId,
  isAppError,
  type Lsn,
  parseIncarnationId,
  type Timestamp,
} from '../../base/index.ts';
import { type BlobKey, parseBlobKey } from '../../blob/index.ts';

/** There in every collection that is published to continuously, and in no other. */
export const CONTINUOUS_MARKER = parseBlobKey('metadata/continuous');
export const LOG_FOLDER = parseBlobKey('log');

/** What the name of a piece of log says of it. */
export interface PieceName {
  readonly incarnation: IncarnationId;
  readonly timelineId: number;
  readonly beginLsn: Lsn;
  /** The first byte behind it; `beginLsn` for a piece that only says how long nothing happened. */
  readonly endLsn: Lsn;
  /** Nothing was committed behind `endLsn` up to this time; null when that is not known. */
  readonly through: Timestamp | null;
}

const PIECE = /^log\/([0-9a-f-]{36})\/([0-9a-f]{8})-([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{16})$/;

const hex = (value: bigint, digits: number) => value.toString(16).padStart(digits, '0');

/** Names order pieces by timeline, then by position. Two pieces of one name hold the same. */
export function pieceKey({ incarnation, timelineId, beginLsn, endLsn, through }: PieceName): BlobKey {
  const place = [hex(BigInt(timelineId), 8), hex(beginLsn, 16), hex(endLsn, 16), hex(through ?? 0n, 16)];
  return parseBlobKey(`${LOG_FOLDER}/${incarnation}/${place.join('-')}`);
}

/** What a name says, or null when it is none of ours. */
export function parsePieceKey(key: string): PieceName | null {
  const [, incarnation = '', timeline, begin, end, through] = PIECE.exec(key) ?? [];
  if (through === undefined) return null;
  const [beginLsn, endLsn] = [BigInt(`0x${begin}`) as Lsn, BigInt(`0x${end}`) as Lsn];
  const timelineId = Number.parseInt(timeline ?? '', 16);
  if (endLsn < beginLsn || timelineId === 0) return null;
  try {
    const time = BigInt(`0x${through}`) as Timestamp;
    const id = parseIncarnationId(incarnation);
    return { incarnation: id, timelineId, beginLsn, endLsn, through: time === 0n ? null : time };
  } catch (error) {
    if (isAppError(error, 'incarnation_malformed')) return null;
    throw error;
  }
}
