/** A base that another one builds on: what of each file it holds, and where. */
import { required } from '../../base/index.ts';
import { PAGE_BYTES } from '../../pg/index.ts';
import type { Manifest, ManifestHeader, ManifestPack } from '../format/manifest.ts';
import { FILE_KIND } from '../format/manifest-tables.ts';
import { FRAME_TAG_BYTES } from '../format/pack.ts';
import type { RelationCounts } from './relations.ts';

/** Pages of a file that lie one after the other in one frame of the older base. */
export interface OlderRun {
  readonly start: number;
  readonly count: number;
  readonly frame: number;
  readonly index: number;
}

/** A frame as the manifest of the older base has it. */
export interface OlderFrame {
  readonly pack: number;
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
  readonly tag: Uint8Array;
}

export class OlderBase {
  readonly #manifest: Manifest;
  readonly #rows: ReadonlyMap<string, number>;
  readonly #counts: ReadonlyMap<string, RelationCounts>;

  constructor(manifest: Manifest) {
    this.#manifest = manifest;
    this.#rows = new Map(manifest.files.paths.map((path, row) => [path, row]));
    this.#counts = new Map(manifest.databases.flatMap(countsOfDatabase));
  }

  get header(): ManifestHeader {
    return this.#manifest.header;
  }

  get packs(): readonly ManifestPack[] {
    return this.#manifest.packs;
  }

  get frameCount(): number {
    return this.#manifest.frames.packs.length;
  }

  /** Length in pages of a file of pages, or null when the older base has no such file. */
  pagesOf(path: string): number | null {
    const row = this.#rows.get(path);
    if (row === undefined || this.#manifest.files.kinds[row] !== FILE_KIND.pages) return null;
    return Number(required(this.#manifest.files.lengths[row], 'length of a file')) / PAGE_BYTES;
  }

  /** Where pages `from` up to `end` of a file are, in order. The file has so many. */
  *runsOf(path: string, { from, end }: { readonly from: number; readonly end: number }): Iterable<OlderRun> {
    const { files, runs } = this.#manifest;
    const row = required(this.#rows.get(path), `row of ${path}`);
    const first = required(files.firstRuns[row], 'runs of a file');
    const last = first + required(files.runCounts[row], 'runs of a file');
    for (let run = firstEndingAfter(runs, { first, last, page: from }); run < last; run++) {
      const start = required(runs.starts[run], 'row of runs');
      if (start >= end) return;
      const skipped = Math.max(from - start, 0);
      const count = Math.min(start + required(runs.counts[run], 'row of runs'), end) - start - skipped;
      const index = required(runs.indexes[run], 'row of runs') + skipped;
      yield { start: start + skipped, count, frame: required(runs.frames[run], 'row of runs'), index };
    }
  }

  frame(row: number): OlderFrame {
    const { packs, offsets, lengths, crcs, tags } = this.#manifest.frames;
    return {
      pack: required(packs[row], 'row of frames'),
      offset: required(offsets[row], 'row of frames'),
      length: required(lengths[row], 'row of frames'),
      crc: required(crcs[row], 'row of frames'),
      tag: tags.subarray(row * FRAME_TAG_BYTES, (row + 1) * FRAME_TAG_BYTES),
    };
  }

  packOf(frame: number): number {
    return required(this.#manifest.frames.packs[frame], 'row of frames');
  }

  /** How many pages (of files of bytes: stretches as long as a page) the older base uses of each pack. */
  unitsByPack(): Float64Array {
    const { files, runs, frames, packs } = this.#manifest;
    const ends = new Uint32Array(frames.packs.length);
    for (const [row, kind] of files.kinds.entries()) {
      const unit = kind === FILE_KIND.pages ? 1 : PAGE_BYTES;
      const first = files.firstRuns[row] ?? 0;
      for (let run = first; run < first + (files.runCounts[row] ?? 0); run++) {
        const frame = runs.frames[run] ?? 0;
        // Of what was in a frame once only its last used place is known: close enough, since what dies does so anywhere.
        const end = (runs.indexes[run] ?? 0) + Math.ceil((runs.counts[run] ?? 0) / unit);
        if (end > (ends[frame] ?? 0)) ends[frame] = end;
      }
    }
    const units = new Float64Array(packs.length);
    for (const [frame, end] of ends.entries()) {
      const pack = frames.packs[frame] ?? 0;
      units[pack] = (units[pack] ?? 0) + end;
    }
    return units;
  }

  /** What was counted in a relation's main fork; undefined when nobody looked. */
  countsOf(databaseOid: number, filenode: number): RelationCounts | undefined {
    return this.#counts.get(`${databaseOid}/${filenode}`);
  }
}

function countsOfDatabase({ oid, relations }: Manifest['databases'][number]): [string, RelationCounts][] {
  return relations.map(([, filenode, , , kind, , , , pages, entries]) => {
    const isIndex = kind === 'i';
    return [
      `${oid}/${filenode}`,
      { pages, heapTuples: isIndex ? 0 : entries, indexEntries: isIndex ? entries : 0 },
    ];
  });
}

/** The first run of a file that reaches beyond the page: runs are in order, and a file can have very many. */
function firstEndingAfter(
  runs: Manifest['runs'],
  options: { first: number; last: number; page: number },
): number {
  let { first, last } = options;
  while (first < last) {
    const middle = (first + last) >>> 1;
    const end = (runs.starts[middle] ?? 0) + (runs.counts[middle] ?? 0);
    if (end > options.page) last = middle;
    else first = middle + 1;
  }
  return first;
}
