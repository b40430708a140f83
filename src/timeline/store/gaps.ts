import type { Lsn } from '../../base/index.ts';
import { walSegmentStart } from '../../pg/index.ts';
import type { SegmentFile, WalFolder } from './wal-folder.ts';

/** Log that is missing between what is there. */
export interface LogGap {
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
}

/** What is missing before the segments that lead to the newest one; nothing when they are all there are. */
export function gapsOf(
  { segments, segmentBytes }: Pick<WalFolder, 'segments' | 'segmentBytes'>,
  run: readonly Pick<SegmentFile, 'segmentNo'>[],
): readonly LogGap[] {
  const first = run[0];
  if (first === undefined) return [];
  const before = segments.findLast(({ segmentNo }) => segmentNo < first.segmentNo);
  if (before === undefined) return [];
  const fromLsn = walSegmentStart({ segmentNo: before.segmentNo + 1n, segmentBytes });
  return [{ fromLsn, toLsn: walSegmentStart({ segmentNo: first.segmentNo, segmentBytes }) }];
}
