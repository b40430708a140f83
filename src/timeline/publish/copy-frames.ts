/** Copies frames from the packs of a timeline store into packs of a backup, as they are stored: nothing is expanded. */
import { assert, required, type Rng } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import { FrameSink } from '../capture/frame-sink.ts';
import { FRAME_FIELDS, type NumberedPack } from '../capture/tasks.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { Manifest } from '../format/manifest.ts';
import { packTagKey } from '../format/pack.ts';
import { checkExpectedFrame } from '../objects/expected-frame.ts';
import { ObjectReader } from '../objects/object-reader.ts';
import { expectedFrame } from '../objects/pack-check.ts';
import { rest, type RestCell } from '../worker/limiter.ts';
import type { CopiedFrame, CopiedPack } from './copied-pack.ts';
import { placeOf } from './plan-publish.ts';

/** Frames that follow each other are read at once, up to so many bytes. */
const READ_BYTES_MAX = 4 * 1024 * 1024;

export interface CopyFramesOptions {
  /** Holds the frames. */
  readonly from: BlobStore;
  readonly image: Manifest;
  /** Rows of the image's frames, by pack and offset. */
  readonly rows: readonly number[];
  /** Where the packs go. */
  readonly into: BlobStore;
  readonly subdirectory: string;
  readonly attempt: number;
  readonly key: ClusterKey;
  readonly packBytesMax: number;
  readonly rng: Rng;
  readonly restCell: RestCell;
  /** A pack is whole and durable; its frames need not be copied again. */
  readonly onPack: (pack: CopiedPack) => Promise<void>;
  readonly onCopied: (bytes: number) => void;
  readonly signal: AbortSignal;
}

/** @throws CorruptError naming the store's pack when a frame is not what was written */
export async function copyFrames(options: CopyFramesOptions): Promise<readonly CopiedPack[]> {
  const { into: store, image, rng, signal, onCopied, restCell } = options;
  const packs = new PackBook(options);
  await using sink = new FrameSink({ ...options, store, rng, sinkNo: 0, sinks: 1, signal });
  for (const rows of rangesOf(image, options.rows)) {
    const begunMs = performance.now();
    let bytes = 0;
    for await (const { row, frame } of readFrames(rows, options)) {
      await sink.add((writer) => writer.addStored(frame));
      bytes += frame.length;
      packs.add(row, sink.takeFrames());
      await packs.settle(sink.closedPacks);
    }
    onCopied(bytes);
    rest(restCell, { workedMs: performance.now() - begunMs });
  }
  await packs.settle(await sink.close());
  return packs.done;
}

/** Puts frames and the packs that they went to together, and tells of each pack that is whole. */
class PackBook {
  readonly #options: CopyFramesOptions;
  readonly #frames = new Map<number, CopiedFrame[]>();
  readonly done: CopiedPack[] = [];

  constructor(options: CopyFramesOptions) {
    this.#options = options;
  }

  add(row: number, { frames, tags }: { frames: Uint32Array; tags: Uint8Array }): void {
    assert(frames.length === FRAME_FIELDS, 'frames are taken one by one');
    const [pack = 0, offset = 0, length = 0, crc = 0] = frames;
    const of = this.#frames.get(pack) ?? [];
    of.push({ source: placeOf(this.#options.image, row), offset, length, crc, tag: tags });
    this.#frames.set(pack, of);
  }

  async settle(closed: readonly NumberedPack[]): Promise<void> {
    for (const { number, key, id, bytes } of closed.slice(this.done.length)) {
      const frames = required(this.#frames.get(number), `frames of pack ${number}`);
      const pack = { path: key, id: Buffer.from(id).toString('hex'), bytes, frames };
      this.#frames.delete(number);
      this.done.push(pack);
      await this.#options.onPack(pack);
    }
  }
}

/** Rows whose frames lie one after the other in one pack. */
function* rangesOf({ frames }: Manifest, rows: readonly number[]): Iterable<readonly number[]> {
  let members: number[] = [];
  let bytes = 0;
  let end = { pack: -1, offset: 0 };
  for (const row of rows) {
    const pack = frames.packs[row] ?? 0;
    const offset = frames.offsets[row] ?? 0;
    const length = frames.lengths[row] ?? 0;
    const isNext = pack === end.pack && offset === end.offset && bytes < READ_BYTES_MAX;
    if (!isNext && members.length > 0) {
      yield members;
      members = [];
      bytes = 0;
    }
    members.push(row);
    bytes += length;
    end = { pack, offset: offset + length };
  }
  if (members.length > 0) yield members;
}

async function* readFrames(
  rows: readonly number[],
  { from, image, key, signal }: CopyFramesOptions,
): AsyncIterable<{ readonly row: number; readonly frame: Uint8Array }> {
  const { frames, packs } = image;
  const first = required(rows[0], 'frames of a range');
  const pack = required(packs[frames.packs[first] ?? 0], 'pack of a frame');
  const tagKey = packTagKey({ key, id: Buffer.from(pack.id, 'hex') });
  const length = rows.reduce((sum, row) => sum + (frames.lengths[row] ?? 0), 0);
  const range = { offset: frames.offsets[first] ?? 0, length };
  await using reader = new ObjectReader(from, parseBlobKey(pack.path), { range, signal });
  for (const row of rows) {
    const frame = await reader.take(frames.lengths[row] ?? 0);
    checkExpectedFrame(frame, expectedFrame(frames, row), { name: pack.path, tagKey });
    yield { row, frame };
  }
}
