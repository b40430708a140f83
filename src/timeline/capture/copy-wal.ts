import { join } from 'node:path';
import { assert, type Lsn } from '../../base/index.ts';
import { formatWalSegmentName, walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';
import { walKey } from '../collection/layout.ts';
import type { CaptureSource } from '../contract.ts';
import type { ManifestWal } from '../format/manifest.ts';
import type { WalObjectHeader } from '../format/wal-object.ts';
import type { ExpectedWal } from '../objects/wal-reader.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { forEachConcurrently } from '../worker/thread-pool.ts';
import type { CapturePool } from './copy-files.ts';

/** The log that a backup needs: from where replay begins to beyond its target. */
export interface WalRange {
  readonly timelineId: number;
  readonly segmentBytes: number;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/** Copies the log, in order of segments; the last one only as far as it is durable. */
export async function copyWal(options: {
  readonly pool: CapturePool;
  readonly source: CaptureSource;
  readonly subdirectory: string;
  readonly attempt: number;
  readonly range: WalRange;
}): Promise<{ readonly wal: readonly ManifestWal[]; readonly expected: readonly ExpectedWal[] }> {
  const { pool, source, subdirectory, attempt, range } = options;
  const headers = walHeaders(range, source);
  const expected: ExpectedWal[] = [];
  await forEachConcurrently(headers.entries(), { concurrency: pool.size }, async ([index, header]) => {
    const segmentName = formatWalSegmentName(header);
    const key = walKey({ subdirectory, attempt, segmentName });
    const path = join(source.dataDirectory, 'pg_wal', segmentName);
    const result = await pool.run({ kind: 'wal', key, path, header });
    assert(result.kind === 'wal', 'log was asked for');
    expected[index] = { key, header, ...result.written };
    faultPoint('capture.after_first_wal_object');
  });
  return { expected, wal: expected.map(walEntry) };
}

function walEntry({ key, bytes, sha256, header }: ExpectedWal): ManifestWal {
  const { timelineId, segmentNo, endLsn } = header;
  return { path: key, bytes, sha256, timelineId, segmentNo, endLsn };
}

function walHeaders(range: WalRange, source: CaptureSource): WalObjectHeader[] {
  const { timelineId, segmentBytes, startLsn, endLsn } = range;
  const headers: WalObjectHeader[] = [];
  let segmentNo = walSegmentNoOf({ lsn: startLsn, segmentBytes });
  for (; walSegmentStart({ segmentNo, segmentBytes }) < endLsn; segmentNo += 1n) {
    const next = walSegmentStart({ segmentNo: segmentNo + 1n, segmentBytes });
    headers.push({
      timelineId,
      segmentNo,
      segmentBytes,
      endLsn: next < endLsn ? next : endLsn,
      systemIdentifier: source.systemIdentifier,
      incarnation: source.incarnation,
    });
  }
  return headers;
}
