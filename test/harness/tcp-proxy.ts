import { createServer, connect, type Server, type Socket } from 'node:net';

/**
 * `pass` forwards; `silent` accepts connections and keeps those there are, and lets not a byte through; `refuse` ends all there are, and every
 * new one.
 */
export type ProxyMode = 'pass' | 'silent' | 'refuse';

/** A network between two programs that can be cut, or go dead without a word. */
export class TcpProxy implements AsyncDisposable {
  readonly #target: () => number | string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #mode: ProxyMode = 'pass';
  /** Bytes that came from the target. */
  receivedBytes = 0;
  /** Goes silent by itself when so many bytes have come from the target; null never. */
  silentAtBytes: number | null = null;
  /** What becomes of bytes from the target; as many as there were. They come as they were sent: small messages, one after the other, whole. */
  rewrite: (bytes: Buffer) => Buffer = (bytes) => bytes;

  private constructor(target: () => number | string) {
    this.#target = target;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** `target` gives the port on this machine, or the path of a socket; asked for every connection. */
  static async start(target: () => number | string): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    await new Promise<void>((done) => proxy.#server.listen(0, '127.0.0.1', done));
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return address.port;
  }

  get mode(): ProxyMode {
    return this.#mode;
  }

  set mode(mode: ProxyMode) {
    this.#mode = mode;
    for (const socket of this.#sockets) {
      if (mode === 'refuse') socket.destroy();
      else if (mode === 'silent') socket.pause();
      else socket.resume();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((done) => this.#server.close(done));
  }

  #accept(client: Socket): void {
    if (this.#mode === 'refuse') return void client.destroy();
    const target = this.#target();
    const upstream = typeof target === 'string' ? connect(target) : connect(target, '127.0.0.1');
    this.#join(client, upstream, (chunk) => chunk);
    this.#join(upstream, client, (chunk) => {
      this.receivedBytes += chunk.length;
      if (this.silentAtBytes !== null && this.receivedBytes >= this.silentAtBytes) {
        this.silentAtBytes = null;
        this.mode = 'silent';
      }
      return this.rewrite(chunk);
    });
    if (this.#mode === 'silent') {
      client.pause();
      upstream.pause();
    }
  }

  #join(from: Socket, to: Socket, pass: (chunk: Buffer) => Buffer): void {
    this.#sockets.add(from);
    from.on('data', (chunk: Buffer) => {
      if (to.write(pass(chunk)) || this.#mode === 'silent') return;
      from.pause();
      to.once('drain', () => {
        if (this.#mode === 'pass') from.resume();
      });
    });
    from.on('error', () => undefined);
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }
}

/** An Atoll of a release that is not there yet, as far as those who come to follow it can tell. */
export function asNewerRelease(bytes: Buffer): Buffer {
  const text = bytes.toString('latin1').replace(/("release": ?)"\d\d\.\d"/, '$1"99.9"');
  return Buffer.from(text, 'latin1');
}
