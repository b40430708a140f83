/** Whether the files and the log of a source can be gone on with here. */
import { InputError } from '../base/index.ts';
import type { StreamTerms } from './stream-terms.ts';

/** What this node would follow with. */
export interface OwnSide {
  readonly clusterId: string;
  readonly release: string;
  readonly engineMajor: number;
}

/** @throws InputError `parameter_invalid`, `object_state`, `feature_not_supported` */
export function requireCompatible(
  terms: Pick<StreamTerms, 'clusterId' | 'release' | 'engineMajor'>,
  own: OwnSide,
): void {
  if (terms.clusterId === own.clusterId) {
    throw new InputError('parameter_invalid', 'the source is this physical cluster itself', {
      hint: 'make a branch: CREATE VIRTUAL CLUSTER ... FROM VIRTUAL CLUSTER ...',
    });
  }
  // Before the engine: a newer release may well bring a newer one.
  if (isNewer(terms.release, own.release)) {
    throw new InputError(
      'object_state',
      `the source is of release ${terms.release}, newer than ${own.release} here`,
      { hint: 'upgrade the standby first' },
    );
  }
  if (terms.engineMajor !== own.engineMajor) {
    throw new InputError(
      'feature_not_supported',
      `following PostgreSQL ${terms.engineMajor} with PostgreSQL ${own.engineMajor} is not available`,
      { hint: 'bring both physical clusters to the same release' },
    );
  }
}

/** Year and number: `26.10` follows `26.9`. */
function isNewer(left: string, right: string): boolean {
  const [leftYear = 0, leftNumber = 0] = left.split('.').map(Number);
  const [rightYear = 0, rightNumber = 0] = right.split('.').map(Number);
  return leftYear === rightYear ? leftNumber > rightNumber : leftYear > rightYear;
}
