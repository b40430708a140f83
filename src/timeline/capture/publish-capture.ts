import type { BlobStore } from '../../blob/index.ts';
import { abandonAttempt, beginAttempt, publishManifest } from '../collection/attempt.ts';
import { claimCollection } from '../collection/owner.ts';
import {
  type CheckpointPlace,
  ownPacks,
  readProgress,
  removeProgress,
  writeProgress,
} from '../collection/progress.ts';
import type { Manifest, ManifestPack } from '../format/manifest.ts';
import type { ManifestHead } from '../format/manifest-file.ts';
import { faultPoint } from '../worker/fault-point.ts';
import {
  capture,
  type CaptureProgress,
  type CaptureRequest,
  type CaptureTools,
  type Planner,
} from './capture.ts';
import { INCREMENTAL_RULES } from './plan-onto.ts';
import { planResumed } from './plan-resumed.ts';

/** What is published now, and what it took. */
export interface PublishedCapture {
  readonly head: ManifestHead;
  /** 0 when an earlier attempt had published it. */
  readonly pagesRead: number;
  /** Removes what nobody needs any more. Harmless when it is not called, or called twice. */
  readonly tidyUp: () => Promise<void>;
}

/** With packs of their usual size a checkpoint for every 4 GiB: between two of them threads have to wait for each other. */
const PACKS_PER_CHECKPOINT = 32;

/**
 * Captures into a folder of a collection and writes the manifest, with which there is a base. Asked again for one that an earlier
 * attempt completed, it answers with that one; if it is resumable, it goes on from the last checkpoint of one that was broken off.
 */
export async function publishCapture(
  request: CaptureRequest,
  options: { tools: CaptureTools; store: BlobStore; plan: Planner; isResumable?: boolean },
): Promise<PublishedCapture> {
  const { tools, store, plan, isResumable = false } = options;
  const { source, clusterId, subdirectory, jobId, attempt, key } = request;
  const { signal } = tools;
  const { virtualClusterId, virtualClusterName } = source;
  await claimCollection(store, { owner: { clusterId, virtualClusterId, virtualClusterName }, signal });
  faultPoint('backup.after_claim');
  const attempted = { store, subdirectory, jobId, attempt, key, signal };
  const place = { form: 'image', store, subdirectory, key, signal } as const;
  const resumed = isResumable && attempt > 1 ? await readProgress(place, { jobId }) : null;
  const packsOf = (manifest: Manifest | null) => (manifest === null ? [] : ownPacks(manifest, subdirectory));
  const completed = await beginAttempt(attempted, { kept: pathsOf(packsOf(resumed)) });
  faultPoint('backup.after_lock');
  if (completed !== null) return { head: completed, pagesRead: 0, tidyUp: tidyUpOf(place, []) };
  const reached = { manifest: resumed, number: 0 };
  const progress: CaptureProgress | undefined = isResumable
    ? {
        everyBytes: request.packBytesMax * PACKS_PER_CHECKPOINT,
        async record(manifest) {
          reached.number += 1;
          await writeProgress(place, manifest, { number: reached.number });
          reached.manifest = manifest;
        },
      }
    : undefined;
  try {
    const planned =
      resumed === null ? plan : planResumed(resumed, { request, tools, rules: INCREMENTAL_RULES });
    const { manifest, pagesRead } = await capture(request, { tools, store, plan: planned, progress });
    faultPoint('publish.before_manifest');
    await publishManifest(attempted, manifest);
    faultPoint('publish.after_manifest');
    const unnamed = packsOf(resumed).filter(({ path }) => !manifest.packs.some((pack) => pack.path === path));
    return { head: manifest, pagesRead, tidyUp: tidyUpOf(place, unnamed) };
  } catch (error) {
    // Not with the signal of the work, which may be what ended it. The first failure is the one to tell.
    const { signal: unaborted } = new AbortController();
    const kept = pathsOf(packsOf(reached.manifest));
    await abandonAttempt({ ...attempted, signal: unaborted }, { kept }).catch(() => undefined);
    throw error;
  }
}

function pathsOf(packs: readonly ManifestPack[]): ReadonlySet<string> {
  return new Set(packs.map(({ path }) => path));
}

/** Checkpoints have served, and so have packs of which the backup uses nothing. */
function tidyUpOf(place: CheckpointPlace, unnamed: readonly ManifestPack[]): () => Promise<void> {
  return () => removeProgress(place, { kept: unnamed, named: [] });
}
