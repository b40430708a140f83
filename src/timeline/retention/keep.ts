import { isDeepStrictEqual } from 'node:util';
import type { IncarnationId, Rng, Timestamp } from '../../base/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';
import { BaseIndex } from '../store/base-index.ts';
import { collectGarbage } from './collect.ts';
import { readHoldings } from './holdings.ts';
import { readPins } from './pins.ts';
import { planRetention, type RetentionPlan } from './plan.ts';

/** Claims that come and go all the time must not keep everything from being removed. */
const PLANS_MAX = 5;

/** What a store shall keep at least, and at most. */
export interface RetentionRequest {
  readonly store: TimelineStoreLocation;
  readonly key: ClusterKey;
  readonly now: Timestamp;
  readonly windowUs: bigint;
  readonly current: IncarnationId;
  readonly bytesMax: bigint;
}

/** Keeps timeline stores as small as they may be. */
export interface TimelineRetention {
  /** What would go, and why; nothing is touched. */
  plan(request: RetentionRequest, options: { signal: AbortSignal }): Promise<RetentionPlan>;
  /** Removes what `plan` lists. One at a time for each store. */
  collect(request: RetentionRequest, options: { signal: AbortSignal }): Promise<RetentionPlan>;
}

export function createTimelineRetention({ rng }: { readonly rng: Rng }): TimelineRetention {
  const index = new BaseIndex({ rng });
  const plan: TimelineRetention['plan'] = async (request, { signal }) => {
    const { store, key } = request;
    return planRetention(await readHoldings(store, { index, rng, key, signal }), request);
  };
  return {
    plan,
    async collect(request, { signal }) {
      for (let attempt = 1; ; attempt++) {
        const pinsBefore = await readPins(request.store);
        const planned = await plan(request, { signal });
        // Somebody may have claimed something while what is there was looked at, which takes its time.
        const isClaimed = !isDeepStrictEqual(pinsBefore, await readPins(request.store));
        if (isClaimed && attempt < PLANS_MAX) continue;
        if (planned.removals.length > 0) await collectGarbage(request.store, planned, { rng, signal });
        return planned;
      }
    },
  };
}
