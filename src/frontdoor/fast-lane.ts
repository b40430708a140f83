import type { Socket } from 'node:net';

/** Bytes read from a socket at once; each socket has a buffer of this size, of which only what was used is resident. */
const READ_BYTES_MAX = 32_768;

/** What we use of the runtime's own stream handles. None of it is documented; docs/decisions say why it is used. */
interface StreamHandle {
  reading: boolean;
  /** What it returns, if anything, is read into from then on. */
  onread: (this: StreamHandle, arrayBuffer: ArrayBuffer | undefined) => Uint8Array | undefined;
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
  const { onread, useUserBuffer, readStart, readStop, writeBuffer } = handle as Partial<StreamHandle>;
  const isKnown = [onread, useUserBuffer, readStart, readStop, writeBuffer].every(
    (part) => typeof part === 'function',
  );
  return isKnown ? (handle as StreamHandle) : undefined;
}

/** What all lanes of a front door share, because each needs it during one call only. */
export class LanePool {
  #request: WriteRequest | undefined;
  /**
   * A write of this moment waits in memory: if it was made of what a socket has just read, that socket's buffer belongs to
   * the write now.
   */
  isRetained = false;

  /** A write that the kernel takes at once needs its request no longer. */
  takeRequest(make: new () => WriteRequest): WriteRequest {
    const request = this.#request ?? new make();
    this.#request = undefined;
    return request;
  }

  giveBack(request: WriteRequest): void {
    this.#request = request;
  }
}

export interface FastLaneOptions {
  readonly pool: LanePool;
  /**
   * After a write that failed, goes on reading up to the end: a server that closes a session says why before, and what we write meanwhile
   * fails. Else the connection closes at once.
   */
  readonly hearsLastWords: boolean;
  readonly onData: (bytes: Buffer) => void;
  readonly onDrain: () => void;
}

/**
 * Reads and writes of a connected socket, past the stream machinery: bytes are read into one buffer and written
 * from it by the same system calls, but without the objects, queues and ticks that a stream makes of each chunk (more than
 * half of a relay's processor time). Ends, errors and closing stay with the socket.
 */
export class FastLane {
  readonly #socket: Socket;
  readonly #handle: StreamHandle;
  readonly #binding: StreamBinding;
  readonly #options: FastLaneOptions;
  #waitingBytes = 0;
  #isWriteBroken = false;

  private constructor(
    socket: Socket,
    options: FastLaneOptions & { handle: StreamHandle; binding: StreamBinding },
  ) {
    this.#socket = socket;
    this.#handle = options.handle;
    this.#binding = options.binding;
    this.#options = options;
  }

  /** Takes over a connected socket that nothing has been read from. Undefined where that can't be. */
  static open(socket: Socket, options: FastLaneOptions): FastLane | undefined {
    const handle = handleOf(socket);
    if (binding === undefined || handle === undefined) return undefined;
    const lane = new FastLane(socket, { ...options, handle, binding });
    lane.#read();
    return lane;
  }

  #read(): void {
    const { pool, onData } = this.#options;
    const handle = this.#handle;
    const { streamBaseState, kReadBytesOrError } = this.#binding;
    const onSlowRead = handle.onread;
    let buffer = Buffer.allocUnsafeSlow(READ_BYTES_MAX);
    handle.useUserBuffer(buffer);
    handle.onread = function onRead(arrayBuffer) {
      const length = streamBaseState[kReadBytesOrError] as number;
      if (length <= 0) {
        return onSlowRead.call(this, arrayBuffer); // The end, or an error.
      }
      pool.isRetained = false;
      onData(buffer.subarray(0, length));
      if (!pool.isRetained) return undefined;
      buffer = Buffer.allocUnsafeSlow(READ_BYTES_MAX);
      return buffer;
    };
  }

  /** False when bytes wait in memory. */
  write(bytes: Uint8Array): boolean {
    if (this.#isWriteBroken) return true;
    const { pool } = this.#options;
    const request = pool.takeRequest(this.#binding.WriteWrap);
    const failure = this.#handle.writeBuffer(request, bytes);
    if (failure !== 0) {
      this.#breakWrites();
      return true;
    }
    if (this.#binding.streamBaseState[this.#binding.kLastWriteWasAsync] === 0) {
      pool.giveBack(request);
      return this.#waitingBytes === 0;
    }
    this.#waitingBytes += bytes.length;
    pool.isRetained = true;
    request.bytes = bytes;
    request.oncomplete = (status) => {
      request.bytes = undefined;
      this.#waitingBytes -= bytes.length;
      if (status !== 0) this.#breakWrites();
      else if (this.#waitingBytes === 0) this.#options.onDrain();
    };
    return false;
  }

  #breakWrites(): void {
    this.#isWriteBroken = true;
    if (this.#options.hearsLastWords) this.resume();
    else this.#socket.destroy();
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
