import pg from 'pg';
import { AppError, CancelledError, type ErrorCode, required, toError } from '../../base/index.ts';

const CONNECT_TIMEOUT_MS = 30_000;
/** A tenant's settings of database or role must not reach our sessions: what is given at start-up wins over them. */
const STARTUP_OPTIONS = [
  // A library that is not there would end the login.
  'local_preload_libraries=',
  'role=none',
  'standard_conforming_strings=on',
  'transform_null_equals=off',
  'search_path=pg_catalog,pg_temp',
  'statement_timeout=0',
  'lock_timeout=0',
  'transaction_timeout=0',
  'idle_in_transaction_session_timeout=0',
  'idle_session_timeout=0',
  'default_transaction_isolation=read\\ committed',
  'default_transaction_deferrable=off',
  'datestyle=ISO',
  'client_encoding=UTF8',
];
/** Only a superuser may set it, and only a superuser's session needs it. */
const SUPERUSER_OPTIONS = [
  'session_preload_libraries=',
  'event_triggers=off',
  'default_transaction_read_only=off',
  'synchronous_commit=on',
];
const READER_OPTIONS = ['default_transaction_read_only=on'];

/** What Postgres says, as ours; callers act on these. */
const SQLSTATES: Readonly<Record<string, ErrorCode>> = {
  '3D000': 'object_not_found',
  '42501': 'insufficient_privilege',
  '53100': 'disk_full',
  '53300': 'too_many_connections',
  '53400': 'limit_exceeded',
  '55000': 'object_state',
};

/** Who logs in where: the bootstrap superuser only into our own database, or where a plain server lets him in; the reader anywhere. */
export type SessionTarget =
  | { readonly kind: 'superuser'; readonly user: string; readonly database: string }
  | { readonly kind: 'reader'; readonly user: 'atoll_reader'; readonly database: string };

export type SqlValue = string | number | boolean | null;
export type SqlRow = Readonly<Record<string, string | null>>;

/** A session on an instance's private socket. */
export class Session implements AsyncDisposable {
  readonly #client: pg.Client;
  readonly #signal: AbortSignal;
  readonly #database: string;

  /** @throws AppError `connection_failure` */
  static async open(
    target: SessionTarget,
    options: { readonly socketDirectory: string; readonly signal: AbortSignal },
  ): Promise<Session> {
    const settings = [
      ...STARTUP_OPTIONS,
      ...(target.kind === 'superuser' ? SUPERUSER_OPTIONS : READER_OPTIONS),
    ];
    const client = new pg.Client({
      host: options.socketDirectory,
      port: 5432,
      user: target.user,
      database: target.database,
      application_name: 'atoll backup',
      options: settings.map((setting) => `-c ${setting}`).join(' '),
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      types: { getTypeParser: () => (text: string | Buffer) => text },
    });
    const session = new Session(client, { database: target.database, signal: options.signal });
    try {
      await session.#unlessAborted(client.connect());
    } catch (error) {
      await client.end().catch(() => undefined);
      throw session.#translated(error, 'connect');
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

  /** Rows as text, as Postgres sends them. */
  async query(sql: string, values: readonly SqlValue[] = []): Promise<readonly SqlRow[]> {
    try {
      const result = await this.#unlessAborted(this.#client.query<SqlRow>(sql, [...values]));
      return result.rows;
    } catch (error) {
      throw this.#translated(error, 'query');
    }
  }

  /** The only row. */
  async one(sql: string, values: readonly SqlValue[] = []): Promise<SqlRow> {
    const [row] = await this.query(sql, values);
    return required(row, 'row of a query');
  }

  /** Drops what is under way: Postgres then ends the backup and drops the slot that belong to the session. */
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
    }
  }

  #translated(thrown: unknown, action: 'connect' | 'query'): Error {
    if (thrown instanceof AppError) return thrown;
    const error = toError(thrown);
    if (!(error instanceof pg.DatabaseError)) {
      return new AppError('connection_failure', `the session in database "${this.#database}" was lost`, {
        cause: error,
      });
    }
    const what =
      action === 'connect' ? `cannot log in to database "${this.#database}"` : 'the instance refused';
    return new AppError(codeOf(error.code ?? ''), `${what}: ${error.message}`, { cause: error });
  }
}

function codeOf(sqlstate: string): ErrorCode {
  if (sqlstate.startsWith('57P')) return 'connection_failure';
  return SQLSTATES[sqlstate] ?? 'instance_failed';
}

/** A column that must not be null. */
export function column(row: SqlRow, name: string): string {
  return required(row[name], `column ${name}`);
}
