import { CancelledError, CorruptError } from '../base/index.ts';
import type { BlobKey } from './blob-key.ts';
import type { BlobRange, BlobStore, SignalOptions } from './blob-store.ts';

/**
 * Reads an object, or a range of it, into one array.
 * @throws AppError `data_corrupt` when it is longer than `bytesMax`
 */
export async function readBlob(
  store: BlobStore,
  key: BlobKey,
  options: { readonly bytesMax: number; readonly range?: BlobRange; readonly signal: AbortSignal },
): Promise<Uint8Array> {
  const { bytesMax, range, signal } = options;
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of store.get(key, range === undefined ? { signal } : { range, signal })) {
    length += chunk.length;
    if (length > bytesMax) {
      throw new CorruptError(`${key} in ${store.displayUri} is longer than ${bytesMax} bytes`);
    }
    chunks.push(chunk);
  }
  const [first] = chunks;
  return chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks, length);
}

/** @throws CancelledError when the signal has aborted */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new CancelledError('cancelled', { cause: signal.reason });
}

/** Content of `put`, one shape: a single array becomes a sequence of one. */
export async function* chunksOf(content: Uint8Array | AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  if (content instanceof Uint8Array) yield content;
  else yield* content;
}

/** `put` of a store whose uploads come to stand at their commit. */
export async function putWhole(
  store: BlobStore,
  key: BlobKey,
  { content, ...options }: SignalOptions & { readonly content: Uint8Array | AsyncIterable<Uint8Array> },
): Promise<void> {
  await using upload = await store.beginUpload(key, options);
  for await (const chunk of chunksOf(content)) await upload.append(chunk);
  await upload.commit();
}
