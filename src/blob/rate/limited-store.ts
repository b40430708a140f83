import type { Clock } from '../../base/index.ts';
import type { BlobKey } from '../blob-key.ts';
import type { BlobRange, BlobStore, BlobUpload, SignalOptions } from '../blob-store.ts';
import { PassThroughBlobStore } from '../pass-through.ts';
import { chunksOf } from '../read.ts';
import { type RateProvider, type RateScope, type TakeOutcome, takeBytes } from './rate-table.ts';

/** Limits are looked at again after so long: they may have changed, and others may have taken what was waited for. */
const LOOK_AGAIN_MS = 250;

/** Where limits of a virtual cluster are found; plain data that can be handed to another process. */
export interface RateReference {
  /** Of the node's table. */
  readonly path: string;
  readonly virtualClusterId: number;
}

/** What content of objects is counted against; requests without content are not. */
export type TakeRate = (
  direction: RateScope['direction'],
  bytes: number,
  options: SignalOptions,
) => Promise<void>;

/** Waits until the bytes may go. While there is no limit it is hardly noticed. */
export function takerOf(
  { path, virtualClusterId }: RateReference,
  { provider, clock }: { readonly provider: RateProvider; readonly clock: Clock },
): TakeRate {
  const unlimitedUntilMs = { read: Number.NEGATIVE_INFINITY, write: Number.NEGATIVE_INFINITY };
  return async (direction, bytes, { signal }) => {
    while (clock.monotonicMs() >= unlimitedUntilMs[direction]) {
      const scope: RateScope = { virtualClusterId, provider, direction };
      const outcome: TakeOutcome = takeBytes(path, { scope, bytes: BigInt(bytes), now: clock.now() });
      if (outcome.kind === 'taken') return;
      if (outcome.kind === 'unlimited') unlimitedUntilMs[direction] = clock.monotonicMs() + LOOK_AGAIN_MS;
      else await clock.sleep(Math.min(outcome.waitMs, LOOK_AGAIN_MS), { signal });
    }
  };
}

/** The same objects, no faster than they may be written and read. */
export function limitedBlobStore(inner: BlobStore, take: TakeRate): BlobStore {
  return new LimitedBlobStore(inner, take);
}

class LimitedBlobStore extends PassThroughBlobStore {
  readonly #take: TakeRate;

  constructor(inner: BlobStore, take: TakeRate) {
    super(inner);
    this.#take = take;
  }

  override async put(
    key: BlobKey,
    content: Uint8Array | AsyncIterable<Uint8Array>,
    options: SignalOptions,
  ): Promise<void> {
    if (content instanceof Uint8Array) {
      await this.#take('write', content.length, options);
      return this.inner.put(key, content, options);
    }
    return this.inner.put(key, this.#counted('write', content, options), options);
  }

  override async beginUpload(key: BlobKey, options: SignalOptions): Promise<BlobUpload> {
    const upload = await this.inner.beginUpload(key, options);
    return {
      append: async (chunk) => {
        await this.#take('write', chunk.length, options);
        await upload.append(chunk);
      },
      commit: () => upload.commit(),
      abort: () => upload.abort(),
      [Symbol.asyncDispose]: () => upload[Symbol.asyncDispose](),
    };
  }

  override get(
    key: BlobKey,
    options: SignalOptions & { readonly range?: BlobRange },
  ): AsyncIterable<Uint8Array> {
    return this.#counted('read', this.inner.get(key, options), options);
  }

  async *#counted(
    direction: RateScope['direction'],
    content: AsyncIterable<Uint8Array>,
    options: SignalOptions,
  ): AsyncIterable<Uint8Array> {
    for await (const chunk of chunksOf(content)) {
      await this.#take(direction, chunk.length, options);
      yield chunk;
    }
  }
}
