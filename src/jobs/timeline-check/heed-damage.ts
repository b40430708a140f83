import type { DamageRecord } from '../../catalog/index.ts';
import type { BaseSummary } from '../../timeline/index.ts';
import type { CaptureDecision } from '../timeline-keeper/policy.ts';

/**
 * Nothing is built on a base that is damaged, and no log that cannot be read stands between the newest base and the present: a full base
 * is due at once.
 */
export function heedDamage(
  decision: CaptureDecision,
  { newest, damage }: { newest: BaseSummary | undefined; damage: readonly DamageRecord[] },
): CaptureDecision {
  if (newest === undefined) return decision;
  const hit = damage.find(({ bases, log }) => {
    const isLogSince =
      log !== null && log.incarnation === newest.incarnation && BigInt(log.endLsn) > newest.startLsn;
    return bases.includes(newest.subdirectory) || isLogSince;
  });
  return hit === undefined ? decision : { kind: 'full', reason: `${hit.object} is damaged` };
}
