/** A backup of databases or tables: definitions and rows as of one snapshot of each database. Runs in a bulk worker. */
import { assert, required } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import { type CopyDescription, type CopySource, pageRanges } from '../../logical-copy/index.ts';
import type { CaptureTools } from '../capture/capture.ts';
import { FrameSink } from '../capture/frame-sink.ts';
import type { PageChanges } from '../capture/plan-incremental.ts';
import { changesAlong } from '../capture/read-changes.ts';
import { abandonAttempt, beginAttempt, markLatest, publishManifest } from '../collection/attempt.ts';
import { openCollection } from '../collection/open.ts';
import { claimCollection } from '../collection/owner.ts';
import { summaryOf } from '../collection/summary.ts';
import type { BackupSummary } from '../contract.ts';
import { largeObjectPath, rowsPath } from '../format/copy-paths.ts';
import type { Manifest, ManifestCopy } from '../format/manifest.ts';
import { packTagKey } from '../format/pack.ts';
import { checkPack } from '../objects/pack-check.ts';
import { requireObject } from '../objects/require-object.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { LogicalBackupRequest } from './contract.ts';
import { describeObjects } from './describe-objects.ts';
import { framesOfPack } from './frames.ts';
import { copySelectionOf, type MomentFacts, openMoment, type OpenedMoment } from './moment.ts';
import { OlderCopies } from './older-copies.ts';
import { StreamWriter, type WrittenFiles } from './stream-writer.ts';

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
  faultPoint('backup.after_claim');
  const head = (await beginAttempt(attempted)) ?? (await publish(request, { tools, store }));
  if (request.onto === null) await markLatest(attempted);
  faultPoint('publish.after_latest');
  return summaryOf(head);
}

async function publish(
  request: LogicalBackupRequest,
  { tools, store }: { tools: CaptureTools; store: BlobStore },
): Promise<Manifest> {
  const { subdirectory, jobId, attempt, key } = request;
  const attempted = { store, subdirectory, jobId, attempt, key };
  try {
    faultPoint('backup.after_lock');
    const manifest = await write(request, { tools, store });
    faultPoint('publish.before_manifest');
    await publishManifest({ ...attempted, signal: tools.signal }, manifest);
    faultPoint('publish.after_manifest');
    return manifest;
  } catch (error) {
    // Not with the signal of the work, which may be what ended it. The first failure is the one to tell.
    const { signal } = new AbortController();
    await abandonAttempt({ ...attempted, signal }).catch(() => undefined);
    throw error;
  }
}

async function write(
  request: LogicalBackupRequest,
  { tools, store }: { tools: CaptureTools; store: BlobStore },
): Promise<Manifest> {
  await using held = new AsyncDisposableStack();
  const { sources, facts, isSettled } = await openMoment(request, { tools, held });
  const older =
    request.onto === null ? null : await OlderCopies.open(request.onto, { request, store, tools });
  const changes = await readLaterChanges(older, { request, facts, tools });
  const described: CopyDescription[] = [];
  for (const source of sources) described.push(await source.describe(copySelectionOf(request.selection)));
  tools.onProgress({ fraction: PROGRESS.described, phase: 'copying rows' });
  await using writer = new StreamWriter(openSink(request, { tools, store }), tools);
  const unchanged = { older, changes };
  const copies = await writeCopies(described, { sources, isSettled, writer, tools, unchanged });
  const written = await writer.close();
  tools.onProgress({ fraction: PROGRESS.copied, phase: 'verifying' });
  faultPoint('verify.before');
  await verify(written, { request, store, tools });
  const objects = [];
  for (const [number, source] of sources.entries()) {
    objects.push(...(await describeObjects(source, required(copies[number], 'copy of a database'))));
  }
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
      startTime: older?.header.endTime ?? null,
      backupLabel: '',
      selection: request.selection,
      totals: {
        rows: tables.reduce((sum, { ranges }) => sum + rowsIn(ranges), 0n),
        indexEntries: tables.reduce((sum, { ranges, indexes }) => sum + rowsIn(ranges) * BigInt(indexes), 0n),
        bytes: written.bytes,
        storedBytes: written.numbered.reduce((sum, { bytes }) => sum + BigInt(bytes), 0n),
      },
    },
    objects,
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

/** What an older backup has that need not be read again. */
interface Unchanged {
  readonly older: OlderCopies | null;
  /** Null when nobody knows. */
  readonly changes: PageChanges | null;
}

/** Pages that changed since the older backup looked at them, and maybe some that changed after this one does. */
async function readLaterChanges(
  older: OlderCopies | null,
  { request, facts, tools }: { request: LogicalBackupRequest; facts: MomentFacts; tools: CaptureTools },
): Promise<PageChanges | null> {
  const { source, timeline } = request;
  const { incarnation, timelineId, systemIdentifier, engine, targetLsn } = facts;
  const isSameLife = older?.header.incarnation === incarnation && older.header.timelineId === timelineId;
  if (older === null || !isSameLife) return null;
  const { startLsn } = older.header;
  const found = await changesAlong({
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
  });
  return found.kind === 'known' ? found.pages : null;
}

async function writeCopies(
  described: readonly CopyDescription[],
  options: {
    sources: readonly CopySource[];
    isSettled: OpenedMoment['isSettled'];
    writer: StreamWriter;
    tools: CaptureTools;
    unchanged: Unchanged;
  },
): Promise<readonly ManifestCopy[]> {
  const { sources, isSettled, writer, tools, unchanged } = options;
  const total = described.flatMap(({ tables }) => tables).reduce((sum, { bytes }) => sum + bytes + 1, 0);
  let done = 0;
  const onTable = (bytes: number) => {
    done += bytes + 1;
    const fraction = PROGRESS.described + (PROGRESS.copied - PROGRESS.described) * (done / total);
    tools.onProgress({ fraction, phase: 'copying rows' });
  };
  const copies: ManifestCopy[] = [];
  for (const [number, description] of described.entries()) {
    const source = required(sources[number], 'source of a copy');
    copies.push(await writeCopy(description, { number, source, isSettled, writer, onTable, unchanged }));
  }
  return copies;
}

async function writeCopy(
  description: CopyDescription,
  options: {
    number: number;
    source: CopySource;
    isSettled: OpenedMoment['isSettled'];
    writer: StreamWriter;
    onTable: (bytes: number) => void;
    unchanged: Unchanged;
  },
): Promise<ManifestCopy> {
  const { number, source, isSettled, writer, onTable, unchanged } = options;
  const kept = unchanged.older?.keeper(description, unchanged.changes);
  const tables: ManifestCopy['tables'] = [];
  for (const table of description.tables) {
    const ranges: [number, number][] = [];
    for (const range of pageRanges(table)) {
      const path = rowsPath({ copy: number, entry: table.entry, from: range.from });
      const same = kept?.(table, range);
      if (same !== undefined) {
        writer.reuse(path, same.frames);
        ranges.push([range.from, same.rows]);
        continue;
      }
      const rows = await writer.add(path, source.copyOut(table, range));
      assert(rows <= BigInt(Number.MAX_SAFE_INTEGER), 'a range has a number of rows');
      ranges.push([range.from, Number(rows)]);
      faultPoint('objects.after_range');
    }
    onTable(table.bytes);
    tables.push({
      ...table,
      columns: [...table.columns],
      isSettled: isSettled(table, source),
      ranges,
    });
  }
  for (const oid of description.largeObjects) {
    await writer.add(largeObjectPath({ copy: number, oid }), withoutReturn(source.largeObject(oid)));
  }
  return {
    database: { ...description.database, settings: [...description.database.settings] },
    isWholeDatabase: description.isWholeDatabase,
    entries: description.entries.map((entry) => ({
      ...entry,
      needs: [...entry.needs],
      external: entry.external.map((object) => ({ ...object })),
    })),
    tables,
    sequences: description.sequences.map((sequence) => ({ ...sequence })),
    populated: [...description.populated],
    largeObjects: [...description.largeObjects],
    ...(description.excluded === undefined ? {} : { excluded: [...description.excluded] }),
  };
}

async function* withoutReturn(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, null> {
  yield* content;
  return null;
}

/** Reads again, and checks, every byte that was stored. */
async function verify(
  written: WrittenFiles,
  options: { request: LogicalBackupRequest; store: BlobStore; tools: CaptureTools },
): Promise<void> {
  const { request, store, tools } = options;
  for (const [row, pack] of written.numbered.entries()) {
    const tagKey = packTagKey({ key: request.key, id: pack.id });
    const frames = framesOfPack(written.frames, row);
    await checkPack(store, { key: pack.key, id: pack.id, bytes: pack.bytes, tagKey, frames }, tools);
  }
  // Nothing is published that names what is not there.
  for (const pack of written.packs.slice(written.numbered.length)) await requireObject(store, pack, tools);
}
