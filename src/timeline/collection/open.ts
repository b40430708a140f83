import type { Clock, Rng } from '../../base/index.ts';
import {
  type BlobStore,
  limitedBlobStore,
  nodelocalBlobStore,
  placedBlobStore,
  type RateProvider,
  serviceStore,
  takerOf,
  takeWithin,
} from '../../blob/index.ts';
import type { CollectionLocation, Place } from '../contract.ts';
import { perhapsInPieces } from '../worker/read-pieces.ts';
import { workerClock } from '../worker/worker-environment.ts';
import { openChain } from './encryption.ts';
import { attemptOf, isIncremental } from './layout.ts';

/** A request to a service that has got no answer for so long is made again. */
const ATTEMPT_MS_MAX = 120_000;

interface OpenTools {
  readonly rng: Rng;
  readonly clock?: Clock;
}

/** The objects of a collection; of an encrypted chain those that are its own, opened. */
export function openCollection(collection: CollectionLocation, tools: OpenTools): BlobStore {
  const { encryption } = collection;
  const store = openPlaces(collection, tools);
  return encryption === undefined ? store : openChain(store, { encryption, rng: tools.rng });
}

function openPlaces(collection: CollectionLocation, tools: OpenTools): BlobStore {
  if (!('places' in collection)) return openPlace(collection, tools);
  const [first, ...others] = collection.places;
  const { bulk, incrementals } = collection;
  return placedBlobStore({
    places: [openPlace(first, tools), ...others.map((place) => openPlace(place, tools))],
    placeOf: (key) => {
      if (incrementals !== null && isIncremental(key)) return incrementals;
      return attemptOf(key) === null ? 0 : bulk;
    },
  });
}

function openPlace(place: Place, tools: OpenTools): BlobStore {
  const unlimited = perhapsInPieces(openUnlimited(place, tools));
  const { clock = workerClock } = tools;
  const isQuoted = !('service' in place) && place.quota !== undefined;
  const store = isQuoted ? limitedBlobStore(unlimited, takeWithin(place.quota)) : unlimited;
  return place.rates === undefined
    ? store
    : limitedBlobStore(store, takerOf(place.rates, { provider: providerOf(place), clock }));
}

function providerOf(place: Place): RateProvider {
  if ('service' in place) return place.service.kind;
  return place.userfileOwner === undefined ? 'nodelocal' : 'userfile';
}

function openUnlimited(place: Place, { rng, clock = workerClock }: OpenTools): BlobStore {
  if (!('service' in place)) return nodelocalBlobStore({ ...place, rng });
  const { displayUri, service, timeoutMs, azurePartsAtOnce, customCa = null } = place;
  const patience = { clock, rng, operationMs: timeoutMs, attemptMs: Math.min(ATTEMPT_MS_MAX, timeoutMs) };
  return serviceStore(service, { displayUri, patience, azurePartsAtOnce, customCa });
}
