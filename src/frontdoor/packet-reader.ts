import { AppError, assert } from '../base/index.ts';

/** Gives the total length of the packet that the bytes begin with, or undefined while that can't be told. */
export type PacketLength = (bytes: Buffer) => number | undefined;

/**
 * Hands out whole packets of a connection one at a time, to a reader that waits: for start-up, authentication and
 * login, where speed is no matter. What is left over goes to the relay.
 */
export class PacketReader {
  readonly #lengthOf: PacketLength;
  #bytes: Buffer = Buffer.alloc(0);
  #ended: AppError | undefined;
  #waiter: PromiseWithResolvers<Buffer> | undefined;

  constructor(options: { lengthOf: PacketLength }) {
    this.#lengthOf = options.lengthOf;
  }

  /** Takes a copy of what came. */
  push(bytes: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    this.#serve();
  }

  /** Nothing more will come. */
  end(error: AppError = new AppError('connection_failure', 'the connection ended')): void {
    this.#ended ??= error;
    this.#serve();
  }

  /** Whether this is the error that `end` left for readers. */
  isEndedBy(error: AppError): boolean {
    return this.#ended === error;
  }

  /** The next whole packet. One may wait at a time. @throws AppError `connection_failure`, or what `lengthOf` throws */
  next(): Promise<Buffer> {
    assert(this.#waiter === undefined, 'two readers of one connection');
    this.#waiter = Promise.withResolvers<Buffer>();
    const { promise } = this.#waiter;
    this.#serve();
    return promise;
  }

  /** Bytes behind the last packet taken, and no more of them. */
  takeRest(): Buffer {
    const rest = this.#bytes;
    this.#bytes = Buffer.alloc(0);
    return rest;
  }

  get bufferedBytes(): number {
    return this.#bytes.length;
  }

  #serve(): void {
    const waiter = this.#waiter;
    if (waiter === undefined) return;
    try {
      const length = this.#lengthOf(this.#bytes);
      if (length !== undefined && length <= this.#bytes.length) {
        this.#waiter = undefined;
        const packet = this.#bytes.subarray(0, length);
        this.#bytes = this.#bytes.subarray(length);
        waiter.resolve(packet);
      } else if (this.#ended !== undefined) {
        this.#waiter = undefined;
        waiter.reject(this.#ended);
      }
    } catch (error) {
      this.#waiter = undefined;
      waiter.reject(error);
    }
  }
}

/** Lengths of messages with a type byte, as after start-up. */
export function typedPacketLength(options: { bytesMax: number; onTooLong: () => AppError }): PacketLength {
  return (bytes) => {
    if (bytes.length < 5) return undefined;
    const length = bytes.readInt32BE(1);
    if (length < 4 || length > options.bytesMax) throw options.onTooLong();
    return length + 1;
  };
}
