/** Atoll's own sessions in an instance, over the private socket: few, short, and deaf to what tenants configure. */
import { Client, type ClientConfig, DatabaseError, Pool, type PoolClient } from 'pg';
import { AppError, errnoOf, isAppError, toError } from '../base/index.ts';
import type { InternalClient, Row } from './contract.ts';
import { type Login, OWN_LOGIN } from './login.ts';
import { SOCKET_PORT } from './store-layout.ts';
import { throwIfCancelled, untilCancelled } from './waiting.ts';

const SYSTEM_SESSIONS_MAX = 2;
/** An idle instance has no session of ours; this much later it is idle. */
const IDLE_MS = 10_000;
const CONNECT_MS_MAX = 10_000;

/**
 * Start-up options outrank what a tenant sets for a role or database. Text forms are fixed, time-outs are off, names
 * resolve to Postgres's own objects, and a session whose client is gone ends its statement.
 */
const OPTIONS_OF_ALL: Readonly<Record<string, string>> = {
  // A library that is not there would end the login.
  local_preload_libraries: '',
  role: 'none',
  standard_conforming_strings: 'on',
  transform_null_equals: 'off',
  search_path: 'pg_catalog,pg_temp',
  statement_timeout: '0',
  lock_timeout: '0',
  transaction_timeout: '0',
  idle_session_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  client_connection_check_interval: '1s',
  datestyle: 'ISO',
  intervalstyle: 'postgres',
  timezone: 'UTC',
  bytea_output: 'hex',
  extra_float_digits: '1',
  default_transaction_isolation: 'read\\ committed',
  default_transaction_read_only: 'off',
  default_transaction_deferrable: 'off',
  synchronous_commit: 'on',
};

/** Only a superuser may set these. */
const SYSTEM_OPTIONS = { ...OPTIONS_OF_ALL, event_triggers: 'off', session_preload_libraries: '' };
const READER_OPTIONS = { ...OPTIONS_OF_ALL, default_transaction_read_only: 'on' };

function connectionConfig(options: {
  socketDirectory: string;
  user: string;
  database: string;
  parameters: Readonly<Record<string, string>>;
}): ClientConfig {
  return {
    host: options.socketDirectory,
    port: SOCKET_PORT,
    user: options.user,
    database: options.database,
    ssl: false,
    application_name: 'atoll',
    connectionTimeoutMillis: CONNECT_MS_MAX,
    options: Object.entries(options.parameters)
      .map(([name, value]) => `-c ${name}=${value}`)
      .join(' '),
    // Values stay in Postgres's text form.
    types: { getTypeParser: () => (text: string) => text },
  };
}

/** The bootstrap superuser's sessions in database `system`, the only place it works; in a plain server's data, wherever it can. */
export class SystemSessions {
  readonly #pool: Pool;
  readonly #clusterName: string;

  constructor(options: { socketDirectory: string; clusterName: string; login: Login }) {
    this.#clusterName = options.clusterName;
    this.#pool = new Pool({
      ...connectionConfig({ ...options, ...options.login, parameters: SYSTEM_OPTIONS }),
      max: SYSTEM_SESSIONS_MAX,
      idleTimeoutMillis: IDLE_MS,
      allowExitOnIdle: true,
    });
    // The server ended an idle session; the pool has dropped it, and the next loan makes another.
    this.#pool.on('error', () => undefined);
  }

  /** @throws AppError `cannot_connect_now`, `connection_failure`, `cancelled`; DatabaseError for what a query did wrong */
  async lend<T>(use: (client: InternalClient) => Promise<T>, options: { signal: AbortSignal }): Promise<T> {
    const { signal } = options;
    const client = await this.#take(signal);
    let isBroken = false;
    const onError = () => {
      isBroken = true;
    };
    client.on('error', onError);
    const session = sessionOf(client, { signal, clusterName: this.#clusterName });
    try {
      return await use(session);
    } catch (error) {
      // A failed loan may leave a transaction open or a result half read; sessions are cheap.
      isBroken = true;
      throw error;
    } finally {
      session.end();
      client.off('error', onError);
      client.release(isBroken || signal.aborted);
    }
  }

  /** Closes idle sessions now and lent ones when they come back. */
  async close(): Promise<void> {
    await this.#pool.end();
  }

  async #take(signal: AbortSignal): Promise<PoolClient> {
    throwIfCancelled(signal);
    const taking = this.#pool.connect();
    try {
      return await untilCancelled(taking, signal);
    } catch (error) {
      if (signal.aborted) taking.then((client) => client.release(true)).catch(() => undefined);
      throw isAppError(error) ? error : connectError(error, this.#clusterName);
    }
  }
}

/** One session of the bootstrap superuser in `system`, closed afterwards: for servers that are being proved. */
export async function withSystemSession<T>(
  options: { socketDirectory: string; clusterName: string; login?: Login; signal: AbortSignal },
  use: (client: InternalClient) => Promise<T>,
): Promise<T> {
  const { login = OWN_LOGIN } = options;
  return withSession({ ...options, ...login, parameters: SYSTEM_OPTIONS }, use);
}

/** One session of `atoll_reader`, who is no superuser and only reads, in any database; closed afterwards. */
export async function withReaderSession<T>(
  options: { socketDirectory: string; clusterName: string; database: string; signal: AbortSignal },
  use: (client: InternalClient) => Promise<T>,
): Promise<T> {
  return withSession({ ...options, user: 'atoll_reader', parameters: READER_OPTIONS }, use);
}

/**
 * One session of the bootstrap superuser outside of `system`, for definitions of ours alone: no statement in it may call, read or fire
 * anything of a tenant's.
 */
export async function withDefinerSession<T>(
  options: { socketDirectory: string; clusterName: string; database: string; signal: AbortSignal },
  use: (client: InternalClient) => Promise<T>,
): Promise<T> {
  return withSession({ ...options, user: OWN_LOGIN.user, parameters: SYSTEM_OPTIONS }, use);
}

/** One session of a tenant's role, in a database that it may enter; closed afterwards. */
export async function withRoleSession<T>(
  options: {
    socketDirectory: string;
    clusterName: string;
    database: string;
    role: string;
    signal: AbortSignal;
  },
  use: (client: InternalClient) => Promise<T>,
): Promise<T> {
  return withSession({ ...options, user: options.role, parameters: OPTIONS_OF_ALL }, use);
}

async function withSession<T>(
  options: {
    socketDirectory: string;
    clusterName: string;
    user: string;
    database: string;
    parameters: Readonly<Record<string, string>>;
    signal: AbortSignal;
  },
  use: (client: InternalClient) => Promise<T>,
): Promise<T> {
  throwIfCancelled(options.signal);
  const client = new Client(connectionConfig(options));
  // A connection that breaks fails the query that is under way, or the next one.
  client.on('error', () => undefined);
  try {
    await untilCancelled(client.connect(), options.signal);
  } catch (error) {
    await client.end().catch(() => undefined);
    throw isAppError(error) ? error : connectError(error, options.clusterName);
  }
  const session = sessionOf(client, options);
  try {
    return await use(session);
  } finally {
    session.end();
    await client.end().catch(() => undefined);
  }
}

/** A client whose queries end with the signal, and which is worth nothing after `end`. */
function sessionOf(
  client: Pick<Client, 'query'>,
  options: { signal: AbortSignal; clusterName: string },
): InternalClient & { end(): void } {
  let isOver = false;
  return {
    async query(sql, parameters = []) {
      if (isOver) throw new AppError('internal', 'a lent session was used after it was given back');
      throwIfCancelled(options.signal);
      try {
        const result = await untilCancelled(client.query<Row>(sql, [...parameters]), options.signal);
        return result.rows;
      } catch (error) {
        if (isAppError(error) || error instanceof DatabaseError) throw error;
        throw new AppError(
          'connection_failure',
          `lost a session in virtual cluster "${options.clusterName}"`,
          {
            cause: error,
          },
        );
      }
    },
    end: () => {
      isOver = true;
    },
  };
}

/** Why no session could be had. */
function connectError(error: unknown, clusterName: string): AppError {
  const name = `virtual cluster "${clusterName}"`;
  const sqlstate = error instanceof DatabaseError ? error.code : undefined;
  const cause = { cause: error };
  switch (sqlstate) {
    case '57P03':
      return new AppError('cannot_connect_now', `${name} is starting or stopping`, cause);
    case '53300':
      return new AppError('too_many_connections', `${name} has no connection left`, cause);
    case '3D000':
      return new AppError('object_not_found', `${name}: ${toError(error).message}`, cause);
    case '42501':
      return new AppError('insufficient_privilege', `${name}: ${toError(error).message}`, cause);
    default:
      // A failed system call names the socket's path, and clients meet this before they are authenticated.
      return new AppError(
        'connection_failure',
        `cannot connect to ${name}: ${error instanceof DatabaseError ? error.message : (errnoOf(error) ?? 'no answer')}`,
        cause,
      );
  }
}
