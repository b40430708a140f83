/** Writes the data directory of any moment that a continuous backup holds, ready to be recovered. Runs in a bulk worker. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Rng, required, type VirtualClusterId } from '../../base/index.ts';
import { openCollection } from '../collection/open.ts';
import { summaryOf } from '../collection/summary.ts';
import { fetchTimeline } from '../continuous/fetch.ts';
import { readHeldBase } from '../continuous/held-bases.ts';
import { readPresent } from '../continuous/window.ts';
import type { MaterializeRequest, MaterializeResult } from '../contract.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';
import { isOnTheWay, stretchesTo } from '../store/lineage.ts';
import { createTimelineReader } from '../store/reader.ts';
import { faultPoint } from '../worker/fault-point.ts';
import {
  type LogToWrite,
  type MaterializeTools,
  openPart,
  startThreads,
  writeDirectory,
} from './materialize.ts';
import { emptyDirectory, takeOver } from './target-directory.ts';
import { VaultLog } from './vault-log.ts';

/** Inside the directory that is being made: what empties that takes it along. */
const LOG_FOLDER = 'atoll-log';
const PROGRESS_FETCHED = 0.2;

/**
 * From a base of the collection and its log up to `asOf`, or up to its end. Run again after a crash it begins anew; when it fails, the
 * directory is left empty.
 * @throws InputError `time_outside_window` naming the window; CorruptError; AppError `backup_untrusted`
 */
export async function materializeContinuous(
  request: MaterializeRequest,
  tools: MaterializeTools,
): Promise<MaterializeResult> {
  const { targetDirectory, uid } = request;
  const owner = await takeOver(targetDirectory, { uid });
  faultPoint('materialize.after_emptying');
  try {
    return await materialize(request, { owner, tools });
  } catch (error) {
    // The first failure is the one to tell.
    await emptyDirectory(targetDirectory).catch(() => undefined);
    throw error;
  }
}

async function materialize(
  request: MaterializeRequest,
  { owner, tools }: { owner: Awaited<ReturnType<typeof takeOver>>; tools: MaterializeTools },
): Promise<MaterializeResult> {
  const { collection, subdirectory, key, targetDirectory, asOf: time = null } = request;
  const { signal, onProgress } = tools;
  const store = openCollection(collection, tools);
  await using pool = startThreads({ ...request, collection }, tools);
  const present = await readPresent(store, { key, signal });
  const base = await readHeldBase(store, { subdirectory, key, signal });
  const into: TimelineStoreLocation = {
    virtualClusterId: base.virtualClusterId satisfies VirtualClusterId,
    directory: join(targetDirectory, LOG_FOLDER),
  };
  await mkdir(into.directory, { mode: 0o700 });
  const onFetched = (fraction: number) =>
    onProgress({ fraction: PROGRESS_FETCHED * fraction, phase: 'fetching the log' });
  await fetchTimeline(store, { present, base, time, into, key, onFetched, signal });
  const reader = createTimelineReader({ rng: tools.rng satisfies Rng });
  const target = time === null ? ({ kind: 'latest' } as const) : ({ kind: 'time', time } as const);
  const point = await reader.resolve(into, { target, current: present.incarnation, key, signal });
  const stretches = stretchesTo(point, present.incarnations);
  const { manifest, selection } = await openPart({ subdirectory, key }, { store, signal });
  const vaultLog = await VaultLog.plan({
    store: into,
    targetDirectory,
    segmentBytes: base.segmentBytes,
    beginLsn: base.startLsn,
    point,
    stretches: stretches.slice(stretches.findIndex((stretch) => isOnTheWay(base, [stretch]))),
  });
  const log: LogToWrite = {
    bytes: vaultLog.bytes,
    stretches: vaultLog.stretches,
    async write(options) {
      const written = await vaultLog.write(options);
      await rm(into.directory, { recursive: true });
      return written;
    },
  };
  const later = {
    ...tools,
    onProgress: ({ fraction, phase }: { fraction: number; phase: string }) =>
      onProgress({ fraction: PROGRESS_FETCHED + (1 - PROGRESS_FETCHED) * fraction, phase }),
  };
  const written = await writeDirectory(request, { pool, manifest, selection, owner, log, tools: later });
  const { lsn: targetLsn, timelineId, logEndLsn } = vaultLog.recovery;
  const { incarnation } = point;
  const endTime = time ?? required(point.time, 'time of a point');
  return {
    summary: { ...summaryOf(manifest), incarnation, endTime, targetLsn, timelineId, logEndLsn },
    ...written,
  };
}
