import type { Duplex } from 'node:stream';
import { DatabaseError, type Connection, type Submittable } from 'pg';
import type { ResultCell, ResultColumn } from './format/index.ts';

/** What the results of a statement are given to, as they arrive. */
export interface ResultReceiver {
  columns(columns: readonly ResultColumn[]): void;
  row(cells: readonly ResultCell[]): void;
  complete(tag: string): void;
  copyOut(chunk: Uint8Array): void;
  /** Data for `COPY ... FROM STDIN`; read to its end even when the server has refused it. */
  copyIn(): AsyncIterable<Uint8Array>;
  /** Resolves when more results are welcome, undefined when they are welcome now. */
  whenReady(): Promise<void> | undefined;
}

/** What `pg` has on its connection beyond the declared types: it calls these itself for COPY. */
interface CopyConnection extends Connection {
  sendCopyFromChunk(chunk: Uint8Array): void;
  endCopyFrom(): void;
  sendCopyFail(message: string): void;
}

/**
 * One text of SQL sent by the simple protocol, its results handed on as they arrive and never gathered: a `Submittable` of
 * `pg`, whose own query keeps every row. When the receiver is slow, the socket is not read.
 */
export class StatementRun implements Submittable {
  readonly #text: string;
  readonly #receiver: ResultReceiver;
  readonly #finished = Promise.withResolvers<void>();
  #error: Error | undefined;
  #stream: Duplex | undefined;
  #isHeld = false;
  #copying: Promise<void> | undefined;

  constructor(text: string, receiver: ResultReceiver) {
    this.#text = text;
    this.#receiver = receiver;
  }

  /** Settles when the server is ready for the next statement, or the connection is lost. Rejects with the first error. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  submit(connection: Connection): void {
    this.#stream = connection.stream;
    const settle = () => {
      connection.off('readyForQuery', settle);
      connection.off('end', settle);
      void this.#settle();
    };
    connection.on('readyForQuery', settle);
    connection.on('end', settle);
    connection.query(this.#text);
  }

  handleRowDescription(message: { fields: readonly { name: string; dataTypeID: number }[] }): void {
    this.#receiver.columns(message.fields.map(({ name, dataTypeID }) => ({ name, typeId: dataTypeID })));
  }

  handleDataRow(message: { fields: readonly ResultCell[] }): void {
    this.#receiver.row(message.fields);
    this.#holdBack();
  }

  handleCommandComplete(message: { text: string }): void {
    this.#receiver.complete(message.text);
  }

  handleEmptyQuery(): void {
    // Nothing was asked, nothing is shown.
  }

  handleCopyData(message: { chunk: Uint8Array }): void {
    this.#receiver.copyOut(message.chunk);
    this.#holdBack();
  }

  handleCopyInResponse(connection: CopyConnection): void {
    this.#copying = this.#copyIn(connection);
  }

  handleError(error: Error): void {
    this.#error ??= error;
    // An error of the server is followed by ReadyForQuery or the end of the connection; any other is the end.
    if (!(error instanceof DatabaseError)) void this.#settle();
  }

  handleReadyForQuery(): void {
    // The listener of `submit` sees it too, also after an error, when `pg` no longer tells the query.
  }

  async #settle(): Promise<void> {
    await this.#copying;
    if (this.#error === undefined) this.#finished.resolve();
    else this.#finished.reject(this.#error);
  }

  async #copyIn(connection: CopyConnection): Promise<void> {
    try {
      for await (const chunk of this.#receiver.copyIn()) {
        if (this.#error !== undefined) continue;
        connection.sendCopyFromChunk(chunk);
        if (connection.stream.writableNeedDrain) await drained(connection.stream);
      }
      if (this.#error === undefined) connection.endCopyFrom();
    } catch (error) {
      connection.sendCopyFail(error instanceof Error ? error.message : String(error));
    }
  }

  /** Stops reading the socket until the receiver is ready; what has been read already still arrives meanwhile. */
  #holdBack(): void {
    const stream = this.#stream;
    if (stream === undefined || this.#isHeld) return;
    const ready = this.#receiver.whenReady();
    if (ready === undefined) return;
    this.#isHeld = true;
    stream.pause();
    void ready.then(() => {
      this.#isHeld = false;
      stream.resume();
    });
  }
}

/** Resolves when the stream takes more, or will never again. */
async function drained(stream: Duplex): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const events = ['drain', 'close', 'error'] as const;
  for (const event of events) stream.once(event, resolve);
  await promise;
  for (const event of events) stream.off(event, resolve);
}
