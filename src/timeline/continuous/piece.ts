/** A piece of log as an object of its own. Byte by byte in docs/formats/continuous.md. */
import { AppError, assert, CorruptError } from '../../base/index.ts';
import { beginMac, type ClusterKey, MAC_BYTES, macsEqual } from '../../keys/index.ts';
import {
  decodeFrame,
  encodeBytesFrame,
  FRAME_BYTES_MAX,
  FRAME_HEADER_BYTES,
  FRAME_STORED_BYTES_MAX,
  frameLength,
} from '../format/frame.ts';
import {
  encodeIncarnationRecord,
  INCARNATION_RECORD_BYTES_MAX,
  parseIncarnationRecord,
} from '../format/incarnation-record.ts';
import { requireVersion } from '../format/pack.ts';
import type { IncarnationRecord } from '../store-contract.ts';
import { pieceKey, type PieceName } from './layout.ts';

export const PIECE_VERSION = 1;
/** Log that one piece holds at most. */
export const PIECE_RAW_BYTES_MAX = 16 * 1024 * 1024;

const MAGIC = Buffer.from('ATOLPIEC', 'latin1');
const HEADER_BYTES = 16;
const FRAMES_MAX = PIECE_RAW_BYTES_MAX / FRAME_BYTES_MAX;
/** No piece is longer. */
export const PIECE_BYTES_MAX =
  HEADER_BYTES + INCARNATION_RECORD_BYTES_MAX + FRAMES_MAX * FRAME_STORED_BYTES_MAX + MAC_BYTES;

export interface LogPiece {
  readonly name: PieceName;
  /** Of the incarnation that wrote the log, as it was known when the piece was made. */
  readonly record: IncarnationRecord;
  readonly bytes: Uint8Array;
}

/** The object's bytes. Its MAC also covers its name, which thereby is as good as its content. */
export function encodePiece(
  { name, record, bytes }: LogPiece,
  { key }: { readonly key: ClusterKey },
): Uint8Array {
  assert(BigInt(bytes.length) === name.endLsn - name.beginLsn, 'a piece holds what its name says');
  assert(bytes.length <= PIECE_RAW_BYTES_MAX, 'a piece is not longer than it may be');
  const text = Buffer.from(encodeIncarnationRecord(record));
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header, 0);
  header.writeUInt16LE(PIECE_VERSION, 8);
  header.writeUInt32LE(text.length, 12);
  const body = Buffer.concat([header, text, ...framesOf(bytes)]);
  return Buffer.concat([body, macOf(body, { name, key })]);
}

/**
 * What the object of this name holds.
 * @throws AppError `backup_untrusted` when another key made it; CorruptError; AppError `format_unsupported`
 */
export function decodePiece(
  object: Uint8Array,
  { name, key }: { readonly name: PieceName; readonly key: ClusterKey },
): LogPiece {
  const path = pieceKey(name);
  const bytes = Buffer.from(object.buffer, object.byteOffset, object.length);
  if (bytes.length < HEADER_BYTES + MAC_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) {
    throw new CorruptError(`${path} is damaged: it does not begin as a piece of log`);
  }
  requireVersion({ version: bytes.readUInt16LE(8), supported: PIECE_VERSION, name: path });
  const body = bytes.subarray(0, bytes.length - MAC_BYTES);
  if (!macsEqual(macOf(body, { name, key }), bytes.subarray(body.length))) {
    throw new AppError(
      'backup_untrusted',
      `${path} was damaged, or not sealed with the key of this physical cluster`,
      {
        hint: 'import the key of the cluster that published it: atoll cluster-key import',
      },
    );
  }
  const recordEnd = HEADER_BYTES + body.readUInt32LE(12);
  if (recordEnd > body.length) throw new CorruptError(`${path} is damaged: its record is cut off`);
  const record = parseIncarnationRecord(body.toString('utf8', HEADER_BYTES, recordEnd), path);
  const log = Buffer.concat([...readFrames(body.subarray(recordEnd), path)]);
  if (record.incarnation !== name.incarnation || BigInt(log.length) !== name.endLsn - name.beginLsn) {
    throw new CorruptError(`${path} holds other log than its name says`);
  }
  return { name, record, bytes: log };
}

function* framesOf(bytes: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += FRAME_BYTES_MAX) {
    const into = new Uint8Array(FRAME_STORED_BYTES_MAX);
    const length = encodeBytesFrame(bytes.subarray(at, at + FRAME_BYTES_MAX), { into, at: 0 });
    yield into.subarray(0, length);
  }
}

function* readFrames(bytes: Uint8Array, name: string): Iterable<Uint8Array> {
  for (let at = 0; at < bytes.length; ) {
    const length = frameLength(bytes.subarray(at, at + FRAME_HEADER_BYTES), name);
    const content = decodeFrame(bytes.subarray(at, at + length), name);
    if (content.kind !== 'bytes') throw new CorruptError(`${name} is damaged: a frame holds no log`);
    yield content.bytes;
    at += length;
  }
}

function macOf(body: Uint8Array, { name, key }: { name: PieceName; key: ClusterKey }): Buffer {
  return beginMac({ key, purpose: 'log piece mac' })
    .update(`${pieceKey(name)}\n`)
    .update(body)
    .digest();
}
