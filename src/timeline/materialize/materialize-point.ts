/** Writes the data directory of any moment that the timeline store holds, ready to be recovered. Runs in a bulk worker. */
import { AppError, formatLsn, formatTimestamp } from '../../base/index.ts';
import { openCollection } from '../collection/open.ts';
import type { BaseSummary, MaterializePointRequest, PointResult } from '../store-contract.ts';
import { BaseIndex } from '../store/base-index.ts';
import { basesCollection } from '../store/bases.ts';
import { heldFrom } from '../store/held-from.ts';
import { isOnTheWay, newestHeldBaseFor, stretchesTo } from '../store/lineage.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { type MaterializeTools, openPart, startThreads, writeDirectory } from './materialize.ts';
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
  // Threads take their time to start, and so does reading the manifests.
  await using pool = startThreads({ collection, targetDirectory }, tools);
  const base = await chooseBase(request, tools);
  const stretches = stretchesTo(point, request.incarnations);
  const { subdirectory } = base;
  const wanted = request.part === undefined ? {} : { part: request.part };
  const { manifest, selection } = await openPart(
    { subdirectory, key, ...wanted },
    { store, signal: tools.signal },
  );
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
  const written = await writeDirectory(request, { pool, manifest, selection, owner, log, tools });
  return { base, recovery: log.recovery, ...written, keptBytes: 0n };
}

/** @throws AppError `time_outside_window` when no base leads to the point */
export async function chooseBase(
  {
    store,
    point,
    key,
    incarnations,
    avoid,
  }: Pick<MaterializePointRequest, 'store' | 'point' | 'key' | 'incarnations' | 'avoid'>,
  tools: Pick<MaterializeTools, 'rng' | 'signal'>,
): Promise<BaseSummary> {
  const bases = await new BaseIndex(tools).bases(store, { key, signal: tools.signal });
  const heldLsn = await heldFrom(store, { point, stretches: stretchesTo(point, incarnations) });
  const best = newestHeldBaseFor(point, { bases, incarnations, avoid, heldLsn });
  if (best !== undefined) return best;
  const oldest = bases[0];
  throw new AppError(
    'time_outside_window',
    `no base leads to position ${formatLsn(point.lsn)} of incarnation ${point.incarnation}`,
    {
      detail:
        oldest === undefined
          ? 'there is no base yet'
          : `the oldest base is of ${formatTimestamp(oldest.endTime)}`,
      hint: 'SHOW TIMELINE tells what can be restored',
    },
  );
}
