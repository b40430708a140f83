/** BASE_BACKUP on a connection of `pg`, which knows queries and rows but not what this command sends between them. */
import type pg from 'pg';
import { AppError } from '../../base/index.ts';

/** Beyond, the socket is not read until what came is worked off. */
const QUEUED_BYTES_MAX = 8 * 1024 * 1024;

export type BaseBackupPart =
  | { readonly kind: 'archive'; readonly name: string }
  | { readonly kind: 'manifest' }
  /** Of the archive or the manifest that was named last. */
  | { readonly kind: 'content'; readonly bytes: Buffer };

/** Types of the messages inside the copy, `backend/backup/basebackup_copy.c`. */
const PART = { archive: 'n', manifest: 'm', content: 'd', progress: 'p' } as const;

/** What `pg` calls on a query of its own kind; see `pg/lib/client.js`. */
interface PgConnection {
  readonly stream: { pause(): void; resume(): void };
  query(text: string): void;
}

export class BaseBackupQuery implements AsyncIterable<BaseBackupPart> {
  readonly #text: string;
  readonly #queue: BaseBackupPart[] = [];
  /** First columns of each result, which stand before and behind the copy. */
  readonly results: (readonly (string | null)[])[] = [];
  #queuedBytes = 0;
  #connection: PgConnection | null = null;
  #hasEnded = false;
  #failure: Error | null = null;
  #wake: () => void = () => undefined;

  constructor(text: string) {
    this.#text = text;
  }

  submit(connection: PgConnection): void {
    this.#connection = connection;
    connection.query(this.#text);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<BaseBackupPart> {
    for (;;) {
      const part = this.#queue.shift();
      if (part !== undefined) {
        if (part.kind === 'content') this.#queuedBytes -= part.bytes.length;
        if (this.#queuedBytes < QUEUED_BYTES_MAX / 2) this.#connection?.stream.resume();
        yield part;
        continue;
      }
      if (this.#failure !== null) throw this.#failure;
      if (this.#hasEnded) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }

  /** For an end that no message tells of. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  handleRowDescription(): void {
    // Columns are known by their place.
  }

  handleDataRow(message: { fields: (string | null)[] }): void {
    this.results.push([...message.fields]);
  }

  handleCommandComplete(): void {
    // Several results make one answer.
  }

  handleCopyData({ chunk }: { chunk: Buffer }, connection: PgConnection): void {
    const type = String.fromCharCode(chunk.readUInt8(0));
    // What `pg` hands out lies in a buffer that it uses again.
    if (type === PART.content) this.#push({ kind: 'content', bytes: Buffer.from(chunk.subarray(1)) });
    else if (type === PART.manifest) this.#push({ kind: 'manifest' });
    else if (type === PART.archive) {
      this.#push({ kind: 'archive', name: chunk.toString('utf8', 1, Math.max(1, chunk.indexOf(0, 1))) });
    } else if (type !== PART.progress) {
      this.fail(new AppError('protocol_violation', 'the source sent an unknown part of a base backup'));
    }
    if (this.#queuedBytes >= QUEUED_BYTES_MAX) connection.stream.pause();
  }

  handleReadyForQuery(): void {
    this.#hasEnded = true;
    this.#wake();
  }

  handleError(error: Error): void {
    this.fail(error);
  }

  handleEmptyQuery(): void {
    // Never sent.
  }

  handlePortalSuspended(): void {
    // Of the extended protocol.
  }

  #push(part: BaseBackupPart): void {
    if (part.kind === 'content') this.#queuedBytes += part.bytes.length;
    this.#queue.push(part);
    this.#wake();
  }
}

/** `pg` takes any object with these methods. */
export function submitTo(client: pg.Client, query: BaseBackupQuery): void {
  client.query(query as unknown as pg.Submittable);
}
