/** Writes files of bytes into packs, one after the other, and makes of them the tables of a manifest. */
import { required } from '../../base/index.ts';
import type { CaptureTools } from '../capture/capture.ts';
import type { FrameSink } from '../capture/frame-sink.ts';
import { FRAME_FIELDS, type NumberedPack } from '../capture/tasks.ts';
import { FRAME_BYTES_MAX } from '../format/frame.ts';
import type { ManifestPack } from '../format/manifest.ts';
import { FILE_KIND, type FileTable, type FrameTable, type RunTable } from '../format/manifest-tables.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';

const FILE_MODE = 0o600;

interface WrittenFile {
  readonly path: string;
  readonly bytes: number;
  readonly firstFrame: number;
  /** Bytes of each of its frames. */
  readonly counts: readonly number[];
}

export interface WrittenFiles {
  readonly files: FileTable;
  readonly runs: RunTable;
  readonly frames: FrameTable;
  readonly packs: readonly ManifestPack[];
  readonly numbered: readonly NumberedPack[];
  readonly bytes: bigint;
}

/** A frame that another backup of the collection holds. */
export interface StoredFrame {
  /** Bytes in it, expanded. */
  readonly bytes: number;
  readonly pack: ManifestPack;
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
  readonly tag: Uint8Array;
}

/** One file at a time. What is under way when it is disposed of is given up. */
export class StreamWriter implements AsyncDisposable {
  readonly #sink: FrameSink;
  readonly #tools: CaptureTools;
  readonly #files: WrittenFile[] = [];
  readonly #fields: number[] = [];
  readonly #tags: Uint8Array[] = [];
  readonly #buffer = Buffer.alloc(FRAME_BYTES_MAX);
  /** Packs of other backups, by path; frames name them by numbers below zero. */
  readonly #older = new Map<string, { readonly number: number; readonly pack: ManifestPack }>();
  #filled = 0;
  #frames = 0;
  #bytes = 0n;

  constructor(sink: FrameSink, tools: CaptureTools) {
    this.#sink = sink;
    this.#tools = tools;
  }

  /** Takes what comes to its end; gives what the source returns then. */
  async add<T>(path: string, content: AsyncGenerator<Uint8Array, T>): Promise<T> {
    const firstFrame = this.#frames;
    const counts: number[] = [];
    for (;;) {
      const next = await content.next();
      if (next.done === true) {
        if (this.#filled > 0) counts.push(await this.#flush());
        const bytes = counts.reduce((sum, count) => sum + count, 0);
        this.#files.push({ path, bytes, firstFrame, counts });
        this.#bytes += BigInt(bytes);
        return next.value;
      }
      counts.push(...(await this.#take(next.value)));
    }
  }

  /** The file is as another backup has it. */
  reuse(path: string, stored: readonly StoredFrame[]): void {
    for (const { pack, offset, length, crc, tag } of stored) {
      const known = this.#older.get(pack.path) ?? { number: -1 - this.#older.size, pack };
      this.#older.set(pack.path, known);
      this.#fields.push(known.number, offset, length, crc);
      this.#tags.push(tag);
    }
    const bytes = stored.reduce((sum, frame) => sum + frame.bytes, 0);
    this.#files.push({ path, bytes, firstFrame: this.#frames, counts: stored.map((frame) => frame.bytes) });
    this.#frames += stored.length;
    this.#bytes += BigInt(bytes);
  }

  /** Of all files so far. */
  get bytes(): bigint {
    return this.#bytes;
  }

  /** Of the pack under way, as it is stored. */
  get openPackBytes(): number {
    return this.#sink.openBytes;
  }

  /** Ends the packs, and tells of all files so far; others may follow, in packs of their own. Own packs come first. */
  async close(): Promise<WrittenFiles> {
    const packs = [...(await this.#sink.close())];
    const order = new Map(packs.map(({ number }, row) => [number, row]));
    const fields = this.#fields;
    const fieldOf = (frame: number, field: number) => fields[frame * FRAME_FIELDS + field] ?? 0;
    const columnOf = (field: number) =>
      Uint32Array.from({ length: this.#frames }, (_, frame) => fieldOf(frame, field));
    const rowOf = (number: number) =>
      number < 0 ? packs.length - 1 - number : required(order.get(number), `pack ${number}`);
    const own = packs.map(({ key, id, bytes }) => ({
      path: key,
      id: Buffer.from(id).toString('hex'),
      bytes,
    }));
    return {
      ...tablesOf(this.#files),
      frames: {
        packs: Uint32Array.from({ length: this.#frames }, (_, frame) => rowOf(fieldOf(frame, 0))),
        offsets: columnOf(1),
        lengths: columnOf(2),
        crcs: columnOf(3),
        tags: Buffer.concat(this.#tags, this.#frames * FRAME_TAG_BYTES),
      },
      packs: [...own, ...[...this.#older.values()].map(({ pack }) => pack)],
      numbered: packs,
      bytes: this.#bytes,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sink[Symbol.asyncDispose]();
  }

  async #take(piece: Uint8Array): Promise<number[]> {
    const counts: number[] = [];
    for (let at = 0; at < piece.length; ) {
      const taken = Math.min(piece.length - at, this.#buffer.length - this.#filled);
      this.#buffer.set(piece.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      at += taken;
      if (this.#filled === this.#buffer.length) counts.push(await this.#flush());
    }
    return counts;
  }

  async #flush(): Promise<number> {
    const raw = this.#buffer.subarray(0, this.#filled);
    const startedMs = this.#tools.clock.monotonicMs();
    await this.#sink.add((writer) => writer.addBytes(raw));
    const { frames, tags } = this.#sink.takeFrames();
    this.#fields.push(...frames);
    this.#tags.push(tags);
    this.#frames += 1;
    this.#filled = 0;
    await this.#makeWay(startedMs);
    return raw.length;
  }

  /** Rests, as its share of the work, while others wait for the CPU. */
  async #makeWay(startedMs: number): Promise<void> {
    const { clock, restCell, signal } = this.#tools;
    const restMs = ((clock.monotonicMs() - startedMs) * Atomics.load(restCell, 0)) / 1000;
    if (restMs >= 1) await clock.sleep(restMs, { signal });
  }
}

/** Files ascending by path, as a manifest wants them. */
function tablesOf(written: readonly WrittenFile[]): { files: FileTable; runs: RunTable } {
  const sorted = written.toSorted((left, right) => (left.path < right.path ? -1 : 1));
  const starts: number[] = [];
  const counts: number[] = [];
  const frames: number[] = [];
  const firstRuns: number[] = [];
  for (const file of sorted) {
    firstRuns.push(starts.length);
    let start = 0;
    for (const [index, count] of file.counts.entries()) {
      starts.push(start);
      counts.push(count);
      frames.push(file.firstFrame + index);
      start += count;
    }
  }
  return {
    files: {
      paths: sorted.map(({ path }) => path),
      lengths: BigUint64Array.from(sorted, ({ bytes }) => BigInt(bytes)),
      kinds: Uint8Array.from(sorted, () => FILE_KIND.bytes),
      modes: Uint16Array.from(sorted, () => FILE_MODE),
      firstRuns: Uint32Array.from(firstRuns),
      runCounts: Uint32Array.from(sorted, ({ counts: all }) => all.length),
    },
    runs: {
      starts: Uint32Array.from(starts),
      counts: Uint32Array.from(counts),
      frames: Uint32Array.from(frames),
      indexes: Uint16Array.from(starts, () => 0),
    },
  };
}
