/** What a backup with revision history holds of an earlier moment: an image that leads there, and the log up to it. */
import { AppError, CorruptError, formatTimestamp, type Lsn, type Timestamp } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { commitTimeOf, WalRecordReader, walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';
import { openManifest } from '../collection/completed.ts';
import { checkManifest } from '../format/check-manifest.ts';
import type { Manifest, ManifestHistory, ManifestWal } from '../format/manifest.ts';
import { readManifest } from '../format/manifest-file.ts';
import { readWalObject } from '../objects/wal-reader.ts';

interface AtOptions {
  readonly time: Timestamp;
  readonly store: BlobStore;
  readonly key: ClusterKey;
  readonly signal: AbortSignal;
}

/**
 * As if a backup had been taken at that moment. Replay ends before the first commit that came after it; before the image of this backup was
 * consistent, that of the one it builds on leads there.
 * @throws AppError `parameter_invalid` for a moment that the backup does not cover
 * @throws CorruptError when log is not what was written
 */
export async function manifestAt(manifest: Manifest, options: AtOptions): Promise<Manifest> {
  const { header, history } = manifest;
  const { time } = options;
  if (time === header.endTime) return manifest;
  if (history === undefined || time < history.beginTime || time > header.endTime) {
    throw new AppError(
      'parameter_invalid',
      `backup ${header.subdirectory} does not hold the moment ${formatTimestamp(time)}`,
      { hint: 'SHOW BACKUP shows the end time of each backup' },
    );
  }
  const log = [...history.wal, ...manifest.wal];
  const found = await findCommitAfter(manifest, { ...options, history, log });
  // Nothing was committed between the moment and the end of the backup.
  if (found === null) return { ...manifest, header: { ...header, endTime: time } };
  const image = found.lsn >= header.stopLsn ? manifest : await readOlder(manifest, options);
  return cutAt(image, { found, log, time });
}

/** A commit that must not be replayed, and where its record ends. */
interface FoundCommit {
  readonly lsn: Lsn;
  readonly endLsn: Lsn;
}

function cutAt(
  image: Manifest,
  { found, log, time }: { found: FoundCommit; log: readonly ManifestWal[]; time: Timestamp },
): Manifest {
  const segmentBytes = image.header.engine.walSegmentBytes;
  const bySegment = new Map(log.map((object) => [object.segmentNo, object]));
  const wal: ManifestWal[] = [];
  const first = walSegmentNoOf({ lsn: image.header.startLsn, segmentBytes });
  for (let segmentNo = first; walSegmentStart({ segmentNo, segmentBytes }) < found.endLsn; segmentNo++) {
    // What the older backup has of its last segment goes on in the log of the newer one.
    const object = bySegment.get(segmentNo) ?? image.wal.find((each) => each.segmentNo === segmentNo);
    if (object === undefined) throw new CorruptError(`${image.header.subdirectory} lacks log of its history`);
    wal.push(object);
  }
  const { logEndLsn: _end, ...header } = image.header;
  const { history: _history, ...rest } = image;
  const cut: Manifest = {
    ...rest,
    header: {
      ...header,
      targetLsn: found.lsn,
      walEndLsn: wal.at(-1)?.endLsn ?? header.walEndLsn,
      endTime: time,
    },
    wal,
  };
  checkManifest(cut, `${header.subdirectory} at ${formatTimestamp(time)}`);
  return cut;
}

/** The moment where the history begins has all commits before its position, so only what follows needs to be looked at. */
async function findCommitAfter(
  { header }: Manifest,
  options: AtOptions & { history: ManifestHistory; log: readonly ManifestWal[] },
): Promise<FoundCommit | null> {
  const { time, store, history, log, signal } = options;
  const { walSegmentBytes: segmentBytes, major: engineMajor } = header.engine;
  const { systemIdentifier, incarnation, timelineId } = header;
  const first = walSegmentNoOf({ lsn: history.beginLsn, segmentBytes });
  let found: Lsn | null = null;
  const reader = new WalRecordReader({
    beginLsn: walSegmentStart({ segmentNo: first, segmentBytes }),
    segmentBytes,
    engineMajor,
    timelineId,
    systemIdentifier,
    // The last object ends where its last record does.
    atDamage: 'end',
    onRecord(record) {
      if (found !== null || record.lsn < history.beginLsn || record.lsn >= header.targetLsn) return;
      const committed = commitTimeOf(record);
      if (committed !== null && committed > time) found = record.lsn;
    },
  });
  for (const object of log.filter(({ segmentNo }) => segmentNo >= first)) {
    const { path, bytes, sha256, segmentNo, endLsn } = object;
    const segment = { timelineId, segmentNo, segmentBytes, endLsn, systemIdentifier, incarnation };
    const expected = { key: parseBlobKey(path), bytes, sha256, header: segment };
    await readWalObject(store, expected, { write: (piece) => reader.push(piece), signal });
    if (found !== null && reader.completeLsn > found) return { lsn: found, endLsn: reader.completeLsn };
    const problem = reader.end;
    if (problem !== null && problem.lsn < header.targetLsn) {
      throw new CorruptError(`the log in ${path} ends early: ${problem.reason}`);
    }
  }
  return null;
}

async function readOlder({ header }: Manifest, { store, key, signal }: AtOptions): Promise<Manifest> {
  const subdirectory = header.baseSubdirectory;
  if (subdirectory === null)
    throw new CorruptError(`${header.subdirectory} lacks what its history builds on`);
  const { chunks, name } = await openManifest(store, { subdirectory, signal });
  const older = await readManifest(chunks, { key, name });
  checkManifest(older, name);
  return older;
}
