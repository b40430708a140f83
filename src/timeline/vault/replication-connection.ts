/** A physical replication connection over an instance's private socket, as a client of `replication/walsender.c`. */
import type { Socket } from 'node:net';
import {
  AppError,
  CancelledError,
  errnoOf,
  formatLsn,
  type Lsn,
  parseLsn,
  type Timestamp,
  toError,
} from '../../base/index.ts';
import {
  BACKEND,
  decodeErrorFields,
  encodeQuery,
  encodeStartup,
  encodeTerminate,
  FRONTEND,
  MESSAGE_HEADER_BYTES,
  MessageWriter,
  PROTOCOL_3_0,
} from '../../pg/index.ts';
import { SocketReader } from './socket-reader.ts';

/** Answers to commands, errors and keepalives are short; only log is not, and is never kept whole. */
const MESSAGE_KEPT_BYTES_MAX = 1024 * 1024;
/** Postgres counts microseconds from 2000-01-01. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

const STREAM = { log: 0x77, keepalive: 0x6b, status: 0x72 } as const;
const LOG_HEADER_BYTES = 24;
const KEEPALIVE_BYTES = 17;

export type StreamEvent =
  /** The server has agreed to send. */
  | { readonly kind: 'begun' }
  /** Log as it stands from `lsn` on. The bytes are valid until the next event is asked for. */
  | { readonly kind: 'log'; readonly lsn: Lsn; readonly bytes: Uint8Array }
  | {
      readonly kind: 'keepalive';
      /** The sender has sent everything before. */
      readonly sentLsn: Lsn;
      readonly sentAt: Timestamp;
      readonly isReplyWanted: boolean;
    }
  /** The timeline ended here; the next one goes on. */
  | { readonly kind: 'timeline_end'; readonly nextTimelineId: number; readonly switchLsn: Lsn }
  /** The server stops and has sent everything. */
  | { readonly kind: 'server_stop' };

/** What the server refused, with its own SQLSTATE. */
export class ReplicationError extends AppError<'instance_failed'> {
  readonly serverSqlstate: string;

  constructor(fields: ReadonlyMap<string, string>) {
    const detail = fields.get('D');
    const message = `the instance refused: ${fields.get('M') ?? 'no reason given'}`;
    super('instance_failed', message, detail === undefined ? {} : { detail });
    this.serverSqlstate = fields.get('C') ?? '';
  }
}

export type ReplicationRow = readonly (string | null)[];

/** One caller reads; status may be sent at any time beside it. */
export class ReplicationConnection implements Disposable {
  readonly #socket: Socket;
  readonly #reader: SocketReader;
  readonly #signal: AbortSignal;
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;

  /** @throws AppError `connection_failure`, ReplicationError */
  static async open(options: {
    readonly socketPath: string;
    /** The superuser, who may be called otherwise in data of a plain server. */
    readonly user?: string;
    readonly applicationName: string;
    readonly signal: AbortSignal;
  }): Promise<ReplicationConnection> {
    const { socketPath, signal } = options;
    if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
    const connection = new ReplicationConnection(new SocketReader({ path: socketPath }), signal);
    try {
      await connection.#logIn(options);
      return connection;
    } catch (error) {
      connection[Symbol.dispose]();
      throw error;
    }
  }

  private constructor(reader: SocketReader, signal: AbortSignal) {
    this.#reader = reader;
    this.#socket = reader.socket;
    this.#signal = signal;
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  readonly #onAbort = () => {
    // The server's log tells of clients that go without a word.
    if (this.#socket.writable) this.#socket.write(encodeTerminate());
    this.#socket.destroy();
  };

  /** A command of the replication protocol; its rows as text. @throws ReplicationError, AppError `connection_failure` */
  async command(text: string): Promise<readonly ReplicationRow[]> {
    this.#socket.write(encodeQuery(text));
    return this.#untilReady();
  }

  /** Log from `lsn` on, until the timeline or the server ends. Afterwards commands can be given again, after a timeline's end. */
  async *stream(options: {
    readonly slot: string;
    readonly lsn: Lsn;
    readonly timelineId: number;
  }): AsyncGenerator<StreamEvent> {
    const { slot, lsn, timelineId } = options;
    this.#socket.write(
      encodeQuery(`START_REPLICATION SLOT ${slot} PHYSICAL ${formatLsn(lsn)} TIMELINE ${timelineId}`),
    );
    for (;;) {
      const { type, length } = await this.#header();
      if (type === BACKEND.copyData) {
        yield* this.#copyData(length);
        continue;
      }
      const body = await this.#take(length);
      if (type === BACKEND.copyBothResponse) yield { kind: 'begun' };
      if (type === BACKEND.errorResponse) throw new ReplicationError(errorFields(body));
      if (type === BACKEND.copyDone) break;
      // A server that stops completes the command when everything was sent and acknowledged, and closes.
      if (type === BACKEND.commandComplete) return yield { kind: 'server_stop' };
      // A server of which nothing is asked that it has not sent answers at once with the end of its timeline.
      if (type === BACKEND.rowDescription) return yield await this.#timelineEnd();
    }
    // Ours ends too; the next timeline is then told as a row.
    this.#socket.write(new MessageWriter().begin(FRONTEND.copyDone).end().take());
    yield await this.#timelineEnd();
  }

  /** Tells how far the log is written and synced. */
  sendStatus(status: {
    readonly writtenLsn: Lsn;
    readonly durableLsn: Lsn;
    readonly now: Timestamp;
    readonly isReplyWanted: boolean;
  }): void {
    if (this.#socket.destroyed) return;
    const body = Buffer.alloc(34);
    body.writeUInt8(STREAM.status, 0);
    body.writeBigUInt64BE(status.writtenLsn, 1);
    body.writeBigUInt64BE(status.durableLsn, 9);
    // Nothing is replayed here.
    body.writeBigUInt64BE(0n, 17);
    body.writeBigInt64BE(status.now - POSTGRES_EPOCH_US, 25);
    body.writeUInt8(status.isReplyWanted ? 1 : 0, 33);
    this.#socket.write(new MessageWriter().begin(FRONTEND.copyData).bytes(body).end().take());
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#onAbort();
  }

  async #logIn({
    user = 'atoll',
    applicationName,
  }: {
    readonly user?: string;
    readonly applicationName: string;
  }): Promise<void> {
    const parameters = new Map([
      ['user', user],
      ['replication', 'true'],
      ['application_name', applicationName],
    ]);
    this.#socket.write(encodeStartup({ protocol: PROTOCOL_3_0, parameters }));
    await this.#untilReady();
  }

  async #untilReady(): Promise<readonly ReplicationRow[]> {
    const rows: ReplicationRow[] = [];
    let refused: ReplicationError | null = null;
    for (;;) {
      const { type, length } = await this.#header();
      const body = await this.#take(length);
      if (type === BACKEND.authentication && body.readInt32BE(0) !== 0) {
        throw new AppError('authentication_failed', 'the instance asks for a password on its private socket');
      }
      if (type === BACKEND.errorResponse) {
        refused = new ReplicationError(errorFields(body));
        if (isFatal(body)) throw refused;
      }
      if (type === BACKEND.dataRow) rows.push(rowOf(body));
      if (type !== BACKEND.readyForQuery) continue;
      if (refused !== null) throw refused;
      return rows;
    }
  }

  async #timelineEnd(): Promise<StreamEvent> {
    const [row] = await this.#untilReady();
    if (row === undefined)
      throw new AppError('protocol_violation', 'the instance ended a stream without a word');
    const [next, position] = row;
    return { kind: 'timeline_end', nextTimelineId: Number(next), switchLsn: parseLsn(position ?? '') };
  }

  async *#copyData(length: number): AsyncGenerator<StreamEvent> {
    const kind = (await this.#take(1)).readUInt8(0);
    if (kind === STREAM.keepalive && length === 1 + KEEPALIVE_BYTES) {
      const body = await this.#take(KEEPALIVE_BYTES);
      yield {
        kind: 'keepalive',
        sentLsn: body.readBigUInt64BE(0) as Lsn,
        sentAt: (body.readBigInt64BE(8) + POSTGRES_EPOCH_US) as Timestamp,
        isReplyWanted: body.readUInt8(16) !== 0,
      };
      return;
    }
    if (kind !== STREAM.log || length < 1 + LOG_HEADER_BYTES) {
      throw new AppError(
        'protocol_violation',
        `the instance sent an unknown kind of replication message ${kind}`,
      );
    }
    let lsn = (await this.#take(LOG_HEADER_BYTES)).readBigUInt64BE(0) as Lsn;
    for (let left = length - 1 - LOG_HEADER_BYTES; left > 0; ) {
      const bytes = await this.#some(left);
      yield { kind: 'log', lsn, bytes };
      lsn = (lsn + BigInt(bytes.length)) as Lsn;
      left -= bytes.length;
    }
  }

  async #header(): Promise<{ type: number; length: number }> {
    const header = await this.#take(MESSAGE_HEADER_BYTES);
    const type = header.readUInt8(0);
    const length = header.readUInt32BE(1) - 4;
    if (length < 0 || (type !== BACKEND.copyData && length > MESSAGE_KEPT_BYTES_MAX)) {
      throw new AppError('protocol_violation', 'the instance sent a message of impossible length');
    }
    return { type, length };
  }

  /** Exactly so many bytes; valid until the next read. */
  async #take(count: number): Promise<Buffer> {
    if (this.#chunk.length - this.#at >= count) return this.#advance(count);
    const pieces: Buffer[] = [];
    for (let left = count; left > 0; ) {
      const piece = await this.#some(left);
      pieces.push(Buffer.from(piece));
      left -= piece.length;
    }
    return Buffer.concat(pieces);
  }

  /** At least one and at most so many bytes, as they came. */
  async #some(countMax: number): Promise<Buffer> {
    while (this.#at === this.#chunk.length) await this.#fill();
    return this.#advance(Math.min(countMax, this.#chunk.length - this.#at));
  }

  #advance(count: number): Buffer {
    const piece = this.#chunk.subarray(this.#at, this.#at + count);
    this.#at += count;
    return piece;
  }

  async #fill(): Promise<void> {
    const chunk = await this.#reader.next().catch((error: unknown) => {
      throw this.#lost(error);
    });
    if (chunk === null) throw this.#lost(undefined);
    this.#chunk = chunk;
    this.#at = 0;
  }

  #lost(cause: unknown): Error {
    if (this.#signal.aborted) return new CancelledError('cancelled', { cause: this.#signal.reason });
    // The name of the error alone: its message would show where the socket lies.
    const reason = cause === undefined ? 'the instance closed it' : (errnoOf(cause) ?? toError(cause).name);
    return new AppError('connection_failure', `the replication connection was lost: ${reason}`, { cause });
  }
}

/** Fields of an error whose header was taken off. */
function errorFields(body: Buffer): Map<string, string> {
  return decodeErrorFields(Buffer.concat([Buffer.alloc(MESSAGE_HEADER_BYTES), body]));
}

/** No ReadyForQuery follows. */
function isFatal(body: Buffer): boolean {
  const severity = errorFields(body).get('V');
  return severity === 'FATAL' || severity === 'PANIC';
}

function rowOf(body: Buffer): ReplicationRow {
  const row: (string | null)[] = [];
  let at = 2;
  for (let column = body.readUInt16BE(0); column > 0; column--) {
    const length = body.readInt32BE(at);
    at += 4;
    row.push(length === -1 ? null : body.toString('utf8', at, at + Math.max(length, 0)));
    at += Math.max(length, 0);
  }
  return row;
}
