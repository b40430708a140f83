/** When a base is due, and of which kind. Pure. */
import { type IncarnationId, type Lsn, lsnDistanceBytes, type Timestamp } from '../../base/index.ts';
import type { BaseSummary, VaultState } from '../../timeline/index.ts';

export interface BasePolicy {
  /** Log since the newest base from which on a new one is due: not much more is replayed. */
  readonly walBytes: bigint;
  /** Age of the newest base from which on a new one is due, when there is something to put into it. */
  readonly intervalUs: bigint;
}

/**
 * Less log than this since the newest base is not worth a new one, however old it is: an idle virtual cluster writes a few MiB a day,
 * and must cost nothing.
 */
export const WAL_BYTES_WORTH_A_BASE = 16n * 1024n * 1024n;

export type CaptureDecision =
  | { readonly kind: 'none' }
  | { readonly kind: 'full'; readonly reason: string }
  | { readonly kind: 'incremental'; readonly onto: string; readonly reason: string };

/** @param given.lineage bases that lead to the present, oldest first */
export function decideCapture(given: {
  readonly lineage: readonly BaseSummary[];
  /** The life of the data whose log is received. */
  readonly present: { readonly incarnation: IncarnationId; readonly timelineId: number };
  readonly durableLsn: Lsn;
  readonly vaultState: VaultState;
  readonly now: Timestamp;
  readonly policy: BasePolicy;
}): CaptureDecision {
  const { lineage } = given;
  const newest = lineage.at(-1);
  if (newest === undefined) return { kind: 'full', reason: 'there is no base yet' };
  // Since its end: a capture itself makes Postgres begin a new segment of the log, which is nothing to capture again.
  const walBytes = lsnDistanceBytes({ from: newest.targetLsn, to: given.durableLsn });
  const reason = reasonFor(newest, { ...given, walBytes });
  if (reason === null) return { kind: 'none' };
  // More log than data: hardly a page is as it was, and reading all is no more work.
  if (walBytes > newest.bytes && walBytes > WAL_BYTES_WORTH_A_BASE) return { kind: 'full', reason };
  if (isMostlyDead(lineage))
    return { kind: 'full', reason: `${reason}; most of the older bases is superseded` };
  return { kind: 'incremental', onto: newest.subdirectory, reason };
}

function reasonFor(
  newest: BaseSummary,
  given: {
    readonly present: { readonly incarnation: IncarnationId; readonly timelineId: number };
    readonly walBytes: bigint;
    readonly vaultState: VaultState;
    readonly now: Timestamp;
    readonly policy: BasePolicy;
  },
): string | null {
  const { present, walBytes, vaultState, now, policy } = given;
  // Backups as of a moment need one of the life that they are of: they mix no log of two.
  if (newest.incarnation !== present.incarnation || newest.timelineId !== present.timelineId)
    return 'the present life of the data has none yet';
  if (vaultState.kind === 'gap' && newest.startLsn < vaultState.toLsn)
    return 'log is missing since the newest base';
  if (walBytes >= policy.walBytes) return `${walBytes} bytes of log since the newest base`;
  const isWorthIt = walBytes >= WAL_BYTES_WORTH_A_BASE;
  if (vaultState.kind === 'out_of_room' && isWorthIt)
    return 'the log has no room, and less is needed after a base';
  const isOld = now - newest.endTime >= policy.intervalUs;
  return isOld && isWorthIt ? 'the newest base is old' : null;
}

/** What incremental bases have stored since the last full one is about what of it is superseded. */
function isMostlyDead(lineage: readonly BaseSummary[]): boolean {
  const full = lineage.findLastIndex(({ baseSubdirectory }) => baseSubdirectory === null);
  const since = lineage.slice(full + 1).reduce((sum, { storedBytes }) => sum + storedBytes, 0n);
  return full >= 0 && since > (lineage[full]?.storedBytes ?? 0n);
}
