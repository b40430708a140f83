/** What changed between two bases, as Postgres's own summaries of the log tell. */
import { type Clock, formatLsn, type Lsn } from '../../base/index.ts';
import { WAL_PAGE_BYTES } from '../../pg/index.ts';
import type { LogStretch } from '../store/lineage.ts';
import type { BackupSession, SummaryEntry, SummaryFile } from './backup-session.ts';
import { type ForkChanges, NO_CHANGES, type PageChanges } from './plan-incremental.ts';

/** The summarizer is woken by the checkpoint that a capture begins with. */
const SUMMARY_WAIT_MS_MAX = 60_000;
const SUMMARY_POLL_MS = 20;
const WAL_PAGE_SPAN = BigInt(WAL_PAGE_BYTES);
/** `SizeOfXLogLongPHD`; no record fits between the short header's end and this. */
const PAGE_HEADER_SPAN_MAX = 40n;

export type Changes =
  | { readonly kind: 'known'; readonly pages: PageChanges }
  | { readonly kind: 'unknown'; readonly reason: string };

/** Along the way from an older base to a new one, which begins where the last stretch ends. */
export async function readChanges(
  session: BackupSession,
  options: {
    readonly stretches: readonly LogStretch[];
    readonly fromLsn: Lsn;
    readonly clock: Clock;
    readonly signal: AbortSignal;
  },
): Promise<Changes> {
  const { stretches, fromLsn, clock, signal } = options;
  const changed = new ChangedPages();
  for (const [index, { timelineId, beginLsn, endLsn }] of stretches.entries()) {
    const from = beginLsn > fromLsn ? beginLsn : fromLsn;
    const range = { timelineId, fromLsn: from, endLsn };
    // Nobody adds to the summaries of a timeline that was left.
    const waitMsMax = index === stretches.length - 1 ? SUMMARY_WAIT_MS_MAX : 0;
    const summaries = await summariesOf(session, { range, waitMsMax, clock, signal });
    if (typeof summaries === 'string') return { kind: 'unknown', reason: summaries };
    for (const summary of summaries) changed.add(await session.changesIn(summary));
  }
  return { kind: 'known', pages: changed };
}

interface SummaryRange {
  readonly timelineId: number;
  readonly fromLsn: Lsn;
  readonly endLsn: Lsn;
}

/** Summaries that cover the range without a gap, or why there are none. */
async function summariesOf(
  session: BackupSession,
  options: { range: SummaryRange; waitMsMax: number; clock: Clock; signal: AbortSignal },
): Promise<readonly SummaryFile[] | string> {
  const { range, waitMsMax, clock, signal } = options;
  const deadlineMs = clock.monotonicMs() + waitMsMax;
  for (;;) {
    const files = await session.summaries(range);
    const covered = coveredTo(files, range);
    if (covered >= range.endLsn) return files;
    const where = `the log is not summarised from ${formatLsn(covered)} on timeline ${range.timelineId}`;
    // A gap that is followed by other summaries is never filled: waiting is for the end alone.
    if (files.some(({ startLsn }) => startLsn > recordAfter(covered))) return where;
    if (clock.monotonicMs() >= deadlineMs) return where;
    await clock.sleep(SUMMARY_POLL_MS, { signal });
  }
}

/** Ascending summaries; overlaps are harmless, since what changed twice has changed. */
function coveredTo(files: readonly SummaryFile[], { fromLsn }: SummaryRange): Lsn {
  let covered = fromLsn;
  for (const { startLsn, endLsn } of files) {
    if (startLsn > recordAfter(covered)) break;
    if (endLsn > covered) covered = endLsn;
  }
  return covered;
}

/** The first position at or after this one where a record may begin: pages and segments of the log have headers. */
function recordAfter(lsn: Lsn): Lsn {
  return lsn % WAL_PAGE_SPAN === 0n ? ((lsn + PAGE_HEADER_SPAN_MAX) as Lsn) : lsn;
}

interface Fork {
  allFrom: number;
  readonly blocks: Set<number>;
}

/** The union of summaries. */
class ChangedPages implements PageChanges {
  readonly #forks = new Map<string, Fork>();
  /** Made, dropped, or copied from another: nothing is known of their files. */
  readonly #databases = new Set<number>();

  add(changes: readonly SummaryEntry[]): void {
    for (const { databaseOid, filenode, allFrom, blocks } of changes) {
      if (filenode === 0) this.#databases.add(databaseOid);
      const key = `${databaseOid}/${filenode}`;
      const fork = this.#forks.get(key) ?? { allFrom: Number.POSITIVE_INFINITY, blocks: new Set() };
      this.#forks.set(key, fork);
      fork.allFrom = Math.min(fork.allFrom, allFrom);
      for (const block of blocks) fork.blocks.add(block);
    }
  }

  changesOf({ databaseOid, filenode }: { databaseOid: number; filenode: number }): ForkChanges {
    if (this.#databases.has(databaseOid)) return { allFrom: 0, blocks: [] };
    const fork = this.#forks.get(`${databaseOid}/${filenode}`);
    if (fork === undefined) return NO_CHANGES;
    return { allFrom: fork.allFrom, blocks: [...fork.blocks].sort((left, right) => left - right) };
  }
}
