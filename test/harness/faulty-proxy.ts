import { createServer, type IncomingMessage, request as ask, type ServerResponse } from 'node:http';

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
  /** No answer ever comes. */
  | 'hang';

/** Stands between a driver and its service, and spoils what it is told to. The `Host` header stays: it is signed. */
export class FaultyProxy implements AsyncDisposable {
  readonly #target: URL;
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  /** Asked for each request. */
  plan: (request: {
    readonly method: string;
    readonly path: string;
    readonly bodyBytes: number;
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
    const fault = this.plan({ method, path, bodyBytes: body.length });
    if (fault !== undefined) this.faults++;
    if (fault === 'hang') return;
    if (fault === 'cut_before') return void response.destroy();
    if (fault === 'status_500') return void response.writeHead(500).end();
    const answer = await this.#forward(request, body).catch(() => null);
    if (answer === null || fault === 'cut_after') return void response.destroy();
    if (fault === 'status_503_after') return void response.writeHead(503).end();
    response.writeHead(answer.status, answer.headers);
    if (fault !== 'cut_body') return void response.end(answer.body);
    response.write(answer.body.subarray(0, answer.body.length / 2), () => response.destroy());
  }

  #forward(
    { method, url, rawHeaders }: IncomingMessage,
    body: Buffer,
  ): Promise<{ status: number; headers: string[]; body: Buffer }> {
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

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
