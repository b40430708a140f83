/** Entry of the threads that copy: each reads, checks, compresses and stores on its own. */
import { randomBytes } from 'node:crypto';
import { workerData } from 'node:worker_threads';
import type { Lsn } from '../../base/index.ts';
import { PageBuffer } from '../../pg/index.ts';
import { openCollection } from '../collection/open.ts';
import { FRAME_BYTES_MAX, FRAME_PAGES_MAX } from '../format/frame.ts';
import { checkPack } from '../objects/pack-check.ts';
import { readWalObject } from '../objects/wal-reader.ts';
import { writeWalObject } from '../objects/wal-writer.ts';
import { rest } from '../worker/limiter.ts';
import { type Answer, serveTasks } from '../worker/thread-server.ts';
import { copySlice, type CopyTools } from './copy-slice.ts';
import { FrameSink } from './frame-sink.ts';
import { NO_PAGES } from './page-ranges.ts';
import { openWalSegment } from './read-wal.ts';
import type { CaptureResult, CaptureTask, CaptureThreadData, SliceResult } from './tasks.ts';

const data = workerData as CaptureThreadData; // Given by the capture that started us.
const rng = { bytes: (length: number) => new Uint8Array(randomBytes(length)) };
/** The pool ends threads by terminating them; nothing here is cancelled one by one. */
const { signal } = new AbortController();
const store = openCollection(data.collection, { rng });
const sink = new FrameSink({ ...data, store, rng, sinkNo: data.threadNo, sinks: data.threads, signal });
let frameBegunMs = performance.now();

const tools: CopyTools = {
  dataDirectory: data.dataDirectory,
  startLsn: 0n as Lsn,
  sink,
  pages: new PageBuffer({ pagesMax: FRAME_PAGES_MAX }),
  bytes: new Uint8Array(FRAME_BYTES_MAX),
  afterFrame() {
    rest(data.restCell, { workedMs: performance.now() - frameBegunMs });
    frameBegunMs = performance.now();
  },
};

serveTasks<CaptureTask, CaptureResult>(async (task) => {
  frameBegunMs = performance.now();
  switch (task.kind) {
    case 'begin':
      tools.startLsn = task.startLsn;
      return { result: { kind: 'done' } };
    case 'copy': {
      const slices: SliceResult[] = [];
      for (const slice of task.slices) slices.push(await copySlice(slice, tools));
      return copied(slices);
    }
    case 'content': {
      const { fileNo, bytes } = task;
      await sink.add((writer) => writer.addBytes(bytes));
      const none = { isVanished: false, ranges: NO_PAGES, heapTuples: 0, indexEntries: 0 };
      return copied([{ fileNo, units: bytes.length, frameCount: 1, ...none }]);
    }
    case 'wal': {
      using segment = openWalSegment(task.path, task.header);
      const { key, header } = task;
      return {
        result: {
          kind: 'wal',
          written: await writeWalObject({ store, key, header, read: segment.read, signal }),
        },
      };
    }
    case 'close':
      return { result: { kind: 'closed', packs: await sink.close() } };
    case 'check_pack':
      await checkPack(store, task.pack, { signal });
      return { result: { kind: 'done' } };
    case 'check_wal':
      await readWalObject(store, task.wal, { write: () => undefined, signal });
      return { result: { kind: 'done' } };
  }
});

function copied(slices: readonly SliceResult[]): Answer<CaptureResult> {
  const { frames, tags } = sink.takeFrames();
  return { result: { kind: 'copied', slices, frames, tags }, transfer: [frames.buffer, tags.buffer] };
}
