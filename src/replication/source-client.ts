/** One connection to the server that is followed, as a client of SQL or of the replication protocol; what goes wrong is told as ours. */
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import { AppError, CancelledError, type ErrorCode, InputError, toError } from '../base/index.ts';
import { tlsAttempts } from '../pg/index.ts';
import type { SourceAddress } from './source-address.ts';

const CONNECT_MS_MAX = 10_000;
const ANSWER_MS_MAX = 15_000;

/** What the other side says, as ours. What is not listed is a refusal that trying again does not help. */
const SQLSTATES: Readonly<Record<string, ErrorCode>> = {
  '08004': 'service_unavailable',
  '28000': 'authorization_invalid',
  '28P01': 'authentication_failed',
  '3D000': 'object_not_found',
  '42501': 'insufficient_privilege',
  '42704': 'object_not_found',
  '53300': 'too_many_connections',
  '53400': 'limit_exceeded',
  '55006': 'object_in_use',
  '0A000': 'feature_not_supported',
};

export interface SourceClientOptions {
  /** Start-up options. */
  readonly options: string;
  readonly database?: string;
  readonly isReplication?: boolean;
  /** By SQLSTATE: what to do about it, where the server has no word of it. */
  readonly hints?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export type SourceRow = Readonly<Record<string, string | null>>;

export class SourceClient implements AsyncDisposable {
  readonly #client: pg.Client;
  readonly #options: SourceClientOptions;
  readonly #title: string;
  readonly #mustEncrypt: boolean;

  /** @throws AppError `connection_failure`, and what the other side refuses */
  static async open(address: SourceAddress, options: SourceClientOptions): Promise<SourceClient> {
    let failure: unknown;
    for (const ssl of tlsAttempts(address.tls)) {
      const connection = new SourceClient(address, ssl, options);
      try {
        await connection.#unlessAborted(connection.#client.connect());
        return connection;
      } catch (error) {
        await connection.#client.end().catch(() => undefined);
        failure = connection.#translated(error);
        // What the server says, it would say again.
        if (error instanceof pg.DatabaseError || options.signal.aborted) break;
      }
    }
    throw failure;
  }

  private constructor(address: SourceAddress, ssl: false | ConnectionOptions, options: SourceClientOptions) {
    const { host, port, user, password, tls } = address;
    // Not among the types of `pg`; it stands in the start-up message.
    const replication = options.isReplication === true ? { replication: 'true' } : {};
    this.#client = new pg.Client({
      ...replication,
      host,
      port,
      user,
      database: options.database ?? address.database,
      ...(password === null ? {} : { password }),
      ssl,
      application_name: 'atoll replication',
      options: options.options,
      connectionTimeoutMillis: CONNECT_MS_MAX,
      query_timeout: ANSWER_MS_MAX,
      types: { getTypeParser: () => (text: string | Buffer) => text },
    });
    this.#options = options;
    this.#title = `${host}:${port}`;
    this.#mustEncrypt = tls.mode !== 'disable' && tls.mode !== 'prefer';
    // A lost connection is met by the next statement.
    this.#client.on('error', () => undefined);
  }

  /** Host and port. */
  get title(): string {
    return this.#title;
  }

  /** Rows as text. @throws AppError as `open` */
  async query(sql: string, values?: readonly (string | null)[]): Promise<readonly SourceRow[]> {
    try {
      // Without values it goes as one simple message, which replication connections take alone.
      const work = values === undefined ? this.#client.query(sql) : this.#client.query(sql, [...values]);
      return (await this.#unlessAborted(work)).rows as SourceRow[];
    } catch (error) {
      throw this.#translated(error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end().catch(() => undefined);
  }

  async #unlessAborted<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#options;
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(new CancelledError('cancelled', { cause: signal.reason }));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([work, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
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
    const hint = this.#options.hints?.[sqlstate] ?? error.hint;
    return new InputError(code, `the source at ${this.#title} refused: ${error.message}`, {
      ...(hint === undefined ? {} : { hint }),
      cause: error,
    });
  }
}
