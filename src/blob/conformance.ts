import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../base/index.ts';
import { parseBlobKey } from './blob-key.ts';
import { BLOB_CHUNK_BYTES_MAX, type BlobEntry, type BlobStore } from './blob-store.ts';
import { compareKeys, memoryBlobStore } from './memory.ts';
import { readBlob } from './read.ts';

const signal = new AbortController().signal;
const bytesMax = 16 * BLOB_CHUNK_BYTES_MAX;
const text = (value: string) => new TextEncoder().encode(value);

/** What every driver promises. `open` gives an empty store each time it is called. */
export function describeBlobStore(name: string, open: () => Promise<BlobStore>): void {
  describe(`${name} as a blob store`, () => {
    it('gives back what was put, whole and by range', async () => {
      const store = await open();
      const key = parseBlobKey('a folder/ü/object.bin');
      const content = new Uint8Array(2 * BLOB_CHUNK_BYTES_MAX + 17).map((_, index) => (index * 31) % 251);
      await store.put(key, content, { signal });
      assert.equal(await store.size(key, { signal }), content.length);
      assert.ok(Buffer.from(content).equals(await readBlob(store, key, { bytesMax, signal })));
      for (const [offset, length] of [
        [0, 1],
        [BLOB_CHUNK_BYTES_MAX - 1, 2],
        [content.length - 5, 5],
        [content.length, 0],
        [7, BLOB_CHUNK_BYTES_MAX + 1],
      ] as const) {
        const read = await readBlob(store, key, { bytesMax, range: { offset, length }, signal });
        assert.ok(Buffer.from(content.subarray(offset, offset + length)).equals(read));
      }
      for await (const chunk of store.get(key, { signal })) assert.ok(chunk.length <= BLOB_CHUNK_BYTES_MAX);
    });

    it('takes streams and empty objects', async () => {
      const store = await open();
      const key = parseBlobKey('streamed');
      await store.put(key, pieces(['one ', '', 'two']), { signal });
      await store.put(parseBlobKey('empty'), new Uint8Array(0), { signal });
      assert.equal(await contentOf(store, 'streamed'), 'one two');
      assert.equal(await contentOf(store, 'empty'), '');
    });

    it('writes a key once', async () => {
      const store = await open();
      const key = parseBlobKey('folder/once');
      await store.put(key, text('first'), { signal });
      await assert.rejects(store.put(key, text('second'), { signal }), (error) =>
        isAppError(error, 'blob_exists'),
      );
      assert.equal(await contentOf(store, key), 'first');
    });

    it('lets exactly one of two concurrent writers win', async () => {
      const store = await open();
      const key = parseBlobKey('raced');
      const uploads = await Promise.all([
        store.beginUpload(key, { signal }),
        store.beginUpload(key, { signal }),
      ]);
      await Promise.all(uploads.map((upload, index) => upload.append(text(`writer ${index}`))));
      const outcomes = await Promise.allSettled(uploads.map((upload) => upload.commit()));
      await Promise.all(uploads.map((upload) => upload.abort()));
      const winners = outcomes.flatMap((outcome, index) => (outcome.status === 'fulfilled' ? [index] : []));
      assert.equal(winners.length, 1);
      assert.equal(await contentOf(store, key), `writer ${winners[0]}`);
    });

    it('shows nothing of an upload before it commits, or after it is given up', async () => {
      const store = await open();
      const key = parseBlobKey('late/object');
      const upload = await store.beginUpload(key, { signal });
      await upload.append(text('x'));
      assert.equal(await store.size(key, { signal }), null);
      assert.deepEqual(await listed(store, '', { deep: true }), []);
      await upload.commit();
      await upload.abort();
      assert.equal(await contentOf(store, key), 'x');
      {
        await using abandoned = await store.beginUpload(parseBlobKey('never'), { signal });
        await abandoned.append(text('y'));
      }
      await store.discardUploads('', { signal });
      assert.deepEqual(await listed(store, '', { deep: true }), ['late/object']);
      assert.deepEqual(await listed(store, '', { deep: false }), ['late/']);
    });

    it('may reuse a chunk after append', async () => {
      const store = await open();
      await using upload = await store.beginUpload(parseBlobKey('reused'), { signal });
      const chunk = Buffer.from('aaaa');
      await upload.append(chunk);
      chunk.fill(98);
      await upload.append(chunk);
      await upload.commit();
      assert.equal(await contentOf(store, 'reused'), 'aaaabbbb');
    });

    it('names what is missing and what is too short', async () => {
      const store = await open();
      const key = parseBlobKey('absent/one');
      assert.equal(await store.size(key, { signal }), null);
      await assert.rejects(
        readBlob(store, key, { bytesMax, signal }),
        (error) => isAppError(error, 'blob_not_found') && error.message.includes(key),
      );
      await store.put(key, text('12345'), { signal });
      await assert.rejects(
        readBlob(store, key, { bytesMax, range: { offset: 3, length: 3 }, signal }),
        (error) => isAppError(error, 'data_corrupt') && error.message.includes(key),
      );
      assert.equal(await store.size(parseBlobKey('absent'), { signal }), null);
    });

    it('deletes, and does not mind deleting again', async () => {
      const store = await open();
      const key = parseBlobKey('x/y/z');
      await store.put(key, text('1'), { signal });
      await store.delete(key, { signal });
      await store.delete(key, { signal });
      assert.equal(await store.size(key, { signal }), null);
      assert.deepEqual(await listed(store, '', { deep: false }), []);
      await store.put(key, text('2'), { signal });
      assert.equal(await contentOf(store, key), '2');
    });

    it('stops when its signal aborts', async () => {
      const store = await open();
      const key = parseBlobKey('stopped');
      await store.put(key, text('1'), { signal });
      const aborted = AbortSignal.abort();
      const isCancelled = (error: unknown) => isAppError(error, 'cancelled');
      await assert.rejects(store.put(parseBlobKey('other'), text('1'), { signal: aborted }), isCancelled);
      await assert.rejects(readBlob(store, key, { bytesMax, signal: aborted }), isCancelled);
      await assert.rejects(store.size(key, { signal: aborted }), isCancelled);
      await assert.rejects(store.delete(key, { signal: aborted }), isCancelled);
      assert.equal(await contentOf(store, key), '1');
    });

    it('lists in the order of bytes, as the model does', async () => {
      const part = fc.constantFrom('a', 'b', 'a-b', 'a.b', 'é', 'z', 'Z', '0', '😀', '\uffee');
      const keys = fc.uniqueArray(
        fc
          .tuple(fc.array(part, { maxLength: 2 }), part)
          .map(([folders, last]) => [...folders.map((folder) => `${folder}f`), `${last}o`].join('/')),
        { maxLength: 12 },
      );
      await fc.assert(
        fc.asyncProperty(keys, async (names) => {
          const model = memoryBlobStore({ displayUri: 'memory://' });
          const store = await open();
          const puts = [model, store].flatMap((each) =>
            names.map((key) => each.put(parseBlobKey(key), text(key), { signal })),
          );
          await Promise.all(puts);
          const lists = [true, false].flatMap((deep) =>
            ['', 'af', 'a-bf', 'éf/af'].map(async (folder) =>
              assert.deepEqual(await listed(store, folder, { deep }), await listed(model, folder, { deep })),
            ),
          );
          await Promise.all(lists);
          assert.deepEqual(await listed(store, '', { deep: true }), names.toSorted(compareKeys));
        }),
        { numRuns: 25 },
      );
    });
  });
}

async function listed(store: BlobStore, folder: string, { deep }: { deep: boolean }): Promise<string[]> {
  const entries: BlobEntry[] = [];
  const key = folder === '' ? '' : parseBlobKey(folder);
  for await (const entry of store.list(key, { deep, signal })) entries.push(entry);
  return entries.map((entry) => (entry.kind === 'folder' ? `${entry.key}/` : entry.key));
}

async function contentOf(store: BlobStore, key: string): Promise<string> {
  return new TextDecoder().decode(await readBlob(store, parseBlobKey(key), { bytesMax, signal }));
}

async function* pieces(texts: readonly string[]): AsyncIterable<Uint8Array> {
  for (const piece of texts) yield text(piece);
}
