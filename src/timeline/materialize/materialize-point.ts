/** Writes the data directory of any moment that the timeline store holds, ready to be recovered. Runs in a bulk worker. */
import { AppError, formatLsn, formatTimestamp } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import { completed, openManifest } from '../collection/reader.ts';
import { openCollection } from '../collection/open.ts';
import { baseSummaryOf } from '../collection/summary.ts';
import type { CollectionLocation } from '../contract.ts';
import { type ManifestHead, readManifestHead } from '../format/manifest-file.ts';
import type {
  BaseSummary,
  MaterializePointRequest,
  PointResult,
  TimelineStoreLocation,
} from '../store-contract.ts';
import { basesDirectory } from '../store/layout.ts';
import { isOnTheWay, type LogStretch, stretchesTo } from '../store/lineage.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { type MaterializeTools, openImage, startThreads, writeDirectory } from './materialize.ts';
import { emptyDirectory, takeOver } from './target-directory.ts';
import { VaultLog } from './vault-log.ts';

/**
 * From the newest base that leads to the point, and the log of its lineage. Run again after a crash it begins anew; when it fails, the
 * directory is left empty.
 * @throws AppError `time_outside_window` when no base leads there
 * @throws CorruptError when what is stored is not what was written, or lacks a piece
 */
export async function runMaterializePoint(
  request: MaterializePointRequest,
  tools: MaterializeTools,
): Promise<PointResult> {
  const { targetDirectory } = request;
  const progress = { hasBegun: false };
  try {
    return await materialize(request, { tools, onBegin: () => (progress.hasBegun = true) });
  } catch (error) {
    // Nobody writes any more. The first failure is the one to tell.
    if (progress.hasBegun) await emptyDirectory(targetDirectory).catch(() => undefined);
    throw error;
  }
}

async function materialize(
  request: MaterializePointRequest,
  { tools, onBegin }: { tools: MaterializeTools; onBegin: () => void },
): Promise<PointResult> {
  const { store: location, point, key, targetDirectory, uid } = request;
  const collection = basesCollection(location);
  const store = openCollection(collection, tools);
  await using pool = startThreads({ collection, targetDirectory }, tools);
  const stretches = stretchesTo(point, request.incarnations);
  const base = await chooseBase(request, { store, stretches, signal: tools.signal });
  const { subdirectory } = base;
  const manifest = await openImage({ subdirectory, key }, { store, signal: tools.signal });
  const log = await VaultLog.plan({
    store: location,
    targetDirectory,
    segmentBytes: manifest.header.engine.walSegmentBytes,
    beginLsn: base.startLsn,
    point,
    stretches: stretches.slice(stretches.findIndex((stretch) => isOnTheWay(base, [stretch]))),
  });
  onBegin();
  const owner = await takeOver(targetDirectory, { uid });
  faultPoint('materialize.after_emptying');
  const writtenBytes = await writeDirectory(request, { pool, manifest, owner, log, tools });
  return { base, recovery: log.recovery, writtenBytes, keptBytes: 0n };
}

/** Bases of a store lie in a folder like any collection's. */
export function basesCollection(location: TimelineStoreLocation): CollectionLocation {
  const directory = basesDirectory(location);
  return { displayUri: directory, directory };
}

/**
 * The newest base that is consistent at or before the point: before that, Postgres would silently show later rows.
 * @throws AppError `time_outside_window`
 */
export async function chooseBase(
  { point, key }: Pick<MaterializePointRequest, 'point' | 'key'>,
  options: { store: BlobStore; stretches: readonly LogStretch[]; signal: AbortSignal },
): Promise<BaseSummary> {
  const { store, stretches, signal } = options;
  let best: BaseSummary | null = null;
  let oldest: BaseSummary | null = null;
  for await (const subdirectory of completed(store, { order: 'ascending', signal })) {
    const { chunks, name } = await openManifest(store, { subdirectory, signal });
    const head: ManifestHead = await readManifestHead(chunks, { key, name });
    const base = baseSummaryOf(head);
    oldest ??= base;
    const isBetter = isOnTheWay(base, stretches) && (best === null || base.stopLsn >= best.stopLsn);
    if (isBetter) best = base;
  }
  if (best !== null) return best;
  const what = `no base leads to position ${formatLsn(point.lsn)} of incarnation ${point.incarnation}`;
  throw new AppError('time_outside_window', what, {
    detail:
      oldest === null ? 'there is no base yet' : `the oldest base is of ${formatTimestamp(oldest.endTime)}`,
    hint: 'SHOW TIMELINE tells what can be restored',
  });
}
