import { connect, type Socket } from 'node:net';
import { TLSSocket, type TLSSocketOptions } from 'node:tls';
import { AppError } from '../base/index.ts';
import { FastLane, type LanePool } from './fast-lane.ts';

/** What happens on one side of a relay. */
export interface ChannelEvents {
  /** The bytes are valid during the call; who keeps them must copy or write them. */
  onData(bytes: Buffer): void;
  /** The peer will send no more. */
  onEnd(): void;
  /** What had to wait is written: the other side may be read again. */
  onDrain(): void;
  /** The connection is gone, for whatever reason. Called once. */
  onClose(): void;
}

export interface ChannelOptions {
  /** Undefined for the documented way of reading and writing, which is slower. */
  readonly pool: LanePool | undefined;
  readonly events: ChannelEvents;
}

/** One socket of a relay, with backpressure made plain: `write` says whether the other side may go on. */
export class Channel {
  #socket: Socket;
  #events: ChannelEvents;
  readonly #hasLanes: boolean;
  #lane: FastLane | undefined;
  /** Nothing waits in the stream any more: all goes by the lane. */
  #isLaneFree = false;
  #hasEnded = false;

  private constructor(socket: Socket, options: ChannelOptions) {
    this.#socket = socket;
    this.#hasLanes = options.pool !== undefined;
    this.#events = options.events;
    this.#listen(socket);
  }

  #listen(socket: Socket): void {
    // A socket that TLS has taken over is no more ours to hear.
    const whenOurs = (tell: () => void) => () => {
      if (this.#socket === socket) tell();
    };
    const onEnd = () => {
      this.#hasEnded = true;
      if (!socket.writable) this.#lane?.stopWriting(); // The socket may have said goodbye by itself.
      this.#events.onEnd();
    };
    socket.on('end', whenOurs(onEnd));
    socket.on(
      'drain',
      whenOurs(() => this.#events.onDrain()),
    );
    socket.on('error', () => undefined); // `close` follows and is enough: a peer that is gone is no news.
    socket.on(
      'close',
      whenOurs(() => this.#events.onClose()),
    );
  }

  /** Takes over a socket that a listener accepted just now. */
  static accepted(socket: Socket, options: ChannelOptions): Channel {
    const channel = new Channel(socket, options);
    channel.#open(options.pool);
    return channel;
  }

  /** Connects to a Unix socket. A failure to connect is a close. */
  static toSocket(path: string, options: ChannelOptions): Channel {
    const socket = connect(path);
    const channel = new Channel(socket, options);
    socket.once('connect', () => channel.#open(options.pool, { hearsLastWords: true }));
    return channel;
  }

  #open(pool: LanePool | undefined, { hearsLastWords } = { hearsLastWords: false }): void {
    this.#lane = pool && FastLane.open(this.#socket, { pool, hearsLastWords, events: this.#events });
    if (this.#lane === undefined) this.#readStream(this.#socket);
  }

  #readStream(socket: Socket): void {
    socket.on('data', (bytes: Buffer) => {
      if (this.#socket === socket) this.#events.onData(bytes);
    });
  }

  /**
   * Goes on by TLS, as the server; to be called when nothing that came is left unread. Resolves after the handshake.
   * @throws AppError `connection_failure` when it fails; the connection is closed then
   */
  async secure(options: TLSSocketOptions): Promise<TLSSocket> {
    const plain = this.#socket;
    this.#lane = undefined;
    this.#isLaneFree = false;
    plain.pause();
    const secured = new TLSSocket(plain, options);
    this.#socket = secured;
    this.#listen(secured);
    const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
    const onFailed = (cause?: unknown) => {
      const reason = cause instanceof Error ? cause.message : 'the client went away';
      reject(new AppError('connection_failure', `the TLS handshake failed: ${reason}`, { cause }));
    };
    secured.once('secure', () => resolve(secured));
    secured.once('_tlsError', onFailed); // Said before the close by sockets that no tls.Server made.
    secured.once('error', onFailed);
    secured.once('close', onFailed);
    const onEnd = () => secured.destroy(); // Half a connection is none yet.
    secured.once('end', onEnd);
    this.#readStream(secured);
    await promise;
    secured.off('end', onEnd);
    secured.off('_tlsError', onFailed);
    secured.off('error', onFailed);
    secured.off('close', onFailed);
    return secured;
  }

  /** Who hears of this channel from now on. */
  set events(events: ChannelEvents) {
    this.#events = events;
    if (this.#lane !== undefined) this.#lane.events = events;
  }

  /** False when bytes wait in memory: the source should pause until `onDrain`. The bytes are needed during the call only. */
  write(bytes: Uint8Array): boolean {
    return this.#isLaneFree && this.#lane !== undefined
      ? this.#lane.write(bytes)
      : this.#writeToStream(bytes);
  }

  #writeToStream(bytes: Uint8Array): boolean {
    if (!this.#socket.writable) return true;
    // What waits in the stream, from before the connection stood, goes first.
    if (this.#lane !== undefined && this.#socket.writableLength === 0) {
      this.#isLaneFree = true;
      return this.#lane.write(bytes);
    }
    // Without lanes every read has a buffer of its own.
    return this.#socket.write(this.#hasLanes ? Buffer.from(bytes) : bytes);
  }

  pause(): void {
    if (this.#lane === undefined) this.#socket.pause();
    else this.#lane.pause();
  }

  resume(): void {
    if (this.#lane === undefined) this.#socket.resume();
    else this.#lane.resume();
  }

  /** Says that no more will be written, after all that was. */
  end(): void {
    this.#lane?.stopWriting();
    this.#socket.end();
  }

  /** Writes what waits, then closes. */
  closeGently(): void {
    this.#lane?.stopWriting();
    this.#socket.destroySoon();
  }

  /** Closes at once; harmless when closed. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** The peer will send no more. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  get isConnecting(): boolean {
    return this.#socket.connecting;
  }

  get isClosed(): boolean {
    return this.#socket.destroyed;
  }
}
