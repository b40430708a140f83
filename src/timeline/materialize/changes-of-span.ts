/** What a stretch of the vault's log changed. Runs in a thread of a materialization. */
import { vaultLog } from '../capture/read-changes.ts';
import { ChangedSetBuilder, type ChangedSetParts } from '../changed-set/changed-set.ts';
import { addLogChanges } from '../changed-set/log-changes.ts';
import type { ChangesTask } from './tasks.ts';

/** @throws AppError `changes_unknown` as `addLogChanges` does */
export async function readChangesOfSpan(
  task: ChangesTask,
  { signal }: { readonly signal: AbortSignal },
): Promise<ChangedSetParts> {
  const { timeline, record, span } = task;
  const log = vaultLog(timeline, { record, timelineId: span.timelineId });
  const set = new ChangedSetBuilder();
  await addLogChanges(set, { ...task, log, endsAnywhere: false, signal });
  return set.toParts();
}
