import type { Clock, Rng } from '../../base/index.ts';
import { type BlobStore, nodelocalBlobStore, serviceStore } from '../../blob/index.ts';
import type { CollectionLocation } from '../contract.ts';
import { workerClock } from '../worker/worker-environment.ts';

/** A request to a service that has got no answer for so long is made again. */
const ATTEMPT_MS_MAX = 120_000;

/** The objects of a collection. */
export function openCollection(
  collection: CollectionLocation,
  { rng, clock = workerClock }: { readonly rng: Rng; readonly clock?: Clock },
): BlobStore {
  if (!('service' in collection)) return nodelocalBlobStore({ ...collection, rng });
  const { displayUri, service, timeoutMs, azurePartsAtOnce } = collection;
  const patience = { clock, rng, operationMs: timeoutMs, attemptMs: Math.min(ATTEMPT_MS_MAX, timeoutMs) };
  return serviceStore(service, { displayUri, patience, azurePartsAtOnce });
}
