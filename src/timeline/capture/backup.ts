/** A full backup, from the first claim on the collection to the marker of the newest. Runs in a bulk worker. */
import { type Clock, required, type Rng } from '../../base/index.ts';
import { packTagKey } from '../format/pack.ts';
import { abandonAttempt, beginAttempt, markLatest, publishManifest } from '../collection/attempt.ts';
import { claimCollection } from '../collection/owner.ts';
import { openCollection } from '../collection/open.ts';
import { summaryOf } from '../collection/summary.ts';
import type { BackupProgress, BackupRequest, BackupSummary } from '../contract.ts';
import { listDataFiles } from '../data-directory/list-files.ts';
import type { Manifest } from '../format/manifest.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { RestCell } from '../worker/limiter.ts';
import { forEachConcurrently, ThreadPool, threadCount } from '../worker/thread-pool.ts';
import { BackupSession, type BackupStart, type BackupStop, type BackupTarget } from './backup-session.ts';
import { type CapturePool, copyControlFile, copyFiles } from './copy-files.ts';
import { copyWal } from './copy-wal.ts';
import { type Image, ImageBuilder } from './image-builder.ts';
import { type DatabaseContents, readDatabase } from './relations.ts';
import type { CaptureResult, CaptureTask, CaptureThreadData, NumberedPack } from './tasks.ts';

/** What the work is done with. */
export interface BackupTools {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly restCell: RestCell;
  readonly onProgress: (progress: BackupProgress) => void;
  readonly signal: AbortSignal;
}

/** Shares of the work in what is shown as progress. */
const PROGRESS = { copied: 0.85, logged: 0.9, verified: 0.99 } as const;

/**
 * Takes a backup and returns when it could be restored: everything written was read again. Asked again for a backup that an
 * earlier attempt completed, it answers with that one.
 */
export async function runBackup(request: BackupRequest, tools: BackupTools): Promise<BackupSummary> {
  const { collection, source, clusterId, subdirectory, jobId, attempt, key } = request;
  const { rng, signal } = tools;
  const store = openCollection(collection, { rng });
  const { virtualClusterId, virtualClusterName } = source;
  await claimCollection(store, { owner: { clusterId, virtualClusterId, virtualClusterName }, signal });
  faultPoint('backup.after_claim');
  const attempted = { store, subdirectory, jobId, attempt, key, signal };
  const completed = await beginAttempt(attempted);
  faultPoint('backup.after_lock');
  if (completed !== null) {
    await markLatest(attempted);
    return summaryOf(completed);
  }
  try {
    const manifest = await capture(request, tools);
    faultPoint('publish.before_manifest');
    await publishManifest(attempted, manifest);
    faultPoint('publish.after_manifest');
    await markLatest(attempted);
    faultPoint('publish.after_latest');
    return summaryOf(manifest);
  } catch (error) {
    // Not with the signal of the work, which may be what ended it. The first failure is the one to tell.
    const { signal: unaborted } = new AbortController();
    await abandonAttempt({ ...attempted, signal: unaborted }).catch(() => undefined);
    throw error;
  }
}

/** Everything that was captured, and what of it is still to be described. */
interface Captured {
  readonly start: BackupStart;
  readonly stop: BackupStop;
  readonly target: BackupTarget;
  readonly image: ImageBuilder;
  readonly contents: readonly DatabaseContents[];
  readonly collations: Manifest['header']['collations'];
}

async function capture(request: BackupRequest, tools: BackupTools): Promise<Manifest> {
  const { source, subdirectory, attempt, key } = request;
  // Threads take their time to start, and so does the checkpoint.
  await using pool = startThreads(request, tools);
  await using session = await BackupSession.open(source, tools);
  const start = await session.start(source, { label: `atoll_backup_${request.jobId}_${attempt}` });
  await pool.runOnEach({ kind: 'begin', startLsn: start.startLsn });
  const image = await captureFiles({ request, tools, pool });
  faultPoint('capture.before_stop');
  const contents = await readContents(session, { image, source, signal: tools.signal });
  const collations = await session.collations();
  const stop = await session.stop();
  faultPoint('capture.after_stop');
  const target = await session.target(tools);
  faultPoint('capture.after_target');
  const range = {
    timelineId: start.timelineId,
    segmentBytes: start.engine.walSegmentBytes,
    startLsn: start.startLsn,
    endLsn: target.walEndLsn,
  };
  const { wal, expected } = await copyWal({ pool, source, subdirectory, attempt, range });
  tools.onProgress({ fraction: PROGRESS.logged, phase: 'closing' });
  faultPoint('capture.before_closing_packs');
  const packs = await closePacks(pool);
  faultPoint('capture.after_closing_packs');
  const captured = { start, stop, target, image, contents, collations };
  const manifest = describe(request, captured, { packs, wal });
  faultPoint('verify.before');
  await verify({ pool, packs, image, wal: expected, key, tools });
  return manifest;
}

async function captureFiles(options: {
  request: BackupRequest;
  tools: BackupTools;
  pool: CapturePool;
}): Promise<ImageBuilder> {
  const { request, tools, pool } = options;
  const { dataDirectory } = request.source;
  const files = listDataFiles(dataDirectory);
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const image = new ImageBuilder(files);
  let copied = 0;
  await copyFiles({
    pool,
    files,
    image,
    onCopied(bytes) {
      copied += bytes;
      tools.onProgress({ fraction: (PROGRESS.copied * copied) / Math.max(total, 1), phase: 'copying' });
    },
  });
  faultPoint('capture.before_control_file');
  await copyControlFile({ pool, image, dataDirectory, ...tools });
  tools.onProgress({ fraction: PROGRESS.copied, phase: 'copying the log' });
  return image;
}

function startThreads(request: BackupRequest, tools: BackupTools): CapturePool {
  const { collection, subdirectory, attempt, key, packBytesMax, source } = request;
  const threads = threadCount();
  const { restCell, signal } = tools;
  const { dataDirectory } = source;
  const shared = {
    threads,
    dataDirectory,
    collection,
    subdirectory,
    attempt,
    key,
    packBytesMax,
    restCell,
  };
  return new ThreadPool<CaptureTask, CaptureResult>({
    script: new URL('./capture-thread.ts', import.meta.url),
    threads,
    dataOf: (threadNo) => ({ ...shared, threadNo }) satisfies CaptureThreadData,
    signal,
  });
}

async function closePacks(pool: CapturePool): Promise<readonly NumberedPack[]> {
  const results = await pool.runOnEach({ kind: 'close' });
  const packs = results.flatMap((result) => (result.kind === 'closed' ? result.packs : []));
  return packs.toSorted((left, right) => left.number - right.number);
}

/** Names as they are at the end of the copy, which is as near as can be to the moment that is restored. */
async function readContents(
  session: BackupSession,
  options: { image: ImageBuilder; source: BackupRequest['source']; signal: AbortSignal },
): Promise<readonly DatabaseContents[]> {
  const { image, source, signal } = options;
  const contents: DatabaseContents[] = [];
  for (const database of await session.databases()) {
    const { socketDirectory } = source;
    const read = await readDatabase(database, { socketDirectory, countsOf: image.countsOf, signal });
    if (read !== null) contents.push(read);
  }
  return contents;
}

function describe(
  request: BackupRequest,
  captured: Captured,
  { packs, wal }: { packs: readonly NumberedPack[]; wal: Manifest['wal'] },
): Manifest {
  const { source } = request;
  const { start, stop, target, contents } = captured;
  const image: Image = captured.image.build(new Map(packs.map(({ number }, row) => [number, row])));
  const sum = (values: readonly (bigint | number)[]) =>
    values.reduce<bigint>((total, value) => total + BigInt(value), 0n);
  return {
    header: {
      release: request.release,
      jobId: request.jobId,
      attempt: request.attempt,
      subdirectory: request.subdirectory,
      baseSubdirectory: null,
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
      startTime: null,
      endTime: target.endTime,
      backupLabel: stop.backupLabel,
      totals: {
        rows: sum(contents.map(({ rows }) => rows)),
        indexEntries: sum(contents.map(({ indexEntries }) => indexEntries)),
        bytes: image.bytes,
        storedBytes: sum([...packs, ...wal].map(({ bytes }) => bytes)),
      },
    },
    objects: contents.flatMap(({ objects }) => objects),
    databases: contents.map(({ map }) => map),
    packs: packs.map(({ key, id, bytes }) => ({ path: key, id: Buffer.from(id).toString('hex'), bytes })),
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
  image: ImageBuilder;
  wal: readonly Extract<CaptureTask, { kind: 'check_wal' }>['wal'][];
  key: BackupRequest['key'];
  tools: BackupTools;
}): Promise<void> {
  const { pool, packs, image, wal, key, tools } = options;
  const frames = image.framesByPack();
  const tasks: CaptureTask[] = [
    ...packs.map((pack): CaptureTask => {
      const tagKey = packTagKey({ key, id: pack.id });
      const expected = required(frames.get(pack.number), `frames of pack ${pack.number}`);
      return { kind: 'check_pack', pack: { ...pack, tagKey, frames: expected } };
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
