import { CancelledError } from '../base/index.ts';
import type { BlobKey } from './blob-key.ts';
import type { BlobRange, BlobStore, SignalOptions } from './blob-store.ts';
import { PassThroughBlobStore } from './pass-through.ts';

/**
 * The same objects, read in pieces of `pieceBytes`, each of which comes a turn of the event loop after it was asked for: as networks, encrypted
 * objects and busy disks hand them out, and a store in memory never does. Who reads an object and leaves before its end has to say so.
 */
export class BlobStoreInPieces extends PassThroughBlobStore {
  readonly #pieceBytes: number;
  readonly #onRead: (range: BlobRange | undefined) => void;
  #openReads = 0;

  constructor(
    inner: BlobStore,
    {
      pieceBytes,
      onRead = () => undefined,
    }: {
      readonly pieceBytes: number;
      /** Told of every read as it begins; undefined for that of a whole object. */
      readonly onRead?: (range: BlobRange | undefined) => void;
    },
  ) {
    super(inner);
    this.#pieceBytes = pieceBytes;
    this.#onRead = onRead;
  }

  /** Reads that were begun, and neither came to an end nor were given up. */
  get openReads(): number {
    return this.#openReads;
  }

  override async *get(
    key: BlobKey,
    options: SignalOptions & { readonly range?: BlobRange },
  ): AsyncIterable<Uint8Array> {
    this.#openReads += 1;
    this.#onRead(options.range);
    try {
      for await (const chunk of this.inner.get(key, options)) {
        for (let at = 0; at < chunk.length; at += this.#pieceBytes) {
          await nextTurn(options);
          // A copy: what comes from a network has no neighbours that could be read by mistake.
          yield chunk.slice(at, at + this.#pieceBytes);
        }
      }
      await nextTurn(options);
    } finally {
      this.#openReads -= 1;
    }
  }
}

async function nextTurn({ signal }: SignalOptions): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
  if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
}
