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
  options: { readonly write: (bytes: Uint8Array, offset: number) => void; readonly signal: AbortSignal },
): Promise<void> {
  const { key } = expected;
  await using reader = new ObjectReader(store, key, { signal: options.signal });
  const hash = createHash('sha256');
  let bytes = 0;
  const take = async (length: number) => {
    const piece = await reader.take(length);
    hash.update(piece);
    bytes += length;
    return piece;
  };
  const header = parseWalObjectHeader(await take(WAL_OBJECT_HEADER_BYTES), key);
  requireSameHeader(header, expected);
  let offset = 0;
  for (let index = 0; index < walObjectFrameCount(header); index++) {
    const head = await take(FRAME_HEADER_BYTES);
    const payload = await take(frameLength(head, key) - FRAME_HEADER_BYTES);
    const content = decodeFrame(Buffer.concat([head, payload]), key);
    const length = Math.min(FRAME_BYTES_MAX, walObjectRawBytes(header) - offset);
    if (content.kind !== 'bytes' || content.bytes.length !== length) {
      throw new CorruptError(`${key} is damaged: a frame has a wrong length`);
    }
    options.write(content.bytes, offset);
    offset += length;
  }
  await reader.end();
  if (bytes !== expected.bytes || hash.digest('hex') !== expected.sha256) {
    throw new CorruptError(`${key} is not the object that was written`);
  }
}

function requireSameHeader(header: WalObjectHeader, { key, header: expected }: ExpectedWal): void {
  const isSame =
    header.timelineId === expected.timelineId &&
    header.segmentNo === expected.segmentNo &&
    header.segmentBytes === expected.segmentBytes &&
    header.endLsn === expected.endLsn &&
    header.systemIdentifier === expected.systemIdentifier &&
    header.incarnation === expected.incarnation;
  if (!isSame) throw new CorruptError(`${key} holds the log of another timeline or segment than expected`);
}
