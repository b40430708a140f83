import { CorruptError, type Lsn } from '../../base/index.ts';
import type { PageBuffer } from '../../pg/index.ts';

/** A page read while Postgres writes it may be half old, half new; so often in a row it is not that. */
const REREADS_MAX = 4;
const REREAD_WAIT_MS = 2;

/**
 * Checks the pages of the buffer from `from` up to `count`. A wrong page is read again, since it may have been caught half written.
 * One that was changed since `startLsn` may stay wrong: replay begins there and brings it back whole, for its first change
 * after a backup's start puts all of it into the log. @throws CorruptError naming file and block
 */
export function verifyPages(
  buffer: PageBuffer,
  options: {
    readonly from?: number;
    readonly count: number;
    /** Block number of page 0 of the buffer. */
    readonly firstBlock: number;
    readonly startLsn: Lsn;
    readonly path: string;
    /** Reads one page anew into its place; absent when reading again can change nothing. */
    readonly reread?: (page: number) => void;
  },
): void {
  const { count, firstBlock, startLsn, path, reread } = options;
  let from = options.from ?? 0;
  for (let attempt = 0; ; attempt++) {
    const bad = buffer.firstBadPage({ count, firstBlock, from });
    if (bad === -1) return;
    if (bad > from) attempt = 0;
    from = bad;
    if (buffer.lsn(bad) >= startLsn) {
      from = bad + 1;
      attempt = 0;
    } else if (reread === undefined || attempt === REREADS_MAX) {
      throw new CorruptError(`checksum mismatch in block ${firstBlock + bad} of ${path}`, {
        hint: 'the page is damaged on disk; restore the relation from an earlier backup',
      });
    } else {
      if (attempt > 0) pauseThread(REREAD_WAIT_MS * attempt);
      reread(bad);
    }
    if (from === count) return;
  }
}

function pauseThread(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
