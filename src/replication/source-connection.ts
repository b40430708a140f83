/** The consumer's conversation with the producer: SQL at the other side's front door, in its system VC. */
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import type { z } from 'zod';
import { AppError, CancelledError, type ErrorCode, InputError, toError } from '../base/index.ts';
import { tlsAttempts } from '../pg/index.ts';
import type { SourceAddress } from './source-address.ts';
import {
  type StreamAnswer,
  streamAnswerSchema,
  type StreamReport,
  type StreamTerms,
  streamTermsSchema,
} from './stream-terms.ts';
import { formatLsn } from '../base/index.ts';

const CONNECT_MS_MAX = 10_000;
const ANSWER_MS_MAX = 15_000;

/** What the other side says, as ours. What is not listed is a refusal that trying again does not help. */
const SQLSTATES: Readonly<Record<string, ErrorCode>> = {
  '08004': 'service_unavailable',
  '28000': 'authorization_invalid',
  '28P01': 'authentication_failed',
  '42501': 'insufficient_privilege',
  '42704': 'object_not_found',
  '53300': 'too_many_connections',
  '0A000': 'feature_not_supported',
};

export class SourceConnection implements AsyncDisposable {
  readonly #client: pg.Client;
  readonly #signal: AbortSignal;
  readonly #title: string;
  readonly #mustEncrypt: boolean;

  /** @throws AppError `connection_failure`, and what the other side refuses */
  static async open(address: SourceAddress, { signal }: { signal: AbortSignal }): Promise<SourceConnection> {
    let failure: unknown;
    for (const ssl of tlsAttempts(address.tls)) {
      const connection = SourceConnection.#of(address, { ssl, signal });
      try {
        await connection.#unlessAborted(connection.#client.connect());
        return connection;
      } catch (error) {
        await connection.#client.end().catch(() => undefined);
        failure = connection.#translated(error);
        // What the server says, it would say again.
        if (error instanceof pg.DatabaseError || signal.aborted) break;
      }
    }
    throw failure;
  }

  static #of(
    address: SourceAddress,
    { ssl, signal }: { ssl: false | ConnectionOptions; signal: AbortSignal },
  ): SourceConnection {
    const { host, port, user, password, database, tls } = address;
    const client = new pg.Client({
      host,
      port,
      user,
      database,
      ...(password === null ? {} : { password }),
      ssl,
      application_name: 'atoll replication',
      options: '-ccluster=system',
      connectionTimeoutMillis: CONNECT_MS_MAX,
      query_timeout: ANSWER_MS_MAX,
      types: { getTypeParser: () => (text: string | Buffer) => text },
    });
    const mustEncrypt = tls.mode !== 'disable' && tls.mode !== 'prefer';
    return new SourceConnection(client, { signal, title: `${host}:${port}`, mustEncrypt });
  }

  private constructor(
    client: pg.Client,
    options: { signal: AbortSignal; title: string; mustEncrypt: boolean },
  ) {
    this.#client = client;
    this.#signal = options.signal;
    this.#title = options.title;
    this.#mustEncrypt = options.mustEncrypt;
    // A lost connection is met by the next statement.
    client.on('error', () => undefined);
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

  /** Nothing need be kept for us any more. */
  async dropStream(streamId: string): Promise<void> {
    try {
      await this.#unlessAborted(this.#client.query(`DROP REPLICATION STREAM ${streamId}`));
    } catch (error) {
      throw this.#translated(error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end().catch(() => undefined);
  }

  async #ask<T>(schema: z.ZodType<T>, sql: string): Promise<T> {
    let text: unknown;
    try {
      const { rows } = await this.#unlessAborted(this.#client.query<{ stream: string }>(sql));
      text = rows[0]?.stream;
    } catch (error) {
      throw this.#translated(error);
    }
    const answer = schema.safeParse(jsonOf(text));
    if (answer.success) return answer.data;
    throw new AppError(
      'protocol_violation',
      `${this.#title} answers in a way that this release does not know`,
      {
        hint: 'both physical clusters should be of the same release',
        cause: answer.error,
      },
    );
  }

  async #unlessAborted<T>(work: Promise<T>): Promise<T> {
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(new CancelledError('cancelled', { cause: this.#signal.reason }));
    if (this.#signal.aborted) onAbort();
    this.#signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([work, aborted.promise]);
    } finally {
      this.#signal.removeEventListener('abort', onAbort);
      work.catch(() => undefined);
    }
  }

  /** What the server says is told; what the network says, only by its kind. */
  #translated(thrown: unknown): Error {
    if (thrown instanceof AppError) return thrown;
    const error = toError(thrown);
    if (!(error instanceof pg.DatabaseError)) {
      const reason = 'code' in error && typeof error.code === 'string' ? error.code : 'no answer';
      return new AppError('connection_failure', `cannot reach the source at ${this.#title} (${reason})`, {
        hint: this.#mustEncrypt
          ? 'check host, port and network; the source must be running with certificates, and sslrootcert be that of their CA'
          : 'check host, port and network; the source must be running',
        cause: error,
      });
    }
    const sqlstate = error.code ?? '';
    const code: ErrorCode = /^(57|08006)/.test(sqlstate)
      ? 'connection_failure'
      : (SQLSTATES[sqlstate] ?? 'object_state');
    const hint =
      sqlstate === '42601' ? 'it is no Atoll of a release that can be replicated from' : error.hint;
    return new InputError(code, `the source at ${this.#title} refused: ${error.message}`, {
      ...(hint === undefined ? {} : { hint }),
      cause: error,
    });
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
