/**
 * Files of an incremental BASE_BACKUP, which hold the pages of one relation file that have changed: `INCREMENTAL.16384` beside where `16384`
 * would lie. Numbers of 32 bits in the byte order of the machine: the magic, how many pages, the truncation length, then the number of each
 * page; padded to whole pages where there are any; then the pages, in that order.
 */
import {
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  fstatSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { CorruptError } from '../../base/index.ts';
import { PAGE_BYTES, parseRelationPath, RELATION_SEGMENT_PAGES } from '../../pg/index.ts';

const MAGIC = 0xd3ae1f0d;
const FIXED_BYTES = 12;
const PREFIX = 'INCREMENTAL.';
/** Pages that are copied at a time. */
const RUN_PAGES_MAX = 64;

export interface IncrementalHeader {
  /** Rising; each within a segment. */
  readonly pages: Uint32Array;
  /** Pages from here on are what the incremental file says, or zeroes; below, what it does not hold is as it was. */
  readonly truncationPages: number;
  /** Of the whole header. */
  readonly bytes: number;
}

/** `base/5/16384` of `base/5/INCREMENTAL.16384`; null for what is no incremental file. */
export function incrementalTarget(path: string): string | null {
  const at = path.lastIndexOf('/') + 1;
  if (!path.startsWith(PREFIX, at)) return null;
  const target = path.slice(0, at) + path.slice(at + PREFIX.length);
  return parseRelationPath(target) === null ? null : target;
}

/** @throws CorruptError */
export function readIncrementalHeader(descriptor: number, path: string): IncrementalHeader {
  const damaged = (what: string) => new CorruptError(`${path} from the source cannot be read: ${what}`);
  const fixed = Buffer.alloc(FIXED_BYTES);
  if (readFully(descriptor, fixed, 0) < FIXED_BYTES) throw damaged('it is too short');
  if (fixed.readUInt32LE(0) !== MAGIC) throw damaged('it is no incremental file');
  const [count, truncationPages] = [fixed.readUInt32LE(4), fixed.readUInt32LE(8)];
  if (count > RELATION_SEGMENT_PAGES || truncationPages > RELATION_SEGMENT_PAGES) {
    throw damaged('it holds more than a segment');
  }
  const unpadded = FIXED_BYTES + count * 4;
  const bytes = count === 0 ? unpadded : Math.ceil(unpadded / PAGE_BYTES) * PAGE_BYTES;
  if (fstatSync(descriptor).size !== bytes + count * PAGE_BYTES) throw damaged('its length is wrong');
  const numbers = Buffer.alloc(count * 4);
  readFully(descriptor, numbers, FIXED_BYTES);
  const pages = Uint32Array.from({ length: count }, (_, at) => numbers.readUInt32LE(at * 4));
  const isRising = pages.every((page, at) => page < RELATION_SEGMENT_PAGES && page > (pages[at - 1] ?? -1));
  if (!isRising) throw damaged('its pages are not in order');
  return { pages, truncationPages, bytes };
}

/**
 * Brings a relation's file to where the incremental one was taken. May be done again after it was cut off. Durable when it returns.
 * @throws CorruptError
 */
export function applyIncremental(incrementalPath: string, { target }: { target: string }): void {
  const from = openSync(incrementalPath, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { pages, truncationPages, bytes: headerBytes } = readIncrementalHeader(from, incrementalPath);
    const to = openSync(target, constants.O_WRONLY | constants.O_NOFOLLOW);
    try {
      const length = Math.max(truncationPages, (pages.at(-1) ?? -1) + 1) * PAGE_BYTES;
      // What was there beyond is of before it was cut off there.
      if (fstatSync(to).size > truncationPages * PAGE_BYTES) ftruncateSync(to, truncationPages * PAGE_BYTES);
      ftruncateSync(to, length);
      const buffer = Buffer.alloc(RUN_PAGES_MAX * PAGE_BYTES);
      for (let at = 0; at < pages.length; ) {
        const run = runLength(pages, at);
        const content = buffer.subarray(0, run * PAGE_BYTES);
        readFully(from, content, headerBytes + at * PAGE_BYTES);
        const position = (pages[at] ?? 0) * PAGE_BYTES;
        for (let done = 0; done < content.length; ) {
          done += writeSync(to, content, done, content.length - done, position + done);
        }
        at += run;
      }
      fsyncSync(to);
    } finally {
      closeSync(to);
    }
  } finally {
    closeSync(from);
  }
}

/** How many pages from `at` on follow each other. */
function runLength(pages: Uint32Array, at: number): number {
  const first = pages[at] ?? 0;
  let count = 1;
  while (count < RUN_PAGES_MAX && pages[at + count] === first + count) count++;
  return count;
}

/** Gives how many bytes there were. */
function readFully(descriptor: number, buffer: Buffer, position: number): number {
  let done = 0;
  while (done < buffer.length) {
    const count = readSync(descriptor, buffer, done, buffer.length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}
