/** A base of the timeline store: full, or on top of an older one. Runs in a bulk worker. */
import { baseSummaryOf } from '../collection/summary.ts';
import type { CaptureBaseRequest, CaptureBaseResult } from '../store-contract.ts';
import { basesCollection, openBases } from '../store/bases.ts';
import type { CaptureTools } from './capture.ts';
import { INCREMENTAL_RULES, type IncrementalRules, planOnto } from './plan-onto.ts';
import { publishCapture } from './publish-capture.ts';

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
  const onto = { ...request, timeline: request.store };
  const plan = planOnto(onto, { tools, store, rules, onFull: (reason) => (fall.reason = reason) });
  const { head, pagesRead } = await publishCapture({ ...request, collection }, { tools, store, plan });
  return { base: baseSummaryOf(head), pagesRead, fullReason: fall.reason };
}
