import { createHash } from 'node:crypto';
import { CorruptError } from '../../base/index.ts';
import type { BlobKey, BlobStore } from '../../blob/index.ts';
import { decodeFrame, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, frameLength } from '../format/frame.ts';
import {
  parseWalObjectHeader,
  WAL_OBJECT_HEADER_BYTES,
  type WalObjectHeader,
  walObjectFrameCount,
  walObjectRawBytes,
} from '../format/wal-object.ts';
import { ObjectReader } from './object-reader.ts';

/** What a manifest says of a log object. */
export interface ExpectedWal {
  readonly key: BlobKey;
  readonly bytes: number;
  readonly sha256: string;
  readonly header: WalObjectHeader;
}

/**
 * Reads a log object, hands its log to `write` in order, and checks everything. What was written counts only when this
 * resolves: the object's hash is known at its end. @throws CorruptError naming the object
 */
export async function readWalObject(
  store: BlobStore,
  expected: ExpectedWal,
  options: { readonly write: WalSink; readonly signal: AbortSignal },
): Promise<void> {
  const { key } = expected;
  const hash = createHash('sha256');
  let bytes = 0;
  const onPiece = (piece: Uint8Array) => {
    hash.update(piece);
    bytes += piece.length;
  };
  await readPieces(store, { ...expected, ...options, onPiece });
  if (bytes !== expected.bytes || hash.digest('hex') !== expected.sha256) {
    throw new CorruptError(`${key} is not the object that was written`);
  }
}

/**
 * Reads a log object once and checks that it is, byte for byte, what was written, without expanding anything, as `checkPack` does.
 * @throws CorruptError naming the object
 */
export async function checkWalObject(
  store: BlobStore,
  expected: ExpectedWal,
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const { key } = expected;
  await using reader = new ObjectReader(store, key, { signal });
  const head = await reader.take(Math.min(WAL_OBJECT_HEADER_BYTES, expected.bytes));
  requireSameHeader(parseWalObjectHeader(head, key), expected);
  const hash = createHash('sha256').update(head);
  for (let left = expected.bytes - head.length; left > 0; ) {
    const piece = await reader.take(Math.min(left, FRAME_BYTES_MAX));
    hash.update(piece);
    left -= piece.length;
  }
  await reader.end();
  if (hash.digest('hex') !== expected.sha256) {
    throw new CorruptError(`${key} is not the object that was written`);
  }
}

/**
 * Reads a log object that no manifest tells of, a segment of the vault: what protects it are the checksums of its frames and of
 * the log itself. @throws CorruptError naming the object
 */
export async function readWalSegment(
  store: BlobStore,
  expected: Pick<ExpectedWal, 'key' | 'header'>,
  options: { readonly write: WalSink; readonly signal: AbortSignal },
): Promise<void> {
  await readPieces(store, { ...expected, ...options, onPiece: () => undefined });
}

type WalSink = (bytes: Uint8Array, offset: number) => void;

async function readPieces(
  store: BlobStore,
  options: Pick<ExpectedWal, 'key' | 'header'> & {
    readonly write: WalSink;
    readonly onPiece: (piece: Uint8Array) => void;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { key, write, onPiece } = options;
  await using reader = new ObjectReader(store, key, { signal: options.signal });
  const take = async (length: number) => {
    const piece = await reader.take(length);
    onPiece(piece);
    return piece;
  };
  const header = parseWalObjectHeader(await take(WAL_OBJECT_HEADER_BYTES), key);
  requireSameHeader(header, options);
  let offset = 0;
  for (let index = 0; index < walObjectFrameCount(header); index++) {
    const head = await take(FRAME_HEADER_BYTES);
    const payload = await take(frameLength(head, key) - FRAME_HEADER_BYTES);
    const content = decodeFrame(Buffer.concat([head, payload]), key);
    const length = Math.min(FRAME_BYTES_MAX, walObjectRawBytes(header) - offset);
    if (content.kind !== 'bytes' || content.bytes.length !== length) {
      throw new CorruptError(`${key} is damaged: a frame has a wrong length`);
    }
    write(content.bytes, offset);
    offset += length;
  }
  await reader.end();
}

function requireSameHeader(
  header: WalObjectHeader,
  { key, header: expected }: Pick<ExpectedWal, 'key' | 'header'>,
): void {
  const isSame =
    header.timelineId === expected.timelineId &&
    header.segmentNo === expected.segmentNo &&
    header.segmentBytes === expected.segmentBytes &&
    header.endLsn === expected.endLsn &&
    header.systemIdentifier === expected.systemIdentifier &&
    header.incarnation === expected.incarnation;
  if (!isSame) throw new CorruptError(`${key} holds the log of another timeline or segment than expected`);
}
