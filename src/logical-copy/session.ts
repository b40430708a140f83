/** Sessions of a logical copy: in databases of tenants, over the private socket, as a role that is no superuser. */
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { AppError, CancelledError, type ErrorCode, required, toError } from '../base/index.ts';
import type { CopyEndpoint } from './contract.ts';
import { CopyOutQuery } from './copy-out.ts';

const CONNECT_MS_MAX = 30_000;
const SOCKET_PORT = 5432;

/**
 * Start-up options outrank what a tenant sets for a role or a database. Names resolve to Postgres's own objects, text forms are fixed, and
 * what a row policy would hide is an error, not less data.
 */
export const COPY_OPTIONS: Readonly<Record<string, string>> = {
  // A library that is not there would end the login.
  local_preload_libraries: '',
  role: 'none',
  standard_conforming_strings: 'on',
  transform_null_equals: 'off',
  search_path: 'pg_catalog,pg_temp',
  row_security: 'off',
  check_function_bodies: 'off',
  xmloption: 'content',
  quote_all_identifiers: 'off',
  statement_timeout: '0',
  lock_timeout: '0',
  transaction_timeout: '0',
  idle_session_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  client_connection_check_interval: '1s',
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  default_transaction_deferrable: 'off',
  synchronous_commit: 'on',
  client_encoding: 'UTF8',
  datestyle: 'ISO',
  intervalstyle: 'postgres',
  timezone: 'UTC',
  bytea_output: 'hex',
  extra_float_digits: '3',
};

/** A database of no encoding may hold bytes that are no UTF-8: they pass as they are, and what is read of its catalogs is ASCII or UTF-8. */
const BYTES_AS_THEY_ARE = `select set_config('client_encoding', 'SQL_ASCII', false) where getdatabaseencoding() = 'SQL_ASCII'`;

/** What Postgres says, as ours; callers act on these. */
const SQLSTATES: Readonly<Record<string, ErrorCode>> = {
  '3D000': 'database_not_found',
  '42501': 'insufficient_privilege',
  '53100': 'disk_full',
  '53300': 'too_many_connections',
  // Somebody changes definitions, or the two of us wait for each other: not for ever.
  '40P01': 'timed_out',
  '55P03': 'timed_out',
  // By a time-out, or by somebody who ends sessions: not by whom we work for.
  '57014': 'timed_out',
};

export type SqlRow = Readonly<Record<string, string | null>>;
export type SqlValue = string | number | boolean | null;

/** Ends with its owner; whatever was not committed is undone by Postgres. */
export class CopySession implements AsyncDisposable {
  readonly #client: pg.Client;
  readonly #signal: AbortSignal;
  readonly #database: string;

  /** @throws AppError `connection_failure`, `database_not_found`, `insufficient_privilege`, `too_many_connections` */
  static async open(endpoint: CopyEndpoint, { signal }: { signal: AbortSignal }): Promise<CopySession> {
    const client = new pg.Client({
      host: endpoint.socketDirectory,
      port: SOCKET_PORT,
      user: endpoint.role,
      database: endpoint.database,
      ssl: false,
      application_name: 'atoll copy',
      options: Object.entries(COPY_OPTIONS)
        .map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
        .join(' '),
      connectionTimeoutMillis: CONNECT_MS_MAX,
      types: { getTypeParser: () => (text: string | Buffer) => text },
    });
    const session = new CopySession(client, { database: endpoint.database, signal });
    try {
      await session.#unlessAborted(client.connect());
      await session.#unlessAborted(client.query(BYTES_AS_THEY_ARE));
    } catch (error) {
      await client.end().catch(() => undefined);
      throw session.#translated(error, 'cannot log in');
    }
    return session;
  }

  private constructor(client: pg.Client, options: { database: string; signal: AbortSignal }) {
    this.#client = client;
    this.#database = options.database;
    this.#signal = options.signal;
    // A lost connection is met by the query under way, or by the next one.
    client.on('error', () => undefined);
  }

  /** Rows as text. */
  async query(sql: string, values: readonly SqlValue[] = []): Promise<readonly SqlRow[]> {
    try {
      return (await this.#unlessAborted(this.#client.query<SqlRow>(sql, [...values]))).rows;
    } catch (error) {
      throw this.#translated(error, 'a query failed');
    }
  }

  /** The only row. */
  async one(sql: string, values: readonly SqlValue[] = []): Promise<SqlRow> {
    const [row] = await this.query(sql, values);
    return required(row, 'row of a query');
  }

  /** Several statements at once, whose results nobody wants. @param what they are, for the message when Postgres refuses them */
  async run(sql: string, what: string): Promise<void> {
    try {
      await this.#unlessAborted(this.#client.query(sql));
    } catch (error) {
      throw this.#translated(error, what);
    }
  }

  /** Gives what COPY ... TO STDOUT writes, and how many rows that was when it is done. */
  async *copyOut(sql: string, what: string): AsyncGenerator<Uint8Array, bigint> {
    const stream = new CopyOutQuery(sql);
    this.#client.query(stream);
    const onAbort = () => stream.destroy(new CancelledError('cancelled', { cause: this.#signal.reason }));
    this.#signal.addEventListener('abort', onAbort, { once: true });
    try {
      if (this.#signal.aborted) onAbort();
      for await (const chunk of stream) yield chunk as Uint8Array;
      return stream.rowCount;
    } catch (error) {
      throw this.#translated(error, what);
    } finally {
      this.#signal.removeEventListener('abort', onAbort);
    }
  }

  /** Feeds COPY ... FROM STDIN; waits for room. Gives the number of rows. */
  async copyIn(sql: string, chunks: AsyncIterable<Uint8Array>, what: string): Promise<bigint> {
    const stream = this.#client.query(copyFrom(sql));
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => undefined);
    const refusals: Error[] = [];
    stream.on('error', (error) => {
      refusals.push(error);
      failed.reject(error);
    });
    const finished = new Promise<void>((resolve) => stream.once('finish', resolve));
    try {
      for await (const chunk of chunks) {
        if (this.#signal.aborted) throw new CancelledError('cancelled', { cause: this.#signal.reason });
        const [refusal] = refusals;
        if (refusal !== undefined) throw refusal;
        if (stream.write(chunk)) continue;
        await Promise.race([new Promise((resolve) => stream.once('drain', resolve)), failed.promise]);
      }
      stream.end();
      await this.#unlessAborted(Promise.race([finished, failed.promise]));
      return BigInt(stream.rowCount);
    } catch (error) {
      // Without its end the copy would wait for ever; Postgres undoes what it did.
      if (!stream.destroyed) stream.destroy(toError(error));
      // Where Postgres refused, whatever else failed failed for that.
      throw this.#translated(refusals[0] ?? error, what);
    }
  }

  /** Drops what is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end().catch(() => undefined);
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
      aborted.promise.catch(() => undefined);
    }
  }

  #translated(thrown: unknown, what: string): Error {
    if (thrown instanceof AppError) return thrown;
    const error = toError(thrown);
    if (!(error instanceof pg.DatabaseError)) {
      return new AppError('connection_failure', `the session in database "${this.#database}" was lost`, {
        cause: error,
      });
    }
    return new AppError(
      codeOf(error.code ?? ''),
      `${what} in database "${this.#database}": ${error.message}`,
      { cause: error },
    );
  }
}

/** Errors of a statement itself do not go away by trying again. */
export function codeOf(sqlstate: string): ErrorCode {
  if (sqlstate.startsWith('57P')) return 'connection_failure';
  return SQLSTATES[sqlstate] ?? 'copy_failed';
}

/** A column that must not be null. */
export function column(row: SqlRow, name: string): string {
  return required(row[name], `column ${name}`);
}

export function numberColumn(row: SqlRow, name: string): number {
  return Number(column(row, name));
}

/** A name as Postgres reads it back, quoted always. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
