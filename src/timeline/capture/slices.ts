import { PAGE_BYTES } from '../../pg/index.ts';
import type { DataFile } from '../data-directory/list-files.ts';
import type { Slice } from './tasks.ts';

/** Work is handed out in tasks of about this size: small against a disk, large against a message. */
const TASK_BYTES = 16 * 1024 * 1024;
const SLICE_PAGES = TASK_BYTES / PAGE_BYTES;
/** Small files cost by their number rather than their size. */
const TASK_FILES_MAX = 128;

/** Cuts files into tasks, large files first so that the end is not one thread's alone. */
export function* planCopy(files: readonly DataFile[]): Iterable<readonly Slice[]> {
  const numbered = files.map((file, fileNo) => ({ ...file, fileNo }));
  numbered.sort((left, right) => right.bytes - left.bytes);
  let slices: Slice[] = [];
  let bytes = 0;
  for (const slice of numbered.flatMap(cut)) {
    slices.push(slice);
    bytes += slice.pageCount * PAGE_BYTES;
    if (bytes < TASK_BYTES && slices.length < TASK_FILES_MAX) continue;
    yield slices;
    slices = [];
    bytes = 0;
  }
  if (slices.length > 0) yield slices;
}

function cut({ fileNo, path, kind, bytes }: DataFile & { fileNo: number }): Slice[] {
  if (kind === 'bytes') return [{ fileNo, path, kind, firstPage: 0, pageCount: 0 }];
  const pages = bytes / PAGE_BYTES;
  const slices: Slice[] = [];
  for (let firstPage = 0; firstPage < pages; firstPage += SLICE_PAGES) {
    slices.push({ fileNo, path, kind, firstPage, pageCount: Math.min(SLICE_PAGES, pages - firstPage) });
  }
  // An empty file is one too.
  return slices.length > 0 ? slices : [{ fileNo, path, kind, firstPage: 0, pageCount: 0 }];
}
