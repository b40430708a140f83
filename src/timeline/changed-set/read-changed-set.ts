/** What a data directory's log says has changed: from Postgres's summaries where there are any, else from the log. */
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, isAppError, type Lsn } from '../../base/index.ts';
import { throwIfAborted } from '../../blob/index.ts';
import {
  firstRecordLsnFrom,
  formatWalSummaryName,
  parseWalSummaryName,
  timelineSpans,
  type WalSummaryName,
  WalSummaryReader,
} from '../../pg/index.ts';
import { ChangedSetBuilder } from './changed-set.ts';
import { addLogChanges, type AddLogChanges, type LogFacts, unknownChanges } from './log-changes.ts';
import { type LogSpan, planChanges } from './plan.ts';
import { summaryVisitor } from './sources.ts';

const PIECE_BYTES = 256 * 1024;
const LSN_MAX = 0xffff_ffff_ffff_ffffn as Lsn;

export interface ChangedSetRequest extends LogFacts {
  /** `pg_wal/summaries` of one incarnation; null to read the log only. */
  readonly summariesDirectory: string | null;
  /** Changes from here on: where replay from the base begins. */
  readonly startLsn: Lsn;
  readonly end: ChangedSetEnd;
  /** In place of `addLogChanges`, where more than one thread can read. */
  readonly addLogChanges?: AddLogChanges | undefined;
  readonly signal: AbortSignal;
}

export type ChangedSetEnd =
  | { readonly kind: 'lsn'; readonly lsn: Lsn }
  /** Wherever the log of a directory that nobody writes to ends; not before `atLeastLsn`, which pg_control knows. */
  | { readonly kind: 'end_of_log'; readonly atLeastLsn: Lsn };

export interface ReadChangedSet {
  readonly set: ChangedSetBuilder;
  /** Everything up to here is in the set. */
  readonly endLsn: Lsn;
  readonly summariesRead: number;
  /** What had to be read from the log itself, in order. */
  readonly readFromLog: readonly LogSpan[];
}

/**
 * Every page that differs between the directory at `startLsn` and at the end is in the set; more may be. Summaries that are
 * missing, damaged, or taken away meanwhile are made up for by reading the log. See `ChangedSetBuilder` for the memory it takes.
 *
 * Pages that were appended and never written to (all zeroes) are not logged, hence not in the set: a copy has them from the
 * file's length alone. Whatever is no main or init fork, and every file that is no relation's, is to be copied whole.
 * @throws AppError `changes_unknown` when neither summaries nor log cover all of it
 */
export async function readChangedSet(request: ChangedSetRequest): Promise<ReadChangedSet> {
  const { history, startLsn, end, segmentBytes, addLogChanges: add = addLogChanges } = request;
  const toLsn = end.kind === 'lsn' ? end.lsn : LSN_MAX;
  const set = new ChangedSetBuilder();
  const available = await listSummaries(request.summariesDirectory);
  const readFromLog: LogSpan[] = [];
  let summariesRead = 0;
  let endLsn = startLsn;
  for (const span of timelineSpans({ history, fromLsn: startLsn, toLsn })) {
    const { holes, read } = await addSummaries(set, { ...request, available, span });
    summariesRead += read;
    endLsn = span.toLsn;
    for (const hole of holes) {
      if (firstRecordLsnFrom({ lsn: hole.fromLsn, segmentBytes }) >= hole.toLsn) continue;
      const isTail = hole.toLsn === LSN_MAX;
      endLsn = await add(set, { ...request, span: hole, endsAnywhere: isTail });
      readFromLog.push(isTail ? { ...hole, toLsn: endLsn } : hole);
      if (isTail && end.kind === 'end_of_log' && endLsn < end.atLeastLsn) {
        throw unknownChanges({ span: { ...hole, toLsn: end.atLeastLsn }, reachedLsn: endLsn });
      }
    }
  }
  return { set, endLsn: end.kind === 'lsn' ? end.lsn : endLsn, summariesRead, readFromLog };
}

/** Adds what the summaries of the span say. Those that cannot be read become holes. */
async function addSummaries(
  set: ChangedSetBuilder,
  options: ChangedSetRequest & { readonly available: readonly WalSummaryName[]; readonly span: LogSpan },
): Promise<{ holes: readonly LogSpan[]; read: number }> {
  const { span, summariesDirectory, signal } = options;
  const added = new Set<WalSummaryName>();
  const lost = new Set<WalSummaryName>();
  for (;;) {
    const { summaries, holes } = planChanges(
      options.available.filter((name) => !lost.has(name)),
      span,
    );
    const lostBefore = lost.size;
    for (const name of summaries) {
      if (summariesDirectory === null || added.has(name)) continue;
      const summary = await readSummary(join(summariesDirectory, formatWalSummaryName(name)), signal);
      if (summary === null) {
        lost.add(name);
      } else {
        set.merge(summary);
        added.add(name);
      }
    }
    if (lost.size === lostBefore) return { holes, read: added.size };
  }
}

/** What a summary says; null when it is not whole or not there any more. */
async function readSummary(path: string, signal: AbortSignal): Promise<ChangedSetBuilder | null> {
  const set = new ChangedSetBuilder();
  const reader = new WalSummaryReader({ name: path, visitor: summaryVisitor(set) });
  const buffer = new Uint8Array(PIECE_BYTES);
  try {
    await using file = await open(path);
    for (;;) {
      throwIfAborted(signal);
      const { bytesRead } = await file.read(buffer);
      if (bytesRead === 0) break;
      reader.push(buffer.subarray(0, bytesRead));
    }
    reader.finish();
    return set;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || isAppError(error, 'data_corrupt')) return null;
    throw error;
  }
}

async function listSummaries(directory: string | null): Promise<WalSummaryName[]> {
  if (directory === null) return [];
  const names = await readdir(directory);
  return names.flatMap((name) => {
    try {
      return [parseWalSummaryName(name)];
    } catch (error) {
      // `temp.summary`, which Postgres is writing.
      if (isAppError(error, 'name_invalid')) return [];
      throw error;
    }
  });
}
