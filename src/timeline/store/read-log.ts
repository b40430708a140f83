/** The log of an incarnation as a stream of bytes, from closed and open segments alike, while it is being received. */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { CorruptError, errnoOf, formatLsn, type IncarnationId, type Lsn } from '../../base/index.ts';
import { walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';
import { decodeFrame, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, frameLength } from '../format/frame.ts';
import {
  parseWalObjectHeader,
  WAL_OBJECT_HEADER_BYTES,
  walObjectFrameCount,
  walObjectRawBytes,
} from '../format/wal-object.ts';
import type { IncarnationRecord, TimelineStoreLocation } from '../store-contract.ts';
import { closedSegmentName, openSegmentName, walDirectory } from './layout.ts';
import { begunTimelines, listWalFolder } from './wal-folder.ts';

export interface LogChunk {
  readonly lsn: Lsn;
  /** At most 1 MiB. */
  readonly bytes: Uint8Array;
}

export interface LogSegment {
  readonly timelineId: number;
  readonly segmentNo: bigint;
  readonly segmentBytes: number;
}

/**
 * What the vault holds of an incarnation's log on the way to `timelineId`, from `fromLsn` on: up to `throughLsn`, or as far as it goes. Ends
 * early, without an error, where nothing more was received. Bytes at the very end may not be durable yet: `VaultStatus` tells.
 * @throws CorruptError naming the segment that is damaged, or that is missing between others
 */
export async function* openLog(
  store: TimelineStoreLocation,
  options: {
    readonly record: IncarnationRecord;
    readonly timelineId: number;
    readonly fromLsn: Lsn;
    readonly throughLsn?: Lsn;
    readonly signal: AbortSignal;
  },
): AsyncGenerator<LogChunk> {
  const { record, timelineId, fromLsn, throughLsn, signal } = options;
  const directory = walDirectory(store, record.incarnation);
  const { segmentBytes, segments } = await listWalFolder(directory);
  const newest = segments.at(-1)?.segmentNo;
  if (newest === undefined) return;
  const timelines = begunTimelines(segments, record.timelines);
  let segmentNo = walSegmentNoOf({ lsn: fromLsn, segmentBytes });
  for (; ; segmentNo += 1n) {
    const start = walSegmentStart({ segmentNo, segmentBytes });
    if (throughLsn !== undefined && start >= throughLsn) return;
    const segment = {
      timelineId: timelineOfSegment(timelines, { segmentNo, segmentBytes, timelineMax: timelineId }),
      segmentNo,
      segmentBytes,
    };
    const offset = fromLsn > start ? Number(fromLsn - start) : 0;
    const limit =
      throughLsn === undefined ? segmentBytes : Math.min(segmentBytes, Number(throughLsn - start));
    let end = 0;
    for await (const piece of readSegment(directory, { segment, incarnation: record.incarnation, signal })) {
      end = piece.offset + piece.bytes.length;
      const from = Math.max(offset - piece.offset, 0);
      const until = Math.min(piece.bytes.length, limit - piece.offset);
      if (from >= until) continue;
      yield { lsn: (start + BigInt(piece.offset + from)) as Lsn, bytes: piece.bytes.subarray(from, until) };
    }
    if (end === 0 && segmentNo < newest) {
      throw new CorruptError(`the log segment ${closedSegmentName(segment)} is missing in ${directory}`, {
        hint: 'what was written before it cannot be replayed beyond it: go back to a base after it',
      });
    }
    if (end < segmentBytes) return;
  }
}

/** On which timeline the file of a segment is to be read: the one of a timeline that begins in it holds what is before, too. */
function timelineOfSegment(
  timelines: IncarnationRecord['timelines'],
  options: { readonly segmentNo: bigint; readonly segmentBytes: number; readonly timelineMax: number },
): number {
  const { segmentNo, segmentBytes, timelineMax } = options;
  const begun = timelines.filter(
    ({ timelineId, beginLsn }) =>
      timelineId <= timelineMax && walSegmentNoOf({ lsn: beginLsn, segmentBytes }) <= segmentNo,
  );
  return begun.at(-1)?.timelineId ?? timelines[0]?.timelineId ?? timelineMax;
}

/** The pieces of one segment from its beginning, as far as they are there; nothing when it is missing. @throws CorruptError */
export async function* readSegment(
  directory: string,
  options: {
    readonly segment: LogSegment;
    readonly incarnation: IncarnationId;
    readonly signal: AbortSignal;
  },
): AsyncGenerator<{ readonly offset: number; readonly bytes: Uint8Array }> {
  const { segment } = options;
  const closedPath = join(directory, closedSegmentName(segment));
  const openPath = join(directory, openSegmentName(segment));
  // What is closed between two looks is found by the third.
  for (const path of [closedPath, openPath, closedPath]) {
    await using file = await openIfThere(path);
    if (file === null) continue;
    if (path === openPath) yield* readRaw(file, options);
    else yield* readClosed(file, { ...options, path });
    return;
  }
}

async function* readRaw(
  file: FileHandle,
  { segment, signal }: { readonly segment: LogSegment; readonly signal: AbortSignal },
) {
  for (let offset = 0; offset < segment.segmentBytes; ) {
    signal.throwIfAborted();
    const bytes = new Uint8Array(Math.min(FRAME_BYTES_MAX, segment.segmentBytes - offset));
    const { bytesRead } = await file.read(bytes, 0, bytes.length, offset);
    if (bytesRead === 0) return;
    yield { offset, bytes: bytes.subarray(0, bytesRead) };
    offset += bytesRead;
  }
}

async function* readClosed(
  file: FileHandle,
  options: {
    readonly path: string;
    readonly segment: LogSegment;
    readonly incarnation: IncarnationId;
    readonly signal: AbortSignal;
  },
) {
  const { path, segment, incarnation, signal } = options;
  let at = 0;
  const take = async (length: number) => {
    const bytes = new Uint8Array(length);
    for (let got = 0; got < length; ) {
      const { bytesRead } = await file.read(bytes, got, length - got, at);
      if (bytesRead === 0) throw new CorruptError(`${path} is damaged: it ends too early`);
      got += bytesRead;
      at += bytesRead;
    }
    return bytes;
  };
  const header = parseWalObjectHeader(await take(WAL_OBJECT_HEADER_BYTES), path);
  const isRight =
    header.timelineId === segment.timelineId &&
    header.segmentNo === segment.segmentNo &&
    header.segmentBytes === segment.segmentBytes &&
    header.incarnation === incarnation;
  if (!isRight) {
    const { timelineId, endLsn } = header;
    throw new CorruptError(
      `${path} holds the log of another segment: of ${header.incarnation}, timeline ${timelineId}, up to ${formatLsn(endLsn)}`,
    );
  }
  let offset = 0;
  for (let index = 0; index < walObjectFrameCount(header); index++) {
    signal.throwIfAborted();
    const head = await take(FRAME_HEADER_BYTES);
    const payload = await take(frameLength(head, path) - FRAME_HEADER_BYTES);
    const content = decodeFrame(Buffer.concat([head, payload]), path);
    const length = Math.min(FRAME_BYTES_MAX, walObjectRawBytes(header) - offset);
    if (content.kind !== 'bytes' || content.bytes.length !== length) {
      throw new CorruptError(`${path} is damaged: a frame has a wrong length`);
    }
    yield { offset, bytes: content.bytes };
    offset += length;
  }
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}
