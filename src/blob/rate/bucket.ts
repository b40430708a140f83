/** How much may be transferred when: pure, so that a rate is proved by counting. */
import type { Timestamp } from '../../base/index.ts';

export interface RateLimit {
  /** Bytes per second; 0 for no limit. */
  readonly rateBytes: bigint;
  /** Bytes beyond the rate that may go at once after a time of rest; 0 for what a second brings. */
  readonly burstBytes: bigint;
}

export interface Bucket {
  /** What may go now, at most the burst. Less than none is owed: whoever finds something goes, however much he takes. */
  readonly tokens: bigint;
  readonly at: Timestamp;
}

export type Taken =
  | { readonly kind: 'taken'; readonly bucket: Bucket }
  | { readonly kind: 'wait'; readonly bucket: Bucket; readonly waitMs: number };

const SECOND_US = 1_000_000n;

/** Takes `bytes`, or tells how long nobody can take any. A clock that was set back brings nothing until it goes on. */
export function takeFrom(
  before: Bucket | null,
  { limit, bytes, now }: { readonly limit: RateLimit; readonly bytes: bigint; readonly now: Timestamp },
): Taken {
  const { rateBytes } = limit;
  const burst = limit.burstBytes === 0n ? rateBytes : limit.burstBytes;
  const bucket = refilled(before ?? { tokens: burst, at: now }, { rateBytes, burst, now });
  if (bucket.tokens > 0n) return { kind: 'taken', bucket: { ...bucket, tokens: bucket.tokens - bytes } };
  const missing = 1n - bucket.tokens;
  const waitMs = Number((missing * 1000n + rateBytes - 1n) / rateBytes);
  return { kind: 'wait', bucket, waitMs };
}

/** Time counts as far as it has brought whole bytes: what is left over counts the next time. */
function refilled(
  { tokens, at }: Bucket,
  { rateBytes, burst, now }: { rateBytes: bigint; burst: bigint; now: Timestamp },
): Bucket {
  if (now < at) return { tokens: tokens < burst ? tokens : burst, at: now };
  const brought = ((now - at) * rateBytes) / SECOND_US;
  const filled = tokens + brought;
  if (filled >= burst) return { tokens: burst, at: now };
  return { tokens: filled, at: (at + (brought * SECOND_US) / rateBytes) as Timestamp };
}
