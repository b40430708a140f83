import { assert, required } from '../../base/index.ts';
import { PAGE_BYTES, parseRelationPath, type RelationFile } from '../../pg/index.ts';
import type { DataFile } from '../data-directory/list-files.ts';
import { FRAME_BYTES_MAX } from '../format/frame.ts';
import type { ManifestPack } from '../format/manifest.ts';
import { FILE_KIND, type FileTable, type FrameTable, type RunTable } from '../format/manifest-tables.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';
import type { ExpectedFrames } from '../objects/pack-check.ts';
import type { OlderBase } from './older-base.ts';
import { countPages, frameRuns, type PageRanges } from './page-ranges.ts';
import type { CountsOf, RelationCounts } from './relations.ts';
import { bytesToRead, type PlannedFile } from './slices.ts';
import { type CopyResult, FRAME_FIELDS, type NumberedPack, type SliceResult } from './tasks.ts';

/** Mode that every file of a data directory has. */
const FILE_MODE = 0o600;
const NOTHING_COUNTED: RelationCounts = { pages: 0, heapTuples: 0, indexEntries: 0 };
/** Of a frame that has no row yet. */
const NO_ROW = 0xffff_ffff;

/** One part of a file that was copied: which frames hold it. */
interface Part {
  readonly ranges: PageRanges;
  readonly units: number;
  readonly firstFrame: number;
}

/** A file that was copied whole, and what was counted in it. */
export interface WholeFile {
  readonly fileNo: number;
  readonly relation: RelationFile;
  readonly counts: RelationCounts;
}

export interface Image {
  readonly files: FileTable;
  readonly runs: RunTable;
  readonly frames: FrameTable;
  /** Packs that were written now come first, then those of older bases that hold something of this one. */
  readonly packs: readonly ManifestPack[];
  /** Length of all files. */
  readonly bytes: bigint;
}

/**
 * Puts the results of threads, which come in any order, together to the tables of a manifest. What was not read, because it
 * did not change, stays where the older base has it.
 */
export class ImageBuilder {
  readonly #files: PlannedFile[];
  readonly #older: OlderBase | null;
  readonly #parts: Part[][];
  readonly #vanished = new Set<number>();
  readonly #counts = new Map<string, RelationCounts>();
  /** The same of each file. */
  readonly #fileCounts = new Map<number, RelationCounts>();
  /** Pages of main forks, also those that were not read. */
  readonly #pages = new Map<string, number>();
  readonly #packNumbers = new GrowingColumns();
  readonly #tags: Uint8Array[] = [];

  constructor(files: readonly PlannedFile[], { older }: { readonly older: OlderBase | null }) {
    this.#files = [...files];
    this.#older = older;
    this.#parts = files.map(() => []);
    for (const { path, bytes } of files) {
      const relation = parseRelationPath(path);
      if (relation?.fork !== 'main') continue;
      const key = keyOf(relation);
      this.#pages.set(key, (this.#pages.get(key) ?? 0) + bytes / PAGE_BYTES);
    }
  }

  /** Adds a file that was not listed, and returns its number. */
  addFile(file: DataFile): number {
    this.#parts.push([]);
    return this.#files.push({ ...file, changed: null }) - 1;
  }

  /** Pages of relations that were read. */
  get pagesRead(): number {
    const pages = this.#parts.map((parts, fileNo) =>
      this.#file(fileNo).kind === 'pages' ? parts.reduce((sum, { units }) => sum + units, 0) : 0,
    );
    return pages.reduce((sum, each) => sum + each, 0);
  }

  add(result: CopyResult): void {
    let frame = this.#packNumbers.rows;
    for (const slice of result.slices) {
      this.#addSlice(slice, frame);
      frame += slice.frameCount;
    }
    this.#packNumbers.append(result.frames);
    this.#tags.push(result.tags);
    assert(frame === this.#packNumbers.rows, 'every frame belongs to a slice');
  }

  /** Frames of one pack, in the order of their offsets: a thread adds to its packs one after the other. */
  framesByPack(): ReadonlyMap<number, ExpectedFrames> {
    const { packs, offsets, lengths, crcs } = this.#packNumbers.columns();
    const tags = Buffer.concat(this.#tags);
    const rowsOf = Map.groupBy(packs.keys(), (row) => required(packs[row], 'pack of a frame'));
    const select = (rows: readonly number[], column: Uint32Array) =>
      Uint32Array.from(rows, (row) => column[row] ?? 0);
    return new Map(
      rowsOf.entries().map(([pack, rows]) => [
        pack,
        {
          offsets: select(rows, offsets),
          lengths: select(rows, lengths),
          crcs: select(rows, crcs),
          tags: Buffer.concat(
            rows.map((row) => tags.subarray(row * FRAME_TAG_BYTES, (row + 1) * FRAME_TAG_BYTES)),
          ),
        },
      ]),
    );
  }

  /** Of pages that were not read, what the older base counted on average. */
  readonly countsOf: CountsOf = (databaseOid, filenode) => {
    const key = `${databaseOid}/${filenode}`;
    const read = this.#counts.get(key) ?? NOTHING_COUNTED;
    const pages = this.#pages.get(key);
    if (pages === undefined) return undefined;
    return this.#withOlder({ databaseOid, filenode }, { read, pages });
  };

  #withOlder(
    { databaseOid, filenode }: Pick<RelationFile, 'databaseOid' | 'filenode'>,
    { read, pages }: { readonly read: RelationCounts; readonly pages: number },
  ): RelationCounts {
    const older = this.#older?.countsOf(databaseOid, filenode);
    if (older === undefined || older.pages === 0) return { ...read, pages };
    const share = Math.max(0, pages - read.pages) / older.pages;
    return {
      pages,
      heapTuples: read.heapTuples + Math.round(older.heapTuples * share),
      indexEntries: read.indexEntries + Math.round(older.indexEntries * share),
    };
  }

  /**
   * Main forks of databases' relations of which nothing is still to be read: what a later attempt need not read again unless it changes. All
   * other files it reads anyway.
   */
  wholeFiles(): readonly WholeFile[] {
    return this.#files.flatMap((file, fileNo): WholeFile[] => {
      const relation = parseRelationPath(file.path);
      const isKept = relation?.fork === 'main' && relation.databaseOid !== 0 && !this.#vanished.has(fileNo);
      if (!isKept || file.kind !== 'pages') return [];
      const parts = required(this.#parts[fileNo], 'parts of a file');
      const pagesAsked = parts.reduce((sum, { ranges }) => sum + countPages(ranges), 0);
      if (pagesAsked * PAGE_BYTES < bytesToRead(file)) return [];
      const read = this.#fileCounts.get(fileNo) ?? NOTHING_COUNTED;
      const counts = this.#withOlder(relation, { read, pages: file.bytes / PAGE_BYTES });
      return [{ fileNo, relation, counts }];
    });
  }

  /** The tables, given the packs that were written; of all files, or of these. */
  build(written: readonly NumberedPack[], files: readonly number[] = [...this.#files.keys()]): Image {
    const order = files.filter((fileNo) => !this.#vanished.has(fileNo));
    order.sort((left, right) => (this.#file(left).path < this.#file(right).path ? -1 : 1));
    const older = new OlderFrames(this.#older, {
      firstFrame: this.#packNumbers.rows,
      firstPack: written.length,
    });
    const runs = new GrowingColumns();
    const firstRuns: number[] = [];
    const lengths = order.map((fileNo) => {
      firstRuns.push(runs.rows);
      return this.#addRuns(fileNo, { runs, older });
    });
    const { packs: starts, offsets: counts, lengths: frames, crcs: indexes } = runs.columns();
    return {
      files: {
        paths: order.map((fileNo) => this.#file(fileNo).path),
        lengths: BigUint64Array.from(lengths, BigInt),
        kinds: Uint8Array.from(order, (fileNo) => FILE_KIND[this.#file(fileNo).kind]),
        modes: new Uint16Array(order.length).fill(FILE_MODE),
        firstRuns: Uint32Array.from(firstRuns),
        runCounts: Uint32Array.from(firstRuns, (first, index) => (firstRuns[index + 1] ?? runs.rows) - first),
      },
      runs: { starts, counts, frames, indexes: Uint16Array.from(indexes) },
      frames: this.#frames(written, older),
      packs: [...written.map(packEntry), ...older.packs],
      bytes: lengths.reduce((sum, length) => sum + BigInt(length), 0n),
    };
  }

  /** Frames that were written now, then those of older bases. */
  #frames(written: readonly NumberedPack[], older: OlderFrames): FrameTable {
    const rowOf = new Map(written.map(({ number }, row) => [number, row]));
    const own = this.#packNumbers.columns();
    const others = older.columns.columns();
    const both = (ours: Uint32Array, theirs: Uint32Array) => {
      const column = new Uint32Array(ours.length + theirs.length);
      column.set(ours);
      column.set(theirs, ours.length);
      return column;
    };
    return {
      packs: both(
        own.packs.map((number) => required(rowOf.get(number), `row of pack ${number}`)),
        others.packs,
      ),
      offsets: both(own.offsets, others.offsets),
      lengths: both(own.lengths, others.lengths),
      crcs: both(own.crcs, others.crcs),
      tags: Buffer.concat([...this.#tags, ...older.tags]),
    };
  }

  #addSlice(slice: SliceResult, firstFrame: number): void {
    if (slice.isVanished) this.#vanished.add(slice.fileNo);
    required(this.#parts[slice.fileNo], 'file of a slice').push({ ...slice, firstFrame });
    const relation = parseRelationPath(this.#file(slice.fileNo).path);
    if (relation?.fork !== 'main') return;
    const key = keyOf(relation);
    this.#counts.set(key, plus(this.#counts.get(key), slice));
    this.#fileCounts.set(slice.fileNo, plus(this.#fileCounts.get(slice.fileNo), slice));
  }

  /** Adds the runs of a file and returns the file's length. */
  #addRuns(fileNo: number, tables: { runs: GrowingColumns; older: OlderFrames }): number {
    const file = this.#file(fileNo);
    const parts = required(this.#parts[fileNo], 'parts of a file');
    if (file.kind === 'bytes') return addRunsOfBytes(parts, tables);
    const read = parts
      .flatMap(({ ranges, firstFrame }) =>
        Array.from(frameRuns(ranges), (run) => ({ ...run, frame: firstFrame + run.frame })),
      )
      .toSorted((left, right) => left.start - right.start);
    let covered = 0;
    for (const { start, count, frame, index } of read) {
      this.#addOlderRuns(file, { from: covered, end: start }, tables);
      tables.runs.append([start, count, frame, index]);
      covered = start + count;
    }
    const pages = file.bytes / PAGE_BYTES;
    this.#addOlderRuns(file, { from: covered, end: pages }, tables);
    return pages * PAGE_BYTES;
  }

  #addOlderRuns(
    { path, changed }: PlannedFile,
    range: { from: number; end: number },
    { runs, older }: { runs: GrowingColumns; older: OlderFrames },
  ): void {
    if (range.from === range.end) return;
    assert(changed !== null && this.#older !== null, `all of ${path} was to be read`);
    let covered = range.from;
    for (const { start, count, frame, index } of this.#older.runsOf(path, range)) {
      assert(start === covered, `the older base has all pages of ${path} that were not read`);
      runs.append([start, count, older.rowOf(frame), index]);
      covered += count;
    }
    assert(covered === range.end, `the older base has all pages of ${path} that were not read`);
  }

  #file(fileNo: number): PlannedFile {
    return required(this.#files[fileNo], `file ${fileNo}`);
  }
}

/** One run for each frame: a file of bytes has one part. */
function addRunsOfBytes(parts: readonly Part[], { runs }: { runs: GrowingColumns }): number {
  let bytes = 0;
  for (const { units, firstFrame } of parts) {
    for (let done = 0; done < units; done += FRAME_BYTES_MAX) {
      runs.append([done, Math.min(FRAME_BYTES_MAX, units - done), firstFrame + done / FRAME_BYTES_MAX, 0]);
    }
    bytes += units;
  }
  return bytes;
}

/** Frames and packs of the older base that the new one goes on using, in the order of first use. */
class OlderFrames {
  readonly columns = new GrowingColumns();
  readonly tags: Uint8Array[] = [];
  readonly packs: ManifestPack[] = [];
  readonly #older: OlderBase | null;
  readonly #first: { readonly firstFrame: number; readonly firstPack: number };
  readonly #rows: Uint32Array;
  readonly #packRows = new Map<number, number>();

  constructor(older: OlderBase | null, first: { readonly firstFrame: number; readonly firstPack: number }) {
    this.#older = older;
    this.#first = first;
    this.#rows = new Uint32Array(older?.frameCount ?? 0).fill(NO_ROW);
  }

  /** Row in the new table of a frame of the older base. */
  rowOf(frame: number): number {
    const known = required(this.#rows[frame], 'frame of the older base');
    if (known !== NO_ROW) return known;
    const { pack, offset, length, crc, tag } = required(this.#older, 'older base').frame(frame);
    const row = this.#first.firstFrame + this.columns.rows;
    this.columns.append([this.#packRowOf(pack), offset, length, crc]);
    this.tags.push(tag);
    this.#rows[frame] = row;
    return row;
  }

  #packRowOf(pack: number): number {
    const known = this.#packRows.get(pack);
    if (known !== undefined) return known;
    const row = this.#first.firstPack + this.packs.length;
    this.packs.push(required(this.#older?.packs[pack], 'pack of the older base'));
    this.#packRows.set(pack, row);
    return row;
  }
}

function plus(sum: RelationCounts = NOTHING_COUNTED, slice: SliceResult): RelationCounts {
  return {
    pages: sum.pages + slice.units,
    heapTuples: sum.heapTuples + slice.heapTuples,
    indexEntries: sum.indexEntries + slice.indexEntries,
  };
}

function keyOf(relation: RelationFile): string {
  return `${relation.databaseOid}/${relation.filenode}`;
}

function packEntry({ key, id, bytes }: NumberedPack): ManifestPack {
  return { path: key, id: Buffer.from(id).toString('hex'), bytes };
}

/** Four columns that grow together, in the order that frames are sent in. */
class GrowingColumns {
  #values = new Uint32Array(4096);
  #length = 0;

  get rows(): number {
    return this.#length / FRAME_FIELDS;
  }

  append(fields: ArrayLike<number>): void {
    const needed = this.#length + fields.length;
    if (needed > this.#values.length) {
      const larger = new Uint32Array(Math.max(needed, this.#values.length * 2));
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values.set(fields, this.#length);
    this.#length = needed;
  }

  columns() {
    const column = (field: number) =>
      Uint32Array.from({ length: this.rows }, (_, row) => this.#values[row * FRAME_FIELDS + field] ?? 0);
    return { packs: column(0), offsets: column(1), lengths: column(2), crcs: column(3) };
  }
}
