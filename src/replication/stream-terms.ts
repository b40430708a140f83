/**
 * What producer and consumer say to each other, as JSON in results of statements: docs/formats/replication-stream.md. Unknown members are
 * ignored, so that later releases can add some.
 */
import { z } from 'zod';
import { parseIncarnationId, parseLsn, type Timestamp } from '../base/index.ts';

export const lsnText = z
  .string()
  .regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/)
  .transform(parseLsn);
export const timestampText = z
  .string()
  .regex(/^-?\d{1,19}$/)
  .transform((text) => BigInt(text) as Timestamp);
/** Name of one attempt to drain a source; chosen by the consumer, never used again. */
export const drainId = z.uuid();
const incarnation = z.string().transform(parseIncarnationId);

const life = z.object({
  incarnation,
  parentIncarnation: incarnation.nullable(),
  /** Where it left its parent. */
  forkLsn: lsnText.nullable(),
});

/** One life of the source's data. */
export type StreamLife = z.output<typeof life>;

export const streamTermsSchema = z.object({
  version: z.literal(1),
  /** Number of the producer's job. */
  streamId: z.string().regex(/^\d{1,19}$/),
  clusterId: z.string(),
  virtualClusterName: z.string(),
  systemIdentifier: z
    .string()
    .regex(/^\d{1,20}$/)
    .transform(BigInt),
  engineMajor: z.int(),
  release: z.string(),
  /** Timeline of Postgres that the source writes. */
  timelineId: z.int(),
  /** The present life first, then its ancestors as far as they are known. */
  lineage: z.array(life).min(1).max(10_000),
  /** Keeps the log for this consumer. */
  slot: z.string().regex(/^[a-z0-9_]{1,63}$/),
  /** Log is kept from here on. */
  reservedLsn: lsnText,
  /** History of the source's timeline, as Postgres keeps it; empty for the first. */
  history: z.string().max(1024 * 1024),
});

export type StreamTerms = z.output<typeof streamTermsSchema>;

/** How far a consumer has come. */
export const streamReportSchema = z.object({
  replicatedTime: timestampText.nullable(),
  replicatedLsn: lsnText.nullable(),
  /** For how long log shall be kept when nothing is heard, in microseconds. Null and missing: as the source has it. */
  expirationWindowUs: z
    .string()
    .regex(/^\d{1,19}$/)
    .transform(BigInt)
    .nullish(),
  /** That the source shall go out of service, or, of an attempt that was given up, serve again. Null and missing: neither. */
  drain: z.object({ id: drainId, isWanted: z.boolean() }).nullish(),
});

export type StreamReport = z.output<typeof streamReportSchema>;

/** The producer's answer to a report. */
/** How far the producer is with an attempt to drain it. */
const drainAnswer = z.discriminatedUnion('kind', [
  /** Is going out of service. */
  z.object({ kind: z.literal('draining'), id: drainId }),
  /** Nothing is written any more: `lsn` is the end of the log for as long as it stays out of service. */
  z.object({ kind: z.literal('drained'), id: drainId, lsn: lsnText }),
  /** About to serve again. */
  z.object({ kind: z.literal('lifting'), id: drainId, reason: z.string() }),
  /** Serves again, or goes on serving; this attempt will come to nothing. */
  z.object({ kind: z.literal('lifted'), id: drainId, reason: z.string() }),
]);

export type DrainAnswer = z.output<typeof drainAnswer>;

export const streamAnswerSchema = z.object({
  incarnation,
  /** End of the source's log; of one that is out of service what the consumer reported. */
  lsn: lsnText,
  /** Of this stream; null when nothing was asked, missing from a release that cannot be drained. */
  drain: drainAnswer.nullish(),
});

export type StreamAnswer = z.output<typeof streamAnswerSchema>;
