/**
 * A planned failover as the producer records it: a virtual cluster that goes out of service for one of its streams, so that nothing is
 * written any more that its consumer would lack. Pure; described in docs/replication-states.md.
 */
import { z } from 'zod';
import {
  assertNever,
  CorruptError,
  formatLsn,
  type IncarnationId,
  type JobId,
  type Lsn,
  parseIncarnationId,
} from '../base/index.ts';
import { type DrainAnswer, drainId, lsnText, type StreamReport } from './stream-terms.ts';
import type { StreamState } from './stream-state.ts';

interface DrainOrigin {
  /** The stream it is done for, by the number of its producer's job. */
  readonly streamId: JobId;
  /** Chosen by the consumer, for one attempt. */
  readonly drainId: string;
  /** Another life of the data is not concerned. */
  readonly incarnation: IncarnationId;
}

export type SourceDrain =
  /** Going out of service. */
  | (DrainOrigin & { readonly kind: 'draining' })
  /** Nothing has been written since `lsn`, and nothing will be. */
  | (DrainOrigin & { readonly kind: 'drained'; readonly lsn: Lsn })
  /** About to serve again. */
  | (DrainOrigin & { readonly kind: 'lifting'; readonly reason: string })
  /** Serves, as far as this attempt is concerned; it will never be drained for it. */
  | (DrainOrigin & { readonly kind: 'lifted'; readonly reason: string });

export type SourceDrainEvent =
  | ({ readonly kind: 'asked' } & DrainOrigin)
  /** It is out of service, and its log ends here. */
  | { readonly kind: 'stopped'; readonly lsn: Lsn }
  /** It cannot go out of service. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** The consumer gave this attempt up. */
  | { readonly kind: 'given_up'; readonly drainId: string }
  /** By START SERVICE SHARED WITH FORCE. */
  | { readonly kind: 'forced' }
  /** It serves again. */
  | { readonly kind: 'served' };

const GIVEN_UP = 'the standby gave the failover up';
const FORCED = 'its service was started by force';

/** The state after `event`, which may come late or twice; undefined for one that was never drained. */
export function nextSourceDrain(
  drain: SourceDrain | undefined,
  event: SourceDrainEvent,
): SourceDrain | undefined {
  switch (event.kind) {
    case 'asked':
      return onAsked(drain, event);
    case 'stopped':
      return drain?.kind === 'draining' ? { ...originOf(drain), kind: 'drained', lsn: event.lsn } : drain;
    case 'refused':
      return drain?.kind === 'draining'
        ? { ...originOf(drain), kind: 'lifted', reason: event.reason }
        : drain;
    case 'given_up':
      return drain?.drainId === event.drainId ? lifting(drain, GIVEN_UP) : drain;
    case 'forced':
      return lifting(drain, FORCED);
    case 'served':
      return drain?.kind === 'lifting' ? { ...drain, kind: 'lifted' } : drain;
    default:
      return assertNever(event);
  }
}

/** One at a time; and what was lifted once is not drained again by a request that comes late. */
function onAsked(
  drain: SourceDrain | undefined,
  { streamId, drainId: id, incarnation }: DrainOrigin,
): SourceDrain {
  const isOver = drain === undefined || (drain.kind === 'lifted' && drain.drainId !== id);
  return isOver || drain.incarnation !== incarnation
    ? { kind: 'draining', streamId, drainId: id, incarnation }
    : drain;
}

function lifting(drain: SourceDrain | undefined, reason: string): SourceDrain | undefined {
  return drain?.kind === 'draining' || drain?.kind === 'drained'
    ? { ...originOf(drain), kind: 'lifting', reason }
    : drain;
}

function originOf({ streamId, drainId: id, incarnation }: DrainOrigin): DrainOrigin {
  return { streamId, drainId: id, incarnation };
}

/** Out of service, or about to be: nobody but those who follow it is let in. */
export function isOutOfService(
  drain: SourceDrain | undefined,
): drain is Extract<SourceDrain, { kind: 'draining' | 'drained' }> {
  return drain?.kind === 'draining' || drain?.kind === 'drained';
}

/** What a consumer is told that has asked for `wish`; null when there is nothing to tell. */
export function drainAnswer(
  drain: SourceDrain | undefined,
  { streamId, wish }: { streamId: JobId; wish: StreamReport['drain'] },
): DrainAnswer | null {
  if (drain?.streamId !== streamId) {
    if (wish?.isWanted !== true) return null;
    return { kind: 'lifted', id: wish.id, reason: 'it is being drained for another stream' };
  }
  const id = drain.drainId;
  switch (drain.kind) {
    case 'draining':
      return { kind: 'draining', id };
    case 'drained':
      return { kind: 'drained', id, lsn: drain.lsn };
    case 'lifting':
    case 'lifted':
      return { kind: drain.kind, id, reason: drain.reason };
    default:
      return assertNever(drain);
  }
}

/**
 * What the consumer asks of its source, by its own state and the last answer. An attempt that it has left behind is undone wherever it is
 * met: its request may have arrived late. That of the present one is repeated until it is answered.
 */
export function drainWish(
  state: StreamState,
  answer: DrainAnswer | null,
): { readonly id: string; readonly isWanted: boolean } | null {
  const wanted = state.kind === 'draining' ? state.drainId : null;
  const isHeld = answer?.kind === 'draining' || answer?.kind === 'drained';
  if (isHeld && answer.id !== wanted) return { id: answer.id, isWanted: false };
  return wanted === null ? null : { id: wanted, isWanted: true };
}

const origin = {
  streamId: z
    .string()
    .regex(/^\d{1,19}$/)
    .transform((text) => BigInt(text) as JobId),
  drainId,
  incarnation: z.string().transform(parseIncarnationId),
};

const drainSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('draining'), ...origin }),
  z.strictObject({ kind: z.literal('drained'), ...origin, lsn: lsnText }),
  z.strictObject({ kind: z.literal('lifting'), ...origin, reason: z.string() }),
  z.strictObject({ kind: z.literal('lifted'), ...origin, reason: z.string() }),
]);

/** JSON, as the control plane keeps it. */
export function printSourceDrain(drain: SourceDrain): string {
  return JSON.stringify(drain, (name, value: unknown) => {
    if (typeof value !== 'bigint') return value;
    return name === 'lsn' ? formatLsn(value as Lsn) : String(value);
  });
}

/** @throws CorruptError when it is not what this program wrote */
export function parseSourceDrain(text: string): SourceDrain {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CorruptError('the record of a drained source is no JSON', { cause: error });
  }
  const read = drainSchema.safeParse(value);
  if (read.success) return read.data;
  throw new CorruptError('the record of a drained source has unexpected content', { cause: read.error });
}
