/**
 * Takes a data directory back in its own place: what has changed since a base is put back, the rest stays where it is. Runs in a bulk
 * worker. What is done depends on the request and the store alone, never on what the directory holds by now, so that an attempt that was
 * cut off anywhere is simply made again.
 */
import { lstatSync, readdirSync } from 'node:fs';
import { open, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, formatLsn, isAppError, required } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import { firstBlockOf, PAGE_BYTES, parseRelationPath } from '../../pg/index.ts';
import { changesAlong } from '../capture/read-changes.ts';
import { eachRange, rangesOfPages, unionOfRanges } from '../capture/page-ranges.ts';
import type { PageChanges } from '../capture/plan-incremental.ts';
import { openCollection } from '../collection/open.ts';
import { baseSummaryOf } from '../collection/summary.ts';
import { CONTROL_FILE_PATH } from '../data-directory/rules.ts';
import type { Manifest } from '../format/manifest.ts';
import { FILE_KIND, type FileTable } from '../format/manifest-tables.ts';
import type { BaseSummary, PointResult, RewindRequest } from '../store-contract.ts';
import { basesCollection } from '../store/bases.ts';
import { isOnTheWay, type LogStretch, stretchesTo } from '../store/lineage.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { forEachConcurrently } from '../worker/thread-pool.ts';
import { addChangesInThreads } from './changes-in-threads.ts';
import { FileFinisher } from './file-finisher.ts';
import {
  type MaterializePool,
  type MaterializeTools,
  readImage,
  requirePacks,
  startThreads,
  writeRanges,
} from './materialize.ts';
import { type Plan, planMaterialize, type Slice } from './plan.ts';
import {
  foldersOf,
  handOver,
  makeFolders,
  type Owner,
  requireRoom,
  takeOverInPlace,
} from './target-directory.ts';
import { VaultLog } from './vault-log.ts';

/** Kept to the end, for a later attempt learns from them what has changed. */
const SUMMARIES = 'pg_wal/summaries';
/** Files that are removed, at once. */
const REMOVED_AT_ONCE = 8;

/**
 * @throws AppError `time_outside_window` when the base does not lead both to the point and to what the directory holds, `changes_unknown` when
 * neither summaries nor log tell what has changed: then nothing was touched, and materializing beside is the way
 */
export async function runRewind(request: RewindRequest, tools: MaterializeTools): Promise<PointResult> {
  const { store: location, targetDirectory, point } = request;
  const collection = basesCollection(location);
  const store = openCollection(collection, tools);
  await using pool = startThreads({ collection, targetDirectory }, tools);
  const manifest = await readSharedBase(request, { store, signal: tools.signal });
  const base = baseSummaryOf(manifest);
  await requirePacks(manifest, { store, signal: tools.signal });
  const changes = await readChanges(request, { base, manifest, pool, signal: tools.signal });
  const log = await VaultLog.plan({
    store: location,
    targetDirectory,
    segmentBytes: manifest.header.engine.walSegmentBytes,
    beginLsn: base.startLsn,
    point,
    stretches: wayFrom(base, stretchesTo(point, request.incarnations)),
  });
  await requireRoom(targetDirectory, { bytes: log.bytes });
  // From the first change on there is no way back but through the store: what is needed of it must be whole.
  await checkStored({ request, pool, manifest, changes, log });
  faultPoint('rewind.before_first_change');
  const owner = await takeOverInPlace(targetDirectory, request);
  const writtenBytes = await putBack({ request, pool, manifest, changes, log, owner, tools });
  const keptBytes = manifest.header.totals.bytes - writtenBytes.image;
  return {
    base,
    recovery: log.recovery,
    writtenBytes: writtenBytes.image + writtenBytes.log,
    keptBytes: keptBytes > 0n ? keptBytes : 0n,
  };
}

/** @throws AppError `time_outside_window` when the base is gone, or does not lead both to the point and to what the directory holds */
async function readSharedBase(
  request: RewindRequest,
  options: { store: BlobStore; signal: AbortSignal },
): Promise<Manifest> {
  const { point, current, key, incarnations, baseSubdirectory: subdirectory } = request;
  const ways = [stretchesTo(current, incarnations), stretchesTo(point, incarnations)];
  let reason: unknown;
  try {
    const manifest = await readImage({ subdirectory, key }, options);
    const base = baseSummaryOf(manifest);
    if (ways.every((way) => isOnTheWay(base, way))) return manifest;
  } catch (error) {
    // One whose manifest is damaged is none: there is another way.
    if (!isAppError(error, 'backup_not_found', 'data_corrupt')) throw error;
    reason = error;
  }
  throw new AppError(
    'time_outside_window',
    `base ${subdirectory} does not lead both to position ${formatLsn(point.lsn)} of incarnation ${point.incarnation} and to the present`,
    { cause: reason, hint: 'SHOW TIMELINE tells what can be restored' },
  );
}

function wayFrom(base: BaseSummary, stretches: readonly LogStretch[]): readonly LogStretch[] {
  return stretches.slice(stretches.findIndex((stretch) => isOnTheWay(base, [stretch])));
}

/** What the present life has changed since the base was begun, in all of its ancestors. @throws AppError `changes_unknown` */
async function readChanges(
  { store, current, incarnations, targetDirectory }: RewindRequest,
  {
    base,
    manifest,
    pool,
    signal,
  }: { base: BaseSummary; manifest: Manifest; pool: MaterializePool; signal: AbortSignal },
): Promise<PageChanges> {
  const changes = await changesAlong({
    source: { dataDirectory: targetDirectory, incarnation: current.incarnation },
    timeline: store,
    incarnations,
    stretches: wayFrom(base, stretchesTo(current, incarnations)),
    fromLsn: base.startLsn,
    segmentBytes: manifest.header.engine.walSegmentBytes,
    // An earlier attempt may have put the log of another life there.
    hasOwnLog: false,
    addLogChangesOf({ incarnation }) {
      const record = incarnations.find((each) => each.incarnation === incarnation);
      return record && addChangesInThreads(pool, { timeline: store, record });
    },
    signal,
  });
  if (changes.kind === 'known') return changes.pages;
  throw new AppError('changes_unknown', changes.reason, {
    hint: 'the whole directory can be made anew beside it',
  });
}

async function checkStored(
  options: Pick<PutBack, 'request' | 'pool' | 'manifest' | 'changes' | 'log'>,
): Promise<void> {
  const { request, pool, manifest, changes, log } = options;
  const { files } = manifest;
  const { lengths } = lookThrough(request.targetDirectory, { files, uid: request.uid });
  const wanted = (run: Slice & { readonly file: number }) => wantedOf(run, { files, lengths, changes });
  const plan = planMaterialize(manifest, { key: request.key, wanted, isCheck: true });
  for (const ranges of [plan.ranges(), plan.controlRanges()]) {
    await forEachConcurrently(ranges, { concurrency: pool.size }, async ({ task }) => {
      await pool.run(task);
    });
  }
  await log.check({ pool });
}

interface PutBack {
  readonly request: RewindRequest;
  readonly pool: MaterializePool;
  readonly manifest: Manifest;
  readonly changes: PageChanges;
  readonly log: VaultLog;
  readonly owner: Owner;
  readonly tools: MaterializeTools;
}

async function putBack(options: PutBack): Promise<{ readonly image: bigint; readonly log: bigint }> {
  const { request, pool, manifest, changes, log, owner, tools } = options;
  const { targetDirectory, key } = request;
  const { files } = manifest;
  // Without it no server starts on what is neither the one nor the other.
  await rm(join(targetDirectory, CONTROL_FILE_PATH), { force: true });
  await syncFolder(join(targetDirectory, 'global'));
  faultPoint('rewind.after_control_file_removed');
  const lengths = await clearAway(targetDirectory, { files, uid: request.uid });
  faultPoint('rewind.after_clearing');
  const folders = foldersOf(files.paths);
  await makeFolders(targetDirectory, { folders, owner, isInPlace: true });
  const wanted = (run: Slice & { readonly file: number }) => wantedOf(run, { files, lengths, changes });
  const plan = planMaterialize(manifest, { key, wanted, isInPlace: true });
  const targets = plan.targetCounts();
  await using finisher = new FileFinisher({ directory: targetDirectory, owner, files, targets });
  for (const row of rowsToCut(files, { targets, lengths })) finisher.addUnwritten(row);
  let image = await writePlanned(plan.ranges(), { ...options, finisher, fault: 'rewind.after_first_task' });
  faultPoint('rewind.before_log');
  const logBytes = await log.write({ pool, finisher });
  await writeFile(join(targetDirectory, 'backup_label'), manifest.header.backupLabel, { mode: 0o600 });
  finisher.addOther('backup_label');
  faultPoint('rewind.before_control_file');
  image += await writePlanned(plan.controlRanges(), { ...options, finisher });
  tools.onProgress({ fraction: 0.95, phase: 'syncing' });
  await finisher.settle();
  faultPoint('rewind.before_summaries_removed');
  await emptyFolder(join(targetDirectory, SUMMARIES), () => true);
  await handOver(targetDirectory, { folders, owner });
  faultPoint('rewind.after_sync');
  return { image, log: logBytes };
}

function writePlanned(
  ranges: ReturnType<Plan['ranges']>,
  options: PutBack & { finisher: FileFinisher; fault?: Parameters<typeof faultPoint>[0] },
): Promise<bigint> {
  const { pool, manifest, finisher, tools, fault } = options;
  const total = manifest.header.totals.bytes;
  return writeRanges({ pool, ranges, total, finisher, tools, ...(fault === undefined ? {} : { fault }) });
}

/**
 * Which pages of a run are put back. Of relations' main forks those that changed and those that are not there; of everything else all: a
 * change of the heap clears bits of the visibility map without naming its page in the log, and what is no relation is small.
 */
function wantedOf(
  { file, start, count }: Slice & { readonly file: number },
  {
    files,
    lengths,
    changes,
  }: { files: FileTable; lengths: ReadonlyMap<string, number>; changes: PageChanges },
): readonly Slice[] {
  const path = required(files.paths[file], 'path of a file');
  const relation = files.kinds[file] === FILE_KIND.pages ? parseRelationPath(path) : null;
  const present = lengths.get(path);
  if (relation === null || relation.fork !== 'main' || present === undefined) return [{ start, count }];
  const firstBlock = firstBlockOf(relation) + start;
  const blocks = changes.changedBlocks(relation, { beginBlock: firstBlock, endBlock: firstBlock + count });
  const changed = rangesOfPages(relativeTo(firstBlock, blocks));
  const presentPages = Math.min(Math.max(Math.floor(present / PAGE_BYTES) - start, 0), count);
  const ranges =
    presentPages === count
      ? changed
      : unionOfRanges(changed, Uint32Array.of(presentPages, count - presentPages));
  return Array.from(eachRange(ranges), ({ first, count: pages }) => ({ start: start + first, count: pages }));
}

function* relativeTo(firstBlock: number, blocks: Iterable<number>): Iterable<number> {
  for (const block of blocks) yield block - firstBlock;
}

/** Files of which nothing is written and that have another length than they should. */
function* rowsToCut(
  files: FileTable,
  { targets, lengths }: { targets: Uint32Array; lengths: ReadonlyMap<string, number> },
): Iterable<number> {
  for (const [row, path] of files.paths.entries()) {
    if (targets[row] === 0 && lengths.get(path) !== Number(files.lengths[row] ?? 0n)) yield row;
  }
}

/**
 * Finds everything that the base does not have, summaries excepted: files made since, log, slots, what a server keeps for its own run,
 * links. And the lengths of what is left, by path: a file that is not its owner's yet counts as not there, for an attempt that was cut off
 * had begun it.
 */
function lookThrough(
  directory: string,
  { files, uid }: { readonly files: FileTable; readonly uid: number | null },
): { readonly foreign: readonly string[]; readonly lengths: ReadonlyMap<string, number> } {
  const kept = new Set(files.paths);
  const folders = new Set(foldersOf(files.paths));
  const lengths = new Map<string, number>();
  const foreign: string[] = [];
  // Thousands of short answers of the kernel's: to wait for each would take most of the time.
  const look = (folder: string): void => {
    for (const name of readdirSync(join(directory, folder))) {
      const path = folder === '' ? name : `${folder}/${name}`;
      if (path === SUMMARIES) continue;
      const status = lstatSync(join(directory, path));
      if (status.isDirectory() && folders.has(path)) look(path);
      else if (!status.isFile() || !kept.has(path)) foreign.push(path);
      else if (uid === null || status.uid === uid) lengths.set(path, status.size);
    }
  };
  look('');
  return { foreign, lengths };
}

async function clearAway(
  directory: string,
  of: { readonly files: FileTable; readonly uid: number | null },
): Promise<ReadonlyMap<string, number>> {
  const { foreign, lengths } = lookThrough(directory, of);
  // Not durable before the end: what comes back in a power cut is found again by the next attempt.
  await forEachConcurrently(foreign, { concurrency: REMOVED_AT_ONCE }, (path) =>
    rm(join(directory, path), { recursive: true, force: true }),
  );
  return lengths;
}

async function emptyFolder(path: string, isRemoved: (name: string) => boolean): Promise<void> {
  for (const name of (await readdir(path)).filter(isRemoved)) await rm(join(path, name), { force: true });
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r');
  await folder.sync();
}
