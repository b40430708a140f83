/** When the next part of a timeline store is to be read again, and how much of it. Pure. */
import type { Timestamp, VirtualClusterId } from '../../base/index.ts';
import type { TimelineVerifyRecord } from '../../catalog/index.ts';
import type { ObjectsCheck } from '../../timeline/index.ts';

/** Between two looks at what is due. */
export const VERIFIER_ROUND_MS = 5000;
/** A round is made in so many passes, for a process has to be started for each. */
export const PASSES_PER_ROUND = 200n;
/** After a time without passes at most this part of the store is read at once: it is made up for, and not in one go. */
const CATCH_UP_SHARE = 1 / 50;

export type Pass =
  | { readonly kind: 'wait' }
  /** Read on from `state.after`, objects of so many bytes. */
  | { readonly kind: 'due'; readonly state: TimelineVerifyRecord; readonly bytesMax: number };

export function firstState(virtualClusterId: VirtualClusterId, now: Timestamp): TimelineVerifyRecord {
  return {
    virtualClusterId,
    roundStarted: now,
    lastPass: now,
    after: null,
    isRoundOver: false,
    readBytes: 0,
    allBytes: 0,
    damage: [],
  };
}

/** @param options.intervalUs within which everything is read once */
export function planPass(
  state: TimelineVerifyRecord,
  { now, intervalUs }: { readonly now: Timestamp; readonly intervalUs: bigint },
): Pass {
  const sincePassUs = now - state.lastPass;
  // A clock that was set back would keep us waiting for what it was set back by.
  const isTime = sincePassUs >= intervalUs / PASSES_PER_ROUND || sincePassUs < 0n;
  if (!isTime) return { kind: 'wait' };
  const elapsedUs = now - state.roundStarted;
  if (state.isRoundOver) {
    if (elapsedUs >= 0n && elapsedUs < intervalUs) return { kind: 'wait' };
    const begun = { ...state, roundStarted: now, after: null, isRoundOver: false, readBytes: 0 };
    return { kind: 'due', state: begun, bytesMax: 1 };
  }
  const share = elapsedUs < 0n ? 0 : Math.min(1, Number(elapsedUs) / Number(intervalUs));
  const wantedBytes = share * state.allBytes - state.readBytes;
  const isBehind = share === 1 || state.allBytes === 0;
  if (wantedBytes <= 0 && !isBehind) return { kind: 'wait' };
  const shareMax = Math.max(CATCH_UP_SHARE, (2 * VERIFIER_ROUND_MS * 1000) / Number(intervalUs));
  // Past its end a round reads what has come in since, too.
  const bytesMax = isBehind ? shareMax * state.allBytes : Math.min(wantedBytes, shareMax * state.allBytes);
  return { kind: 'due', state, bytesMax: Math.max(1, Math.round(bytesMax)) };
}

/** What is known after a pass. What was damaged and now is gone, or sound again, is forgotten. */
export function afterPass(
  state: TimelineVerifyRecord,
  { check, now }: { readonly check: ObjectsCheck; readonly now: Timestamp },
): TimelineVerifyRecord {
  return {
    ...state,
    lastPass: now,
    after: check.last,
    isRoundOver: check.last === null,
    readBytes: state.readBytes + check.bytes,
    allBytes: check.bytesAll,
    damage: check.damage.map(({ log, ...damage }) => ({
      ...damage,
      log: log === null ? null : { incarnation: log.incarnation, endLsn: String(log.endLsn) },
    })),
  };
}
