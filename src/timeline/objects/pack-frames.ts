/** The frames of a manifest, by the pack that they are in. */
import { required } from '../../base/index.ts';
import type { FrameTable } from '../format/manifest-tables.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';
import type { ExpectedFrames } from './pack-check.ts';

/** Of every pack that has any, in the order in which they lie there. */
export function framesByPack(frames: FrameTable): ReadonlyMap<number, ExpectedFrames> {
  const rows = Map.groupBy(frames.packs.keys(), (row) => required(frames.packs[row], 'pack of a frame'));
  return new Map(rows.entries().map(([pack, of]) => [pack, framesAt(frames, of)]));
}

function framesAt(frames: FrameTable, unsorted: readonly number[]): ExpectedFrames {
  const rows = unsorted.toSorted((left, right) => (frames.offsets[left] ?? 0) - (frames.offsets[right] ?? 0));
  const select = (column: Uint32Array) => Uint32Array.from(rows, (row) => column[row] ?? 0);
  const tagOf = (row: number) => frames.tags.subarray(row * FRAME_TAG_BYTES, (row + 1) * FRAME_TAG_BYTES);
  return {
    offsets: select(frames.offsets),
    lengths: select(frames.lengths),
    crcs: select(frames.crcs),
    tags: Buffer.concat(rows.map(tagOf)),
  };
}
