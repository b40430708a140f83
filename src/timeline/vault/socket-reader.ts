/** Takes the bytes of a socket in pieces, into room that is used again: a backlog of log makes no work for the garbage collector. */
import { connect, type Socket } from 'node:net';
import { assert } from '../../base/index.ts';

/** A message of log of Postgres's is half as long. Room that nothing was read into takes no memory. */
const ROOM_BYTES = 256 * 1024;

/** One caller reads. Nothing is taken from the kernel before it is asked for. */
export class SocketReader {
  readonly socket: Socket;
  readonly #room = Buffer.allocUnsafeSlow(ROOM_BYTES);
  #bytes = 0;
  #isRoomFree = true;
  #isClosed = false;
  #error: Error | null = null;
  #wanted: PromiseWithResolvers<void> | null = null;

  constructor({ path }: { readonly path: string }) {
    this.socket = connect({ path, onread: { buffer: this.#room, callback: (bytes) => this.#take(bytes) } });
    this.socket.on('error', (error) => {
      this.#error = error;
    });
    this.socket.on('close', () => {
      this.#isClosed = true;
      this.#wanted?.resolve();
    });
  }

  /** What has come, at least a byte; valid until the next call. Null at the end. @throws what the socket failed with */
  async next(): Promise<Buffer | null> {
    if (this.#bytes === 0 && !this.#isClosed) {
      this.#wanted = Promise.withResolvers();
      this.#isRoomFree = true;
      this.socket.resume();
      await this.#wanted.promise;
      this.#wanted = null;
    }
    const piece = this.#room.subarray(0, this.#bytes);
    this.#bytes = 0;
    if (piece.length > 0) return piece;
    if (this.#error !== null) throw this.#error;
    return null;
  }

  /** Reading pauses until the next call of `next`: the room is in use. */
  #take(bytes: number): boolean {
    assert(this.#isRoomFree, 'a socket is read only into room that is free');
    this.#isRoomFree = false;
    this.#bytes = bytes;
    this.#wanted?.resolve();
    return false;
  }
}
