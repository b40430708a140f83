/** Which nodes a location of a list is for. Reference: "Localities". */
import { InputError } from '../base/index.ts';

/** One level of a locality: `region=eu-west`. */
export interface LocalityTier {
  readonly key: string;
  readonly value: string;
}

/** Nodes with this tier write there; `default` is for all that no other location is for. */
export type UriLocality = 'default' | LocalityTier;

const PARAMETER = 'COCKROACH_LOCALITY';

/** What a URI says of it; null when it says nothing. @throws InputError `parameter_invalid` */
export function uriLocality(uri: string): UriLocality | null {
  const query = /^[^?#]*\?([^#]*)/.exec(uri)?.[1] ?? '';
  const parameter = query.split('&').find((text) => text.startsWith(`${PARAMETER}=`));
  if (parameter === undefined) return null;
  const text = decoded(parameter.slice(PARAMETER.length + 1));
  if (text === 'default') return text;
  const tiers = parseLocality(text);
  const [tier] = tiers;
  if (tier !== undefined && tiers.length === 1) return tier;
  throw new InputError('parameter_invalid', 'tier must be in the form "key=value"', {
    hint: `write ${PARAMETER}=default, or one tier as ${PARAMETER}=region%3Dus-east-1`,
  });
}

/** Reads `region=eu,zone=a`; what is malformed yields a tier without a key. @throws InputError `parameter_invalid` */
export function parseLocality(text: string): readonly LocalityTier[] {
  return text.split(',').map((tier) => {
    const match = /^\s*([^\s=,]+)=([^\s=,]+)\s*$/.exec(tier);
    if (match !== null) return { key: match[1] ?? '', value: match[2] ?? '' };
    throw new InputError('parameter_invalid', 'tier must be in the form "key=value"', {
      hint: 'write a locality as region=us-east-1, or several tiers separated by commas, from broad to narrow',
    });
  });
}

/**
 * The location that a node writes to: the one for its narrowest tier that has one, else the default.
 * @throws InputError `parameter_invalid` when there is not exactly one default, or two are for the same nodes
 */
export function placeForNode(
  localities: readonly (UriLocality | null)[],
  node: readonly LocalityTier[],
): { readonly home: number; readonly bulk: number } {
  const home = homeOf(localities);
  const names = localities.map((locality) =>
    locality === 'default' || locality === null ? 'default' : `${locality.key}=${locality.value}`,
  );
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    throw new InputError('parameter_invalid', `two locations are given for ${PARAMETER} ${twice}`, {
      hint: 'give each locality one location',
    });
  }
  const matches = node.toReversed().map(({ key, value }) => names.indexOf(`${key}=${value}`));
  return { home, bulk: matches.find((index) => index !== -1) ?? home };
}

function homeOf(localities: readonly (UriLocality | null)[]): number {
  const home = localities.indexOf('default');
  if (home !== -1) return home;
  throw new InputError('parameter_invalid', 'no location of the list is the default', {
    hint: `put ${PARAMETER}=default behind one of them, and ${PARAMETER}=region%3Dus-east-1 or the like behind the others`,
  });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}
