/** The variables of a zone: which there are, what they take, and how they are printed. Pure. */
import { InputError } from '../../base/index.ts';
import type { ZoneValues } from '../../catalog/index.ts';
import { quoteString, type Value, type ZoneVariables } from '../../sql/index.ts';
import { textValue } from '../values.ts';

/** How far back the past can be gone to, in seconds: that of RANGE default acts. */
export const TTL = 'gc.ttlseconds';

type Kind = { readonly kind: 'integer'; readonly min: bigint } | { readonly kind: 'text' | 'boolean' };

/** In the order in which they are printed. */
const VARIABLES: Readonly<Record<string, Kind>> = {
  range_min_bytes: { kind: 'integer', min: 0n },
  range_max_bytes: { kind: 'integer', min: 1n },
  [TTL]: { kind: 'integer', min: 1n },
  global_reads: { kind: 'boolean' },
  num_replicas: { kind: 'integer', min: 1n },
  num_voters: { kind: 'integer', min: 1n },
  constraints: { kind: 'text' },
  voter_constraints: { kind: 'text' },
  lease_preferences: { kind: 'text' },
};
const INTEGER_MAX = 2n ** 63n - 1n;

/** Values as they are kept; null takes one back. */
export type ZoneChanges = ReadonlyMap<string, string | null>;

/** @throws InputError `parameter_invalid` for a variable that there is not, or that comes twice, or a value that it does not take */
export function zoneChanges(variables: Exclude<ZoneVariables, 'discard'>): ZoneChanges {
  const changes = new Map<string, string | null>();
  for (const { name, value } of variables) {
    const kind = Object.hasOwn(VARIABLES, name) ? VARIABLES[name] : undefined;
    if (kind === undefined) {
      throw new InputError('parameter_invalid', `unsupported zone config parameter: "${name}"`, {
        hint: `there are ${Object.keys(VARIABLES).join(', ')}`,
      });
    }
    if (changes.has(name)) {
      throw new InputError('parameter_invalid', `the zone variable "${name}" is given twice`);
    }
    changes.set(name, value === 'default' ? null : storedValue(name, { kind, value }));
  }
  return changes;
}

function storedValue(name: string, { kind, value }: { kind: Kind; value: Value }): string {
  const text = textValue(value, `the zone variable "${name}"`);
  const refuse = (what: string) =>
    new InputError('parameter_invalid', `the zone variable "${name}" must be ${what}`);
  switch (kind.kind) {
    case 'text':
      return text;
    case 'boolean':
      if (!['true', 'false'].includes(text.toLowerCase())) throw refuse('true or false');
      return text.toLowerCase();
    case 'integer': {
      const isNumber = /^\d{1,19}$/.test(text);
      if (!isNumber || BigInt(text) < kind.min || BigInt(text) > INTEGER_MAX)
        throw refuse(`a whole number from ${kind.min}`);
      return String(BigInt(text));
    }
  }
}

/** What stands when the changes are made. @throws InputError `parameter_invalid` where values do not go together */
export function requireConsistent(values: ZoneValues, changes: ZoneChanges): void {
  const after = new Map(Object.entries(values));
  for (const [name, value] of changes) {
    if (value === null) after.delete(name);
    else after.set(name, value);
  }
  const refuseAbove = (low: string, high: string) => {
    const [min, max] = [after.get(low), after.get(high)];
    if (min === undefined || max === undefined || BigInt(min) <= BigInt(max)) return;
    throw new InputError('parameter_invalid', `${low} ${min} is greater than ${high} ${max}`);
  };
  refuseAbove('range_min_bytes', 'range_max_bytes');
  refuseAbove('num_voters', 'num_replicas');
}

/** A statement that configures the zone just so. */
export function zoneSql(target: string, values: ZoneValues): string {
  const list = Object.entries(VARIABLES).flatMap(([name, { kind }]) => {
    const value = values[name];
    if (value === undefined) return [];
    return [`\t${name} = ${kind === 'text' ? quoteString(value) : value}`];
  });
  return `ALTER ${target} CONFIGURE ZONE USING\n${list.join(',\n')}`;
}
