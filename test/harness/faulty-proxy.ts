import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request as ask,
  type ServerResponse,
} from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/** What becomes of a request. */
export type Fault =
  /** The connection breaks before the service hears of it. */
  | 'cut_before'
  /** The service does it, and the connection breaks instead of its answer. */
  | 'cut_after'
  /** The service says 500 and has done nothing. */
  | 'status_500'
  /** The service says 503, and has done it. */
  | 'status_503_after'
  /** Half of the answer's body, then the connection breaks. */
  | 'cut_body'
  /** Half of the answer's body, as if that were all of it. */
  | 'short_body'
  /** The answer's body comes in many pieces, with time between them. */
  | 'slow_body'
  /** The answer says that it begins a byte later than it does. */
  | 'other_range'
  /** The answer says that what it holds is the object from its beginning on. */
  | 'no_range'
  /** The answer tells another `ETag` than the service's. */
  | 'wrong_etag'
  /** A byte of what is sent changes on its way. */
  | 'damaged_request'
  /** No answer ever comes. */
  | 'hang';

const SLOW_PIECES = 8;
const SLOW_PIECE_MS = 5;

/** Stands between a driver and its service, and spoils what it is told to. The `Host` header stays: it is signed. */
export class FaultyProxy implements AsyncDisposable {
  readonly #target: URL;
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  /** Asked for each request. */
  plan: (request: {
    readonly method: string;
    readonly path: string;
    readonly bodyBytes: number;
    readonly headers: IncomingHttpHeaders;
  }) => Fault | undefined = () => undefined;
  faults = 0;

  private constructor(target: string) {
    this.#target = new URL(target);
  }

  static async start(target: string): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(target);
    await new Promise<void>((done) => proxy.#server.listen(0, '127.0.0.1', done));
    return proxy;
  }

  get endpoint(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `http://127.0.0.1:${address.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const body = await bodyOf(request).catch(() => null);
    if (body === null) return;
    const { method = 'GET', url: path = '/' } = request;
    const fault = this.plan({ method, path, bodyBytes: body.length, headers: request.headers });
    if (fault !== undefined) this.faults++;
    if (fault === 'hang') return;
    if (fault === 'cut_before') return void response.destroy();
    if (fault === 'status_500') return void response.writeHead(500).end();
    const sent = fault === 'damaged_request' ? damaged(body) : body;
    const answer = await this.#forward(request, sent).catch(() => null);
    if (answer === null || fault === 'cut_after') return void response.destroy();
    if (fault === 'status_503_after') return void response.writeHead(503).end();
    const spoiled = spoil(answer, fault);
    response.writeHead(spoiled.status, spoiled.headers);
    const half = answer.body.subarray(0, answer.body.length / 2);
    if (fault === 'cut_body') return void response.write(half, () => response.destroy());
    if (fault === 'slow_body') await trickle(answer.body, response);
    else response.end(spoiled.body);
  }

  #forward({ method, url, rawHeaders }: IncomingMessage, body: Buffer): Promise<Answer> {
    const { hostname, port } = this.#target;
    return new Promise((resolve, reject) => {
      const onward = ask({ hostname, port, method, path: url, headers: rawHeaders as never }, (answer) => {
        bodyOf(answer).then(
          (bytes) => resolve({ status: answer.statusCode ?? 500, headers: answer.rawHeaders, body: bytes }),
          reject,
        );
      });
      onward.on('error', reject);
      onward.end(body);
    });
  }
}

interface Answer {
  readonly status: number;
  /** Names and values, in turn. */
  readonly headers: readonly string[];
  readonly body: Buffer;
}

function damaged(body: Buffer): Buffer {
  const copy = Buffer.from(body);
  const middle = Math.trunc(copy.length / 2);
  copy[middle] = (copy[middle] ?? 0) ^ 0x10;
  return copy;
}

/** The answer with what the fault changes of its headers and its length. */
function spoil(
  answer: Answer,
  fault: Fault | undefined,
): { status: number; headers: string[]; body: Buffer } {
  const { status, body } = answer;
  const pairs = answer.headers.flatMap((name, index) =>
    index % 2 === 0 ? [[name, answer.headers[index + 1] ?? ''] as const] : [],
  );
  const changed = (name: string, change: (value: string) => string | null) =>
    pairs.flatMap(([each, value]) => {
      const told = each.toLowerCase() === name ? change(value) : value;
      return told === null ? [] : [each, told];
    });
  const later = (value: string) => value.replace(/^bytes (\d+)/, (_, begin) => `bytes ${Number(begin) + 1}`);
  switch (fault) {
    case 'short_body': {
      const half = body.subarray(0, body.length / 2);
      const isToHead = body.length === 0;
      return {
        status,
        headers: changed('content-length', (value) => (isToHead ? value : String(half.length))),
        body: half,
      };
    }
    case 'other_range':
      return { status, headers: changed('content-range', later), body };
    case 'no_range':
      return { status: status === 206 ? 200 : status, headers: changed('content-range', () => null), body };
    case 'wrong_etag':
      return { status, headers: changed('etag', () => '"0123456789abcdef0123456789abcdef"'), body };
    default:
      return { status, headers: [...answer.headers], body };
  }
}

async function trickle(body: Buffer, response: ServerResponse): Promise<void> {
  const bytes = Math.max(1, Math.ceil(body.length / SLOW_PIECES));
  for (let at = 0; at < body.length; at += bytes) {
    response.write(body.subarray(at, at + bytes));
    await sleep(SLOW_PIECE_MS);
  }
  response.end();
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
