import { BLOB_CHUNK_BYTES_MAX, type BlobRange } from '../blob-store.ts';

/** Bytes of one request of a long read. */
const REQUEST_BYTES = 4 * BLOB_CHUNK_BYTES_MAX;
/** A rest that is no longer is asked for along with what is before it: a request has its price, however short. */
const REST_BYTES_MAX = BLOB_CHUNK_BYTES_MAX;
/** Requests of one read under way at a time; with the one being handed out, its memory is one request more. */
const REQUESTS_AT_ONCE = 4;

/**
 * Reads a range by several requests at a time, and hands it out in order, in chunks of at most `BLOB_CHUNK_BYTES_MAX`.
 * `fetch` gives the whole of its range or throws. When the reader stops early, requests under way are aborted.
 */
export async function* readInParallel(
  range: BlobRange,
  options: {
    readonly signal: AbortSignal;
    readonly fetch: (range: BlobRange, options: { signal: AbortSignal }) => Promise<readonly Uint8Array[]>;
  },
): AsyncIterable<Uint8Array> {
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const end = range.offset + range.length;
  const underWay: Promise<readonly Uint8Array[]>[] = [];
  let next = range.offset;
  try {
    while (next < end || underWay.length > 0) {
      while (next < end && underWay.length < REQUESTS_AT_ONCE) {
        const length = end - next <= REQUEST_BYTES + REST_BYTES_MAX ? end - next : REQUEST_BYTES;
        const request = options.fetch({ offset: next, length }, { signal });
        request.catch(() => undefined); // It is awaited below, after those before it.
        underWay.push(request);
        next += length;
      }
      for (const bytes of (await underWay.shift()) ?? []) {
        for (let at = 0; at < bytes.length; at += BLOB_CHUNK_BYTES_MAX) {
          yield bytes.subarray(at, at + BLOB_CHUNK_BYTES_MAX);
        }
      }
    }
  } finally {
    stop.abort();
  }
}
