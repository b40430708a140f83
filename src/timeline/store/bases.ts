import type { Rng } from '../../base/index.ts';
import type { BlobStore } from '../../blob/index.ts';
import { openCollection } from '../collection/open.ts';
import type { CollectionLocation } from '../contract.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';
import { basesDirectory } from './layout.ts';

/** Bases lie in a folder as backups do in a collection. */
export function basesCollection(location: TimelineStoreLocation): CollectionLocation {
  return {
    displayUri: `the timeline of virtual cluster ${location.virtualClusterId}`,
    directory: basesDirectory(location),
  };
}

/** The objects of the bases. */
export function openBases(location: TimelineStoreLocation, { rng }: { readonly rng: Rng }): BlobStore {
  return openCollection(basesCollection(location), { rng });
}
