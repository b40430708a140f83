/** Regions and zones that the nodes of this physical cluster are in, as `--locality` says. */
import type { LocalityTier } from '../../blob/index.ts';
import type { RegionTerms } from '../../jobs/index.ts';
import type { Option } from '../../sql/index.ts';
import type { Core } from '../core.ts';
import type { ExecuteContext } from '../contract.ts';
import { isFlagOn } from '../values.ts';

export interface ClusterRegion {
  readonly name: string;
  readonly zones: readonly string[];
}

const REGION = 'region';
const ZONES: readonly string[] = ['zone', 'availability-zone', 'az'];

/** Of one node today. */
export function clusterRegions(core: Core): readonly ClusterRegion[] {
  const name = tierOf(core.options.locality, [REGION]);
  if (name === undefined) return [];
  const zone = tierOf(core.options.locality, ZONES);
  return [{ name, zones: zone === undefined ? [] : [zone] }];
}

function tierOf(locality: readonly LocalityTier[], keys: readonly string[]): string | undefined {
  return locality.find(({ key }) => keys.includes(key))?.value;
}

/** What RESTORE does with the regions of databases, as its options say. @throws InputError `parameter_invalid` */
export function regionTermsOf(core: Core, options: readonly Option[], context: ExecuteContext): RegionTerms {
  const primary = core.settings.value(context.session.virtualClusterId, 'sql.defaults.primary_region');
  const isKept = isFlagOn(options, 'skip_localities_check');
  return {
    policy: isFlagOn(options, 'remove_regions') ? 'remove' : isKept ? 'keep' : 'check',
    available: clusterRegions(core).map(({ name }) => name),
    primary: typeof primary === 'string' && primary !== '' ? primary : null,
  };
}
