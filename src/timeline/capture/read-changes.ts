/** What changed between two bases: Postgres's own summaries tell, and where they do not, the log itself. */
import { join } from 'node:path';
import { type Clock, isAppError, type Lsn } from '../../base/index.ts';
import { FORK } from '../../pg/index.ts';
import { ChangedSetBuilder, relationInDirectory } from '../changed-set/changed-set.ts';
import type { AddLogChanges, LogSource } from '../changed-set/log-changes.ts';
import { readChangedSet } from '../changed-set/read-changed-set.ts';
import { walDirectory } from '../changed-set/wal-directory.ts';
import type { CaptureSource } from '../contract.ts';
import type { IncarnationRecord, TimelineStoreLocation } from '../store-contract.ts';
import type { LogStretch } from '../store/lineage.ts';
import { openLog } from '../store/read-log.ts';
import type { BackupSession } from './backup-session.ts';
import type { PageChanges } from './plan-incremental.ts';

/** What tells of summaries. */
type Summaries = Pick<BackupSession, 'summarises' | 'summarisedTo'>;

/** The summarizer is woken by the checkpoint that a capture begins with; beyond this the log is read instead. */
const SUMMARY_WAIT_MS_MAX = 30_000;
const SUMMARY_POLL_MS = 20;

export type Changes =
  | { readonly kind: 'known'; readonly pages: PageChanges }
  | { readonly kind: 'unknown'; readonly reason: string };

/** Along the way from an older base to a new one, which begins where the last stretch ends. */
export async function readChanges(
  session: Summaries,
  options: {
    readonly source: CaptureSource;
    readonly timeline?: TimelineStoreLocation;
    readonly incarnations: readonly IncarnationRecord[];
    readonly stretches: readonly LogStretch[];
    readonly fromLsn: Lsn;
    readonly segmentBytes: number;
    readonly clock: Clock;
    readonly signal: AbortSignal;
  },
): Promise<Changes> {
  const last = options.stretches.at(-1);
  if (last !== undefined) await awaitSummaries(session, { ...options, ...last });
  return changesAlong(options);
}

/** The same of a directory that nobody writes to; what is not summarised is read from the log. */
export async function changesAlong(options: {
  readonly source: Pick<CaptureSource, 'dataDirectory' | 'incarnation'>;
  readonly timeline?: TimelineStoreLocation;
  readonly incarnations: readonly IncarnationRecord[];
  readonly stretches: readonly LogStretch[];
  readonly fromLsn: Lsn;
  readonly segmentBytes: number;
  /** Log in the directory itself is believed to be that of the stretches. */
  readonly hasOwnLog?: boolean;
  /** Reads the log of a stretch in place of this thread. */
  readonly addLogChangesOf?: (stretch: LogStretch) => AddLogChanges | undefined;
  readonly signal: AbortSignal;
}): Promise<Changes> {
  const { source, stretches, fromLsn, segmentBytes, signal } = options;
  const all = new ChangedSetBuilder();
  try {
    for (const stretch of stretches) {
      const { timelineId, beginLsn, endLsn, engineMajor, systemIdentifier } = stretch;
      const { set } = await readChangedSet({
        // Summaries that lie in this directory were made of its own log; what its ancestors wrote is in the vault.
        summariesDirectory:
          stretch.incarnation === source.incarnation
            ? join(source.dataDirectory, 'pg_wal', 'summaries')
            : null,
        log: logOf(stretch, options),
        history: [{ timelineId, beginLsn, endLsn: null, reason: '' }],
        startLsn: beginLsn > fromLsn ? beginLsn : fromLsn,
        end: { kind: 'lsn', lsn: endLsn },
        segmentBytes,
        engineMajor,
        systemIdentifier,
        addLogChanges: options.addLogChangesOf?.(stretch),
        signal,
      });
      all.merge(set);
    }
  } catch (error) {
    // Log that is missing or damaged in the vault does not tell either, and whoever asks has another way that may not need it.
    if (!isAppError(error, 'changes_unknown', 'data_corrupt')) throw error;
    return { kind: 'unknown', reason: error.message };
  }
  return { kind: 'known', pages: pagesOf(all) };
}

function pagesOf(set: ChangedSetBuilder): PageChanges {
  return {
    changedBlocks: (relation, range) =>
      set.changes(relationInDirectory(relation), FORK.main)?.changedBlocks(range) ?? [],
  };
}

async function awaitSummaries(
  session: Summaries,
  options: { timelineId: number; endLsn: Lsn; clock: Clock; signal: AbortSignal },
): Promise<void> {
  const { timelineId, endLsn, clock, signal } = options;
  // None will come: the log itself is read at once.
  if (!(await session.summarises())) return;
  const deadlineMs = clock.monotonicMs() + SUMMARY_WAIT_MS_MAX;
  while (clock.monotonicMs() < deadlineMs) {
    const summarised = await session.summarisedTo({ timelineId });
    if (summarised !== null && summarised >= endLsn) return;
    await clock.sleep(SUMMARY_POLL_MS, { signal });
  }
}

/** What lies in the data directory, which wrote or replayed it; beyond, what the vault has kept. */
function logOf(
  { incarnation, timelineId }: LogStretch,
  options: {
    source: Pick<CaptureSource, 'dataDirectory'>;
    timeline?: TimelineStoreLocation;
    incarnations: readonly IncarnationRecord[];
    hasOwnLog?: boolean;
  },
): LogSource {
  const { source, timeline, incarnations, hasOwnLog = true } = options;
  const record = incarnations.find((each) => each.incarnation === incarnation);
  const own = walDirectory(join(source.dataDirectory, 'pg_wal'));
  const kept =
    record === undefined || timeline === undefined ? null : vaultLog(timeline, { record, timelineId });
  return {
    async segment(segment, { signal }) {
      const local = hasOwnLog ? await own.segment(segment, { signal }) : null;
      return local ?? (await kept?.segment(segment, { signal })) ?? null;
    },
  };
}

/** What the vault has of an incarnation's log on a timeline. */
export function vaultLog(
  timeline: TimelineStoreLocation,
  { record, timelineId }: { readonly record: IncarnationRecord; readonly timelineId: number },
): LogSource {
  return {
    async segment(segment, { signal }) {
      if (segment.timelineId !== timelineId) return null;
      const fromLsn = (segment.segmentNo * BigInt(segment.segmentBytes)) as Lsn;
      const throughLsn = (fromLsn + BigInt(segment.segmentBytes)) as Lsn;
      const chunks = openLog(timeline, { record, timelineId, fromLsn, throughLsn, signal });
      const first = await chunks.next();
      return first.done === true ? null : piecesOf(first.value.bytes, chunks);
    },
  };
}

async function* piecesOf(
  first: Uint8Array,
  rest: AsyncIterable<{ readonly bytes: Uint8Array }>,
): AsyncIterable<Uint8Array> {
  yield first;
  for await (const { bytes } of rest) yield bytes;
}
