import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CancelledError, required, type Rng } from '../../base/index.ts';
import { type BlobStore, parseBlobKey } from '../../blob/index.ts';
import { manifestKey } from '../collection/layout.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';
import { openBases } from '../store/bases.ts';
import { walDirectory } from '../store/layout.ts';
import { syncFolder } from '../vault/files.ts';
import { faultPoint } from '../worker/fault-point.ts';
import type { Removal, RetentionPlan } from './plan.ts';

/**
 * Removes what a plan lists: manifests first, so that no base is ever there without its packs; then objects that no manifest names;
 * then log, oldest first, so that what is left has no hole. Cut off anywhere it leaves what the next plan finds.
 */
export async function collectGarbage(
  store: TimelineStoreLocation,
  plan: RetentionPlan,
  { rng, signal }: { readonly rng: Rng; readonly signal: AbortSignal },
): Promise<void> {
  const blobs = openBases(store, { rng });
  const of = (kind: Removal['kind']) => plan.removals.filter((removal) => removal.kind === kind);
  faultPoint('retention.before_bases');
  for (const { name } of of('base')) {
    await blobs.delete(manifestKey(name), { signal });
    faultPoint('retention.after_first_base');
  }
  faultPoint('retention.before_objects');
  await removeObjects(blobs, of('object'), signal);
  faultPoint('retention.before_log');
  for (const kind of ['segment', 'time_index', 'log_folder'] as const) {
    for (const [incarnation, removals] of Map.groupBy(of(kind), ({ incarnation }) => incarnation)) {
      await removeLog(walDirectory(store, required(incarnation, 'incarnation of a log')), removals, signal);
    }
  }
  faultPoint('retention.after_log');
}

async function removeObjects(
  blobs: BlobStore,
  removals: readonly Removal[],
  signal: AbortSignal,
): Promise<void> {
  for (const { name } of removals) {
    await blobs.delete(parseBlobKey(name), { signal });
    faultPoint('retention.after_first_object');
  }
}

/** A removal that comes back after a power cut would be a hole, so each is made to last before the next. */
async function removeLog(
  directory: string,
  removals: readonly Removal[],
  signal: AbortSignal,
): Promise<void> {
  for (const { kind, name } of removals) {
    if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
    if (kind === 'log_folder') {
      await rm(directory, { recursive: true, force: true });
      await syncFolder(dirname(directory));
    } else {
      await rm(join(directory, name), { force: true });
      await syncFolder(directory);
    }
    faultPoint('retention.after_first_segment');
  }
}
