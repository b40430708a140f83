/** One capture of a running instance, from the first byte read to the manifest that describes it. Runs in a bulk worker. */
import { type Clock, required, type Rng } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { packTagKey } from '../format/pack.ts';
import type { BackupProgress, CaptureSource, CollectionLocation } from '../contract.ts';
import { listDataFiles } from '../data-directory/list-files.ts';
import type { Manifest, ManifestPack } from '../format/manifest.ts';
import { ownPacks } from '../collection/progress.ts';
import type { ExpectedFrames } from '../objects/pack-check.ts';
import { framesByPack } from '../objects/pack-frames.ts';
import { requireObject } from '../objects/require-object.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { RestCell } from '../worker/limiter.ts';
import { OwnThread } from '../worker/own-thread.ts';
import { forEachConcurrently, ThreadPool, threadCount } from '../worker/thread-pool.ts';
import { BackupSession, type BackupStart, type BackupStop, type BackupTarget } from './backup-session.ts';
import { CaptureTasks } from './capture-tasks.ts';
import { type CapturePool, copyControlFile, copyFiles } from './copy-files.ts';
import { copyWal } from './copy-wal.ts';
import { describeProgress } from './describe-progress.ts';
import { type Image, ImageBuilder } from './image-builder.ts';
import type { OlderBase } from './older-base.ts';
import { type DatabaseContents, type DatabaseEntry, readDatabase } from './relations.ts';
import { bytesToRead, type PlannedFile } from './slices.ts';
import type { CaptureResult, CaptureTask, CaptureThreadData, NumberedPack } from './tasks.ts';

/** What the work is done with. */
export interface CaptureTools {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly restCell: RestCell;
  readonly onProgress: (progress: BackupProgress) => void;
  readonly signal: AbortSignal;
}

/** What is captured, and where to. */
export interface CaptureRequest {
  readonly source: CaptureSource;
  readonly collection: CollectionLocation;
  readonly subdirectory: string;
  readonly clusterId: string;
  readonly key: ClusterKey;
  readonly jobId: string;
  readonly attempt: number;
  readonly packBytesMax: number;
  readonly release: string;
}

/** Finds out what a capture builds on. */
export interface Planner {
  /** It is known beforehand that everything is read. */
  readonly readsAll: boolean;
  /** What can be done while Postgres makes its checkpoint. */
  prepare(options: { readonly signal: AbortSignal }): Promise<PreparedPlanner>;
}

/** Asked once the position is known where the new base begins. */
export type PreparedPlanner = (
  start: BackupStart,
  options: { readonly session: BackupSession; readonly signal: AbortSignal },
) => Promise<CapturePlan>;

export interface CapturePlan {
  /** Whose frames the new base goes on using; null when everything is read. */
  readonly older: OlderBase | null;
  /** `older` is what an earlier attempt at the same backup has copied, and no base of its own. */
  readonly isOlderOfSame?: boolean;
  /** Says of each file that was listed what must be read of it. */
  readonly planFiles: (files: ReturnType<typeof listDataFiles>) => readonly PlannedFile[];
}

export interface CaptureOutcome {
  readonly manifest: Manifest;
  readonly pagesRead: number;
}

/** Everything is read. */
export const FULL_CAPTURE: CapturePlan = {
  older: null,
  planFiles: (files) => files.map((file) => ({ ...file, changed: null })),
};

/** Where it is recorded how far a capture has come. */
export interface CaptureProgress {
  /** So much is copied from one record to the next. */
  readonly everyBytes: number;
  /** Makes it durable. */
  readonly record: (manifest: Manifest) => Promise<void>;
}

/** So much is copied in about the time in which threads start. */
const OWN_THREAD_BYTES_MAX = 64 * 1024 * 1024;

/** Shares of the work in what is shown as progress. */
const PROGRESS = { copied: 0.85, logged: 0.9, verified: 0.99 } as const;

/** Everything that was captured, and what of it is still to be described. */
interface Captured {
  readonly plan: CapturePlan;
  readonly start: BackupStart;
  readonly stop: BackupStop;
  readonly target: BackupTarget;
  readonly image: ImageBuilder;
  readonly contents: readonly DatabaseContents[];
  readonly collations: Manifest['header']['collations'];
}

/** Captures, and reads again everything that it has written. What is described exists; nobody can find it yet. */
export async function capture(
  request: CaptureRequest,
  options: {
    tools: CaptureTools;
    store: BlobStore;
    plan: Planner;
    /** Left out for a capture that begins anew when it is broken off. */
    progress?: CaptureProgress | undefined;
  },
): Promise<CaptureOutcome> {
  const { tools, store, plan, progress = null } = options;
  const { source, attempt, key } = request;
  await using owned = new AsyncDisposableStack();
  // Threads take their time to start, and so does the checkpoint.
  const threads = plan.readsAll ? owned.use(startThreads(request, tools)) : null;
  const session = owned.use(await BackupSession.open(source, tools));
  const label = `atoll_backup_${request.jobId}_${attempt}`;
  const [start, complete] = await Promise.all([session.start(source, { label }), plan.prepare(tools)]);
  const planned = await complete(start, { session, signal: tools.signal });
  const files = planned.planFiles(listDataFiles(source.dataDirectory));
  faultPoint('capture.after_plan');
  const pool = threads ?? owned.use(startPool(files, { request, tools }));
  // Each thread begins to copy when it is ready, whether the others are or not: its tasks come in order.
  const [, image] = await settled([
    pool.runOnEach({ kind: 'begin', startLsn: start.startLsn }),
    captureFiles(request, { files, start, older: planned.older, tools, pool, progress }),
  ]);
  faultPoint('capture.before_stop');
  const databases = await session.databases();
  const collations = await session.collations();
  // Names are read by sessions of their own, while this one ends the backup and the threads copy the log.
  const [contents, { stop, target, wal, expected, packs }] = await settled([
    readContents(databases, { image, source, signal: tools.signal }),
    finish(request, { session, start, pool, tools }),
  ]);
  const captured = { plan: planned, start, stop, target, image, contents, collations };
  const manifest = describe(request, captured, { packs, wal });
  faultPoint('verify.before');
  const earlier = planned.isOlderOfSame === true ? earlierPacks(manifest, { own: packs.length }) : [];
  await verify({ pool, packs, earlier, image, wal: expected, key, tools });
  await requireOlderPacks(manifest, { own: packs.length, store, signal: tools.signal });
  return { manifest, pagesRead: image.pagesRead };
}

async function captureFiles(
  request: CaptureRequest,
  options: {
    files: readonly PlannedFile[];
    start: BackupStart;
    older: OlderBase | null;
    tools: CaptureTools;
    pool: CapturePool;
    progress: CaptureProgress | null;
  },
): Promise<ImageBuilder> {
  const { files, start, tools, pool, progress } = options;
  const { dataDirectory } = request.source;
  const total = totalToRead(files);
  const image = new ImageBuilder(files, options);
  let copied = 0;
  await copyFiles({
    pool,
    files,
    image,
    onCopied(bytes) {
      copied += bytes;
      tools.onProgress({ fraction: (PROGRESS.copied * copied) / Math.max(total, 1), phase: 'copying' });
    },
    stops: progress && {
      everyBytes: progress.everyBytes,
      async onStop() {
        const packs = await endPacks(pool);
        await progress.record(describeProgress(request, { image, start, packs }));
        faultPoint('capture.after_checkpoint');
      },
    },
  });
  faultPoint('capture.before_control_file');
  await copyControlFile({ pool, image, dataDirectory, ...tools });
  tools.onProgress({ fraction: PROGRESS.copied, phase: 'copying the log' });
  return image;
}

/** Ends the backup, and stores the log that it needs. */
async function finish(
  { source, subdirectory, attempt }: CaptureRequest,
  options: { session: BackupSession; start: BackupStart; pool: CapturePool; tools: CaptureTools },
) {
  const { session, start, pool, tools } = options;
  const end = async () => {
    const stop = await session.stop();
    faultPoint('capture.after_stop');
    const target = await session.target(tools);
    faultPoint('capture.after_target');
    return { stop, target };
  };
  // Packs become durable while the server ends the backup.
  const [packs, { stop, target }] = await settled([closePacks(pool), end()]);
  faultPoint('capture.after_closing_packs');
  const range = {
    timelineId: start.timelineId,
    segmentBytes: start.engine.walSegmentBytes,
    startLsn: start.startLsn,
    endLsn: target.walEndLsn,
  };
  const { wal, expected } = await copyWal({ pool, source, subdirectory, attempt, range });
  tools.onProgress({ fraction: PROGRESS.logged, phase: 'verifying' });
  return { stop, target, wal, expected, packs };
}

/** What both give; the first failure when one fails, once neither is under way any more. */
async function settled<A, B>(work: readonly [Promise<A>, Promise<B>]): Promise<[A, B]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}

/** For little, threads would only cost: each loads its code before it does anything. */
function startPool(
  files: readonly PlannedFile[],
  { request, tools }: { request: CaptureRequest; tools: CaptureTools },
): CapturePool {
  if (totalToRead(files) > OWN_THREAD_BYTES_MAX) return startThreads(request, tools);
  const tasks = new CaptureTasks({ ...threadData(request, tools), threads: 1, threadNo: 0 });
  return new OwnThread(tasks, tools);
}

function startThreads(request: CaptureRequest, tools: CaptureTools): CapturePool {
  const threads = threadCount();
  const shared = { ...threadData(request, tools), threads };
  return new ThreadPool<CaptureTask, CaptureResult>({
    script: new URL('./capture-thread.ts', import.meta.url),
    threads,
    dataOf: (threadNo) => ({ ...shared, threadNo }) satisfies CaptureThreadData,
    signal: tools.signal,
  });
}

function threadData(
  { collection, subdirectory, attempt, key, packBytesMax, source }: CaptureRequest,
  { restCell }: CaptureTools,
): Omit<CaptureThreadData, 'threads' | 'threadNo'> {
  const { dataDirectory } = source;
  return { dataDirectory, collection, subdirectory, attempt, key, packBytesMax, restCell };
}

function totalToRead(files: readonly PlannedFile[]): number {
  return files.reduce((sum, file) => sum + bytesToRead(file), 0);
}

async function closePacks(pool: CapturePool): Promise<readonly NumberedPack[]> {
  faultPoint('capture.before_closing_packs');
  return endPacks(pool);
}

/** All packs so far; what is copied afterwards goes into others. */
async function endPacks(pool: CapturePool): Promise<readonly NumberedPack[]> {
  const results = await pool.runOnEach({ kind: 'close' });
  const packs = results.flatMap((result) => (result.kind === 'closed' ? result.packs : []));
  return packs.toSorted((left, right) => left.number - right.number);
}

/** Names as they are at the end of the copy, which is as near as can be to the moment that is restored. */
async function readContents(
  databases: readonly DatabaseEntry[],
  options: { image: ImageBuilder; source: CaptureSource; signal: AbortSignal },
): Promise<readonly DatabaseContents[]> {
  const { image, source, signal } = options;
  const contents: DatabaseContents[] = [];
  for (const database of databases) {
    const { socketDirectory } = source;
    const read = await readDatabase(database, { socketDirectory, countsOf: image.countsOf, signal });
    if (read !== null) contents.push(read);
  }
  return contents;
}

function describe(
  request: CaptureRequest,
  captured: Captured,
  { packs, wal }: { packs: readonly NumberedPack[]; wal: Manifest['wal'] },
): Manifest {
  const { source } = request;
  const { plan, start, stop, target, contents } = captured;
  const older = plan.isOlderOfSame === true ? null : plan.older;
  const image: Image = captured.image.build(packs);
  const sum = (values: readonly (bigint | number)[]) =>
    values.reduce<bigint>((total, value) => total + BigInt(value), 0n);
  return {
    header: {
      release: request.release,
      jobId: request.jobId,
      attempt: request.attempt,
      subdirectory: request.subdirectory,
      baseSubdirectory: older?.header.subdirectory ?? null,
      clusterId: request.clusterId,
      virtualClusterId: source.virtualClusterId,
      virtualClusterName: source.virtualClusterName,
      incarnation: source.incarnation,
      parentIncarnation: source.parentIncarnation ?? null,
      systemIdentifier: source.systemIdentifier,
      engine: start.engine,
      collations: captured.collations,
      timelineId: start.timelineId,
      startLsn: start.startLsn,
      stopLsn: stop.stopLsn,
      targetLsn: target.targetLsn,
      walEndLsn: target.walEndLsn,
      captureStartTime: start.startTime,
      startTime: older?.header.endTime ?? null,
      endTime: target.endTime,
      backupLabel: stop.backupLabel,
      totals: {
        rows: sum(contents.map(({ rows }) => rows)),
        indexEntries: sum(contents.map(({ indexEntries }) => indexEntries)),
        bytes: image.bytes,
        storedBytes: sum([...ownPacks(image, request.subdirectory), ...wal].map(({ bytes }) => bytes)),
      },
    },
    objects: contents.flatMap(({ objects }) => objects),
    databases: contents.map(({ map }) => map),
    packs: image.packs,
    wal,
    files: image.files,
    runs: image.runs,
    frames: image.frames,
  };
}

/** Reads again, and checks, every byte that was stored. */
async function verify(options: {
  pool: CapturePool;
  packs: readonly NumberedPack[];
  earlier: readonly EarlierPack[];
  image: ImageBuilder;
  wal: readonly Extract<CaptureTask, { kind: 'check_wal' }>['wal'][];
  key: ClusterKey;
  tools: CaptureTools;
}): Promise<void> {
  const { pool, packs, earlier, image, wal, key, tools } = options;
  const frames = image.framesByPack();
  const tasks: CaptureTask[] = [
    ...packs.map((pack): CaptureTask => {
      const tagKey = packTagKey({ key, id: pack.id });
      const expected = required(frames.get(pack.number), `frames of pack ${pack.number}`);
      return { kind: 'check_pack', pack: { ...pack, tagKey, frames: expected } };
    }),
    ...earlier.map(({ pack: { path, id: text, bytes }, frames: expected }): CaptureTask => {
      const id = Buffer.from(text, 'hex');
      const pack = { key: parseBlobKey(path), id, bytes, tagKey: packTagKey({ key, id }), frames: expected };
      return { kind: 'check_frames', pack };
    }),
    ...wal.map((object): CaptureTask => ({ kind: 'check_wal', wal: object })),
  ];
  let done = 0;
  await forEachConcurrently(tasks, { concurrency: pool.size }, async (task) => {
    await pool.run(task);
    done++;
    const share = (PROGRESS.verified - PROGRESS.logged) * (done / tasks.length);
    tools.onProgress({ fraction: PROGRESS.logged + share, phase: 'verifying' });
  });
}

/** A pack that an earlier attempt has written. */
interface EarlierPack {
  readonly pack: ManifestPack;
  readonly frames: ExpectedFrames;
}

/** That attempt was broken off before it could read them again. */
function earlierPacks({ packs, frames }: Manifest, { own }: { own: number }): readonly EarlierPack[] {
  const byPack = framesByPack(frames);
  return packs
    .map((pack, row) => ({ pack, row }))
    .slice(own)
    .map(({ pack, row }) => ({ pack, frames: required(byPack.get(row), 'frames of a pack that is used') }));
}

/** Nothing is published that names what is not there. */
async function requireOlderPacks(
  { packs }: Manifest,
  { own, store, signal }: { own: number; store: BlobStore; signal: AbortSignal },
): Promise<void> {
  for (const pack of packs.slice(own)) await requireObject(store, pack, { signal });
}
