import type { KeyObject } from 'node:crypto';
import { assert } from '../../base/index.ts';
import type { BlobKey, BlobStore, BlobUpload } from '../../blob/index.ts';
import type { PageBuffer } from '../../pg/index.ts';
import {
  encodeBytesFrame,
  encodePagesFrame,
  FRAME_STORED_BYTES_MAX,
  frameChecksum,
} from '../format/frame.ts';
import {
  encodePackEnd,
  encodePackHeader,
  type FramePlace,
  frameTag,
  PACK_FOOTER_BYTES,
  PACK_HEADER_BYTES,
  PACK_INDEX_ENTRY_BYTES,
} from '../format/pack.ts';

/** Stored bytes are handed to the storage in pieces of about this size. */
const FLUSH_BYTES = 1024 * 1024;

/** A frame that was written, with the tag that vouches for it. */
export interface WrittenFrame extends FramePlace {
  readonly tag: Uint8Array;
}

export interface WrittenPack {
  readonly key: BlobKey;
  readonly id: Uint8Array;
  readonly bytes: number;
}

/**
 * Writes one pack, frame by frame. While one piece travels to storage the next is filled: memory is two pieces and a
 * frame each, whatever the pack's size. Not to be called concurrently.
 */
export class PackWriter implements AsyncDisposable {
  readonly #upload: BlobUpload;
  readonly #key: BlobKey;
  readonly #id: Uint8Array;
  readonly #tagKey: KeyObject;
  readonly #frames: FramePlace[] = [];
  #filling = new Uint8Array(FLUSH_BYTES + FRAME_STORED_BYTES_MAX);
  #travelling = new Uint8Array(FLUSH_BYTES + FRAME_STORED_BYTES_MAX);
  #filled = 0;
  #offset = PACK_HEADER_BYTES;
  /** The outcome of the piece under way: its failure is met by whoever waits for it next. */
  #pending: Promise<{ readonly error?: unknown }> = Promise.resolve({});

  static async open(options: {
    readonly store: BlobStore;
    readonly key: BlobKey;
    readonly id: Uint8Array;
    readonly tagKey: KeyObject;
    readonly signal: AbortSignal;
  }): Promise<PackWriter> {
    const { store, key, signal } = options;
    return new PackWriter({ ...options, upload: await store.beginUpload(key, { signal }) });
  }

  private constructor(options: { upload: BlobUpload; key: BlobKey; id: Uint8Array; tagKey: KeyObject }) {
    this.#upload = options.upload;
    this.#key = options.key;
    this.#id = options.id;
    this.#tagKey = options.tagKey;
    this.#filling.set(encodePackHeader({ id: this.#id }));
    this.#filled = PACK_HEADER_BYTES;
  }

  /** How long the pack would be if it were ended now. */
  get bytes(): number {
    return this.#offset + this.#frames.length * PACK_INDEX_ENTRY_BYTES + PACK_FOOTER_BYTES;
  }

  /** Adds a frame of the first pages of the buffer, whose content is used up. */
  async addPages(buffer: PageBuffer, { pageCount }: { readonly pageCount: number }): Promise<WrittenFrame> {
    await this.#makeRoom();
    return this.#added(encodePagesFrame(buffer, { pageCount, into: this.#filling, at: this.#filled }));
  }

  /** Adds a frame of plain bytes. */
  async addBytes(raw: Uint8Array): Promise<WrittenFrame> {
    await this.#makeRoom();
    return this.#added(encodeBytesFrame(raw, { into: this.#filling, at: this.#filled }));
  }

  /** Adds a frame as it is stored elsewhere; its bytes are copied. The caller has checked it. */
  async addStored(frame: Uint8Array): Promise<WrittenFrame> {
    await this.#makeRoom();
    this.#filling.set(frame, this.#filled);
    return this.#added(frame.length);
  }

  /** Ends the pack; it exists when this resolves. */
  async close(): Promise<WrittenPack> {
    await this.#flush();
    await this.#settle();
    await this.#upload.append(
      encodePackEnd({ id: this.#id, indexOffset: this.#offset, frames: this.#frames }),
    );
    await this.#upload.commit();
    return { key: this.#key, id: this.#id, bytes: this.bytes };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pending;
    await this.#upload.abort();
  }

  #added(length: number): WrittenFrame {
    const frame = this.#filling.subarray(this.#filled, this.#filled + length);
    const place = { offset: this.#offset, length, crc: frameChecksum(frame) };
    this.#frames.push(place);
    this.#filled += length;
    this.#offset += length;
    return { ...place, tag: frameTag({ tagKey: this.#tagKey, offset: place.offset, frame }) };
  }

  async #makeRoom(): Promise<void> {
    if (this.#filled >= FLUSH_BYTES) await this.#flush();
    assert(this.#filled + FRAME_STORED_BYTES_MAX <= this.#filling.length, 'a piece has room for a frame');
  }

  async #flush(): Promise<void> {
    await this.#settle();
    const piece = this.#filling.subarray(0, this.#filled);
    [this.#filling, this.#travelling] = [this.#travelling, this.#filling];
    this.#filled = 0;
    this.#pending = this.#upload.append(piece).then(
      () => ({}),
      (error: unknown) => ({ error }),
    );
  }

  async #settle(): Promise<void> {
    const outcome = await this.#pending;
    if ('error' in outcome) throw outcome.error;
  }
}
