import { AppError } from '../base/index.ts';
import type { BlobKey } from './blob-key.ts';
import type { BlobEntry, BlobRange, BlobStore, BlobUpload, SignalOptions } from './blob-store.ts';

/** What shall go wrong. Operations are numbered from 1 as they are begun, each append and each chunk read being one. */
export interface FaultPlan {
  /** These operations fail, before they have any effect, as if the service were not reachable for a moment. */
  readonly failAt?: readonly number[];
  /** What the operations of `failAt` fail with; `blob_unavailable` when left out. */
  readonly failWith?: (what: string) => AppError;
  /** From this operation on nothing works any more, clean-up included: the process died, the network is gone. */
  readonly stopAt?: number;
  /** This operation takes effect although its caller is told that it failed, as when an answer is lost. */
  readonly loseAnswerAt?: number;
  /** Changes the bytes that are read. */
  readonly damage?: Damage;
}

/** Gets a chunk and where it lies in its object; returns what the reader shall see. */
export type Damage = (
  chunk: Uint8Array,
  at: { readonly key: BlobKey; readonly offset: number },
) => Uint8Array;

/** Flips one bit of one byte of an object. */
export function flipByte(target: { readonly key: BlobKey; readonly offset: number }): Damage {
  return (chunk, { key, offset }) => {
    const index = target.offset - offset;
    if (key !== target.key || index < 0 || index >= chunk.length) return chunk;
    const damaged = new Uint8Array(chunk);
    damaged[index] = (damaged[index] ?? 0) ^ 0x10;
    return damaged;
  };
}

/** Lets an object end early, without saying so. */
export function truncateAt(target: { readonly key: BlobKey; readonly length: number }): Damage {
  return (chunk, { key, offset }) =>
    key === target.key ? chunk.subarray(0, Math.max(0, target.length - offset)) : chunk;
}

/** A store that misbehaves as planned, around one that does not. */
export class FaultyBlobStore implements BlobStore {
  readonly displayUri: string;
  readonly #inner: BlobStore;
  readonly #plan: FaultPlan;
  #operations = 0;

  constructor(inner: BlobStore, plan: FaultPlan) {
    this.displayUri = inner.displayUri;
    this.#inner = inner;
    this.#plan = plan;
  }

  /** How many operations were begun: run once without faults to learn where faults can be put. */
  get operations(): number {
    return this.#operations;
  }

  put(key: BlobKey, content: Uint8Array | AsyncIterable<Uint8Array>, options: SignalOptions): Promise<void> {
    return this.#step(key, () => this.#inner.put(key, content, options));
  }

  async beginUpload(key: BlobKey, options: SignalOptions): Promise<BlobUpload> {
    const upload = await this.#step(key, () => this.#inner.beginUpload(key, options));
    return {
      append: (chunk) => this.#step(key, () => upload.append(chunk)),
      commit: () => this.#step(key, () => upload.commit()),
      abort: () => this.#step(key, () => upload.abort()),
      [Symbol.asyncDispose]: () => (this.#stopped ? Promise.resolve() : upload.abort()),
    };
  }

  async *get(
    key: BlobKey,
    options: SignalOptions & { readonly range?: BlobRange },
  ): AsyncIterable<Uint8Array> {
    let offset = options.range?.offset ?? 0;
    for await (const chunk of this.#inner.get(key, options)) {
      yield await this.#step(key, async () => this.#plan.damage?.(chunk, { key, offset }) ?? chunk);
      offset += chunk.length;
    }
  }

  size(key: BlobKey, options: SignalOptions): Promise<number | null> {
    return this.#step(key, () => this.#inner.size(key, options));
  }

  async *list(
    folder: BlobKey | '',
    options: SignalOptions & { readonly deep: boolean },
  ): AsyncIterable<BlobEntry> {
    await this.#step(folder, async () => undefined);
    yield* this.#inner.list(folder, options);
  }

  delete(key: BlobKey, options: SignalOptions): Promise<void> {
    return this.#step(key, () => this.#inner.delete(key, options));
  }

  discardUploads(folder: BlobKey | '', options: SignalOptions): Promise<void> {
    return this.#step(folder, () => this.#inner.discardUploads(folder, options));
  }

  get #stopped(): boolean {
    return this.#plan.stopAt !== undefined && this.#operations >= this.#plan.stopAt;
  }

  async #step<T>(key: string, work: () => Promise<T>): Promise<T> {
    this.#operations++;
    const number = this.#operations;
    const what = `operation ${number} on ${key} failed as planned`;
    const fault = new AppError('blob_unavailable', what);
    if (this.#stopped) throw fault;
    if (this.#plan.failAt?.includes(number) === true) throw this.#plan.failWith?.(what) ?? fault;
    const result = await work();
    if (this.#plan.loseAnswerAt === number) throw fault;
    return result;
  }
}
