/** A backup of databases or tables: definitions and rows as of one snapshot of each database. Runs in a bulk worker. */
import { isAppError, required } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import type { CopyDescription } from '../../logical-copy/index.ts';
import type { CaptureTools } from '../capture/capture.ts';
import { FrameSink } from '../capture/frame-sink.ts';
import type { PageChanges } from '../capture/plan-incremental.ts';
import { changesAlong } from '../capture/read-changes.ts';
import { abandonAttempt, beginAttempt, markLatest, publishManifest } from '../collection/attempt.ts';
import { openCollection } from '../collection/open.ts';
import { claimCollection } from '../collection/owner.ts';
import { ownPacks, readProgress, removeProgress, writeProgress } from '../collection/progress.ts';
import { summaryOf } from '../collection/summary.ts';
import type { BackupSummary } from '../contract.ts';
import type { Manifest, ManifestCopy, ManifestPack } from '../format/manifest.ts';
import { packTagKey } from '../format/pack.ts';
import { checkFramesOf, checkPack } from '../objects/pack-check.ts';
import { framesByPack } from '../objects/pack-frames.ts';
import { requireObject } from '../objects/require-object.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { LogicalBackupRequest } from './contract.ts';
import { describeObjects } from './describe-objects.ts';
import { copySelectionOf, type MomentFacts, openMoment } from './moment.ts';
import { OlderCopies } from './older-copies.ts';
import { StreamWriter, type WrittenFiles } from './stream-writer.ts';
import { writeCopies } from './write-copies.ts';

/** A checkpoint tells of everything so far: it is written when at least this part of that is new. */
const PROGRESS_SHARE_MIN = 20n;
/** Shares of the work in what is shown as progress. */
const PROGRESS = { described: 0.05, copied: 0.9 } as const;

/**
 * Takes the backup and returns when it could be restored: everything written was read again. Asked again for one that an earlier attempt
 * completed, it answers with that one.
 * @throws InputError `table_not_found`, `database_not_found`; AppError `copy_failed`, `object_in_use`, ...
 */
export async function runBackupObjects(
  request: LogicalBackupRequest,
  tools: CaptureTools,
): Promise<BackupSummary> {
  const store = openCollection(request.collection, tools);
  const { source, clusterId, subdirectory, jobId, attempt, key } = request;
  const { virtualClusterId, virtualClusterName } = source;
  const { signal } = tools;
  await claimCollection(store, { owner: { clusterId, virtualClusterId, virtualClusterName }, signal });
  const attempted = { store, subdirectory, jobId, attempt, key, signal };
  const progress = { form: 'rows', store, subdirectory, key, signal } as const;
  faultPoint('backup.after_claim');
  const resumed = await readProgress(progress, { jobId });
  const kept = resumed === null ? [] : ownPacks(resumed, subdirectory);
  const found = await beginAttempt(attempted, { kept: pathsOf(kept) });
  const written = found === null ? await publish(request, { tools, store, resumed }) : null;
  if (request.onto === null) await markLatest(attempted);
  faultPoint('publish.after_latest');
  await removeProgress(progress, { kept, named: written?.packs ?? kept });
  return summaryOf(written ?? required(found, 'backup that was completed before'));
}

function pathsOf(packs: readonly ManifestPack[]): ReadonlySet<string> {
  return new Set(packs.map(({ path }) => path));
}

interface Writing {
  readonly tools: CaptureTools;
  readonly store: BlobStore;
  /** How far an earlier attempt came. */
  readonly resumed: Manifest | null;
}

async function publish(request: LogicalBackupRequest, writing: Writing): Promise<Manifest> {
  const { tools, store, resumed } = writing;
  const { subdirectory, jobId, attempt, key } = request;
  const attempted = { store, subdirectory, jobId, attempt, key };
  const reached = { manifest: resumed };
  try {
    faultPoint('backup.after_lock');
    const manifest = await write(request, {
      ...writing,
      onProgressWritten: (made) => (reached.manifest = made),
    });
    faultPoint('publish.before_manifest');
    await publishManifest({ ...attempted, signal: tools.signal }, manifest);
    faultPoint('publish.after_manifest');
    return manifest;
  } catch (error) {
    // Not with the signal of the work, which may be what ended it. The first failure is the one to tell.
    const { signal } = new AbortController();
    const kept = reached.manifest === null ? [] : ownPacks(reached.manifest, subdirectory);
    await abandonAttempt({ ...attempted, signal }, { kept: pathsOf(kept) }).catch(() => undefined);
    throw error;
  }
}

async function write(
  request: LogicalBackupRequest,
  options: Writing & { readonly onProgressWritten: (manifest: Manifest) => void },
): Promise<Manifest> {
  const { tools, store, resumed, onProgressWritten } = options;
  await using held = new AsyncDisposableStack();
  const { sources, facts, isSettled } = await openMoment(request, { tools, held });
  const older =
    request.onto === null ? null : await OlderCopies.open(request.onto, { request, store, tools });
  // What an earlier attempt of this job has read is newer than what the backup has that it builds on.
  const known: Unchanged[] = [];
  for (const copies of [resumed === null ? null : OlderCopies.of(resumed), older]) {
    if (copies === null) continue;
    known.push({ copies, changes: await readLaterChanges(copies, { request, facts, tools }) });
  }
  const described: CopyDescription[] = [];
  for (const source of sources) described.push(await source.describe(copySelectionOf(request.selection)));
  tools.onProgress({ fraction: PROGRESS.described, phase: 'copying rows' });
  await using writer = new StreamWriter(openSink(request, { tools, store }), tools);
  const startTime = older?.header.endTime ?? null;
  const progress = { number: 0, atBytes: 0n };
  const copies = await writeCopies({
    described,
    sources,
    isSettled,
    writer,
    keepersOf: (description) =>
      known.flatMap(({ copies: had, changes }) => had.keeper(description, changes) ?? []),
    onTable: (share) =>
      tools.onProgress({
        fraction: PROGRESS.described + (PROGRESS.copied - PROGRESS.described) * share,
        phase: 'copying rows',
      }),
    async onRange(complete) {
      const sinceBytes = writer.bytes - progress.atBytes;
      const isWorthIt = sinceBytes * PROGRESS_SHARE_MIN >= writer.bytes;
      if (!isWorthIt || writer.openPackBytes < request.packBytesMax / 2) return;
      const manifest = manifestOf(request, {
        facts,
        startTime,
        copies: complete,
        written: await writer.close(),
      });
      progress.number += 1;
      progress.atBytes = writer.bytes;
      const { subdirectory, key } = request;
      await writeProgress(
        { form: 'rows', store, subdirectory, key, signal: tools.signal },
        manifest,
        progress,
      );
      onProgressWritten(manifest);
      faultPoint('objects.after_checkpoint');
    },
  });
  const written = await writer.close();
  tools.onProgress({ fraction: PROGRESS.copied, phase: 'verifying' });
  faultPoint('verify.before');
  await verify(written, { request, store, tools });
  const objects = [];
  for (const [number, source] of sources.entries()) {
    objects.push(...(await describeObjects(source, required(copies[number], 'copy of a database'))));
  }
  return { ...manifestOf(request, { facts, startTime, copies, written }), objects };
}

/** Of what is written so far. */
function manifestOf(
  request: LogicalBackupRequest,
  parts: {
    readonly facts: MomentFacts;
    readonly startTime: Manifest['header']['startTime'];
    readonly copies: readonly ManifestCopy[];
    readonly written: WrittenFiles;
  },
): Manifest {
  const { facts, startTime, copies, written } = parts;
  const tables = copies.flatMap((copy) => copy.tables);
  return {
    header: {
      ...facts,
      release: request.release,
      jobId: request.jobId,
      attempt: request.attempt,
      subdirectory: request.subdirectory,
      baseSubdirectory: request.onto,
      clusterId: request.clusterId,
      virtualClusterId: request.source.virtualClusterId,
      virtualClusterName: request.source.virtualClusterName,
      collations: [],
      stopLsn: facts.targetLsn,
      walEndLsn: facts.targetLsn,
      captureStartTime: facts.endTime,
      startTime,
      backupLabel: '',
      selection: request.selection,
      totals: {
        rows: tables.reduce((sum, { ranges }) => sum + rowsIn(ranges), 0n),
        indexEntries: tables.reduce((sum, { ranges, indexes }) => sum + rowsIn(ranges) * BigInt(indexes), 0n),
        bytes: written.bytes,
        storedBytes: ownPacks(written, request.subdirectory).reduce(
          (sum, { bytes }) => sum + BigInt(bytes),
          0n,
        ),
      },
    },
    objects: [],
    databases: [],
    packs: written.packs,
    wal: [],
    files: written.files,
    runs: written.runs,
    frames: written.frames,
    copies,
  };
}

function rowsIn(ranges: ManifestCopy['tables'][number]['ranges']): bigint {
  return ranges.reduce((sum, [, rows]) => sum + BigInt(rows), 0n);
}

function openSink(
  request: LogicalBackupRequest,
  { tools, store }: { tools: CaptureTools; store: BlobStore },
): FrameSink {
  const { key, subdirectory, attempt, packBytesMax } = request;
  return new FrameSink({ ...tools, store, key, subdirectory, attempt, packBytesMax, sinkNo: 0, sinks: 1 });
}

/** What an older backup, or attempt, has that need not be read again. */
interface Unchanged {
  readonly copies: OlderCopies;
  /** Null when nobody knows. */
  readonly changes: PageChanges | null;
}

/** Pages that changed since the older backup looked at them, and maybe some that changed after this one does. */
async function readLaterChanges(
  older: OlderCopies,
  { request, facts, tools }: { request: LogicalBackupRequest; facts: MomentFacts; tools: CaptureTools },
): Promise<PageChanges | null> {
  const { source, timeline } = request;
  const { incarnation, timelineId, systemIdentifier, engine, targetLsn } = facts;
  const { startLsn } = older.header;
  if (older.header.incarnation !== incarnation || older.header.timelineId !== timelineId) return null;
  const asked = {
    source,
    ...(timeline === undefined ? {} : { timeline: timeline.store }),
    incarnations: timeline?.incarnations ?? [],
    stretches: [
      {
        incarnation,
        systemIdentifier,
        engineMajor: engine.major,
        timelineId,
        beginLsn: startLsn,
        endLsn: targetLsn,
      },
    ],
    fromLsn: startLsn,
    segmentBytes: engine.walSegmentBytes,
    hasOwnLog: request.moment === undefined,
    signal: tools.signal,
  };
  try {
    const found = await changesAlong(asked);
    return found.kind === 'known' ? found.pages : null;
  } catch (error) {
    // Log that was collected, or is damaged: everything is read, which needs none.
    if (isAppError(error, 'data_corrupt')) return null;
    throw error;
  }
}

/** Reads again, and checks, every byte that was stored. */
async function verify(
  written: WrittenFiles,
  options: {
    request: LogicalBackupRequest;
    store: BlobStore;
    tools: CaptureTools;
  },
): Promise<void> {
  const { request, store, tools } = options;
  const frames = framesByPack(written.frames);
  for (const [row, pack] of written.packs.entries()) {
    const id = Buffer.from(pack.id, 'hex');
    const tagKey = packTagKey({ key: request.key, id });
    const ofPack = required(frames.get(row), 'frames of a pack');
    const expected = { key: parseBlobKey(pack.path), id, bytes: pack.bytes, tagKey, frames: ofPack };
    const isOfJob = pack.path.startsWith(`${request.subdirectory}/`);
    if (row < written.numbered.length) await checkPack(store, expected, tools);
    else {
      // Nothing is published that names what is not there.
      await requireObject(store, pack, tools);
      // An earlier attempt was broken off before it could; of its packs, not every frame need be used.
      if (isOfJob) await checkFramesOf(store, expected, tools);
    }
  }
}
