import { isDeepStrictEqual } from 'node:util';
import type { Clock, IncarnationId, Rng, Timestamp } from '../../base/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';
import { BaseIndex } from '../store/base-index.ts';
import { collectGarbage } from './collect.ts';
import { readHoldings } from './holdings.ts';
import { readPins, whilePinsStand } from './pins.ts';
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
  /** Folders of bases that are known to be damaged: nothing goes for their sake. */
  readonly damaged?: readonly string[];
}

/** Keeps timeline stores as small as they may be. */
export interface TimelineRetention {
  /** What would go, and why; nothing is touched. */
  plan(request: RetentionRequest, options: { signal: AbortSignal }): Promise<RetentionPlan>;
  /** Removes what `plan` lists. One at a time for each store. */
  collect(request: RetentionRequest, options: { signal: AbortSignal }): Promise<RetentionPlan>;
}

export function createTimelineRetention({
  rng,
  clock,
}: {
  readonly rng: Rng;
  readonly clock: Pick<Clock, 'sleep'>;
}): TimelineRetention {
  const index = new BaseIndex({ rng });
  const plan: TimelineRetention['plan'] = async (request, { signal }) => {
    const { store, key } = request;
    return planRetention(await readHoldings(store, { index, rng, key, signal }), request);
  };
  const collectBy = async (
    request: RetentionRequest,
    options: { readonly planned: RetentionPlan; readonly signal: AbortSignal },
  ): Promise<RetentionPlan> => {
    const { planned, signal } = options;
    if (planned.removals.length > 0) await collectGarbage(request.store, planned, { rng, signal });
    return planned;
  };
  return {
    plan,
    async collect(request, { signal }) {
      const { store } = request;
      // Looking at what is there takes its time, and whoever claims something shall not wait for it.
      for (let attempt = 1; attempt < PLANS_MAX; attempt++) {
        const pinsBefore = await readPins(store);
        const planned = await plan(request, { signal });
        if (planned.removals.length === 0) return planned;
        const collected = await whilePinsStand(store, { clock, signal }, async () => {
          const isClaimed = !isDeepStrictEqual(pinsBefore, await readPins(store));
          return isClaimed ? null : collectBy(request, { planned, signal });
        });
        if (collected !== null) return collected;
      }
      return whilePinsStand(store, { clock, signal }, async () =>
        collectBy(request, { planned: await plan(request, { signal }), signal }),
      );
    },
  };
}
