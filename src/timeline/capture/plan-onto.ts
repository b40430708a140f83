/** What a capture builds on: found out once the position is known where it begins. */
import { AppError, formatLsn, type Lsn } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import { openManifest } from '../collection/completed.ts';
import type { CaptureSource } from '../contract.ts';
import { checkManifest } from '../format/check-manifest.ts';
import type { ManifestHeader } from '../format/manifest.ts';
import { readManifest } from '../format/manifest-file.ts';
import type { IncarnationRecord, TimelineStoreLocation } from '../store-contract.ts';
import { isOnTheWay, type LogStretch, stretchesTo } from '../store/lineage.ts';
import type { BackupStart } from './backup-session.ts';
import { type CaptureTools, FULL_CAPTURE, type Planner, type PreparedPlanner } from './capture.ts';
import { OlderBase } from './older-base.ts';
import { planIncremental } from './plan-incremental.ts';
import { readChanges } from './read-changes.ts';

const LOG_BEGIN = 0n as Lsn;

/** How an incremental base finds out what to read; tests leave something out to see that it is missed. */
export interface IncrementalRules {
  readonly readChanges: typeof readChanges;
  readonly planIncremental: typeof planIncremental;
}

export const INCREMENTAL_RULES: IncrementalRules = { readChanges, planIncremental };

export interface OntoRequest {
  readonly source: CaptureSource;
  readonly clusterId: string;
  readonly key: ClusterKey;
  /** Path of the older base in the store, or null when everything is to be read. */
  readonly onto: string | null;
  /** What is known of lives of the data; that of the source may be missing as long as it is its first. */
  readonly incarnations: readonly IncarnationRecord[];
  /** Whose vault may still have log that the data directory has not. */
  readonly timeline?: TimelineStoreLocation;
}

/**
 * On top of an older base only pages that changed since are read. When nobody knows any more what changed, everything is, and
 * `onFull` is told why; the new base has the older one as its base all the same.
 */
export function planOnto(
  request: OntoRequest,
  options: {
    tools: CaptureTools;
    store: BlobStore;
    rules: IncrementalRules;
    onFull: (reason: string) => void;
  },
): Planner {
  const { onto } = request;
  if (onto === null) {
    return { readsAll: true, prepare: () => Promise.resolve(() => Promise.resolve(FULL_CAPTURE)) };
  }
  return {
    readsAll: false,
    prepare: async ({ signal }) =>
      planOver(await readOlderBase(request, { ...options, onto, signal }), { request, ...options }),
  };
}

function planOver(
  older: OlderBase,
  options: {
    request: OntoRequest;
    tools: CaptureTools;
    rules: IncrementalRules;
    onFull: (reason: string) => void;
  },
): PreparedPlanner {
  const { request, tools, rules, onFull } = options;
  return async (start, { session }) => {
    const stretches = requireAncestor(older.header, { request, start });
    const changes = await rules.readChanges(session, {
      ...request,
      ...tools,
      stretches,
      fromLsn: older.header.startLsn,
      segmentBytes: start.engine.walSegmentBytes,
    });
    if (changes.kind === 'known') {
      return { older, planFiles: (files) => rules.planIncremental(files, { older, changes: changes.pages }) };
    }
    onFull(changes.reason);
    return { ...FULL_CAPTURE, older };
  };
}

async function readOlderBase(
  { key }: OntoRequest,
  { store, onto, signal }: { store: BlobStore; onto: string; signal: AbortSignal },
): Promise<OlderBase> {
  const { chunks, name } = await openManifest(store, { subdirectory: onto, signal });
  const manifest = await readManifest(chunks, { key, name });
  checkManifest(manifest, name);
  return new OlderBase(manifest);
}

/**
 * The way through the log from the older base to the new one. System identifier, timeline id and position do not tell two branches
 * of one base apart: only the lineage does.
 * @throws AppError `object_state` when there is no such way
 */
function requireAncestor(
  older: ManifestHeader,
  { request, start }: { request: OntoRequest; start: BackupStart },
): readonly LogStretch[] {
  const { source } = request;
  const here = { incarnation: source.incarnation, timelineId: start.timelineId, lsn: start.startLsn };
  const isOurs = older.virtualClusterId === source.virtualClusterId && older.clusterId === request.clusterId;
  const isReadable = older.engine.catalogVersion === start.engine.catalogVersion;
  const stretches = stretchesTo(here, withSource(request.incarnations, { source, start }));
  const first = stretches.findIndex((stretch) => isOnTheWay(older, [stretch]));
  const last = stretches.at(-1);
  const isHere = last?.incarnation === here.incarnation && last.timelineId === here.timelineId;
  if (isOurs && isReadable && isHere && first >= 0) return stretches.slice(first);
  const what = `base ${older.subdirectory} of incarnation ${older.incarnation}, consistent at ${formatLsn(older.stopLsn)},`;
  throw new AppError(
    'object_state',
    `${what} is no ancestor of incarnation ${source.incarnation} at ${formatLsn(start.startLsn)}`,
    { hint: 'capture a full base' },
  );
}

/** An incarnation of which the store has no record yet has one timeline, that of now. */
function withSource(
  records: readonly IncarnationRecord[],
  { source, start }: { source: CaptureSource; start: BackupStart },
): readonly IncarnationRecord[] {
  const { incarnation, systemIdentifier, engineMajor } = source;
  if (records.some((record) => record.incarnation === incarnation)) return records;
  const timelines = [{ timelineId: start.timelineId, beginLsn: LOG_BEGIN }];
  return [
    ...records,
    { incarnation, parentIncarnation: null, forkLsn: null, systemIdentifier, engineMajor, timelines },
  ];
}
