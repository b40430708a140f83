/** Frames: the unit of compression and checking. Byte by byte in docs/formats/frame-and-pack.md. */
import { constants, crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { assert, CorruptError } from '../../base/index.ts';
import { PAGE_BYTES, type PageBuffer } from '../../pg/index.ts';

export const FRAME_HEADER_BYTES = 32;
/** Pages in a frame of a relation's file, at most. */
export const FRAME_PAGES_MAX = 64;
/** Content of a frame of any other file, at most. */
export const FRAME_BYTES_MAX = 1024 * 1024;
/** A frame as stored is never longer: what does not shrink is stored as it is. */
export const FRAME_STORED_BYTES_MAX = FRAME_HEADER_BYTES + FRAME_BYTES_MAX;

/** "AFRM". */
const MAGIC = 0x4d52_4641;
const KIND = { pages: 1, bytes: 2 } as const;
const CODEC = { stored: 0, zstd: 1 } as const;
const AT = {
  magic: 0,
  kind: 4,
  codec: 5,
  pages: 6,
  rawBytes: 8,
  storedBytes: 12,
  presence: 16,
  reserved: 24,
  crc: 28,
};
/** What is compressed arrives in pieces of this size: smaller ones cost calls, larger ones the garbage collector. */
const PIECE_BYTES = 64 * 1024;
const LEVEL = { [constants.ZSTD_c_compressionLevel]: 1 };

export type FrameContent =
  | {
      readonly kind: 'pages';
      readonly pageCount: number;
      /** The pages that are not all zero, in order. */
      readonly presentPages: Uint8Array;
      /** Bit n is set when page n is among them. */
      readonly presence: bigint;
    }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array };

/**
 * Writes a frame of the first `pageCount` pages of the buffer at `into[at]` and returns its length. Pages of zeroes are
 * left out, for which the others are moved together: the buffer's content is used up.
 */
export function encodePagesFrame(
  buffer: PageBuffer,
  options: { readonly pageCount: number; readonly into: Uint8Array; readonly at: number },
): number {
  const { pageCount, into, at } = options;
  assert(pageCount >= 1 && pageCount <= FRAME_PAGES_MAX, 'a frame has 1 to 64 pages');
  let presence = 0n;
  let present = 0;
  for (let page = 0; page < pageCount; page++) {
    if (buffer.isZero(page)) continue;
    presence |= 1n << BigInt(page);
    if (present !== page) {
      buffer.bytes.copyWithin(present * PAGE_BYTES, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    }
    present++;
  }
  const raw = buffer.bytes.subarray(0, present * PAGE_BYTES);
  return writeFrame({ raw, into, at, kind: KIND.pages, pageCount, presence });
}

/** Writes a frame of plain bytes at `into[at]` and returns its length. */
export function encodeBytesFrame(
  raw: Uint8Array,
  options: { readonly into: Uint8Array; readonly at: number },
): number {
  assert(raw.length >= 1 && raw.length <= FRAME_BYTES_MAX, 'a frame has 1 byte to 1 MiB');
  return writeFrame({ raw, ...options, kind: KIND.bytes, pageCount: 0, presence: 0n });
}

/** Checksum of a stored frame, as its header and the tables hold it. */
export function frameChecksum(frame: Uint8Array): number {
  return new DataView(frame.buffer, frame.byteOffset, frame.length).getUint32(AT.crc, true);
}

/**
 * Length of the frame whose header this is, whose beginning is all that is looked at.
 * @throws CorruptError
 */
export function frameLength(header: Uint8Array, name: string): number {
  return FRAME_HEADER_BYTES + parseHeader(header, name).storedBytes;
}

/** Checks a stored frame without expanding it. @throws CorruptError */
export function checkFrame(frame: Uint8Array, name: string): void {
  checkedHeader(frame, name);
}

/** @throws CorruptError naming the object */
export function decodeFrame(frame: Uint8Array, name: string): FrameContent {
  const header = checkedHeader(frame, name);
  const payload = frame.subarray(FRAME_HEADER_BYTES);
  const raw = header.codec === CODEC.stored ? payload : decompress(payload, { bytes: header.rawBytes, name });
  if (raw.length !== header.rawBytes) throw new CorruptError(`a frame of ${name} expands to a wrong length`);
  if (header.kind === KIND.bytes) return { kind: 'bytes', bytes: raw };
  return { kind: 'pages', pageCount: header.pageCount, presentPages: raw, presence: header.presence };
}

/** Expands zstd to exactly `bytes` bytes, or fails. @throws CorruptError naming the object */
export function decompress(
  stored: Uint8Array,
  { bytes, name }: { readonly bytes: number; readonly name: string },
): Uint8Array {
  try {
    return zstdDecompressSync(stored, {
      maxOutputLength: Math.max(bytes, 1),
      // One more than there is: a piece that is full to the brim has zlib allocate another of the same size.
      chunkSize: Math.max(bytes + 1, 64),
    });
  } catch (error) {
    throw new CorruptError(`${name} is damaged: it cannot be expanded`, { cause: error });
  }
}

interface FrameHeader {
  readonly kind: number;
  readonly codec: number;
  readonly pageCount: number;
  readonly rawBytes: number;
  readonly storedBytes: number;
  readonly presence: bigint;
  readonly crc: number;
}

function writeFrame(frame: {
  raw: Uint8Array;
  into: Uint8Array;
  at: number;
  kind: number;
  pageCount: number;
  presence: bigint;
}): number {
  const { raw, into, at } = frame;
  const compressed = raw.length === 0 ? raw : compress(raw);
  const isSmaller = compressed.length < raw.length;
  const payload = isSmaller ? compressed : raw;
  const length = FRAME_HEADER_BYTES + payload.length;
  assert(at + length <= into.length, 'no room for the frame');
  const view = new DataView(into.buffer, into.byteOffset + at, length);
  view.setUint32(AT.magic, MAGIC, true);
  view.setUint8(AT.kind, frame.kind);
  view.setUint8(AT.codec, isSmaller ? CODEC.zstd : CODEC.stored);
  view.setUint16(AT.pages, frame.pageCount, true);
  view.setUint32(AT.rawBytes, raw.length, true);
  view.setUint32(AT.storedBytes, payload.length, true);
  view.setBigUint64(AT.presence, frame.presence, true);
  view.setUint32(AT.reserved, 0, true);
  into.set(payload, at + FRAME_HEADER_BYTES);
  view.setUint32(AT.crc, computedChecksum(into.subarray(at, at + length)), true);
  return length;
}

function compress(raw: Uint8Array): Uint8Array {
  return zstdCompressSync(raw, { params: LEVEL, chunkSize: Math.min(PIECE_BYTES, raw.length + 64) });
}

function computedChecksum(frame: Uint8Array): number {
  return crc32(frame.subarray(FRAME_HEADER_BYTES), crc32(frame.subarray(0, AT.crc)));
}

function checkedHeader(frame: Uint8Array, name: string): FrameHeader {
  const header = parseHeader(frame, name);
  if (frame.length !== FRAME_HEADER_BYTES + header.storedBytes) {
    throw new CorruptError(`a frame of ${name} has a wrong length`);
  }
  if (computedChecksum(frame) !== header.crc)
    throw new CorruptError(`checksum mismatch in a frame of ${name}`);
  return header;
}

function parseHeader(bytes: Uint8Array, name: string): FrameHeader {
  if (bytes.length < FRAME_HEADER_BYTES) throw new CorruptError(`a frame of ${name} is cut off`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const header = {
    kind: view.getUint8(AT.kind),
    codec: view.getUint8(AT.codec),
    pageCount: view.getUint16(AT.pages, true),
    rawBytes: view.getUint32(AT.rawBytes, true),
    storedBytes: view.getUint32(AT.storedBytes, true),
    presence: view.getBigUint64(AT.presence, true),
    crc: view.getUint32(AT.crc, true),
  };
  if (
    view.getUint32(AT.magic, true) !== MAGIC ||
    view.getUint32(AT.reserved, true) !== 0 ||
    !isPossible(header)
  ) {
    throw new CorruptError(`a frame of ${name} has a malformed header`);
  }
  return header;
}

function isPossible(header: FrameHeader): boolean {
  const { kind, codec, pageCount, rawBytes, storedBytes, presence } = header;
  const isSized =
    codec === CODEC.stored ? storedBytes === rawBytes : codec === CODEC.zstd && storedBytes < rawBytes;
  if (kind === KIND.bytes) {
    return isSized && pageCount === 0 && presence === 0n && rawBytes >= 1 && rawBytes <= FRAME_BYTES_MAX;
  }
  const isCounted = pageCount >= 1 && pageCount <= FRAME_PAGES_MAX && presence < 1n << BigInt(pageCount);
  return kind === KIND.pages && isSized && isCounted && rawBytes === bitCount(presence) * PAGE_BYTES;
}

function bitCount(bits: bigint): number {
  let count = 0;
  for (let rest = bits; rest !== 0n; rest &= rest - 1n) count++;
  return count;
}
