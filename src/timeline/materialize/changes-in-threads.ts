/** What changed, read from the vault by several threads at once: a rewind waits for little else, where no summary tells. */
import { required } from '../../base/index.ts';
import type { AddLogChanges } from '../changed-set/log-changes.ts';
import { partsOfSpan } from '../changed-set/plan.ts';
import type { IncarnationRecord, TimelineStoreLocation } from '../store-contract.ts';
import type { MaterializePool } from './materialize.ts';

/** @throws AppError `changes_unknown` as `addLogChanges` does */
export function addChangesInThreads(
  pool: MaterializePool,
  { timeline, record }: { readonly timeline: TimelineStoreLocation; readonly record: IncarnationRecord },
): AddLogChanges {
  return async (set, { span, history, segmentBytes, engineMajor, systemIdentifier }) => {
    const facts = { history, segmentBytes, engineMajor, systemIdentifier };
    const parts = Array.from(partsOfSpan(span, { parts: pool.size, segmentBytes }));
    const results = await Promise.all(
      parts.map((part) => pool.run({ kind: 'changes', timeline, record, span: part, ...facts })),
    );
    for (const { changes } of results) set.addParts(required(changes, 'changes of a part of the log'));
    return span.toLsn;
  };
}
