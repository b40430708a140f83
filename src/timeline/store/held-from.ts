/** How far back the log is here without a gap, through all lives that lead to a point. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, type IncarnationId, type Lsn } from '../../base/index.ts';
import { walSegmentNoOf, walSegmentStart } from '../../pg/index.ts';
import type { TimelinePoint, TimelineStoreLocation } from '../store-contract.ts';
import { closedSegmentName, openSegmentName, walDirectory } from './layout.ts';
import type { LogStretch } from './lineage.ts';
import { listWalFolder, type WalFolder } from './wal-folder.ts';

/**
 * The lowest position from which replay comes to the point by the log that is here: where a segment begins, or the point itself when the
 * bytes before it are missing. Of each segment the version of the newest life that wrote in it counts: it holds what is before that life, too.
 */
export async function heldFrom(
  store: TimelineStoreLocation,
  { point, stretches }: { point: Pick<TimelinePoint, 'lsn'>; stretches: readonly LogStretch[] },
): Promise<Lsn> {
  const folders = await foldersOf(store, stretches);
  const segmentBytes = Math.max(0, ...folders.values().map((folder) => folder.segmentBytes));
  const beginLsn = stretches[0]?.beginLsn ?? point.lsn;
  if (segmentBytes === 0) return point.lsn;
  let heldLsn = point.lsn;
  while (heldLsn > beginLsn) {
    const segmentNo = walSegmentNoOf({ lsn: (heldLsn - 1n) as Lsn, segmentBytes });
    const endLsn = walSegmentStart({ segmentNo: segmentNo + 1n, segmentBytes });
    const owner = stretches.findLast((stretch) => stretch.beginLsn < endLsn);
    const folder = owner && folders.get(owner.incarnation);
    if (owner === undefined || folder === undefined) break;
    const segment = { timelineId: owner.timelineId, segmentNo, segmentBytes };
    const startLsn = walSegmentStart(segment);
    if (!(await isHeld(folder, { segment, bytes: Number(heldLsn - startLsn) }))) break;
    heldLsn = startLsn;
  }
  return heldLsn;
}

type Folder = WalFolder & { readonly names: ReadonlySet<string> };

async function foldersOf(
  store: TimelineStoreLocation,
  stretches: readonly LogStretch[],
): Promise<ReadonlyMap<IncarnationId, Folder>> {
  const folders = new Map<IncarnationId, Folder>();
  for (const incarnation of new Set(stretches.map((stretch) => stretch.incarnation))) {
    const folder = await listWalFolder(walDirectory(store, incarnation));
    folders.set(incarnation, { ...folder, names: new Set(folder.segments.map(({ name }) => name)) });
  }
  return folders;
}

/** Whether so many bytes from the segment's beginning on are here. */
async function isHeld(
  { directory, names }: Folder,
  { segment, bytes }: { segment: Parameters<typeof openSegmentName>[0]; bytes: number },
): Promise<boolean> {
  const [closed, open] = [closedSegmentName(segment), openSegmentName(segment)];
  if (names.has(closed)) return true;
  if (!names.has(open)) return false;
  // It may have been closed since it was listed.
  return (await sizeOf(join(directory, open))) >= bytes || (await sizeOf(join(directory, closed))) > 0;
}

/** 0 of a file that is not there. */
async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0;
    throw error;
  }
}
