/** What a backup consists of, as SHOW BACKUP FILES and RANGES list it. Runs in a bulk worker: a large backup's tables are large. */
import { formatLsn, required } from '../../base/index.ts';
import { PAGE_BYTES } from '../../pg/index.ts';
import { openManifest } from '../collection/completed.ts';
import { openCollection } from '../collection/open.ts';
import { checkManifest } from '../format/check-manifest.ts';
import type { Manifest, ManifestWal } from '../format/manifest.ts';
import { readManifest } from '../format/manifest-file.ts';
import { FILE_KIND } from '../format/manifest-tables.ts';
import type { PublishTools } from '../publish/publish.ts';
import type { BackupFile, BackupFiles, BackupPosition, BackupRange, ListFilesRequest } from './contract.ts';

/** A part of a relation's file name that tells which fork or which gigabyte it is. */
const FORK_AND_SEGMENT = /^(base\/\d+\/\d+|global\/\d+)(?:_(?:fsm|vm|init))?(?:\.\d+)?$/;

/** @throws AppError `backup_not_found`, `backup_untrusted`, `format_unsupported`, CorruptError */
export async function listBackupFiles(
  { collection, subdirectory, key }: ListFilesRequest,
  tools: Pick<PublishTools, 'rng' | 'signal'>,
): Promise<BackupFiles> {
  const store = openCollection(collection, tools);
  const { chunks, name } = await openManifest(store, { subdirectory, signal: tools.signal });
  const manifest = await readManifest(chunks, { key, name });
  checkManifest(manifest, name);
  return { files: [...packsOf(manifest), ...logOf(manifest)], ranges: rangesOf(manifest) };
}

/** What was written with this backup; what it goes on using of older ones is listed with those. */
function packsOf(manifest: Manifest): BackupFile[] {
  const { files, runs, frames, packs, header } = manifest;
  const spans = new Map<number, { begin: BackupPosition; end: BackupPosition; bytes: bigint }>();
  for (const [row, path] of files.paths.entries()) {
    const unitBytes = files.kinds[row] === FILE_KIND.pages ? PAGE_BYTES : 1;
    const first = files.firstRuns[row] ?? 0;
    for (let run = first; run < first + (files.runCounts[row] ?? 0); run++) {
      const pack = frames.packs[runs.frames[run] ?? 0] ?? 0;
      const begin = { path, offset: (runs.starts[run] ?? 0) * unitBytes };
      const bytes = (runs.counts[run] ?? 0) * unitBytes;
      const end = { path, offset: begin.offset + bytes };
      const span = spans.get(pack);
      // Files ascend, and so do the runs of a file.
      if (span === undefined) spans.set(pack, { begin, end, bytes: BigInt(bytes) });
      else Object.assign(span, { end, bytes: span.bytes + BigInt(bytes) });
    }
  }
  return packs.flatMap(({ path, bytes }, pack): BackupFile[] => {
    if (!path.startsWith(`${header.subdirectory}/`)) return [];
    const span = spans.get(pack);
    // All that it holds was changed again before the copy was complete.
    const { begin, end } = span ?? { begin: null, end: null };
    return [{ path, begin, end, sizeBytes: span?.bytes ?? 0n, fileBytes: BigInt(bytes) }];
  });
}

function logOf({ wal, history, header }: Manifest): BackupFile[] {
  const segmentBytes = BigInt(header.engine.walSegmentBytes);
  const own = [...(history?.wal ?? []), ...wal].filter(({ path }) =>
    path.startsWith(`${header.subdirectory}/`),
  );
  return own.map((object: ManifestWal): BackupFile => {
    const beginLsn = object.segmentNo * segmentBytes;
    return {
      path: object.path,
      begin: { lsn: formatLsn(beginLsn as typeof object.endLsn) },
      end: { lsn: formatLsn(object.endLsn) },
      sizeBytes: object.endLsn - beginLsn,
      fileBytes: BigInt(object.bytes),
    };
  });
}

/** One for each relation, all of its forks together, and for each file that is none. */
function rangesOf({ files }: Manifest): BackupRange[] {
  const ranges = new Map<string, { begin: BackupPosition; end: BackupPosition }>();
  for (const [row, path] of files.paths.entries()) {
    const relation = FORK_AND_SEGMENT.exec(path)?.[1] ?? path;
    const end = { path, offset: Number(required(files.lengths[row], 'length of a file')) };
    const range = ranges.get(relation);
    if (range === undefined) ranges.set(relation, { begin: { path, offset: 0 }, end });
    else range.end = end;
  }
  return [...ranges.values()];
}
