import { createHash } from 'node:crypto';
import type { BlobKey, BlobStore } from '../../blob/index.ts';
import { encodeBytesFrame, FRAME_BYTES_MAX, FRAME_STORED_BYTES_MAX } from '../format/frame.ts';
import { encodeWalObjectHeader, type WalObjectHeader, walObjectRawBytes } from '../format/wal-object.ts';

export interface WrittenWal {
  readonly bytes: number;
  readonly sha256: string;
}

/** Gives bytes `offset` to `offset + length` of the segment. */
export type WalSource = (range: { readonly offset: number; readonly length: number }) => Uint8Array;

/** Writes a log object from a segment, a frame at a time. */
export async function writeWalObject(options: {
  readonly store: BlobStore;
  readonly key: BlobKey;
  readonly header: WalObjectHeader;
  readonly read: WalSource;
  readonly signal: AbortSignal;
}): Promise<WrittenWal> {
  const { store, key, header, read, signal } = options;
  await using upload = await store.beginUpload(key, { signal });
  const hash = createHash('sha256');
  let bytes = 0;
  const append = async (piece: Uint8Array) => {
    hash.update(piece);
    bytes += piece.length;
    await upload.append(piece);
  };
  await append(encodeWalObjectHeader(header));
  const frame = new Uint8Array(FRAME_STORED_BYTES_MAX);
  const rawBytes = walObjectRawBytes(header);
  for (let offset = 0; offset < rawBytes; offset += FRAME_BYTES_MAX) {
    const raw = read({ offset, length: Math.min(FRAME_BYTES_MAX, rawBytes - offset) });
    await append(frame.subarray(0, encodeBytesFrame(raw, { into: frame, at: 0 })));
  }
  await upload.commit();
  return { bytes, sha256: hash.digest('hex') };
}
