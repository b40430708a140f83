/** What becomes of the regions of databases that are restored. docs/decisions/0120-regions-and-zones.md */
import { InputError } from '../base/index.ts';
import type { JsonObject } from '../catalog/index.ts';

export interface RegionTerms {
  /** `check`: those that no node is in are refused. `keep`: they have no effect. `remove`: databases come without regions. */
  readonly policy: 'check' | 'keep' | 'remove';
  /** That nodes of this physical cluster are in. */
  readonly available: readonly string[];
  /** Of databases that come without; null for none. */
  readonly primary: string | null;
}

export function regionTermsPayload(terms: RegionTerms): JsonObject {
  return { regionTerms: JSON.stringify(terms) };
}

/** Jobs of earlier releases have none: what they restore has no regions. */
export function readRegionTerms({ regionTerms }: JsonObject): RegionTerms {
  if (typeof regionTerms !== 'string') return { policy: 'keep', available: [], primary: null };
  return JSON.parse(regionTerms) as RegionTerms; // What `regionTermsPayload` wrote.
}

/** What a database of the backup is given. @throws as `requireRegions` */
export function restoredRegions(regions: readonly string[], terms: RegionTerms): readonly string[] {
  requireRegions(regions, terms);
  if (regions.length > 0 && terms.policy !== 'remove') return regions;
  return terms.primary === null ? [] : [terms.primary];
}

/** @throws InputError `object_state` for regions that no node is in */
export function requireRegions(regions: readonly string[], { policy, available }: RegionTerms): void {
  const missing = [...new Set(regions)].filter((region) => !available.includes(region));
  if (policy !== 'check' || missing.length === 0) return;
  throw new InputError(
    'object_state',
    `detected a mismatch in regions between the restore cluster and the backup cluster, missing regions detected: ${missing.join(', ')}`,
    {
      hint: 'start nodes with --locality in these regions; or restore WITH skip_localities_check, which keeps regions that have no effect, or WITH remove_regions',
    },
  );
}

/**
 * Tables of a database with regions go where the same regions are: elsewhere nobody knows where their rows belong.
 * @throws InputError `object_state`
 */
export function requireTableRegions(
  tables: {
    readonly from: { readonly name: string; readonly regions: readonly string[] };
    readonly into: { readonly name: string; readonly regions: readonly string[] };
  },
  { policy }: RegionTerms,
): void {
  const { from, into } = tables;
  if (policy !== 'check' || from.regions.length === 0) return;
  const isSame =
    from.regions.length === into.regions.length &&
    from.regions.every((region, at) => into.regions[at] === region);
  if (isSame) return;
  const what = `cannot restore tables of multi-region database "${from.name}" into`;
  throw new InputError(
    'object_state',
    into.regions.length === 0
      ? `${what} non-multi-region database "${into.name}"`
      : `${what} database "${into.name}", which has other regions`,
    {
      hint: `give "${into.name}" the regions ${from.regions.join(', ')} in this order, or restore WITH skip_localities_check or remove_regions`,
    },
  );
}
