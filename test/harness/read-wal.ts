import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lsn } from '../../src/base/index.ts';
import { parseWalSegmentName, type WalSegment } from '../../src/pg/index.ts';

export interface WalSegmentFile extends WalSegment {
  readonly path: string;
  readonly startLsn: Lsn;
}

/** The segments that lie in a `pg_wal`, in order. */
export function walSegmentFiles(folder: string, segmentBytes: number): WalSegmentFile[] {
  return readdirSync(folder)
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .sort()
    .map((name) => {
      const segment = parseWalSegmentName({ name, segmentBytes });
      const startLsn = (segment.segmentNo * BigInt(segmentBytes)) as Lsn;
      return { ...segment, path: join(folder, name), startLsn };
    });
}

/** Bytes of the log of one timeline from a segment's beginning to `endLsn`, piece by piece. */
export function* walBytes(options: {
  folder: string;
  segmentBytes: number;
  timelineId: number;
  beginLsn: Lsn;
  endLsn: Lsn;
}): Generator<Uint8Array> {
  const { folder, segmentBytes, timelineId, beginLsn, endLsn } = options;
  for (const file of walSegmentFiles(folder, segmentBytes)) {
    if (file.timelineId !== timelineId || file.startLsn < beginLsn || file.startLsn >= endLsn) continue;
    const bytes = readFileSync(file.path);
    const left = endLsn - file.startLsn;
    yield left < BigInt(bytes.length) ? bytes.subarray(0, Number(left)) : bytes;
  }
}
