/** What a thread of a capture does: reads, checks, compresses and stores on its own. */
import { randomBytes } from 'node:crypto';
import type { Lsn } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import { PageBuffer } from '../../pg/index.ts';
import { openCollection } from '../collection/open.ts';
import { FRAME_BYTES_MAX, FRAME_PAGES_MAX } from '../format/frame.ts';
import { checkFramesOf, checkPack } from '../objects/pack-check.ts';
import { checkWalObject } from '../objects/wal-reader.ts';
import { writeWalObject } from '../objects/wal-writer.ts';
import { rest } from '../worker/limiter.ts';
import type { Answer } from '../worker/thread-server.ts';
import { copySlice, type CopyTools } from './copy-slice.ts';
import { FrameSink } from './frame-sink.ts';
import { NO_PAGES } from './page-ranges.ts';
import { openWalSegment } from './read-wal.ts';
import type { CaptureResult, CaptureTask, CaptureThreadData, SliceResult } from './tasks.ts';

const rng = { bytes: (length: number) => new Uint8Array(randomBytes(length)) };
/** Nothing here is cancelled one by one: whoever gives the tasks stops giving them. */
const { signal } = new AbortController();

/** Tasks are given one at a time. */
export class CaptureTasks implements AsyncDisposable {
  readonly #store: BlobStore;
  readonly #sink: FrameSink;
  readonly #tools: CopyTools;
  #frameBegunMs = performance.now();

  constructor(data: CaptureThreadData) {
    this.#store = openCollection(data.collection, { rng });
    this.#sink = new FrameSink({
      ...data,
      store: this.#store,
      rng,
      sinkNo: data.threadNo,
      sinks: data.threads,
      signal,
    });
    this.#tools = {
      dataDirectory: data.dataDirectory,
      startLsn: 0n as Lsn,
      sink: this.#sink,
      pages: new PageBuffer({ pagesMax: FRAME_PAGES_MAX }),
      bytes: new Uint8Array(FRAME_BYTES_MAX),
      afterFrame: () => {
        rest(data.restCell, { workedMs: performance.now() - this.#frameBegunMs });
        this.#frameBegunMs = performance.now();
      },
    };
  }

  async run(task: CaptureTask): Promise<Answer<CaptureResult>> {
    this.#frameBegunMs = performance.now();
    switch (task.kind) {
      case 'begin':
        this.#tools.startLsn = task.startLsn;
        return { result: { kind: 'done' } };
      case 'copy': {
        const slices: SliceResult[] = [];
        for (const slice of task.slices) slices.push(await copySlice(slice, this.#tools));
        return this.#copied(slices);
      }
      case 'content': {
        const { fileNo, bytes } = task;
        await this.#sink.add((writer) => writer.addBytes(bytes));
        const none = { isVanished: false, ranges: NO_PAGES, heapTuples: 0, indexEntries: 0 };
        return this.#copied([{ fileNo, units: bytes.length, frameCount: 1, ...none }]);
      }
      case 'wal': {
        using segment = openWalSegment(task.path, task.header);
        const { key, header } = task;
        const { read } = segment;
        const written = await writeWalObject({ store: this.#store, key, header, read, signal });
        return { result: { kind: 'wal', written } };
      }
      case 'close':
        return { result: { kind: 'closed', packs: await this.#sink.close() } };
      case 'check_pack':
        await checkPack(this.#store, task.pack, { signal });
        return { result: { kind: 'done' } };
      case 'check_frames':
        await checkFramesOf(this.#store, task.pack, { signal });
        return { result: { kind: 'done' } };
      case 'check_wal':
        await checkWalObject(this.#store, task.wal, { signal });
        return { result: { kind: 'done' } };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sink[Symbol.asyncDispose]();
  }

  #copied(slices: readonly SliceResult[]): Answer<CaptureResult> {
    const { frames, tags } = this.#sink.takeFrames();
    return { result: { kind: 'copied', slices, frames, tags }, transfer: [frames.buffer, tags.buffer] };
  }
}
