/** Stretches of pages of one file, and how they are laid into frames. */
import { FRAME_PAGES_MAX } from '../format/frame.ts';

/** Pairs of first page and number of pages, ascending, none touching another. */
export type PageRanges = Uint32Array<ArrayBuffer>;

export const NO_PAGES: PageRanges = new Uint32Array(0);

export function wholeRange(pageCount: number): PageRanges {
  return pageCount === 0 ? NO_PAGES : Uint32Array.of(0, pageCount);
}

/** The ranges of pages whose numbers these are, ascending; a number may come twice. */
export function rangesOfPages(pages: Iterable<number>): PageRanges {
  const fields: number[] = [];
  let end = -1;
  for (const page of pages) {
    if (page < end) continue;
    if (page === end) fields[fields.length - 1] = (fields.at(-1) ?? 0) + 1;
    else fields.push(page, 1);
    end = page + 1;
  }
  return Uint32Array.from(fields);
}

/** What is in either. */
export function unionOfRanges(left: PageRanges, right: PageRanges): PageRanges {
  if (left.length === 0) return right;
  if (right.length === 0) return left;
  const fields: number[] = [];
  let end = -1;
  for (const { first, count } of inOrder(left, right)) {
    if (first > end) {
      fields.push(first, count);
      end = first + count;
    } else if (first + count > end) {
      fields[fields.length - 1] = first + count - (fields.at(-2) ?? 0);
      end = first + count;
    }
  }
  return Uint32Array.from(fields);
}

export function countPages(ranges: PageRanges): number {
  let pages = 0;
  for (let at = 1; at < ranges.length; at += 2) pages += ranges[at] ?? 0;
  return pages;
}

export function* eachRange(ranges: PageRanges): Iterable<{ readonly first: number; readonly count: number }> {
  for (let at = 0; at < ranges.length; at += 2) yield { first: ranges[at] ?? 0, count: ranges[at + 1] ?? 0 };
}

/** Pages of one range that lie in one frame. */
export interface FrameRun {
  readonly start: number;
  readonly count: number;
  /** Place of the first one in its frame. */
  readonly index: number;
  /** Number of the frame, from 0. */
  readonly frame: number;
}

/** How ranges lie in frames: one after the other, every frame full but the last. */
export function* frameRuns(ranges: PageRanges): Iterable<FrameRun> {
  let done = 0;
  for (const { first, count: all } of eachRange(ranges)) {
    for (let of = 0; of < all; ) {
      const index = done % FRAME_PAGES_MAX;
      const count = Math.min(all - of, FRAME_PAGES_MAX - index);
      yield { start: first + of, count, index, frame: (done - index) / FRAME_PAGES_MAX };
      of += count;
      done += count;
    }
  }
}

function* inOrder(left: PageRanges, right: PageRanges) {
  const [one, other] = [[...eachRange(left)], [...eachRange(right)]];
  for (let [i, j] = [0, 0]; i < one.length || j < other.length; ) {
    const [a, b] = [one[i], other[j]];
    if (b === undefined || (a !== undefined && a.first <= b.first)) {
      if (a !== undefined) yield a;
      i++;
    } else {
      yield b;
      j++;
    }
  }
}
