import { packKey } from '../collection/layout.ts';
import type { BlobStore } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { Rng } from '../../base/index.ts';
import { PACK_BYTES_LIMIT, PACK_ID_BYTES, packTagKey } from '../format/pack.ts';
import { FRAME_STORED_BYTES_MAX } from '../format/frame.ts';
import { PackWriter, type WrittenFrame } from '../objects/pack-writer.ts';
import { FRAME_FIELDS, type NumberedPack } from './tasks.ts';

/** Smallest size of a pack that makes sense. */
const PACK_BYTES_MIN = 4 * FRAME_STORED_BYTES_MAX;

interface SinkOptions {
  readonly store: BlobStore;
  readonly rng: Rng;
  readonly key: ClusterKey;
  readonly subdirectory: string;
  readonly attempt: number;
  readonly packBytesMax: number;
  /** Numbers of packs of this sink: its own number, then steps of `sinks`. */
  readonly sinkNo: number;
  readonly sinks: number;
  readonly signal: AbortSignal;
}

/** Where a thread's frames go: one pack after the other, each up to its largest size. */
export class FrameSink implements AsyncDisposable {
  readonly #options: SinkOptions;
  readonly #packBytesMax: number;
  readonly #closed: NumberedPack[] = [];
  #writer: PackWriter | null = null;
  #number: number;
  #fields: number[] = [];
  #tags: Uint8Array[] = [];

  constructor(options: SinkOptions) {
    this.#options = options;
    this.#number = options.sinkNo;
    this.#packBytesMax = Math.min(Math.max(options.packBytesMax, PACK_BYTES_MIN), PACK_BYTES_LIMIT);
  }

  /** Writes a frame through `write` into the pack whose turn it is, and remembers where it is. */
  async add(write: (writer: PackWriter) => Promise<WrittenFrame>): Promise<void> {
    const writer = await this.#writerWithRoom();
    const { offset, length, crc, tag } = await write(writer);
    this.#fields.push(this.#number, offset, length, crc);
    this.#tags.push(tag);
  }

  /** How many frames were added since `takeFrames` was last called. */
  get frameCount(): number {
    return this.#fields.length / FRAME_FIELDS;
  }

  takeFrames(): { readonly frames: Uint32Array<ArrayBuffer>; readonly tags: Uint8Array<ArrayBuffer> } {
    const frames = Uint32Array.from(this.#fields);
    const tags = Uint8Array.from(Buffer.concat(this.#tags));
    this.#fields = [];
    this.#tags = [];
    return { frames, tags };
  }

  /** Of the pack under way, as it is stored. */
  get openBytes(): number {
    return this.#writer?.bytes ?? 0;
  }

  /** Packs that were ended so far, in order. */
  get closedPacks(): readonly NumberedPack[] {
    return this.#closed;
  }

  /** Ends the pack under way and returns all that were ended. */
  async close(): Promise<readonly NumberedPack[]> {
    if (this.#writer !== null) {
      this.#closed.push({ ...(await this.#writer.close()), number: this.#number });
      this.#writer = null;
      this.#number += this.#options.sinks;
    }
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer?.[Symbol.asyncDispose]();
  }

  async #writerWithRoom(): Promise<PackWriter> {
    if (this.#writer !== null && this.#writer.bytes + FRAME_STORED_BYTES_MAX > this.#packBytesMax)
      await this.close();
    this.#writer ??= await this.#openPack();
    return this.#writer;
  }

  async #openPack(): Promise<PackWriter> {
    const { store, rng, key, subdirectory, attempt, signal } = this.#options;
    const id = rng.bytes(PACK_ID_BYTES);
    return PackWriter.open({
      store,
      key: packKey({ subdirectory, attempt, number: this.#number }),
      id,
      tagKey: packTagKey({ key, id }),
      signal,
    });
  }
}
