import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, type Lsn, required } from '../../base/index.ts';
import {
  countPageEntries,
  firstBlockOf,
  PAGE_BYTES,
  type PageBuffer,
  parseRelationPath,
} from '../../pg/index.ts';
import { verifyPages } from '../data-directory/verify-pages.ts';
import { FRAME_BYTES_MAX, FRAME_PAGES_MAX } from '../format/frame.ts';
import type { FrameSink } from './frame-sink.ts';
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
  const fd = openIfThere(join(tools.dataDirectory, slice.path));
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
    firstPage: slice.firstPage,
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
  const { pages, sink, startLsn } = tools;
  const file = required(parseRelationPath(slice.path), `relation of ${slice.path}`);
  const isCounted = file.fork === 'main';
  const end = slice.firstPage + slice.pageCount;
  for (let page = slice.firstPage; page < end; page += FRAME_PAGES_MAX) {
    const count = Math.min(FRAME_PAGES_MAX, end - page);
    readPages(fd, { into: pages.bytes.subarray(0, count * PAGE_BYTES), page });
    verifyPages(pages, {
      count,
      firstBlock: firstBlockOf(file) + page,
      startLsn,
      path: slice.path,
      reread: (bad) =>
        readPages(fd, {
          into: pages.bytes.subarray(bad * PAGE_BYTES, (bad + 1) * PAGE_BYTES),
          page: page + bad,
        }),
    });
    if (isCounted) for (let at = 0; at < count; at++) countPageEntries(pages.view, at * PAGE_BYTES, counts);
    await sink.add((writer) => writer.addPages(pages, { pageCount: count }));
    tools.afterFrame();
  }
  return slice.pageCount;
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

function openIfThere(path: string): number | null {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}
