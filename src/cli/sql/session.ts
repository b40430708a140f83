import { createConnection } from 'node:net';
import pg from 'pg';
import { AppError, toError } from '../../base/index.ts';
import type { ResultCell, ResultColumn } from './format/index.ts';
import { StatementRun, type ResultReceiver } from './statement-run.ts';
import { formatPlace, tlsOptions, type ConnectionTarget } from './target.ts';

export type TransactionState = 'idle' | 'open' | 'failed';

/** A result small enough to be gathered. */
export interface SmallResult {
  readonly columns: readonly ResultColumn[];
  readonly rows: readonly (readonly ResultCell[])[];
}

export interface SessionOptions {
  /** Asked when the server wants a password and the target has none. */
  readonly askPassword: () => Promise<string>;
  readonly onNotice: (notice: NoticeLike) => void;
  readonly onNotification: (notification: pg.Notification) => void;
}

/** The fields of a notice that are shown. */
export interface NoticeLike {
  readonly severity?: string | undefined;
  readonly message?: string | undefined;
  readonly code?: string | undefined;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
}

/** One session with a server, in which values stay the text that the server sent. */
export class SqlSession implements AsyncDisposable {
  #target: ConnectionTarget;
  readonly #client: pg.Client;
  #isLost = false;
  #virtualCluster: string | undefined;
  #running: StatementRun | undefined;

  private constructor(target: ConnectionTarget, client: pg.Client) {
    this.#target = target;
    this.#client = client;
    client.on('error', () => {
      this.#isLost = true;
    });
    client.on('end', () => {
      this.#isLost = true;
    });
  }

  /** @throws AppError `connection_failure`, or the server's own error */
  static async connect(target: ConnectionTarget, options: SessionOptions): Promise<SqlSession> {
    const client = new pg.Client({
      host: target.host,
      port: target.port,
      user: target.user,
      database: target.database,
      password:
        target.password ??
        (async () => {
          const password = await options.askPassword();
          session.#target = { ...target, password }; // So that connecting again need not ask.
          return password;
        }),
      application_name: target.applicationName,
      connectionTimeoutMillis: target.connectTimeoutSeconds * 1000,
      ssl: tlsOptions(target),
      enableChannelBinding: true,
      keepAlive: true,
      types: { getTypeParser: () => (text: string) => text },
      ...(target.options === undefined ? {} : { options: target.options }),
    });
    client.on('notice', options.onNotice);
    client.on('notification', options.onNotification);
    const session = new SqlSession(target, client);
    try {
      await client.connect();
    } catch (thrown) {
      throw connectError(toError(thrown), target);
    }
    session.#virtualCluster = await session.#askVirtualCluster();
    return session;
  }

  /** Where the session is, with the password that was asked for. */
  get target(): ConnectionTarget {
    return this.#target;
  }

  /** Name of the virtual cluster that serves the session; undefined when the server knows none. */
  get virtualCluster(): string | undefined {
    return this.#virtualCluster;
  }

  /** The connection has ended; nothing more can be asked. */
  get isLost(): boolean {
    return this.#isLost;
  }

  /** A statement is under way. */
  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  get transaction(): TransactionState {
    switch (this.#client.getTransactionStatus()) {
      case 'T':
        return 'open';
      case 'E':
        return 'failed';
      default:
        return 'idle';
    }
  }

  /** Sends a text as it is. @throws the server's error, or that of a lost connection */
  async run(text: string, receiver: ResultReceiver): Promise<void> {
    const run = new StatementRun(text, receiver);
    this.#running = run;
    try {
      this.#client.query(run);
      await run.finished;
    } finally {
      this.#running = undefined;
    }
  }

  /** Asks something whose answer is small. */
  async query(text: string, parameters: readonly (string | null)[] = []): Promise<SmallResult> {
    const result = await this.#client.query<ResultCell[]>({
      text,
      values: [...parameters],
      rowMode: 'array',
    });
    return {
      columns: result.fields.map((field) => ({ name: field.name, typeId: field.dataTypeID })),
      rows: result.rows,
    };
  }

  /** Asks the server to cancel the running statement. Does nothing when none runs; never throws. */
  async cancel(): Promise<void> {
    if (this.#running === undefined) return;
    // Declared by no types of `pg`, and written by it when the server introduces itself.
    const { processID, secretKey } = this.#client as pg.Client & { processID: number; secretKey: number };
    const request = Buffer.alloc(16);
    request.writeInt32BE(16, 0);
    request.writeInt32BE(80877102, 4);
    request.writeInt32BE(processID, 8);
    request.writeInt32BE(secretKey, 12);
    const { host, port } = this.target;
    const socket = host.startsWith('/')
      ? createConnection({ path: `${host}/.s.PGSQL.${port}` })
      : createConnection({ host, port });
    const { promise, resolve } = Promise.withResolvers<void>();
    socket.once('close', () => resolve());
    socket.once('error', () => socket.destroy());
    socket.end(request);
    socket.resume();
    await promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end().catch(() => undefined);
  }

  async #askVirtualCluster(): Promise<string | undefined> {
    try {
      return (await this.query('SHOW virtual_cluster_name')).rows[0]?.[0] ?? undefined;
    } catch {
      return undefined; // A plain Postgres: it has no such name.
    }
  }
}

/** The server's refusal as it is; anything else with the place that could not be reached. */
function connectError(error: Error, target: ConnectionTarget): Error {
  if (error instanceof pg.DatabaseError || error instanceof AppError) return error;
  const reason = error instanceof AggregateError ? error.errors.map(String).join(', ') : error.message;
  return new AppError('connection_failure', `cannot connect to ${formatPlace(target)}: ${reason}`, {
    cause: error,
    hint: 'is the node running, and does it listen there? see --url and --host',
  });
}
