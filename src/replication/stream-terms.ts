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
});

export type StreamReport = z.output<typeof streamReportSchema>;

/** The producer's answer to a report. */
export const streamAnswerSchema = z.object({
  incarnation,
  /** End of the source's log. */
  lsn: lsnText,
});

export type StreamAnswer = z.output<typeof streamAnswerSchema>;
