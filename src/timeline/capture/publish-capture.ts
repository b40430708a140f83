import type { BlobStore } from '../../blob/index.ts';
import { abandonAttempt, beginAttempt, publishManifest } from '../collection/attempt.ts';
import { claimCollection } from '../collection/owner.ts';
import type { ManifestHead } from '../format/manifest-file.ts';
import { faultPoint } from '../worker/fault-point.ts';
import { capture, type CaptureRequest, type CaptureTools, type Planner } from './capture.ts';

/** What is published now, and what it took. */
export interface PublishedCapture {
  readonly head: ManifestHead;
  /** 0 when an earlier attempt had published it. */
  readonly pagesRead: number;
}

/**
 * Captures into a folder of a collection and writes the manifest, with which there is a base. Asked again for one that an earlier
 * attempt completed, it answers with that one.
 */
export async function publishCapture(
  request: CaptureRequest,
  { tools, store, plan }: { tools: CaptureTools; store: BlobStore; plan: Planner },
): Promise<PublishedCapture> {
  const { source, clusterId, subdirectory, jobId, attempt, key } = request;
  const { signal } = tools;
  const { virtualClusterId, virtualClusterName } = source;
  await claimCollection(store, { owner: { clusterId, virtualClusterId, virtualClusterName }, signal });
  faultPoint('backup.after_claim');
  const attempted = { store, subdirectory, jobId, attempt, key, signal };
  const completed = await beginAttempt(attempted);
  faultPoint('backup.after_lock');
  if (completed !== null) return { head: completed, pagesRead: 0 };
  try {
    const { manifest, pagesRead } = await capture(request, { tools, store, plan });
    faultPoint('publish.before_manifest');
    await publishManifest(attempted, manifest);
    faultPoint('publish.after_manifest');
    return { head: manifest, pagesRead };
  } catch (error) {
    // Not with the signal of the work, which may be what ended it. The first failure is the one to tell.
    const { signal: unaborted } = new AbortController();
    await abandonAttempt({ ...attempted, signal: unaborted }).catch(() => undefined);
    throw error;
  }
}
