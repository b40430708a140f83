import { writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { errnoOf } from '../base/index.ts';

/** Bytes read from a socket at once. */
const READ_BYTES_MAX = 65_536;
/** Reads up to this length find the view of their bytes ready made: 4,096 views are half a megabyte at most. */
const VIEW_BYTES_MAX = 4_096;

/** What we use of the runtime's own stream handles. None of it is documented; docs/decisions say why it is used. */
interface StreamHandle {
  reading: boolean;
  /** Of the socket; negative when closed. */
  readonly fd: number;
  onread: (this: StreamHandle, arrayBuffer: ArrayBuffer | undefined) => unknown;
  close(this: StreamHandle, callback?: () => void): void;
  reset?(this: StreamHandle, callback?: () => void): number;
  /** Ours: whose handle it is. */
  lane?: FastLane;
  useUserBuffer(buffer: Uint8Array): void;
  readStart(): number;
  readStop(): number;
  writeBuffer(request: WriteRequest, bytes: Uint8Array): number;
}

interface WriteRequest {
  oncomplete: ((status: number) => void) | undefined;
  /** Keeps the bytes from being collected while the kernel has not taken them. */
  bytes: Uint8Array | undefined;
}

interface StreamBinding {
  readonly WriteWrap: new () => WriteRequest;
  readonly streamBaseState: Int32Array;
  readonly kReadBytesOrError: number;
  readonly kLastWriteWasAsync: number;
}

/** Undefined on a runtime that has changed in these parts: relays then go the documented way, which is slower. */
const binding = findBinding();

function findBinding(): StreamBinding | undefined {
  try {
    const found: unknown = Reflect.apply(
      Reflect.get(process, 'binding') as (name: string) => unknown,
      process,
      ['stream_wrap'],
    );
    return isBinding(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

function isBinding(found: unknown): found is StreamBinding {
  if (typeof found !== 'object' || found === null) return false;
  const { WriteWrap, streamBaseState, kReadBytesOrError, kLastWriteWasAsync } =
    found as Partial<StreamBinding>;
  return (
    typeof WriteWrap === 'function' &&
    streamBaseState instanceof Int32Array &&
    typeof kReadBytesOrError === 'number' &&
    typeof kLastWriteWasAsync === 'number'
  );
}

function handleOf(socket: Socket): StreamHandle | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null) return undefined;
  const { fd, onread, close, useUserBuffer, readStart, readStop, writeBuffer } =
    handle as Partial<StreamHandle>;
  const isKnown = [onread, close, useUserBuffer, readStart, readStop, writeBuffer].every(
    (part) => typeof part === 'function',
  );
  return isKnown && typeof fd === 'number' && fd >= 0 ? (handle as StreamHandle) : undefined;
}

/**
 * What all lanes of a front door share: the memory they read into. What is read is written on, or copied, before anything else is
 * read, so one buffer does for all, and stays in the processor's cache, as one for each of many sockets does not.
 */
export class LanePool {
  /** Handed to the runtime, which keeps its address: it lives as long as any lane. */
  readonly buffer = Buffer.allocUnsafeSlow(READ_BYTES_MAX);
  readonly #views: (Buffer | undefined)[] = Array.from({ length: VIEW_BYTES_MAX + 1 });

  /** The first bytes of the buffer, without making an object for each read. */
  view(length: number): Buffer {
    if (length > VIEW_BYTES_MAX) return this.buffer.subarray(0, length);
    this.#views[length] ??= this.buffer.subarray(0, length);
    return this.#views[length];
  }
}

/** Who a lane serves. */
export interface LaneEvents {
  /** The bytes are valid during the call. */
  onData(bytes: Buffer): void;
  /** All that had to wait is written. */
  onDrain(): void;
}

export interface FastLaneOptions {
  readonly pool: LanePool;
  /**
   * After a write that failed, goes on reading up to the end: a server that closes a session says why before, and what we write meanwhile
   * fails. Else the connection closes at once.
   */
  readonly hearsLastWords: boolean;
  readonly events: LaneEvents;
}

/**
 * Reads and writes of a connected socket, past the stream machinery: bytes are read into the one buffer and written
 * from it by the same system calls, but without the objects, queues and ticks that a stream makes of each chunk (more than
 * half of a relay's processor time). Ends, errors and closing stay with the socket.
 */
export class FastLane {
  // The order is that of use: with many sessions, each of these lines of memory is cold when a query comes.
  readonly #state: Int32Array;
  readonly #lengthAt: number;
  readonly #pool: LanePool;
  /** Who hears of what is read. */
  events: LaneEvents;
  /** Negative when nothing can be written any more. */
  #fd: number;
  #waitingBytes = 0;
  readonly #onSlowRead: StreamHandle['onread'];
  readonly #socket: Socket;
  readonly #handle: StreamHandle;
  readonly #binding: StreamBinding;
  readonly #hearsLastWords: boolean;

  private constructor(
    socket: Socket,
    options: FastLaneOptions & { handle: StreamHandle; binding: StreamBinding },
  ) {
    this.#state = options.binding.streamBaseState;
    this.#lengthAt = options.binding.kReadBytesOrError;
    this.#pool = options.pool;
    this.events = options.events;
    this.#fd = options.handle.fd;
    this.#onSlowRead = options.handle.onread;
    this.#socket = socket;
    this.#handle = options.handle;
    this.#binding = options.binding;
    this.#hearsLastWords = options.hearsLastWords;
  }

  /** Takes over a connected socket that nothing has been read from. Undefined where that can't be. */
  static open(socket: Socket, options: FastLaneOptions): FastLane | undefined {
    const handle = handleOf(socket);
    if (binding === undefined || handle === undefined) return undefined;
    const lane = new FastLane(socket, { ...options, handle, binding });
    lane.#watchClosing();
    handle.useUserBuffer(options.pool.buffer);
    handle.lane = lane;
    handle.onread = readByLane;
    return lane;
  }

  /** The number of a closed descriptor is the next socket's: the lane must know before it is closed, however that comes. */
  #watchClosing(): void {
    const handle = this.#handle;
    const close = handle.close.bind(handle);
    const reset = handle.reset?.bind(handle); // Unix sockets have none.
    handle.close = (callback) => {
      this.#fd = -1;
      close(callback);
    };
    if (reset === undefined) return;
    handle.reset = (callback) => {
      this.#fd = -1;
      return reset(callback);
    };
  }

  /** Called by the runtime when bytes were read, or the end, or an error. */
  takeRead(handle: StreamHandle, arrayBuffer: ArrayBuffer | undefined): void {
    const length = this.#state[this.#lengthAt] as number;
    if (length > 0) this.events.onData(this.#pool.view(length));
    else this.#onSlowRead.call(handle, arrayBuffer);
  }

  /** False when bytes wait in memory. What is given is not needed after the call. */
  write(bytes: Uint8Array): boolean {
    if (this.#fd < 0) return true;
    if (this.#waitingBytes > 0) return this.#writeLater(bytes);
    const written = this.#writeNow(bytes);
    return written === bytes.length || this.#writeLater(bytes.subarray(written));
  }

  /** Gives how many bytes the kernel took. */
  #writeNow(bytes: Uint8Array): number {
    try {
      return writeSync(this.#fd, bytes, 0, bytes.length);
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN') return 0;
      this.#breakWrites();
      return bytes.length;
    }
  }

  /** Hands a copy to the runtime, which writes it when the kernel has room. */
  #writeLater(bytes: Uint8Array): boolean {
    const own = Buffer.from(bytes);
    const request = new this.#binding.WriteWrap();
    const failure = this.#handle.writeBuffer(request, own);
    if (failure !== 0) {
      this.#breakWrites();
      return true;
    }
    if (this.#state[this.#binding.kLastWriteWasAsync] === 0) return this.#waitingBytes === 0;
    this.#waitingBytes += own.length;
    request.bytes = own;
    request.oncomplete = (status) => {
      request.bytes = undefined;
      this.#waitingBytes -= own.length;
      if (status !== 0) this.#breakWrites();
      else if (this.#waitingBytes === 0) this.events.onDrain();
    };
    return false;
  }

  #breakWrites(): void {
    this.stopWriting();
    if (this.#hearsLastWords) this.resume();
    else this.#socket.destroy();
  }

  /** Drops whatever is written from now on; what waits is still written. */
  stopWriting(): void {
    this.#fd = -1;
  }

  pause(): void {
    if (!this.#handle.reading) return;
    this.#handle.reading = false;
    this.#handle.readStop();
  }

  resume(): void {
    if (this.#handle.reading || this.#socket.destroyed) return;
    this.#handle.reading = true;
    this.#handle.readStart();
  }
}

/** One function for all handles: a closure for each would be one more cold line of memory. */
function readByLane(this: StreamHandle, arrayBuffer: ArrayBuffer | undefined): void {
  this.lane?.takeRead(this, arrayBuffer);
}
