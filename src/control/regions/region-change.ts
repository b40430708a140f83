/** What ALTER DATABASE ... REGION makes of the regions of a database. Pure. */
import { InputError } from '../../base/index.ts';
import type { RegionAction } from '../../sql/index.ts';

export interface RegionChange {
  readonly database: string;
  /** The primary one first; empty for a database without. */
  readonly regions: readonly string[];
  readonly action: RegionAction;
  /** That nodes are in. */
  readonly available: readonly string[];
}

/** Same list: nothing is to be done. @throws InputError `object_not_found`, `object_exists`, `object_state` */
export function changedRegions(change: RegionChange): readonly string[] {
  const { database, regions, action } = change;
  const { region } = action;
  const isThere = regions.includes(region);
  switch (action.kind) {
    case 'set_primary':
      requireAvailable(change);
      if (isThere) return [region, ...regions.filter((other) => other !== region)];
      if (regions.length === 0) return [region];
      throw new InputError('object_not_found', `region "${region}" has not been added to the database`, {
        hint: `add it first: ALTER DATABASE ${database} ADD REGION "${region}"`,
      });
    case 'add':
      if (isThere && action.ifNotExists) return regions;
      if (isThere) throw new InputError('object_exists', `region "${region}" already added to database`);
      requireAvailable(change);
      if (regions.length > 0) return [...regions, region];
      throw new InputError('object_state', `cannot add region "${region}" to database ${database}`, {
        hint: `it needs a primary region first: ALTER DATABASE ${database} PRIMARY REGION "${region}"`,
      });
    case 'drop':
      if (!isThere && action.ifExists) return regions;
      if (!isThere) {
        throw new InputError('object_not_found', `region "${region}" has not been added to the database`);
      }
      if (regions.length > 1 && regions[0] === region) {
        throw new InputError('object_state', `cannot drop region "${region}": it is the primary region`, {
          hint: 'make another region the primary one, or drop all other regions first',
        });
      }
      return regions.filter((other) => other !== region);
  }
}

function requireAvailable({ available, action: { region } }: RegionChange): void {
  if (available.includes(region)) return;
  throw new InputError('object_not_found', `region "${region}" does not exist`, {
    hint:
      available.length === 0
        ? 'no node says which region it is in: start it with --locality=region=NAME'
        : `valid regions: ${available.join(', ')}`,
  });
}
