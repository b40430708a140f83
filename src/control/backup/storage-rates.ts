/** Limits of transfers to and from storage: settings of a virtual cluster, put where all processes of the node find them. */
import type { VirtualClusterId } from '../../base/index.ts';
import { type RateProvider, type RateReference, setRateLimit } from '../../blob/index.ts';
import { LIMITED_PROVIDERS } from '../../catalog/index.ts';
import type { Settings } from '../settings/settings.ts';

const RATE_SETTING = /^cloudstorage\.([a-z0-9]+)\.(?:read|write)\.node_(?:rate|burst)_limit$/;

export interface RateQuestion {
  readonly virtualClusterId: VirtualClusterId;
  readonly settings: Pick<Settings, 'integer'>;
}

/** What transfers of a virtual cluster are counted against; undefined on a node that counts none. */
export function ratesFor(
  rateTable: string | undefined,
  provider: RateProvider,
  { virtualClusterId, settings }: RateQuestion,
): { readonly rates: RateReference } | undefined {
  if (rateTable === undefined) return undefined;
  for (const direction of ['read', 'write'] as const) {
    const limit = (what: 'rate' | 'burst') =>
      settings.integer(virtualClusterId, `cloudstorage.${provider}.${direction}.node_${what}_limit`);
    setRateLimit(
      rateTable,
      { virtualClusterId, provider, direction },
      { rateBytes: limit('rate'), burstBytes: limit('burst') },
    );
  }
  return { rates: { path: rateTable, virtualClusterId } };
}

/** What is under way goes on at the new rate. Harmless for other settings. */
export function applyRateSetting(rateTable: string | undefined, name: string, question: RateQuestion): void {
  const provider = LIMITED_PROVIDERS.find((each) => each === RATE_SETTING.exec(name)?.[1]);
  if (provider !== undefined) ratesFor(rateTable, provider, question);
}
