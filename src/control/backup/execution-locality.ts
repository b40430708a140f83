/** `EXECUTION LOCALITY = 'region=eu,zone=a'` of BACKUP and RESTORE: which nodes may do the work. */
import { InputError } from '../../base/index.ts';
import { type LocalityTier, parseLocality } from '../../blob/index.ts';
import type { Option, Value } from '../../sql/index.ts';
import { textValue } from '../values.ts';

/**
 * Sees that this node may do the work: it has all the tiers that are asked for.
 * @throws InputError `parameter_invalid` when it is malformed, `object_state` when no node matches
 */
export function requireExecutionLocality(options: readonly Option[], node: readonly LocalityTier[]): void {
  const value = options.find(({ name }) => name === 'execution_locality')?.value;
  if (value === undefined || Array.isArray(value)) return;
  const text = textValue(value as Value, 'EXECUTION LOCALITY');
  if (text === '') return;
  const matches = ({ key, value: wanted }: LocalityTier) =>
    node.some((tier) => tier.key === key && tier.value === wanted);
  if (parseLocality(text).every(matches)) return;
  throw new InputError('object_state', `no node matches EXECUTION LOCALITY '${text}'`, {
    hint: `this node is at '${node.map(({ key, value: own }) => `${key}=${own}`).join(',')}': a node is given its locality by --locality when it starts`,
  });
}
