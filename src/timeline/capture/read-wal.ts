import { closeSync, openSync, readSync } from 'node:fs';
import { CorruptError, errnoOf, formatLsn, type Lsn } from '../../base/index.ts';
import { parseWalPageHeader, WAL_PAGE_BYTES, walSegmentStart } from '../../pg/index.ts';
import { FRAME_BYTES_MAX } from '../format/frame.ts';
import type { WalObjectHeader } from '../format/wal-object.ts';
import type { WalSource } from '../objects/wal-writer.ts';

const ZEROES = Buffer.alloc(WAL_PAGE_BYTES);

/**
 * Opens a log segment of a running instance for `writeWalObject`; every page is checked to be the log that belongs there
 * and no recycled segment's. Dispose of it to close the file. @throws CorruptError naming the segment
 */
export function openWalSegment(
  path: string,
  header: WalObjectHeader,
): { readonly read: WalSource } & Disposable {
  const fd = openSegment(path);
  const buffer = new Uint8Array(FRAME_BYTES_MAX);
  let hasEnded = false;
  return {
    read({ offset, length }) {
      const into = buffer.subarray(0, length);
      for (let at = 0; at < length; ) {
        const count = readSync(fd, into, at, length - at, offset + at);
        if (count === 0) throw new CorruptError(`the log segment ${path} is shorter than its log`);
        at += count;
      }
      for (let at = 0; at < length; at += WAL_PAGE_BYTES) {
        const pageStart = (walSegmentStart(header) + BigInt(offset + at)) as Lsn;
        const page = into.subarray(at, at + WAL_PAGE_BYTES);
        // Where Postgres switched to the next segment it leaves the rest of this one zero.
        hasEnded ||= pageStart !== walSegmentStart(header) && isZero(page);
        if (hasEnded ? !isZero(page) : !isPageOf(page, { header, pageStart })) {
          throw new CorruptError(
            `the log page at ${formatLsn(pageStart)} in ${path} is not what belongs there`,
          );
        }
      }
      return into;
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
}

function isPageOf(
  page: Uint8Array,
  { header, pageStart }: { header: WalObjectHeader; pageStart: Lsn },
): boolean {
  const found = parseWalPageHeader(page);
  if (found === null || found.pageStart !== pageStart || found.timelineId !== header.timelineId) return false;
  if (pageStart !== walSegmentStart(header)) return true;
  const { systemIdentifier, segmentBytes } = header;
  return found.long?.systemIdentifier === systemIdentifier && found.long.segmentBytes === segmentBytes;
}

function isZero(bytes: Uint8Array): boolean {
  return ZEROES.subarray(0, bytes.length).equals(bytes);
}

function openSegment(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    throw new CorruptError(`the log segment ${path} is gone`, {
      cause: error,
      hint: 'the log was removed while it was being backed up: raise max_slot_wal_keep_size and try again',
    });
  }
}
