/** Postgres's timeline history files (`access/transam/timeline.c`): which timelines came before, and where each was left. */
import { type Lsn, parseLsn } from '../../base/index.ts';

export interface HistoryLine {
  readonly timelineId: number;
  readonly switchLsn: Lsn;
}

/** Oldest first. @throws InputError `lsn_malformed` */
export function parseHistory(text: string): readonly HistoryLine[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [timelineId = '', switchLsn = ''] = line.split(/\s+/);
      return { timelineId: Number(timelineId), switchLsn: parseLsn(switchLsn) };
    });
}

/** Where a timeline was left for which next one; null when it is not among the ancestors. */
export function successorOf(
  history: readonly HistoryLine[],
  options: { readonly timelineId: number; readonly newestTimelineId: number },
): { readonly nextTimelineId: number; readonly switchLsn: Lsn } | null {
  const index = history.findIndex(({ timelineId }) => timelineId === options.timelineId);
  const line = history[index];
  if (line === undefined) return null;
  const nextTimelineId = history[index + 1]?.timelineId ?? options.newestTimelineId;
  return { nextTimelineId, switchLsn: line.switchLsn };
}
