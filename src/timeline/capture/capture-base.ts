/** A base of the timeline store: full, or on top of an older one. Runs in a bulk worker. */
import { AppError, formatLsn, type Lsn } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import { openManifest } from '../collection/reader.ts';
import { baseSummaryOf } from '../collection/summary.ts';
import type { CaptureSource } from '../contract.ts';
import { checkManifest } from '../format/check-manifest.ts';
import type { ManifestHeader } from '../format/manifest.ts';
import { readManifest } from '../format/manifest-file.ts';
import type { CaptureBaseRequest, CaptureBaseResult, IncarnationRecord } from '../store-contract.ts';
import { basesCollection, openBases } from '../store/bases.ts';
import { isOnTheWay, type LogStretch, stretchesTo } from '../store/lineage.ts';
import type { BackupStart } from './backup-session.ts';
import { type CaptureTools, FULL_CAPTURE, type Planner } from './capture.ts';
import { OlderBase } from './older-base.ts';
import { planIncremental } from './plan-incremental.ts';
import { publishCapture } from './publish-capture.ts';
import { readChanges } from './read-changes.ts';

const LOG_BEGIN = 0n as Lsn;

/** How an incremental base finds out what to read; tests leave something out to see that it is missed. */
export interface IncrementalRules {
  readonly readChanges: typeof readChanges;
  readonly planIncremental: typeof planIncremental;
}

export const INCREMENTAL_RULES: IncrementalRules = { readChanges, planIncremental };

/**
 * Captures a base and returns when it could be restored: everything written was read again. On top of an older one only pages
 * that changed since are read; the manifest is complete all the same. Asked again for a base that an earlier attempt completed,
 * it answers with that one. When nobody knows any more what changed since `onto`, everything is read, and the result says why.
 * @throws AppError `object_state` when `onto` is no ancestor of what the instance holds
 */
export async function runCaptureBase(
  request: CaptureBaseRequest,
  tools: CaptureTools,
  rules: IncrementalRules = INCREMENTAL_RULES,
): Promise<CaptureBaseResult> {
  const collection = basesCollection(request.store);
  const store = openBases(request.store, tools);
  const fall = { reason: null as string | null };
  const plan = plannerOf(request, { tools, store, rules, onFull: (reason) => (fall.reason = reason) });
  const { head, pagesRead } = await publishCapture({ ...request, collection }, { tools, store, plan });
  return { base: baseSummaryOf(head), pagesRead, fullReason: fall.reason };
}

function plannerOf(
  request: CaptureBaseRequest,
  options: {
    tools: CaptureTools;
    store: BlobStore;
    rules: IncrementalRules;
    onFull: (reason: string) => void;
  },
): Planner {
  const { onto } = request;
  const { tools, store, rules, onFull } = options;
  if (onto === null) return () => Promise.resolve(FULL_CAPTURE);
  return async (start, { session, signal }) => {
    const older = await readOlderBase(request, { store, onto, signal });
    const stretches = requireAncestor(older.header, { request, start });
    const changes = await rules.readChanges(session, { stretches, fromLsn: older.header.startLsn, ...tools });
    if (changes.kind === 'known') {
      return { older, planFiles: (files) => rules.planIncremental(files, { older, changes: changes.pages }) };
    }
    onFull(changes.reason);
    return FULL_CAPTURE;
  };
}

async function readOlderBase(
  { key }: CaptureBaseRequest,
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
  { request, start }: { request: CaptureBaseRequest; start: BackupStart },
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
