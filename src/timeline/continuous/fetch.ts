/**
 * Brings log back from a collection into the form of a vault, in a folder of its own: from there everything goes as on the node that it was
 * published from.
 */
import { constants } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import {
  CorruptError,
  formatLsn,
  formatTimestamp,
  type Lsn,
  required,
  type Timestamp,
} from '../../base/index.ts';
import { type BlobStore, readBlob } from '../../blob/index.ts';
import { walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';
import { manifestKey } from '../collection/layout.ts';
import { encodeTimeIndexEntry, encodeTimeIndexHeader, type TimeIndexEntry } from '../format/time-index.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';
import { basesDirectory, openSegmentName, timeIndexName, walDirectory } from '../store/layout.ts';
import type { LogStretch } from '../store/lineage.ts';
import { writeRecord } from '../vault/incarnation-file.ts';
import type { HeldBase } from './held-bases.ts';
import { linesFrom, type WantedPiece, wantedPieces } from './held-log.ts';
import { pieceKey } from './layout.ts';
import { type HeldPresent, isDamage, readPiece, type ReadOptions, usableBases } from './window.ts';

/** A manifest grows with the number of files and frames: this is of a hundred terabytes. */
const MANIFEST_BYTES_MAX = 2 ** 31 - 1;
/** Read ahead, so that one waiting for the next costs little; each is at most 16 MiB. */
const PIECES_AHEAD = 4;

export interface FetchOptions extends ReadOptions {
  readonly present: HeldPresent;
  readonly base: HeldBase;
  /** Null for all there is. */
  readonly time: Timestamp | null;
  readonly into: TimelineStoreLocation;
  readonly onFetched: (fraction: number) => void;
}

/**
 * The manifest of the base and the log from it on, as far as the moment needs it. Its time index has one entry, of the end: what is between is
 * found in the log itself.
 * @throws CorruptError when a piece is not what was published, naming it and, in the hint, the newest moment before it
 */
export async function fetchTimeline(blobs: BlobStore, options: FetchOptions): Promise<void> {
  const { present, base, into, signal } = options;
  const { segmentBytes } = base;
  await putManifest(blobs, options);
  const lines = linesFrom(base, { stretches: present.stretches, segmentBytes });
  for (const record of present.incarnations) {
    await mkdir(walDirectory(into, record.incarnation), { recursive: true, mode: 0o700 });
    await writeRecord(walDirectory(into, record.incarnation), record);
  }
  const wanted = wantedPieces(lines, { held: present.held, time: options.time });
  let done = 0;
  for await (const { line, piece } of readAhead(blobs, { wanted, lines }, options)) {
    signal.throwIfAborted();
    await writePiece(piece.bytes, { line, beginLsn: piece.name.beginLsn, into, segmentBytes });
    options.onFetched(++done / wanted.length);
  }
  await writeEnd(lines, { ...options, last: wanted.at(-1) });
}

async function* readAhead(
  blobs: BlobStore,
  { wanted, lines }: { readonly wanted: readonly WantedPiece[]; readonly lines: readonly LogStretch[] },
  options: FetchOptions,
): AsyncIterable<{ readonly line: LogStretch; readonly piece: Awaited<ReturnType<typeof readPiece>> }> {
  const begin = (index: number) => {
    const next = wanted[index];
    if (next === undefined) return;
    const reading = readPiece(blobs, next.name, options);
    reading.catch(() => undefined); // Whoever awaits it is told.
    ahead.push({ ...next, reading });
  };
  const ahead: (WantedPiece & { readonly reading: ReturnType<typeof readPiece> })[] = [];
  for (let index = 0; index < PIECES_AHEAD; index++) begin(index);
  for (let index = 0; index < wanted.length; index++) {
    const { line, name, reading } = required(ahead.shift(), 'a piece that is being read');
    const piece = await reading.catch(async (error: unknown) => {
      throw isDamage(error)
        ? await damagedPiece(
            blobs,
            { line, before: wanted.slice(0, index), name, lines, cause: error },
            options,
          )
        : error;
    });
    begin(index + PIECES_AHEAD);
    yield { line, piece };
  }
}

/**
 * What somebody needs who has to restore all the same: which object it is, and which moments need nothing of it. That the key is another is ruled
 * out: the manifest of the base was sealed with it.
 */
async function damagedPiece(
  blobs: BlobStore,
  {
    line,
    name,
    before,
    lines,
    cause,
  }: WantedPiece & {
    /** Read already. */
    readonly before: readonly WantedPiece[];
    readonly lines: readonly LogStretch[];
    readonly cause: Error;
  },
  options: FetchOptions,
): Promise<CorruptError> {
  // Log of an earlier life is needed for every moment of the present one. Only what is read ends the reading: pieces of idleness do not.
  const times = before.flatMap(({ line: of, name: { through } }) =>
    of === line && through !== null ? [through] : [],
  );
  const newest = times.reduce<Timestamp | null>(
    (most, time) => (most === null || time > most ? time : most),
    null,
  );
  const time = line === lines.at(-1) ? newest : null;
  const bases = await usableBases(blobs, options);
  const isReached = time !== null && bases.some(({ endTime }) => endTime <= time);
  return new CorruptError(`${pieceKey(name)} in ${blobs.displayUri} is damaged`, {
    cause,
    hint: isReached
      ? `moments up to '${formatTimestamp(time)}' need nothing of it: RESTORE ... AS OF SYSTEM TIME such a moment, or put the object back from a copy`
      : 'no base of the collection leads to a moment before it: put the object back from a copy, or from an older version if the storage keeps them',
  });
}

/** Into the files of the segments that it is of. */
async function writePiece(
  bytes: Uint8Array,
  {
    line,
    beginLsn,
    into,
    segmentBytes,
  }: { line: LogStretch; beginLsn: Lsn; into: TimelineStoreLocation; segmentBytes: number },
): Promise<void> {
  const { incarnation, timelineId } = line;
  // The first piece may have begun before what is needed.
  for (let at = Math.max(0, Number(line.beginLsn - beginLsn)); at < bytes.length; ) {
    const lsn = (beginLsn + BigInt(at)) as Lsn;
    const segment = { timelineId, segmentNo: walSegmentNoOf({ lsn, segmentBytes }), segmentBytes };
    const offset = Number(lsn - walSegmentStart(segment));
    const length = Math.min(bytes.length - at, segmentBytes - offset);
    const path = join(walDirectory(into, incarnation), openSegmentName(segment));
    await using file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    // A disk that is nearly full takes less than it was given, and says so only when asked to take the rest.
    for (let written = 0; written < length; ) {
      const rest = { from: at + written, length: length - written, to: offset + written };
      written += (await file.write(bytes, rest.from, rest.length, rest.to)).bytesWritten;
    }
    at += length;
  }
}

/** The end of what was fetched, and until when nothing had happened behind it. */
async function writeEnd(
  lines: readonly LogStretch[],
  { present, base, into, last }: FetchOptions & { readonly last: WantedPiece | undefined },
): Promise<void> {
  const line = required(lines.at(-1), 'a line that leads to the present');
  const lsn = last?.name.endLsn ?? line.beginLsn;
  if (last !== undefined && last.line !== line) return; // The last life has nothing of its own yet.
  if (lsn <= base.startLsn && line.incarnation === base.incarnation) {
    throw new CorruptError(`the log from ${formatLsn(base.startLsn)} on is missing`);
  }
  const time = present.held.timeAt({ ...line, lsn });
  if (time === null) return;
  const { incarnation, systemIdentifier, timelineId } = line;
  const entry: TimeIndexEntry = { kind: 'idle', timelineId, lsn, time, ownTime: time };
  const header = encodeTimeIndexHeader({ incarnation, systemIdentifier, beginLsn: lsn });
  await using file = await open(join(walDirectory(into, incarnation), timeIndexName(lsn)), 'w', 0o600);
  await file.writeFile(Buffer.concat([header, encodeTimeIndexEntry(entry)]));
}

async function putManifest(blobs: BlobStore, { base, into, signal }: FetchOptions): Promise<void> {
  const key = manifestKey(base.subdirectory);
  const bytes = await readBlob(blobs, key, { bytesMax: MANIFEST_BYTES_MAX, signal });
  await mkdir(join(basesDirectory(into), base.subdirectory), { recursive: true, mode: 0o700 });
  await using file = await open(join(basesDirectory(into), key), 'w', 0o600);
  await file.writeFile(bytes);
}
