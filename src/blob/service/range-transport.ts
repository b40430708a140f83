/**
 * The way of ranges from a service to here. Client libraries make a stream of many small buffers out of every answer, for whatever may come; a
 * restore knows that it asked for four megabytes, and wants just these in few pieces. Here they are read into a buffer that is used
 * again, and copied once. What is not the plain answer to such a question is left to the library, which asks again: refusals, redirections, codings.
 * Not so what says that the service cannot answer now: it would be asked twice as often just then.
 */
import { connect as connectPlain, type Socket } from 'node:net';
import { AppError } from '../../base/index.ts';
import { BLOB_CHUNK_BYTES_MAX, type SignalOptions } from '../blob-store.ts';

/** A request that is signed already. */
export interface RangeRequest {
  readonly isTls: boolean;
  readonly hostname: string;
  readonly port: number;
  /** With the query, encoded. */
  readonly path: string;
  /** `host` among them. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface RangeResponse {
  /** 200 or 206. */
  readonly status: number;
  /** By their names in lower case. */
  readonly fields: ReadonlyMap<string, string>;
  readonly contentRange: string | null;
  /** Each of at most `BLOB_CHUNK_BYTES_MAX` bytes. */
  readonly chunks: readonly Uint8Array[];
}

/** Bytes that one read from the network may bring. */
const RECEIVE_BYTES = 256 * 1024;
const HEAD_BYTES_MAX = 32 * 1024;
const CONNECT_MS_MAX = 10_000;
/** Without traffic for so long a connection is given up. */
const IDLE_MS_MAX = 60_000;
/** For now, whatever the service has to say of it: slow down, try later, an inner error, a gateway without its service. */
const UNAVAILABLE = [429, 500, 502, 503, 504];
/** Kept for the next request, of one client. */
const IDLE_CONNECTIONS_MAX = 16;

export class RangeTransport {
  readonly #authorities: readonly string[] | undefined;
  readonly #idle = new Map<string, Connection[]>();

  constructor({ authorities }: { readonly authorities: readonly string[] | undefined }) {
    this.#authorities = authorities;
  }

  /**
   * The answer, or null when it is none that is understood here; then nothing of it was used.
   * @throws AppError `blob_unavailable` for one that is longer than `bytesMax`, UnavailableAnswer; what the network throws; the reason of an
   * abort
   */
  async get(
    request: RangeRequest,
    { bytesMax, signal }: SignalOptions & { readonly bytesMax: number },
  ): Promise<RangeResponse | null> {
    signal.throwIfAborted();
    const place = `${request.isTls ? 'tls' : 'tcp'}://${request.hostname}:${request.port}`;
    const known = this.#takeIdle(place);
    if (known !== undefined) {
      try {
        return await this.#ask(known, request, { place, bytesMax, signal });
      } catch (error) {
        // The other side may have ended it as long as nobody used it.
        if (known.hasAnswered || signal.aborted) throw error;
      }
    }
    const fresh = new Connection(request, { authorities: this.#authorities });
    return this.#ask(fresh, request, { place, bytesMax, signal });
  }

  close(): void {
    for (const connection of [...this.#idle.values()].flat()) connection.end();
    this.#idle.clear();
  }

  #takeIdle(place: string): Connection | undefined {
    const idle = this.#idle.get(place) ?? [];
    for (let connection = idle.pop(); connection !== undefined; connection = idle.pop()) {
      if (connection.isOpen) return connection;
    }
    return undefined;
  }

  async #ask(
    connection: Connection,
    request: RangeRequest,
    { place, ...options }: SignalOptions & { readonly place: string; readonly bytesMax: number },
  ): Promise<RangeResponse | null> {
    const answer = await connection.ask(request, options);
    const idle = this.#idle.get(place) ?? [];
    this.#idle.set(place, idle);
    if (connection.isOpen && idle.length < IDLE_CONNECTIONS_MAX) idle.push(connection);
    else connection.end();
    return answer;
  }
}

/** What is known of an answer once its head has come. */
interface AnswerHead extends Omit<RangeResponse, 'chunks'> {
  readonly length: number;
  readonly isLast: boolean;
}

/** One request and its answer. */
interface Exchange {
  readonly bytesMax: number;
  readonly promise: PromiseWithResolvers<RangeResponse | null>;
  /** Bytes of the head, as far as they have come. */
  begun: Buffer;
  head: AnswerHead | null;
  readonly chunks: Buffer[];
  /** Of the last chunk. */
  filled: number;
  missing: number;
}

/** One request at a time. */
class Connection {
  readonly #socket: Socket;
  #exchange: Exchange | null = null;
  #isOpen = true;
  /** Anything of the answer to the request that was sent last. */
  hasAnswered = false;

  constructor(
    { isTls, hostname, port }: Pick<RangeRequest, 'isTls' | 'hostname' | 'port'>,
    { authorities }: { readonly authorities: readonly string[] | undefined },
  ) {
    const received = Buffer.allocUnsafeSlow(RECEIVE_BYTES);
    const callback = (bytes: number) => {
      this.#take(received.subarray(0, bytes));
      return true;
    };
    const options = { host: hostname.replace(/^\[|\]$/g, ''), port, onread: { buffer: received, callback } };
    const trusted = authorities === undefined ? {} : { ca: [...authorities] };
    const trusting = {
      ...options,
      ...trusted,
      servername: serverName(hostname),
      ALPNProtocols: ['http/1.1'],
    };
    // Loaded by who needs it: every thread of bulk work loads this module.
    this.#socket = isTls ? process.getBuiltinModule('node:tls').connect(trusting) : connectPlain(options);
    this.#socket.setNoDelay(true);
    this.#socket.setTimeout(CONNECT_MS_MAX);
    this.#socket.once(isTls ? 'secureConnect' : 'connect', () => this.#socket.setTimeout(IDLE_MS_MAX));
    this.#socket.on('timeout', () => this.#socket.destroy(new NetworkError('ETIMEDOUT')));
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('end', () => this.#fail(new NetworkError('ECONNRESET')));
    this.#socket.on('close', () => this.#fail(new NetworkError('ECONNRESET')));
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  end(): void {
    this.#isOpen = false;
    this.#socket.destroy();
  }

  async ask(
    { path, headers }: RangeRequest,
    { bytesMax, signal }: SignalOptions & { readonly bytesMax: number },
  ): Promise<RangeResponse | null> {
    const promise = Promise.withResolvers<RangeResponse | null>();
    const exchange: Exchange = {
      bytesMax,
      promise,
      begun: Buffer.alloc(0),
      head: null,
      chunks: [],
      filled: 0,
      missing: 0,
    };
    this.#exchange = exchange;
    this.hasAnswered = false;
    const onAbort = () => this.#fail(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    this.#socket.ref();
    try {
      const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
      this.#socket.write([`GET ${path} HTTP/1.1`, ...lines, 'connection: keep-alive', '', ''].join('\r\n'));
      return await promise.promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#exchange = null;
      // A process does not stay for a connection that nobody uses.
      this.#socket.unref();
    }
  }

  /** The bytes are good until this returns. */
  #take(bytes: Buffer): void {
    const exchange = this.#exchange;
    if (exchange === null || (exchange.head !== null && exchange.missing === 0)) {
      return this.#fail(new NetworkError('EPROTO'));
    }
    this.hasAnswered = true;
    if (exchange.head !== null) return this.#addBody(exchange, bytes);
    exchange.begun = Buffer.concat([exchange.begun, bytes]);
    const end = exchange.begun.indexOf('\r\n\r\n');
    if (end === -1 && exchange.begun.length <= HEAD_BYTES_MAX) return;
    const head = end === -1 ? null : parseAnswerHead(exchange.begun.toString('latin1', 0, end));
    if (head === null) {
      const status = end === -1 ? null : statusOf(exchange.begun.toString('latin1', 0, end));
      if (status !== null && UNAVAILABLE.includes(status)) return this.#fail(new UnavailableAnswer(status));
      return this.#leaveToOthers(exchange);
    }
    if (head.length > exchange.bytesMax) {
      const what = `${head.length} bytes came where ${exchange.bytesMax} were asked for`;
      return this.#fail(new AppError('blob_unavailable', `a read gave more than was asked for: ${what}`));
    }
    exchange.head = head;
    exchange.missing = head.length;
    this.#addBody(exchange, exchange.begun.subarray(end + 4));
  }

  #addBody(exchange: Exchange, bytes: Buffer): void {
    if (bytes.length > exchange.missing) return this.#fail(new NetworkError('EPROTO'));
    for (let at = 0; at < bytes.length; ) {
      let chunk = exchange.chunks.at(-1);
      if (chunk === undefined || exchange.filled === chunk.length) {
        chunk = Buffer.allocUnsafeSlow(Math.min(BLOB_CHUNK_BYTES_MAX, exchange.missing));
        exchange.chunks.push(chunk);
        exchange.filled = 0;
      }
      const copied = bytes.copy(chunk, exchange.filled, at);
      at += copied;
      exchange.filled += copied;
      exchange.missing -= copied;
    }
    const { head, missing, chunks } = exchange;
    if (missing > 0 || head === null) return;
    if (head.isLast) this.#isOpen = false;
    const { status, fields, contentRange } = head;
    exchange.promise.resolve({ status, fields, contentRange, chunks });
  }

  #leaveToOthers(exchange: Exchange): void {
    this.end();
    exchange.promise.resolve(null);
  }

  #fail(error: unknown): void {
    this.end();
    this.#exchange?.promise.reject(error);
  }
}

/** The service was there and cannot answer now. Why, it says in a body that is not read. */
export class UnavailableAnswer extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`the service answered ${status}`);
    this.status = status;
  }
}

/** With a code as the errors of sockets have it. */
class NetworkError extends Error {
  readonly code: string;

  constructor(code: string) {
    super(`the connection to the service was lost: ${code}`);
    this.code = code;
  }
}

/** Null for what is no answer of HTTP/1.1. */
function statusOf(head: string): number | null {
  const digits = /^HTTP\/1\.1 (\d{3})(?: |\r|$)/.exec(head)?.[1];
  return digits === undefined ? null : Number(digits);
}

/** Null for everything but bytes of a length that is told, as they are stored. Field names heed no case. */
export function parseAnswerHead(text: string): AnswerHead | null {
  const [first = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.1 (20[06])(?: |$)/.exec(first)?.[1];
  if (status === undefined) return null;
  const fields = new Map<string, string>();
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    if (name === undefined || value === undefined) return null;
    const known = fields.get(name.toLowerCase());
    fields.set(name.toLowerCase(), known === undefined ? value : `${known}, ${value}`);
  }
  const length = fields.get('content-length');
  const isPlain = !fields.has('transfer-encoding') && !fields.has('content-encoding');
  if (!isPlain || length === undefined || !/^\d{1,15}$/.test(length)) return null;
  return {
    status: Number(status),
    fields,
    contentRange: fields.get('content-range') ?? null,
    length: Number(length),
    isLast: /(?:^|,)\s*close\s*(?:,|$)/i.test(fields.get('connection') ?? ''),
  };
}

/** Addresses have no name that a certificate could be asked for by. */
function serverName(hostname: string): string {
  return /^[\d.]+$|:/.test(hostname) ? '' : hostname;
}
