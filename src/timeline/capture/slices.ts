import { PAGE_BYTES } from '../../pg/index.ts';
import type { DataFile } from '../data-directory/list-files.ts';
import { countPages, eachRange, type PageRanges, wholeRange } from './page-ranges.ts';
import type { Slice } from './tasks.ts';

/** Work is handed out in tasks of about this size: small against a disk, large against a message. */
const TASK_BYTES = 16 * 1024 * 1024;
const SLICE_PAGES = TASK_BYTES / PAGE_BYTES;
/** Small files, and pages here and there, cost by their number rather than their size. */
const TASK_FILES_MAX = 128;
const SLICE_RANGES_MAX = 1024;

/** A file of the new base, and what of it must be read. */
export interface PlannedFile extends DataFile {
  /** Pages to be read; the others are in the older base. Null: the whole file, and nothing else is known of it. */
  readonly changed: PageRanges | null;
}

/** Cuts what must be read into tasks, large files first so that the end is not one thread's alone. */
export function* planCopy(files: readonly PlannedFile[]): Generator<readonly Slice[], undefined> {
  const numbered = files.map((file, fileNo) => ({ ...file, fileNo }));
  numbered.sort((left, right) => bytesToRead(right) - bytesToRead(left));
  let slices: Slice[] = [];
  let bytes = 0;
  for (const slice of numbered.flatMap(cut)) {
    slices.push(slice);
    bytes += countPages(slice.ranges) * PAGE_BYTES;
    if (bytes < TASK_BYTES && slices.length < TASK_FILES_MAX) continue;
    yield slices;
    slices = [];
    bytes = 0;
  }
  if (slices.length > 0) yield slices;
}

/** Of a file as it was listed. */
export function bytesToRead({ bytes, changed }: PlannedFile): number {
  return changed === null ? bytes : countPages(changed) * PAGE_BYTES;
}

function cut({ fileNo, path, kind, bytes, changed }: PlannedFile & { fileNo: number }): Slice[] {
  const whole = kind === 'pages' ? wholeRange(bytes / PAGE_BYTES) : wholeRange(0);
  const pieces = cutRanges(changed ?? whole);
  // A file of nothing is one too, unless the older base has all of it.
  if (pieces.length === 0 && changed === null) pieces.push(whole);
  return pieces.map((ranges) => ({ fileNo, path, kind, ranges }));
}

function cutRanges(ranges: PageRanges): PageRanges[] {
  const pieces: PageRanges[] = [];
  let fields: number[] = [];
  let pages = 0;
  for (const { first, count } of eachRange(ranges)) {
    for (let of = 0; of < count; ) {
      const taken = Math.min(count - of, SLICE_PAGES - pages);
      fields.push(first + of, taken);
      of += taken;
      pages += taken;
      if (pages < SLICE_PAGES && fields.length < 2 * SLICE_RANGES_MAX) continue;
      pieces.push(Uint32Array.from(fields));
      fields = [];
      pages = 0;
    }
  }
  if (fields.length > 0) pieces.push(Uint32Array.from(fields));
  return pieces;
}
