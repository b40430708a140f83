/** Packs: many frames in one object. Byte by byte in docs/formats/frame-and-pack.md. */
import { createCipheriv, createSecretKey, type KeyObject } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { AppError, CorruptError } from '../../base/index.ts';
import { type ClusterKey, deriveKey } from '../../keys/index.ts';

export const PACK_VERSION = 1;
export const PACK_ID_BYTES = 16;
export const PACK_HEADER_BYTES = 32;
export const PACK_FOOTER_BYTES = 48;
export const PACK_INDEX_ENTRY_BYTES = 12;
export const FRAME_TAG_BYTES = 16;
/** Offsets are 32-bit numbers. */
export const PACK_BYTES_LIMIT = 0xffff_ffff;

const HEADER_MAGIC = Buffer.from('ATOLPACK', 'latin1');
const FOOTER_MAGIC = Buffer.from('ATOLPEND', 'latin1');
const TAG_KEY_BYTES = 32;
const NONCE_BYTES = 12;

/** Where a frame lies in its pack. */
export interface FramePlace {
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
}

export interface PackFooter {
  readonly id: Uint8Array;
  readonly indexOffset: number;
  readonly frameCount: number;
  readonly indexCrc: number;
}

export function encodePackHeader({ id }: { readonly id: Uint8Array }): Uint8Array {
  const bytes = Buffer.alloc(PACK_HEADER_BYTES);
  HEADER_MAGIC.copy(bytes, 0);
  bytes.writeUInt16LE(PACK_VERSION, 8);
  bytes.set(id, 16);
  return bytes;
}

/** Reads a pack's header and returns its id. @throws CorruptError, AppError `format_unsupported` */
export function parsePackHeader(bytes: Uint8Array, name: string): Uint8Array {
  const header = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (header.length !== PACK_HEADER_BYTES || !header.subarray(0, 8).equals(HEADER_MAGIC)) {
    throw new CorruptError(`${name} is damaged: it does not begin as a pack`);
  }
  requireVersion({ version: header.readUInt16LE(8), supported: PACK_VERSION, name });
  if (header.readUInt16LE(10) !== 0 || header.readUInt32LE(12) !== 0) {
    throw new CorruptError(`${name} is damaged: its header is malformed`);
  }
  return Uint8Array.from(header.subarray(16));
}

/** The index and footer that end a pack whose frames end at `indexOffset`. */
export function encodePackEnd(options: {
  readonly id: Uint8Array;
  readonly indexOffset: number;
  readonly frames: readonly FramePlace[];
}): Uint8Array {
  const { id, indexOffset, frames } = options;
  const bytes = Buffer.alloc(frames.length * PACK_INDEX_ENTRY_BYTES + PACK_FOOTER_BYTES);
  for (const [index, frame] of frames.entries()) {
    const at = index * PACK_INDEX_ENTRY_BYTES;
    bytes.writeUInt32LE(frame.offset, at);
    bytes.writeUInt32LE(frame.length, at + 4);
    bytes.writeUInt32LE(frame.crc, at + 8);
  }
  const indexBytes = bytes.length - PACK_FOOTER_BYTES;
  const footer = bytes.subarray(indexBytes);
  FOOTER_MAGIC.copy(footer, 0);
  footer.writeBigUInt64LE(BigInt(indexOffset), 8);
  footer.writeUInt32LE(frames.length, 16);
  footer.writeUInt32LE(crc32(bytes.subarray(0, indexBytes)), 20);
  footer.set(id, 24);
  footer.writeUInt32LE(crc32(footer.subarray(0, PACK_FOOTER_BYTES - 4)), PACK_FOOTER_BYTES - 4);
  return bytes;
}

/** Reads the footer of a pack of `packBytes` bytes. @throws CorruptError */
export function parsePackFooter(
  bytes: Uint8Array,
  { packBytes, name }: { readonly packBytes: number; readonly name: string },
): PackFooter {
  const footer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (footer.length !== PACK_FOOTER_BYTES || !footer.subarray(0, 8).equals(FOOTER_MAGIC)) {
    throw new CorruptError(`${name} is damaged: it does not end as a pack`);
  }
  if (crc32(footer.subarray(0, PACK_FOOTER_BYTES - 4)) !== footer.readUInt32LE(PACK_FOOTER_BYTES - 4)) {
    throw new CorruptError(`checksum mismatch in the footer of ${name}`);
  }
  const indexOffset = Number(footer.readBigUInt64LE(8));
  const frameCount = footer.readUInt32LE(16);
  if (indexOffset + frameCount * PACK_INDEX_ENTRY_BYTES + PACK_FOOTER_BYTES !== packBytes) {
    throw new CorruptError(`${name} is damaged: its index does not fit its length`);
  }
  return {
    id: Uint8Array.from(footer.subarray(24, 40)),
    indexOffset,
    frameCount,
    indexCrc: footer.readUInt32LE(20),
  };
}

/** Reads a pack's index: frames that follow each other from header to index without a gap. @throws CorruptError */
export function parsePackIndex(
  bytes: Uint8Array,
  { footer, name }: { readonly footer: PackFooter; readonly name: string },
): FramePlace[] {
  if (bytes.length !== footer.frameCount * PACK_INDEX_ENTRY_BYTES || crc32(bytes) !== footer.indexCrc) {
    throw new CorruptError(`checksum mismatch in the index of ${name}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const frames: FramePlace[] = [];
  let expected = PACK_HEADER_BYTES;
  for (let at = 0; at < bytes.length; at += PACK_INDEX_ENTRY_BYTES) {
    const offset = view.getUint32(at, true);
    const length = view.getUint32(at + 4, true);
    if (offset !== expected) throw new CorruptError(`${name} is damaged: its index has a gap`);
    frames.push({ offset, length, crc: view.getUint32(at + 8, true) });
    expected += length;
  }
  if (expected !== footer.indexOffset) throw new CorruptError(`${name} is damaged: its index has a gap`);
  return frames;
}

/** The key that tags the frames of one pack. Packs have random ids, so no two attempts ever share one. */
export function packTagKey(options: { readonly key: ClusterKey; readonly id: Uint8Array }): KeyObject {
  return createSecretKey(
    deriveKey({ key: options.key, purpose: 'pack tag', salt: options.id, length: TAG_KEY_BYTES }),
  );
}

/**
 * The authentication tag of a stored frame: AES-256-GMAC under its pack's key, with its offset, which no other frame of the
 * pack has, as the nonce. The manifest holds it, so that its signature covers the frames too.
 */
export function frameTag(options: {
  readonly tagKey: KeyObject;
  readonly offset: number;
  readonly frame: Uint8Array;
}): Uint8Array {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUInt32LE(options.offset, 0);
  const cipher = createCipheriv('aes-256-gcm', options.tagKey, nonce);
  cipher.setAAD(options.frame);
  cipher.final();
  return cipher.getAuthTag();
}

/** @throws AppError `format_unsupported` */
export function requireVersion(options: {
  readonly version: number;
  readonly supported: number;
  readonly name: string;
}): void {
  const { version, supported, name } = options;
  if (version === supported) return;
  throw new AppError(
    'format_unsupported',
    `${name} is of format version ${version}, supported is ${supported}`,
    {
      hint: 'use the release that wrote it, or a newer one',
    },
  );
}
