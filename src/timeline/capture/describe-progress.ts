/** What of a capture is complete, as a manifest: no backup, but what a later attempt at it need not read again. */
import type { Manifest, ManifestRelation } from '../format/manifest.ts';
import type { BackupStart } from './backup-session.ts';
import type { CaptureRequest } from './capture.ts';
import type { ImageBuilder, WholeFile } from './image-builder.ts';
import type { NumberedPack } from './tasks.ts';

/** All packs are ended, and no thread has anything under way. */
export function describeProgress(
  request: CaptureRequest,
  { image, start, packs }: { image: ImageBuilder; start: BackupStart; packs: readonly NumberedPack[] },
): Manifest {
  const { source } = request;
  const whole = image.wholeFiles();
  const built = image.build(
    packs,
    whole.map(({ fileNo }) => fileNo),
  );
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
      collations: [],
      timelineId: start.timelineId,
      // What changed since counts from here; where the capture ends, nobody knows yet.
      startLsn: start.startLsn,
      stopLsn: start.startLsn,
      targetLsn: start.startLsn,
      walEndLsn: start.startLsn,
      captureStartTime: start.startTime,
      startTime: null,
      endTime: start.startTime,
      backupLabel: '',
      totals: { rows: 0n, indexEntries: 0n, bytes: built.bytes, storedBytes: 0n },
    },
    objects: [],
    databases: countsByDatabase(whole),
    packs: [...built.packs],
    wal: [],
    files: built.files,
    runs: built.runs,
    frames: built.frames,
  };
}

/** A map of relations that knows no names: only what was counted, which `OlderBase` asks for. */
function countsByDatabase(whole: readonly WholeFile[]): Manifest['databases'] {
  const byDatabase = Map.groupBy(whole, ({ relation }) => relation.databaseOid);
  return Array.from(byDatabase, ([oid, files]) => ({
    oid,
    name: '',
    relations: Array.from(
      Map.groupBy(files, ({ relation }) => relation.filenode),
      ([filenode, segments]) => relationOf(filenode, segments),
    ),
  }));
}

function relationOf(filenode: number, segments: readonly WholeFile[]): ManifestRelation {
  const sum = (count: (file: WholeFile) => number) =>
    segments.reduce((total, segment) => total + count(segment), 0);
  const indexEntries = sum(({ counts }) => counts.indexEntries);
  const heapTuples = sum(({ counts }) => counts.heapTuples);
  const pages = sum(({ counts }) => counts.pages);
  const isIndex = indexEntries > 0;
  return [
    filenode,
    filenode,
    0,
    0,
    isIndex ? 'i' : 'r',
    'p',
    '',
    '',
    pages,
    isIndex ? indexEntries : heapTuples,
  ];
}
