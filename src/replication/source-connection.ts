/** The consumer's conversation with the producer: SQL at the other side's front door, in its system VC. */
import pg from 'pg';
import type { z } from 'zod';
import { AppError, formatLsn } from '../base/index.ts';
import type { SourceAddress } from './source-address.ts';
import { SourceClient } from './source-client.ts';
import {
  type StreamAnswer,
  streamAnswerSchema,
  type StreamReport,
  type StreamTerms,
  streamTermsSchema,
} from './stream-terms.ts';

const HINTS = { '42601': 'it is no Atoll of a release that can be replicated from' };

/** Where a stream comes from, once it was begun. */
export interface StreamSource extends AsyncDisposable {
  /** Tells how far the consumer has come, and is told how far the source is. */
  report(streamId: string, report: StreamReport): Promise<StreamAnswer>;
  /** Nothing need be kept for us any more. */
  dropStream(streamId: string): Promise<void>;
}

export class SourceConnection implements StreamSource {
  readonly #client: SourceClient;

  /** @throws AppError `connection_failure`, and what the other side refuses */
  static async open(address: SourceAddress, { signal }: { signal: AbortSignal }): Promise<SourceConnection> {
    const options = '-ccluster=system';
    return new SourceConnection(await SourceClient.open(address, { options, hints: HINTS, signal }));
  }

  private constructor(client: SourceClient) {
    this.#client = client;
  }

  /** Begins a stream: from now on the other side keeps its log for us. `after` is where our own history ends, for a failback. */
  async createStream(options: { name: string; after: string | null }): Promise<StreamTerms> {
    const { name, after } = options;
    const tail = after === null ? '' : ` AFTER '${after}'`;
    return this.#ask(
      streamTermsSchema,
      `CREATE REPLICATION STREAM OF VIRTUAL CLUSTER ${pg.escapeIdentifier(name)}${tail}`,
    );
  }

  async report(streamId: string, report: StreamReport): Promise<StreamAnswer> {
    const { replicatedTime, replicatedLsn, expirationWindowUs = null, drain = null } = report;
    const text = JSON.stringify({
      drain,
      expirationWindowUs: expirationWindowUs === null ? null : String(expirationWindowUs),
      replicatedTime: replicatedTime === null ? null : String(replicatedTime),
      replicatedLsn: replicatedLsn === null ? null : formatLsn(replicatedLsn),
    });
    return this.#ask(
      streamAnswerSchema,
      `ALTER REPLICATION STREAM ${streamId} REPORT ${pg.escapeLiteral(text)}`,
    );
  }

  async dropStream(streamId: string): Promise<void> {
    await this.#client.query(`DROP REPLICATION STREAM ${streamId}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }

  async #ask<T>(schema: z.ZodType<T>, sql: string): Promise<T> {
    const [row] = await this.#client.query(sql);
    const answer = schema.safeParse(jsonOf(row?.['stream']));
    if (answer.success) return answer.data;
    throw new AppError(
      'protocol_violation',
      `${this.#client.title} answers in a way that this release does not know`,
      {
        hint: 'both physical clusters should be of the same release',
        cause: answer.error,
      },
    );
  }
}

function jsonOf(text: unknown): unknown {
  if (typeof text !== 'string') return text;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
