/** A backup, from the first claim on the collection to the marker of the newest. Runs in a bulk worker. */
import { markLatest } from '../collection/attempt.ts';
import { openCollection } from '../collection/open.ts';
import { summaryOf } from '../collection/summary.ts';
import type { BackupRequest, BackupResult } from '../contract.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { CaptureTools } from './capture.ts';
import { INCREMENTAL_RULES, planOnto } from './plan-onto.ts';
import { publishCapture } from './publish-capture.ts';

/**
 * Takes a backup and returns when it could be restored: everything written was read again. Asked again for a backup that an
 * earlier attempt completed, it answers with that one. An incremental backup goes on using what older backups of its collection hold.
 */
export async function runBackup(request: BackupRequest, tools: CaptureTools): Promise<BackupResult> {
  const store = openCollection(request.collection, tools);
  const fall = { reason: null as string | null };
  const plan = planOnto(
    { ...request, incarnations: [] },
    { tools, store, rules: INCREMENTAL_RULES, onFull: (reason) => (fall.reason = reason) },
  );
  // What is put on top of another backup is little: it begins anew.
  const isResumable = request.onto === null;
  const { head, tidyUp } = await publishCapture(request, { tools, store, plan, isResumable });
  if (request.onto === null) await markLatest({ ...request, store, signal: tools.signal });
  faultPoint('publish.after_latest');
  if (isResumable) await tidyUp();
  return { summary: summaryOf(head), fullReason: fall.reason };
}
