/** UPLOAD_MANIFEST on a connection of `pg`, which gives up every COPY that it does not know. */
import type pg from 'pg';

/** What `pg` calls on a query of its own kind; see `pg/lib/client.js`. */
interface PgConnection {
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

const CHUNK_BYTES = 64 * 1024;

class UploadManifestQuery {
  readonly #manifest: Buffer;
  readonly #ended: PromiseWithResolvers<void>;

  constructor(manifest: Buffer, ended: PromiseWithResolvers<void>) {
    this.#manifest = manifest;
    this.#ended = ended;
  }

  submit(connection: PgConnection): void {
    connection.query('UPLOAD_MANIFEST');
  }

  handleCopyInResponse(connection: PgConnection): void {
    for (let at = 0; at < this.#manifest.length; at += CHUNK_BYTES) {
      connection.sendCopyFromChunk(this.#manifest.subarray(at, at + CHUNK_BYTES));
    }
    connection.endCopyFrom();
  }

  handleCommandComplete(): void {
    // What counts is the end.
  }

  handleReadyForQuery(): void {
    this.#ended.resolve();
  }

  handleError(error: Error): void {
    this.#ended.reject(error);
  }
}

/** Tells the source what an incremental BASE_BACKUP on this connection is to build on. Rejects with what `pg` gives. */
export function uploadManifest(client: pg.Client, manifest: string): Promise<void> {
  const ended = Promise.withResolvers<void>();
  const onEnd = () => ended.reject(new Error('the connection has ended'));
  client.once('end', onEnd);
  // `pg` takes any object with these methods.
  client.query(new UploadManifestQuery(Buffer.from(manifest), ended) as unknown as pg.Submittable);
  return ended.promise.finally(() => client.off('end', onEnd));
}
