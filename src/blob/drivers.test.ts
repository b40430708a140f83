import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { isAppError } from '../base/index.ts';
import { parseBlobKey } from './blob-key.ts';
import { BLOB_CHUNK_BYTES_MAX, type BlobStore } from './blob-store.ts';
import { describeBlobStore } from './conformance.ts';
import { FaultyBlobStore, flipByte, truncateAt } from './faulty.ts';
import { memoryBlobStore } from './memory.ts';
import { nodelocalBlobStore } from './nodelocal.ts';
import { readBlob } from './read.ts';

const signal = new AbortController().signal;
const rng = { bytes: (length: number) => new Uint8Array(randomBytes(length)) };
const root = await mkdtemp(join(tmpdir(), 'atoll-blob-'));
let folders = 0;
after(() => rm(root, { recursive: true, force: true }));

function openNodelocal(directory = join(root, `store-${folders++}`, 'inner')): BlobStore {
  return nodelocalBlobStore({ directory, displayUri: 'nodelocal://1/test', rng });
}

const openMemory = async () => memoryBlobStore({ displayUri: 'memory://test' });
describeBlobStore('memory', openMemory);
describeBlobStore('nodelocal', async () => openNodelocal());
describeBlobStore('faulty without faults', async () => new FaultyBlobStore(await openMemory(), {}));

describe('nodelocal', () => {
  it('never writes or reads through a symbolic link', async () => {
    const directory = join(root, 'linked');
    const outside = join(root, 'outside');
    await mkdir(directory, { recursive: true });
    await mkdir(outside);
    await writeFile(join(outside, 'secret'), 'secret');
    await symlink(outside, join(directory, 'folder'));
    await symlink(join(outside, 'secret'), join(directory, 'file'));
    const store = openNodelocal(directory);
    const isRefused = (error: unknown) => isAppError(error, 'name_invalid');
    for (const name of ['file', 'folder/secret', 'folder/new']) {
      const key = parseBlobKey(name);
      await assert.rejects(readBlob(store, key, { bytesMax: 99, signal }), isRefused);
      await assert.rejects(store.put(key, new Uint8Array(1), { signal }), isRefused);
      await assert.rejects(store.delete(key, { signal }), isRefused);
      await assert.rejects(store.size(key, { signal }), isRefused);
    }
    const entries = await Array.fromAsync(store.list('', { deep: true, signal }));
    assert.deepEqual(entries, []);
    assert.equal(await readFile(join(outside, 'secret'), 'utf8'), 'secret');
    assert.deepEqual(await readdir(outside), ['secret']);
  });

  it('keeps others out of what it makes', async () => {
    const directory = join(root, 'modes');
    const store = openNodelocal(directory);
    await store.put(parseBlobKey('a/b'), new Uint8Array(1), { signal });
    assert.equal((await stat(join(directory, 'a'))).mode & 0o777, 0o700);
    assert.equal((await stat(join(directory, 'a', 'b'))).mode & 0o777, 0o600);
  });

  it('never takes a file that is cut off while it is read for a whole one', async () => {
    const directory = join(root, 'cut');
    const store = openNodelocal(directory);
    const key = parseBlobKey('long');
    await store.put(key, new Uint8Array(3 * BLOB_CHUNK_BYTES_MAX), { signal });
    const reading = store.get(key, { signal })[Symbol.asyncIterator]();
    assert.equal((await reading.next()).value?.length, BLOB_CHUNK_BYTES_MAX);
    await truncate(join(directory, 'long'), 2 * BLOB_CHUNK_BYTES_MAX + 1);
    await assert.rejects(
      async () => {
        while ((await reading.next()).done !== true);
      },
      (error) => isAppError(error, 'data_corrupt') && error.message.includes('long'),
    );
  });

  it('stops in the midst of an object, and leaves nothing of it', async () => {
    const directory = join(root, 'midst');
    const store = openNodelocal(directory);
    const stop = new AbortController();
    const content = async function* () {
      yield new Uint8Array(BLOB_CHUNK_BYTES_MAX);
      stop.abort();
      yield new Uint8Array(1);
    };
    await assert.rejects(store.put(parseBlobKey('a/late'), content(), { signal: stop.signal }), (error) =>
      isAppError(error, 'cancelled'),
    );
    assert.deepEqual(await readdir(join(directory, 'a')), []);
  });

  it('removes what killed uploads left, and nothing else', async () => {
    const directory = join(root, 'left');
    const store = openNodelocal(directory);
    await store.put(parseBlobKey('a/kept'), new Uint8Array(1), { signal });
    await writeFile(join(directory, 'a', '.tmp-0011'), 'left');
    await mkdir(join(directory, 'b'));
    await writeFile(join(directory, 'b', '.tmp-0012'), 'left');
    await store.discardUploads('', { signal });
    assert.deepEqual(await readdir(directory), ['a']);
    assert.deepEqual(await readdir(join(directory, 'a')), ['kept']);
  });
});

describe('faulty', () => {
  const key = parseBlobKey('k');
  const content = new Uint8Array([1, 2, 3, 4]);

  it('fails one operation and recovers', async () => {
    const store = new FaultyBlobStore(await openMemory(), { failAt: [1] });
    await assert.rejects(store.put(key, content, { signal }), (error) =>
      isAppError(error, 'blob_unavailable'),
    );
    await store.put(key, content, { signal });
    assert.equal(store.operations, 2);
  });

  it('loses an answer although the work was done', async () => {
    const store = new FaultyBlobStore(await openMemory(), { loseAnswerAt: 1 });
    await assert.rejects(store.put(key, content, { signal }));
    assert.equal(await store.size(key, { signal }), 4);
  });

  it('stops for good', async () => {
    const inner = await openMemory();
    const store = new FaultyBlobStore(inner, { stopAt: 3 });
    const upload = await store.beginUpload(key, { signal });
    await upload.append(content);
    await assert.rejects(upload.commit());
    await assert.rejects(upload.abort());
    await assert.rejects(store.size(key, { signal }));
    assert.equal(await inner.size(key, { signal }), null);
  });

  it('damages what is read', async () => {
    const inner = await openMemory();
    await inner.put(key, content, { signal });
    const flipped = new FaultyBlobStore(inner, { damage: flipByte({ key, offset: 2 }) });
    assert.deepEqual([...(await readBlob(flipped, key, { bytesMax: 9, signal }))], [1, 2, 3 ^ 0x10, 4]);
    const cut = new FaultyBlobStore(inner, { damage: truncateAt({ key, length: 3 }) });
    assert.deepEqual([...(await readBlob(cut, key, { bytesMax: 9, signal }))], [1, 2, 3]);
  });
});
