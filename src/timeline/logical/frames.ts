/** The frames of a manifest, by the pack that they are in. */
import { type FrameTable } from '../format/manifest-tables.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';
import type { ExpectedFrames } from '../objects/pack-check.ts';

/** Frames of one pack in the order in which they lie there. */
export function framesOfPack(frames: FrameTable, pack: number): ExpectedFrames {
  const rows = [...frames.packs.keys()]
    .filter((row) => frames.packs[row] === pack)
    .sort((left, right) => (frames.offsets[left] ?? 0) - (frames.offsets[right] ?? 0));
  const select = (column: Uint32Array) => Uint32Array.from(rows, (row) => column[row] ?? 0);
  const tags = Buffer.from(frames.tags);
  return {
    offsets: select(frames.offsets),
    lengths: select(frames.lengths),
    crcs: select(frames.crcs),
    tags: Buffer.concat(rows.map((row) => tags.subarray(row * FRAME_TAG_BYTES, (row + 1) * FRAME_TAG_BYTES))),
  };
}
