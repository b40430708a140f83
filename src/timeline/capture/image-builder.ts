import { assert, required } from '../../base/index.ts';
import { PAGE_BYTES, parseRelationPath } from '../../pg/index.ts';
import type { DataFile } from '../data-directory/list-files.ts';
import { FRAME_BYTES_MAX, FRAME_PAGES_MAX } from '../format/frame.ts';
import { FILE_KIND, type FileTable, type FrameTable, type RunTable } from '../format/manifest-tables.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';
import type { ExpectedFrames } from '../objects/pack-check.ts';
import type { CountsOf, RelationCounts } from './relations.ts';
import { type CopyResult, FRAME_FIELDS, type SliceResult } from './tasks.ts';

/** Mode that every file of a data directory has. */
const FILE_MODE = 0o600;

/** One part of a file that was copied: which frames hold it. */
interface Part {
  readonly firstPage: number;
  readonly units: number;
  readonly firstFrame: number;
}

export interface Image {
  readonly files: FileTable;
  readonly runs: RunTable;
  readonly frames: FrameTable;
  /** Length of all files. */
  readonly bytes: bigint;
}

/** Puts the results of threads, which come in any order, together to the tables of a manifest. */
export class ImageBuilder {
  readonly #files: DataFile[];
  readonly #parts: Part[][];
  readonly #vanished = new Set<number>();
  readonly #counts = new Map<string, RelationCounts>();
  readonly #packNumbers = new GrowingColumns();
  readonly #tags: Uint8Array[] = [];

  constructor(files: readonly DataFile[]) {
    this.#files = [...files];
    this.#parts = files.map(() => []);
  }

  /** Adds a file that was not listed, and returns its number. */
  addFile(file: DataFile): number {
    this.#parts.push([]);
    return this.#files.push(file) - 1;
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

  readonly countsOf: CountsOf = (databaseOid, filenode) => this.#counts.get(`${databaseOid}/${filenode}`);

  /** `packRows` says which row of the manifest's packs a pack's number became. */
  build(packRows: ReadonlyMap<number, number>): Image {
    const order = this.#files.map((_, fileNo) => fileNo).filter((fileNo) => !this.#vanished.has(fileNo));
    order.sort((left, right) => (this.#file(left).path < this.#file(right).path ? -1 : 1));
    const runs = new GrowingColumns();
    const firstRuns: number[] = [];
    const lengths = order.map((fileNo) => {
      firstRuns.push(runs.rows);
      return this.#addRuns(fileNo, runs);
    });
    const { packs: starts, offsets: counts, lengths: frames, crcs: indexes } = runs.columns();
    const columns = this.#packNumbers.columns();
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
      frames: {
        ...columns,
        packs: columns.packs.map((number) => required(packRows.get(number), `row of pack ${number}`)),
        tags: Buffer.concat(this.#tags),
      },
      bytes: lengths.reduce((sum, length) => sum + BigInt(length), 0n),
    };
  }

  #addSlice(slice: SliceResult, firstFrame: number): void {
    if (slice.isVanished) this.#vanished.add(slice.fileNo);
    required(this.#parts[slice.fileNo], 'file of a slice').push({ ...slice, firstFrame });
    const relation = parseRelationPath(this.#file(slice.fileNo).path);
    if (relation?.fork !== 'main') return;
    const key = `${relation.databaseOid}/${relation.filenode}`;
    const sum = this.#counts.get(key) ?? { pages: 0, heapTuples: 0, indexEntries: 0 };
    this.#counts.set(key, {
      pages: sum.pages + slice.units,
      heapTuples: sum.heapTuples + slice.heapTuples,
      indexEntries: sum.indexEntries + slice.indexEntries,
    });
  }

  /** Adds the runs of a file, one for each frame, and returns the file's length. */
  #addRuns(fileNo: number, runs: GrowingColumns): number {
    const isPages = this.#file(fileNo).kind === 'pages';
    const unitsPerFrame = isPages ? FRAME_PAGES_MAX : FRAME_BYTES_MAX;
    const parts = required(this.#parts[fileNo], 'parts of a file').toSorted(
      (a, b) => a.firstPage - b.firstPage,
    );
    let units = 0;
    for (const part of parts) {
      assert(part.firstPage === units || !isPages, 'parts of a file follow each other');
      for (let done = 0; done < part.units; done += unitsPerFrame) {
        const count = Math.min(unitsPerFrame, part.units - done);
        runs.append([part.firstPage + done, count, part.firstFrame + done / unitsPerFrame, 0]);
      }
      units += part.units;
    }
    return units * (isPages ? PAGE_BYTES : 1);
  }

  #file(fileNo: number): DataFile {
    return required(this.#files[fileNo], `file ${fileNo}`);
  }
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
