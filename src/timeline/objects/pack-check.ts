import type { KeyObject } from 'node:crypto';
import { CorruptError } from '../../base/index.ts';
import type { BlobKey, BlobStore } from '../../blob/index.ts';
import {
  type FramePlace,
  FRAME_TAG_BYTES,
  PACK_FOOTER_BYTES,
  PACK_HEADER_BYTES,
  PACK_INDEX_ENTRY_BYTES,
  parsePackFooter,
  parsePackHeader,
  parsePackIndex,
} from '../format/pack.ts';
import { checkExpectedFrame, type ExpectedFrame } from './expected-frame.ts';
import { ObjectReader } from './object-reader.ts';

/** What a manifest says of a pack. */
export interface ExpectedPack {
  readonly key: BlobKey;
  readonly id: Uint8Array;
  readonly bytes: number;
  readonly tagKey: KeyObject;
  readonly frames: ExpectedFrames;
}

/** Frames in the order of their offsets. */
export interface ExpectedFrames {
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  readonly crcs: Uint32Array;
  readonly tags: Uint8Array;
}

/**
 * Reads a pack once and checks every stored byte of it, without expanding anything: header, each frame's checksum and tag,
 * index, footer, length. @throws CorruptError naming the pack
 */
export async function checkPack(
  store: BlobStore,
  expected: ExpectedPack,
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const { key, frames } = expected;
  const count = frames.offsets.length;
  await using reader = new ObjectReader(store, key, { signal });
  const id = parsePackHeader(await reader.take(PACK_HEADER_BYTES), key);
  if (!Buffer.from(id).equals(expected.id)) throw new CorruptError(`${key} is another pack than expected`);
  for (let index = 0; index < count; index++) {
    const frame = await reader.take(frames.lengths[index] ?? 0);
    checkExpectedFrame(frame, expectedFrame(frames, index), { name: key, tagKey: expected.tagKey });
  }
  const indexBytes = await reader.take(count * PACK_INDEX_ENTRY_BYTES);
  const footer = parsePackFooter(await reader.take(PACK_FOOTER_BYTES), {
    packBytes: expected.bytes,
    name: key,
  });
  await reader.end();
  const places = parsePackIndex(indexBytes, { footer, name: key });
  const isSame = places.length === count && places.every((place, index) => isPlace(frames, index, place));
  if (!isSame || !Buffer.from(footer.id).equals(expected.id)) {
    throw new CorruptError(`${key} is damaged: its index is not what was written`);
  }
}

/**
 * Reads only these frames of a pack and checks them: of a pack that an earlier attempt wrote, whose other frames nobody names any more. That the
 * pack is there in its length is for others to find out. @throws CorruptError naming the pack
 */
export async function checkFramesOf(
  store: BlobStore,
  { key, frames, tagKey }: ExpectedPack,
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const count = frames.offsets.length;
  for (let first = 0; first < count; ) {
    // Frames that lie one after the other are read at once.
    let end = first;
    let endOffset = frames.offsets[first] ?? 0;
    while (end < count && frames.offsets[end] === endOffset) endOffset += frames.lengths[end++] ?? 0;
    const offset = frames.offsets[first] ?? 0;
    const range = { offset, length: endOffset - offset };
    await using reader = new ObjectReader(store, key, { range, signal });
    for (; first < end; first++) {
      const frame = await reader.take(frames.lengths[first] ?? 0);
      checkExpectedFrame(frame, expectedFrame(frames, first), { name: key, tagKey });
    }
  }
}

/** Row `index` of the columns. */
export function expectedFrame(frames: ExpectedFrames, index: number): ExpectedFrame {
  return {
    offset: frames.offsets[index] ?? 0,
    crc: frames.crcs[index] ?? 0,
    tag: frames.tags.subarray(index * FRAME_TAG_BYTES, (index + 1) * FRAME_TAG_BYTES),
  };
}

function isPlace(frames: ExpectedFrames, index: number, place: FramePlace): boolean {
  return (
    place.offset === frames.offsets[index] &&
    place.length === frames.lengths[index] &&
    place.crc === frames.crcs[index]
  );
}
