import { closeSync, readSync } from 'node:fs';
import { type Lsn, required } from '../../base/index.ts';
import {
  countPageEntries,
  firstBlockOf,
  PAGE_BYTES,
  type PageBuffer,
  parseRelationPath,
} from '../../pg/index.ts';
import { openDataFile } from '../data-directory/open-file.ts';
import { verifyPages } from '../data-directory/verify-pages.ts';
import { FRAME_BYTES_MAX } from '../format/frame.ts';
import type { FrameSink } from './frame-sink.ts';
import { type FrameRun, frameRuns } from './page-ranges.ts';
import type { Slice, SliceResult } from './tasks.ts';

/** What a thread copies with; made once. */
export interface CopyTools {
  readonly dataDirectory: string;
  /** Pages changed since need not be whole. */
  startLsn: Lsn;
  readonly sink: FrameSink;
  readonly pages: PageBuffer;
  /** Room for a frame of bytes. */
  readonly bytes: Uint8Array;
  /** Called after every frame: the place to make way for others. */
  readonly afterFrame: () => void;
}

/** Reads a slice, checks it and adds its frames. @throws CorruptError naming file and block */
export async function copySlice(slice: Slice, tools: CopyTools): Promise<SliceResult> {
  const counts = { heapTuples: 0, indexEntries: 0 };
  const before = tools.sink.frameCount;
  let units = 0;
  const fd = openDataFile(tools.dataDirectory, slice.path);
  if (fd !== null) {
    try {
      units =
        slice.kind === 'pages' ? await copyPages(fd, { slice, tools, counts }) : await copyBytes(fd, tools);
    } finally {
      closeSync(fd);
    }
  }
  return {
    fileNo: slice.fileNo,
    isVanished: fd === null,
    ranges: slice.ranges,
    units,
    frameCount: tools.sink.frameCount - before,
    ...counts,
  };
}

async function copyPages(
  fd: number,
  {
    slice,
    tools,
    counts,
  }: { slice: Slice; tools: CopyTools; counts: { heapTuples: number; indexEntries: number } },
): Promise<number> {
  const { pages, sink } = tools;
  const file = required(parseRelationPath(slice.path), `relation of ${slice.path}`);
  const isCounted = file.fork === 'main';
  let filled = 0;
  let units = 0;
  const endFrame = async () => {
    if (isCounted) for (let at = 0; at < filled; at++) countPageEntries(pages.view, at * PAGE_BYTES, counts);
    await sink.add((writer) => writer.addPages(pages, { pageCount: filled }));
    units += filled;
    filled = 0;
    tools.afterFrame();
  };
  for (const run of frameRuns(slice.ranges)) {
    if (run.index === 0 && filled > 0) await endFrame();
    readRun(fd, { run, firstBlock: firstBlockOf(file) + run.start, path: slice.path, tools });
    filled = run.index + run.count;
  }
  if (filled > 0) await endFrame();
  return units;
}

/** Reads pages that follow each other into their places in the frame, and checks them. */
function readRun(
  fd: number,
  options: { run: FrameRun; firstBlock: number; path: string; tools: CopyTools },
): void {
  const { run, firstBlock, path, tools } = options;
  const { pages, startLsn } = tools;
  const read = (from: number, count: number) =>
    readPages(fd, {
      into: pages.bytes.subarray(from * PAGE_BYTES, (from + count) * PAGE_BYTES),
      page: run.start + from - run.index,
    });
  read(run.index, run.count);
  verifyPages(pages, {
    from: run.index,
    count: run.index + run.count,
    firstBlock: firstBlock - run.index,
    startLsn,
    path,
    reread: (bad) => read(bad, 1),
  });
}

/** Takes a file whole, as long as it is now. */
async function copyBytes(fd: number, tools: CopyTools): Promise<number> {
  const { bytes, sink } = tools;
  let at = 0;
  for (;;) {
    const length = readFully(fd, { into: bytes.subarray(0, FRAME_BYTES_MAX), position: at });
    if (length === 0) return at;
    await sink.add((writer) => writer.addBytes(bytes.subarray(0, length)));
    tools.afterFrame();
    at += length;
    if (length < FRAME_BYTES_MAX) return at;
  }
}

/** Pages that were cut off since the file was listed become zeroes, as in Postgres' own base backups: the log knows. */
function readPages(fd: number, { into, page }: { into: Uint8Array; page: number }): void {
  const length = readFully(fd, { into, position: page * PAGE_BYTES });
  into.fill(0, length - (length % PAGE_BYTES));
}

function readFully(fd: number, { into, position }: { into: Uint8Array; position: number }): number {
  let length = 0;
  while (length < into.length) {
    const count = readSync(fd, into, length, into.length - length, position + length);
    if (count === 0) break;
    length += count;
  }
  return length;
}
