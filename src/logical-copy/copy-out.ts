/**
 * COPY ... TO STDOUT of the client library's sessions. Postgres sends every row as a message of its own; the content of all that arrived is moved together in
 * place, so that a row costs no object, and gathered: who reads and who writes pays for each piece. docs/decisions/0121-speed-of-logical-copies.md
 */
import { Readable } from 'node:stream';
import { assert, required } from '../base/index.ts';

/** What the client library gives whoever is submitted as a query. */
interface Connection {
  readonly stream: NodeJS.ReadableStream & {
    listeners(event: 'data'): unknown[];
  };
  query(text: string): void;
}

/** Of a message: its type and its length, which counts itself. */
const HEADER_BYTES = 5;
const LENGTH_BYTES = 4;
/** A socket gives 64 KiB at most at a time, and often no more than the 8 KiB that Postgres sends at once. */
const PIECE_BYTES = 256 * 1024;
/** What is read ahead of whoever writes. */
const AHEAD_BYTES = 4 * PIECE_BYTES;
/** Types of messages. What of the others may come in between, notices and changed parameters, is of no use here. */
const COPY_DATA = 100;
const COMMAND_COMPLETE = 67;
const ERROR_RESPONSE = 69;
const READY_FOR_QUERY = 90;

type DataHandler = (chunk: Buffer) => void;

/** A query of the client library, and a stream of what it copies. Whoever gives it up early leaves the session to be closed. */
export class CopyOutQuery extends Readable {
  /** Known at the end. */
  rowCount = 0n;
  readonly #text: string;
  #connection: Connection | undefined;
  /** The library's own, which reads everything but the copy. */
  #librarys: DataHandler | undefined;
  /** Of the message that is being read: how much of its content is still to come, and whether that is copied. */
  #left = 0;
  #isData = false;
  /** The beginning of a header whose rest is in the next chunk. */
  #begun: Buffer | undefined;
  /** Content that makes no piece yet: how much of the buffer it fills. */
  #piece: Buffer | undefined;
  #filled = 0;
  readonly #onData: DataHandler = (chunk) => {
    this.#take(chunk);
  };

  constructor(text: string) {
    super({ highWaterMark: AHEAD_BYTES });
    this.#text = text;
  }

  /** Called by the client library when the session is free. */
  submit(connection: Connection): void {
    this.#connection = connection;
    const { stream } = connection;
    const handlers = stream.listeners('data');
    assert(handlers.length === 1, 'the client library alone reads from the connection');
    this.#librarys = handlers[0] as DataHandler; // The library's, as the line before makes sure.
    stream.removeListener('data', this.#librarys);
    stream.on('data', this.#onData);
    connection.query(this.#text);
  }

  handleError(error: Error): void {
    this.#giveBack();
    this.destroy(error);
  }

  handleCommandComplete({ text }: { readonly text?: string }): void {
    this.rowCount = BigInt(/^COPY (\d+)/.exec(text ?? '')?.[1] ?? 0);
  }

  handleReadyForQuery(): void {
    this.push(null);
  }

  override _read(): void {
    if (this.#librarys !== undefined) this.#connection?.stream.resume();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    // What still comes is let go, or the session could not even be closed.
    this.#connection?.stream.resume();
    callback(error);
  }

  #take(arrived: Buffer): void {
    const chunk = this.#begun === undefined ? arrived : Buffer.concat([this.#begun, arrived]);
    this.#begun = undefined;
    let kept = 0;
    let at = 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const bytes = Math.min(this.#left, chunk.length - at);
        if (this.#isData) {
          chunk.copyWithin(kept, at, at + bytes);
          kept += bytes;
        }
        this.#left -= bytes;
        at += bytes;
        continue;
      }
      if (chunk.length - at < HEADER_BYTES) {
        this.#begun = Buffer.from(chunk.subarray(at));
        break;
      }
      const type = chunk[at];
      if (type === COMMAND_COMPLETE || type === ERROR_RESPONSE || type === READY_FOR_QUERY) {
        this.#gather(chunk.subarray(0, kept));
        this.#pass();
        const librarys = required(this.#librarys, 'handler of the client library');
        this.#giveBack();
        librarys(chunk.subarray(at));
        return;
      }
      this.#isData = type === COPY_DATA;
      this.#left = chunk.readUInt32BE(at + 1) - LENGTH_BYTES;
      at += HEADER_BYTES;
    }
    this.#gather(chunk.subarray(0, kept));
  }

  #gather(content: Buffer): void {
    for (let at = 0; at < content.length; ) {
      this.#piece ??= Buffer.allocUnsafeSlow(PIECE_BYTES);
      const bytes = Math.min(content.length - at, PIECE_BYTES - this.#filled);
      content.copy(this.#piece, this.#filled, at, at + bytes);
      this.#filled += bytes;
      at += bytes;
      if (this.#filled === PIECE_BYTES) this.#pass();
    }
  }

  /** Waits for room: while nobody reads, nothing more is taken from the connection. */
  #pass(): void {
    const content = this.#piece?.subarray(0, this.#filled);
    this.#piece = undefined;
    this.#filled = 0;
    if (content === undefined || this.destroyed) return;
    if (!this.push(content)) this.#connection?.stream.pause();
  }

  /** From here on the connection is the library's again. Harmless when it is already. */
  #giveBack(): void {
    if (this.#librarys === undefined || this.#connection === undefined) return;
    const { stream } = this.#connection;
    stream.removeListener('data', this.#onData);
    stream.on('data', this.#librarys);
    this.#librarys = undefined;
    stream.resume();
  }
}
