/** A replication stream at its consumer, as a row of the control plane's table `replication_streams`. */
import { z } from 'zod';
import {
  CorruptError,
  formatLsn,
  type IncarnationId,
  type JobId,
  type Lsn,
  parseIncarnationId,
  type Timestamp,
  type VirtualClusterId,
} from '../base/index.ts';
import type { StreamState } from './stream-state.ts';
import {
  drainId,
  lsnText,
  type StreamAnswer,
  type StreamTerms,
  streamTermsSchema,
  timestampText,
} from './stream-terms.ts';

export interface StreamRecord {
  /** The virtual cluster that follows. */
  readonly virtualClusterId: VirtualClusterId;
  readonly sourceName: string;
  /** Leads to the system VC of the other side; holds secrets. */
  readonly sourceUri: string;
  readonly jobId: JobId | null;
  readonly state: StreamState;
  /** As the producer has granted them. */
  readonly terms: StreamTerms;
  /** Of a failback: where the source's history left that of our own, which is taken back to here; null for a first image over the network. */
  readonly divergence: Divergence | null;
  readonly limits: StreamLimits;
  /** The oldest moment that may be failed over to, and the newest; null before there is one. */
  readonly retainedTime: Timestamp | null;
  readonly replicatedTime: Timestamp | null;
}

/** Durations in microseconds; null for what the settings say. */
export interface StreamLimits {
  /** How far back the follower may be failed over. */
  readonly retentionUs: bigint | null;
  /** For how long the source keeps log when it hears nothing. */
  readonly expirationWindowUs: bigint | null;
}

export interface Divergence {
  readonly incarnation: IncarnationId;
  readonly timelineId: number;
  readonly lsn: Lsn;
}

const timestamp = timestampText;
const target = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('latest') }),
  z.strictObject({ kind: z.literal('time'), time: timestamp }),
]);
const incarnation = z.string().transform(parseIncarnationId);
const point = z.strictObject({
  incarnation,
  timelineId: z.int(),
  lsn: lsnText,
});

/** What a state holds besides its kind; times and positions as text. */
const stateSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('initializing') }),
  z.strictObject({ kind: z.literal('replicating') }),
  z.strictObject({ kind: z.literal('paused'), isScanned: z.boolean(), since: timestamp }),
  z.strictObject({ kind: z.literal('pending_failover'), isScanned: z.boolean(), target }),
  z.strictObject({ kind: z.literal('draining'), drainId }),
  z.strictObject({
    kind: z.literal('failing_over'),
    cut: z.strictObject({ incarnation, time: timestamp, point: point.nullable() }),
  }),
  z.strictObject({ kind: z.literal('failed'), isScanned: z.boolean(), reason: z.string() }),
  z.strictObject({ kind: z.literal('completed'), failoverTime: timestamp }),
]);

const duration = z
  .string()
  .regex(/^\d{1,19}$/)
  .transform(BigInt)
  .nullable()
  .default(null);
const limitsSchema = z.strictObject({ retentionUs: duration, expirationWindowUs: duration });

export function printStreamLimits(limits: StreamLimits): string {
  return JSON.stringify(limits, replacer);
}

/** @throws CorruptError when it is not what this program wrote */
export function parseStreamLimits(text: string): StreamLimits {
  return parsed(limitsSchema, text, 'options');
}

/** JSON of a state. */
export function printStreamState(state: StreamState): string {
  return JSON.stringify(state, replacer);
}

/** @throws CorruptError when it is not what this program wrote */
export function parseStreamState(text: string): StreamState {
  return parsed(stateSchema, text, 'state');
}

export function printStreamTerms(terms: StreamTerms): string {
  return JSON.stringify(terms, replacer);
}

export function printStreamAnswer(answer: StreamAnswer): string {
  return JSON.stringify(answer, replacer);
}

export function printDivergence(divergence: Divergence | null): string | null {
  return divergence === null ? null : JSON.stringify(divergence, replacer);
}

/** @throws CorruptError when it is not what this program wrote */
export function parseDivergence(text: string): Divergence {
  return parsed(point, text, 'divergence');
}

/** @throws CorruptError when it is not what this program wrote */
export function parseStreamTerms(text: string): StreamTerms {
  return parsed(streamTermsSchema, text, 'terms');
}

function parsed<T>(schema: z.ZodType<T>, text: string, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CorruptError(`the ${what} of a replication stream are no JSON`, { cause: error });
  }
  const read = schema.safeParse(value);
  if (read.success) return read.data;
  throw new CorruptError(`the ${what} of a replication stream have unexpected content`, {
    cause: read.error,
  });
}

/** Positions are printed as Postgres does, moments as microseconds. */
function replacer(name: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  return /lsn$/i.test(name) ? formatLsn(value as Lsn) : String(value);
}
