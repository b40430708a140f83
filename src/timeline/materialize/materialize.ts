/** Writes the data directory of a base, ready to be recovered. Runs in a bulk worker. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, CorruptError, isAppError, required, type Rng, type Timestamp } from '../../base/index.ts';
import { type BlobRange, type BlobStore, parseBlobKey, readBlob } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { formatWalSegmentName, PAGE_BYTES, WAL_PAGE_BYTES } from '../../pg/index.ts';
import { openCollection } from '../collection/open.ts';
import { openManifest } from '../collection/completed.ts';
import { summaryOf } from '../collection/summary.ts';
import type { BackupProgress, MaterializeRequest, MaterializeResult } from '../contract.ts';
import { checkManifest, requireImage } from '../format/check-manifest.ts';
import type { Manifest, ManifestHeader, ManifestWal } from '../format/manifest.ts';
import { readManifest } from '../format/manifest-file.ts';
import {
  PACK_FOOTER_BYTES,
  PACK_HEADER_BYTES,
  parsePackFooter,
  parsePackHeader,
  parsePackIndex,
} from '../format/pack.ts';
import type { ImageCoverage, ImagePart } from '../part/contract.ts';
import { readLogOrigins, type ReplayedStretch } from '../part/log-origins.ts';
import { type FileSelection, selectFiles } from '../part/select-files.ts';
import { historyFileName } from '../store/lineage.ts';
import { type FaultPoint, faultPoint } from '../worker/fault-point.ts';
import type { RestCell } from '../worker/limiter.ts';
import { forEachConcurrently, ThreadPool, threadCount } from '../worker/thread-pool.ts';
import { FileFinisher } from './file-finisher.ts';
import { manifestAt } from './manifest-at.ts';
import { planMaterialize, type PlannedRange, type PlanOptions } from './plan.ts';
import { RestoreProgress } from './restore-progress.ts';
import {
  emptyDirectory,
  foldersOf,
  handOver,
  type Lasting,
  makeFolders,
  type Owner,
  requireRoom,
  takeOver,
  takeOverInPlace,
} from './target-directory.ts';
import type { MaterializeResultOfTask, MaterializeTask, MaterializeThreadData } from './tasks.ts';

export interface MaterializeTools {
  readonly rng: Rng;
  readonly restCell: RestCell;
  readonly onProgress: (progress: BackupProgress) => void;
  readonly signal: AbortSignal;
}

/** The only timeline of Postgres that needs no history file. */
const FIRST_TIMELINE = 1;
/** Objects that are looked at, at once: storage that is far away takes its time to answer. */
const LOOKS_AT_ONCE = 8;
/** Tasks each thread is given ahead, so that it never waits for us. */
const TASKS_AHEAD = 2;
const PROGRESS = { written: 0.85, logged: 0.9 } as const;

export type MaterializePool = ThreadPool<MaterializeTask, MaterializeResultOfTask>;

/**
 * Writes and makes durable the data directory of a backup, with its log and backup label. Run again after a crash it begins
 * anew. When anything stored is not what was written, it fails, naming the object, and leaves the directory empty.
 */
export async function runMaterialize(
  request: MaterializeRequest,
  tools: MaterializeTools,
): Promise<MaterializeResult> {
  if (request.isContinuous === true) {
    const { materializeContinuous } = await import('./materialize-continuous.ts');
    return materializeContinuous(request, tools);
  }
  const { targetDirectory } = request;
  const progress = { hasBegun: false };
  try {
    return await materialize(request, { tools, onBegin: () => (progress.hasBegun = true) });
  } catch (error) {
    // Nobody writes any more. The first failure is the one to tell.
    const goesOn = request.isResumable === true && isWorthGoingOn(error);
    if (progress.hasBegun && !goesOn) await emptyDirectory(targetDirectory).catch(() => undefined);
    throw error;
  }
}

/** Interrupted, or kept from storage: the next attempt may use what is there. */
function isWorthGoingOn(error: unknown): boolean {
  return isAppError(error) && (error.code === 'cancelled' || error.row.retry === 'backoff');
}

async function materialize(
  request: MaterializeRequest,
  { tools, onBegin }: { tools: MaterializeTools; onBegin: () => void },
): Promise<MaterializeResult> {
  const { targetDirectory, uid } = request;
  const store = openCollection(request.collection, tools);
  // Threads take their time to start, and so does reading the manifest.
  await using pool = startThreads(request, tools);
  const { manifest, selection } = await openPart(request, { store, signal: tools.signal });
  await forEachConcurrently(manifest.wal, { concurrency: LOOKS_AT_ONCE }, (wal) =>
    requireObject(wal, { store, signal: tools.signal }),
  );
  const summary = summaryOf(manifest);
  const isResumable = request.isResumable === true && selection === null;
  const found = isResumable ? await RestoreProgress.find(targetDirectory, manifest) : null;
  if (found?.isComplete === true) {
    return {
      summary,
      writtenBytes: 0n,
      readBytes: 0n,
      keptBytes: manifest.header.totals.bytes,
      coverage: null,
    };
  }
  onBegin();
  const take = found === null ? takeOver : takeOverInPlace;
  const owner = await take(targetDirectory, { uid });
  faultPoint('materialize.after_emptying');
  const wholeRows = found?.wholeRows ?? new Set<number>();
  await using progress = isResumable
    ? await RestoreProgress.begin(targetDirectory, { manifest, wholeRows })
    : null;
  const log = logOfManifest(manifest, request);
  const parts = { pool, manifest, selection, owner, log, tools, resumed: { progress, wholeRows } };
  const written = await writeDirectory(request, parts);
  await progress?.complete();
  return { summary, ...written };
}

/** An image, and what of it is wanted: null when all of it is. */
export interface OpenedImage {
  readonly manifest: Manifest;
  readonly selection: FileSelection | null;
}

interface ImageRequest {
  readonly subdirectory: string;
  readonly key: ClusterKey;
  readonly asOf?: Timestamp | null;
  readonly part?: ImagePart;
}

interface ImageTools {
  readonly store: BlobStore;
  readonly signal: AbortSignal;
}

/** Reads the manifest of an image, or of a part of one, that can run here. */
export async function readImage(request: ImageRequest, { store, signal }: ImageTools): Promise<Manifest> {
  const { key, asOf: time = null } = request;
  const { chunks, name } = await openManifest(store, { ...request, signal });
  const whole = await readManifest(chunks, { key, name });
  checkManifest(whole, name);
  requireImage(whole, { name, isPartEnough: request.part !== undefined });
  const manifest = time === null ? whole : await manifestAt(whole, { time, store, key, signal });
  requireRunnable(manifest.header);
  return manifest;
}

/** The same, and sees that every pack that is needed is there. */
export async function openPart(request: ImageRequest, tools: ImageTools): Promise<OpenedImage> {
  const manifest = await readImage(request, tools);
  const selection = request.part === undefined ? null : selectFiles(manifest, request.part);
  await requirePacks(manifest, { ...tools, packs: selection?.packs ?? manifest.packs.keys() });
  return { manifest, selection };
}

/** By their rows in the manifest; all of them when left out. */
export async function requirePacks(
  manifest: Manifest,
  { packs = manifest.packs.keys(), ...tools }: ImageTools & { readonly packs?: Iterable<number> },
): Promise<void> {
  await forEachConcurrently(packs, { concurrency: LOOKS_AT_ONCE }, (row) =>
    requirePack(required(manifest.packs[row], 'pack of an image'), tools),
  );
}

function requireRunnable({ engine, subdirectory }: ManifestHeader): void {
  const here = { architecture: process.arch, blockBytes: PAGE_BYTES, walBlockBytes: WAL_PAGE_BYTES };
  for (const [what, value] of Object.entries(here)) {
    const found = engine[what as keyof typeof here]; // Keys of the literal above.
    if (found === value) continue;
    throw new AppError(
      'feature_not_supported',
      `backup ${subdirectory} has ${what} ${found}, this node has ${value}`,
      {
        hint: 'restore it on a node of the same kind',
      },
    );
  }
}

/**
 * Checks what of a pack the frames' own checksums do not cover: header, index and footer. Nothing is restored from an object
 * that is not whole, though the manifest alone would lead to every frame.
 */
async function requirePack(
  pack: Manifest['packs'][number],
  { store, signal }: { store: BlobStore; signal: AbortSignal },
): Promise<void> {
  await requireObject(pack, { store, signal });
  const name = pack.path;
  const read = (range: BlobRange) =>
    readBlob(store, parseBlobKey(name), { bytesMax: range.length, range, signal });
  const id = parsePackHeader(await read({ offset: 0, length: PACK_HEADER_BYTES }), name);
  const footerOffset = pack.bytes - PACK_FOOTER_BYTES;
  const footerBytes = await read({ offset: footerOffset, length: PACK_FOOTER_BYTES });
  const footer = parsePackFooter(footerBytes, { packBytes: pack.bytes, name });
  const { indexOffset } = footer;
  parsePackIndex(await read({ offset: indexOffset, length: footerOffset - indexOffset }), { footer, name });
  for (const found of [id, footer.id]) {
    if (Buffer.from(found).toString('hex') === pack.id) continue;
    throw new CorruptError(`${name} is another pack than the backup's`);
  }
}

async function requireObject(
  { path, bytes }: { readonly path: string; readonly bytes: number },
  { store, signal }: { store: BlobStore; signal: AbortSignal },
): Promise<void> {
  const size = await store.size(parseBlobKey(path), { signal });
  if (size === null) throw new CorruptError(`${path} is missing`);
  if (size !== bytes) throw new CorruptError(`${path} is damaged: it has ${size} bytes instead of ${bytes}`);
}

/** The log that goes with an image: how much room it takes, and how it gets into `pg_wal`. */
export interface LogToWrite {
  readonly bytes: bigint;
  /** What of it is replayed, oldest first. */
  readonly stretches: readonly ReplayedStretch[];
  write(options: { pool: MaterializePool; finisher: FileFinisher; tools: MaterializeTools }): Promise<bigint>;
}

export interface WrittenDirectory {
  readonly writtenBytes: bigint;
  /** Of packs, as they are stored: the manifest and the log come on top. */
  readonly readBytes: bigint;
  /** Length of files that were whole already. */
  readonly keptBytes: bigint;
  /** Null when the whole image was written. */
  readonly coverage: ImageCoverage | null;
}

/** Into a folder that was emptied and taken over; it belongs to its owner, and is durable unless it is fleeting, when this returns. */
export async function writeDirectory(
  request: { readonly targetDirectory: string; readonly key: ClusterKey } & Lasting,
  parts: {
    pool: MaterializePool;
    manifest: Manifest;
    selection: FileSelection | null;
    owner: Owner;
    log: LogToWrite;
    tools: MaterializeTools;
    /** Files that are whole, and where those are told of that become so; left out when the directory is empty and failure empties it. */
    resumed?: { readonly progress: RestoreProgress | null; readonly wholeRows: ReadonlySet<number> };
  },
): Promise<WrittenDirectory> {
  const { targetDirectory, key, isFleeting } = request;
  const { pool, manifest, selection, owner, log, tools, resumed } = parts;
  const { files, header } = manifest;
  const wholeRows = resumed?.wholeRows ?? NO_ROWS;
  const keptBytes = wholeRows.values().reduce((sum, row) => sum + (files.lengths[row] ?? 0n), 0n);
  const total = (selection?.bytes ?? header.totals.bytes) - keptBytes;
  await requireRoom(targetDirectory, { bytes: total + log.bytes });
  // Replay must not find that a database is gone because nothing of it is wanted.
  const folders = foldersOf(files.paths);
  await makeFolders(targetDirectory, { folders, owner, isInPlace: resumed !== undefined });
  faultPoint('materialize.after_folders');
  const plan = planMaterialize(manifest, { key, ...wantedOf(selection, wholeRows) });
  const isKept = selection?.isKept ?? (() => true);
  await using finisher = new FileFinisher({
    directory: targetDirectory,
    owner,
    files,
    targets: plan.targetCounts(),
    isFleeting,
    onFinished: async (path) => resumed?.progress?.add(path),
  });
  finisher.addEmptyFiles(isKept);
  const read = { bytes: 0n };
  const counting = { pool, total, finisher, tools, onRead: (bytes: number) => (read.bytes += BigInt(bytes)) };
  let written = await writeRanges({ ...counting, ranges: plan.ranges() });
  faultPoint('materialize.before_wal');
  written += await log.write({ pool, finisher, tools });
  const coverage = selection === null ? null : await coverageOf(selection, request, parts);
  tools.onProgress({ fraction: PROGRESS.logged, phase: 'writing the log' });
  await writeFile(join(targetDirectory, 'backup_label'), header.backupLabel, { mode: 0o600 });
  finisher.addOther('backup_label');
  faultPoint('materialize.before_control_file');
  written += await writeRanges({ ...counting, ranges: plan.controlRanges() });
  tools.onProgress({ fraction: PROGRESS.logged, phase: 'syncing' });
  faultPoint('materialize.before_sync');
  await finisher.settle();
  await handOver(targetDirectory, { folders, owner, isFleeting });
  faultPoint('materialize.after_sync');
  return { writtenBytes: written, readBytes: read.bytes, keptBytes, coverage };
}

const NO_ROWS: ReadonlySet<number> = new Set();

/** Everything but what is whole already, or what is no part of the selection. */
function wantedOf(
  selection: FileSelection | null,
  wholeRows: ReadonlySet<number>,
): Pick<PlanOptions, 'wanted'> {
  if (selection === null && wholeRows.size === 0) return {};
  const isWanted = (file: number) => !wholeRows.has(file) && (selection?.isKept(file) ?? true);
  return { wanted: ({ file, start, count }) => (isWanted(file) ? [{ start, count }] : []) };
}

async function coverageOf(
  { databases }: FileSelection,
  { targetDirectory }: { readonly targetDirectory: string },
  { manifest, log, tools }: { manifest: Manifest; log: LogToWrite; tools: MaterializeTools },
): Promise<ImageCoverage> {
  const segmentBytes = manifest.header.engine.walSegmentBytes;
  const { stretches } = log;
  const { signal } = tools;
  return { databases, origins: await readLogOrigins(targetDirectory, { stretches, segmentBytes, signal }) };
}

export function startThreads(
  request: Pick<MaterializeRequest, 'collection' | 'targetDirectory'>,
  tools: MaterializeTools,
): MaterializePool {
  const { collection, targetDirectory } = request;
  const { restCell, signal } = tools;
  const data: MaterializeThreadData = { collection, targetDirectory, restCell };
  return new ThreadPool({
    script: new URL('./materialize-thread.ts', import.meta.url),
    threads: threadCount(),
    dataOf: () => data,
    signal,
  });
}

/** Writes ranges and tells the finisher; gives the bytes that were written. */
export async function writeRanges(options: {
  pool: MaterializePool;
  ranges: Iterable<PlannedRange>;
  total: bigint;
  finisher: FileFinisher;
  tools: MaterializeTools;
  /** Told of every piece that was read, as it is stored. */
  onRead?: (bytes: number) => void;
  fault?: FaultPoint;
}): Promise<bigint> {
  const { pool, ranges, total, finisher, tools, fault = 'materialize.after_first_task' } = options;
  let written = 0;
  await forEachConcurrently(ranges, { concurrency: pool.size * TASKS_AHEAD }, async (range) => {
    const { writtenBytes } = await pool.run(range.task);
    faultPoint(fault);
    options.onRead?.(range.task.length);
    finisher.wrote(range.targetsOfFile);
    written += writtenBytes;
    const share = Math.min(1, written / Math.max(Number(total), 1));
    tools.onProgress({ fraction: PROGRESS.written * share, phase: 'writing files' });
  });
  return BigInt(written);
}

function logOfManifest(
  { wal, header }: Manifest,
  { targetDirectory }: { readonly targetDirectory: string },
): LogToWrite {
  const { timelineId, systemIdentifier, startLsn: beginLsn, targetLsn: endLsn, engine } = header;
  return {
    bytes: BigInt(wal.length * header.engine.walSegmentBytes),
    stretches: [{ timelineId, systemIdentifier, engineMajor: engine.major, beginLsn, endLsn }],
    async write({ pool, finisher }) {
      let written = 0;
      await forEachConcurrently(wal, { concurrency: pool.size }, async (object) => {
        const { path, header: expected } = walTarget(object, header);
        const { bytes, sha256 } = object;
        const source = { key: parseBlobKey(object.path), bytes, sha256, header: expected };
        const { writtenBytes } = await pool.run({ kind: 'wal', wal: source, path });
        written += writtenBytes; // Read when the others' are in it.
        finisher.addOther(path);
      });
      if (header.timelineId > FIRST_TIMELINE) await writeHistory(header, { targetDirectory, finisher });
      return BigInt(written);
    },
  };
}

/** Postgres does not recover to a timeline that has no history file. What came before this one is not in the log that is replayed. */
async function writeHistory(
  { timelineId }: ManifestHeader,
  { targetDirectory, finisher }: { targetDirectory: string; finisher: FileFinisher },
): Promise<void> {
  const path = `pg_wal/${historyFileName(timelineId)}`;
  await writeFile(join(targetDirectory, path), '# The backup began on this timeline.\n', { mode: 0o600 });
  finisher.addOther(path);
}

function walTarget({ timelineId, segmentNo, endLsn }: ManifestWal, header: ManifestHeader) {
  const { systemIdentifier, incarnation, engine } = header;
  const segment = { timelineId, segmentNo, segmentBytes: engine.walSegmentBytes };
  const path = `pg_wal/${formatWalSegmentName(segment)}`;
  return { path, header: { ...segment, endLsn, systemIdentifier, incarnation } };
}
