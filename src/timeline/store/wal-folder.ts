/** What lies in the folder of an incarnation's log. */
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  CorruptError,
  errnoOf,
  type IncarnationId,
  isAppError,
  type Lsn,
  parseIncarnationId,
} from '../../base/index.ts';
import { parseWalPageHeader, parseWalSegmentName, walSegmentStart } from '../../pg/index.ts';
import { parseWalObjectHeader, WAL_OBJECT_HEADER_BYTES, type WalObjectHeader } from '../format/wal-object.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';
import { timeIndexBegin } from './layout.ts';

/** Beginning of a page with a long header. */
const LONG_HEADER_BYTES = 40;
const SEGMENT_NAME = /^([0-9A-F]{24})\.(wal|partial)$/;
const HISTORY_NAME = /^([0-9A-F]{8})\.history$/;

export interface SegmentFile {
  readonly name: string;
  readonly timelineId: number;
  readonly segmentNo: bigint;
  /** Closed segments are whole and compressed; open ones are raw and may end early. */
  readonly isClosed: boolean;
}

export interface WalFolder {
  readonly directory: string;
  /** 0 while there is no segment to tell. */
  readonly segmentBytes: number;
  /** By segment, then by timeline; a segment that is being closed is named once, as closed. */
  readonly segments: readonly SegmentFile[];
  /** Open segments of which there is a closed one already: left-overs. */
  readonly superseded: readonly string[];
  /** Files of the time index, by position. */
  readonly timeIndexes: readonly { readonly name: string; readonly beginLsn: Lsn }[];
  readonly historyTimelines: readonly number[];
}

/** Lives of which there is a folder with log. What is not named after one is not ours, and not used. */
export async function listIncarnations({
  directory,
}: Pick<TimelineStoreLocation, 'directory'>): Promise<readonly IncarnationId[]> {
  const names = await namesIn(join(directory, 'wal'));
  return names.flatMap((name) => {
    try {
      return [parseIncarnationId(name)];
    } catch (error) {
      if (isAppError(error, 'incarnation_malformed')) return [];
      throw error;
    }
  });
}

/** Lists the folder; empty when there is none. */
export async function listWalFolder(directory: string): Promise<WalFolder> {
  const names = await namesIn(directory);
  const segmentNames = names.filter((name) => SEGMENT_NAME.test(name));
  const segmentBytes = await segmentBytesOf(directory, segmentNames);
  const found = segmentNames.map((name): SegmentFile => {
    const { timelineId, segmentNo } = parseWalSegmentName({ name: name.slice(0, 24), segmentBytes });
    return { name, timelineId, segmentNo, isClosed: name.endsWith('.wal') };
  });
  const closed = new Set(found.filter(({ isClosed }) => isClosed).map(({ name }) => name.slice(0, 24)));
  const isSuperseded = ({ name, isClosed }: SegmentFile) => !isClosed && closed.has(name.slice(0, 24));
  return {
    directory,
    segmentBytes,
    segments: found.filter((file) => !isSuperseded(file)).toSorted(compareSegments),
    superseded: found.filter(isSuperseded).map(({ name }) => name),
    timeIndexes: names
      .map((name) => ({ name, beginLsn: timeIndexBegin(name) }))
      .filter((file): file is { name: string; beginLsn: Lsn } => file.beginLsn !== null)
      .toSorted((left, right) => (left.beginLsn < right.beginLsn ? -1 : 1)),
    historyTimelines: names
      .map((name) => HISTORY_NAME.exec(name)?.[1])
      .filter((digits) => digits !== undefined)
      .map((digits) => Number.parseInt(digits, 16)),
  };
}

/**
 * The timelines up to the last one of which something was received; all of them while nothing was. A process may have ended between the record
 * of a timeline and its first byte: then the log still ends on the one before.
 */
export function begunTimelines<T extends { readonly timelineId: number }>(
  segments: readonly Pick<SegmentFile, 'timelineId'>[],
  timelines: readonly T[],
): readonly T[] {
  const received = new Set(segments.map(({ timelineId }) => timelineId));
  const last = timelines.findLastIndex(({ timelineId }) => received.has(timelineId));
  return last === -1 ? timelines : timelines.slice(0, last + 1);
}

/**
 * The segments that lead to the newest one without a gap, oldest first, each followed by the next on its timeline or, where a timeline
 * begins, on that one. What is left out lies before a gap.
 */
export function contiguousRun(
  folder: WalFolder,
  timelines: readonly { readonly timelineId: number; readonly beginLsn: Lsn }[],
): readonly SegmentFile[] {
  const newestTimeline = begunTimelines(folder.segments, timelines).at(-1)?.timelineId;
  const last = folder.segments.findLast(({ timelineId }) => timelineId === newestTimeline);
  if (last === undefined) return [];
  const byPlace = new Map(folder.segments.map((file) => [placeOf(file), file]));
  const run: SegmentFile[] = [];
  for (let file: SegmentFile | undefined = last; file !== undefined; ) {
    run.unshift(file);
    const segmentNo: bigint = file.segmentNo - 1n;
    const index = timelines.findIndex(({ timelineId }) => timelineId === file?.timelineId);
    const beginLsn = timelines[index]?.beginLsn ?? (0n as Lsn);
    const hasBegun = beginLsn < walSegmentStart({ ...file, segmentBytes: folder.segmentBytes });
    const timelineId = hasBegun || index === 0 ? file.timelineId : timelines[index - 1]?.timelineId;
    const before: SegmentFile | undefined = byPlace.get(placeOf({ timelineId: timelineId ?? 0, segmentNo }));
    file = before;
  }
  return run;
}

/** Reads and checks the header of a closed segment. @throws CorruptError, AppError `format_unsupported` */
export async function readClosedHeader(path: string): Promise<WalObjectHeader> {
  return parseWalObjectHeader(await readBeginning(path, WAL_OBJECT_HEADER_BYTES), path);
}

function placeOf({ timelineId, segmentNo }: Pick<SegmentFile, 'timelineId' | 'segmentNo'>): string {
  return `${timelineId}/${segmentNo}`;
}

function compareSegments(left: SegmentFile, right: SegmentFile): number {
  if (left.segmentNo !== right.segmentNo) return left.segmentNo < right.segmentNo ? -1 : 1;
  return left.timelineId - right.timelineId;
}

/** Every segment says how long it is, and all are equally long. */
async function segmentBytesOf(directory: string, names: readonly string[]): Promise<number> {
  let damage: unknown = null;
  for (const name of names) {
    try {
      const path = join(directory, name);
      if (name.endsWith('.wal')) return (await readClosedHeader(path)).segmentBytes;
      const long = parseWalPageHeader(await readBeginning(path, LONG_HEADER_BYTES))?.long;
      if (long) return long.segmentBytes;
    } catch (error) {
      // Collected or closed meanwhile, or damaged: another one tells.
      damage ??= error;
    }
  }
  if (names.every((name) => name.endsWith('.partial'))) return SEGMENT_BYTES_ASSUMED;
  throw new CorruptError(`no segment in ${directory} can be read`, { cause: damage });
}

/** A segment of which hardly anything was received does not tell; all our instances have segments of this size. */
const SEGMENT_BYTES_ASSUMED = 16 * 1024 * 1024;

async function readBeginning(path: string, bytes: number): Promise<Uint8Array> {
  await using file = await open(path, 'r');
  const buffer = new Uint8Array(bytes);
  const { bytesRead } = await file.read(buffer, 0, bytes, 0);
  return buffer.subarray(0, bytesRead);
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
