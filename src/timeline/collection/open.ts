import type { Rng } from '../../base/index.ts';
import { type BlobStore, nodelocalBlobStore } from '../../blob/index.ts';
import type { CollectionLocation } from '../contract.ts';

/** The objects of a collection. */
export function openCollection(collection: CollectionLocation, { rng }: { readonly rng: Rng }): BlobStore {
  return nodelocalBlobStore({ ...collection, rng });
}
