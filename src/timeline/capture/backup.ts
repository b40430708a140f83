/** A full backup, from the first claim on the collection to the marker of the newest. Runs in a bulk worker. */
import { markLatest } from '../collection/attempt.ts';
import { openCollection } from '../collection/open.ts';
import { summaryOf } from '../collection/summary.ts';
import type { BackupRequest, BackupSummary } from '../contract.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { type CaptureTools, FULL_CAPTURE } from './capture.ts';
import { publishCapture } from './publish-capture.ts';

/**
 * Takes a backup and returns when it could be restored: everything written was read again. Asked again for a backup that an
 * earlier attempt completed, it answers with that one.
 */
export async function runBackup(request: BackupRequest, tools: CaptureTools): Promise<BackupSummary> {
  const store = openCollection(request.collection, tools);
  const { head } = await publishCapture(request, { tools, store, plan: () => Promise.resolve(FULL_CAPTURE) });
  await markLatest({ ...request, store, signal: tools.signal });
  faultPoint('publish.after_latest');
  return summaryOf(head);
}
