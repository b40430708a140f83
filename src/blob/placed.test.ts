import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError } from '../base/index.ts';
import { parseBlobKey } from './blob-key.ts';
import { describeBlobStore } from './conformance.ts';
import { FaultyBlobStore } from './faulty.ts';
import { memoryBlobStore } from './memory.ts';
import { placedBlobStore } from './placed.ts';
import { readBlob } from './read.ts';
import { parseLocality, placeForNode, uriLocality } from './storage-locality.ts';

const { signal } = new AbortController();
const bulk = (key: string) => (key.length % 2 === 0 ? 1 : 0);
const memory = (name: string) => memoryBlobStore({ displayUri: `memory://${name}` });

describeBlobStore('placed', async () =>
  placedBlobStore({ places: [memory('a'), memory('b')], placeOf: bulk }),
);

describe('a store of several places', () => {
  const [even, odd] = [parseBlobKey('even'), parseBlobKey('odd')];

  it('writes where it is told, and reads wherever an object is', async () => {
    const [a, b] = [memory('a'), memory('b')];
    const store = placedBlobStore({ places: [a, b], placeOf: bulk });
    await store.put(even, Buffer.from('1'), { signal });
    await store.put(odd, Buffer.from('2'), { signal });
    assert.deepEqual([await a.size(even, { signal }), await b.size(even, { signal })], [null, 1]);
    assert.deepEqual([await a.size(odd, { signal }), await b.size(odd, { signal })], [1, null]);
    const moved = placedBlobStore({ places: [b, a], placeOf: () => 0 });
    for (const key of [even, odd])
      assert.equal((await readBlob(moved, key, { bytesMax: 9, signal })).length, 1);
    const alone = placedBlobStore({ places: [a], placeOf: () => 0 });
    await assert.rejects(
      readBlob(alone, even, { bytesMax: 9, signal }),
      (error) => isAppError(error, 'blob_not_found') && /all locations/.test(error.hint ?? ''),
    );
  });

  it('does not take an object for missing because its place cannot be asked', async () => {
    const gone = new FaultyBlobStore(memory('b'), { stopAt: 1 });
    const store = placedBlobStore({ places: [memory('a'), gone], placeOf: bulk });
    await assert.rejects(store.size(even, { signal }), (error) => isAppError(error, 'blob_unavailable'));
  });
});

describe('localities of storage', () => {
  const at = (locality: string) => `s3://bucket/x?AWS_ACCESS_KEY_ID=1&COCKROACH_LOCALITY=${locality}`;

  it('are read from URIs', () => {
    assert.equal(uriLocality('s3://bucket/x?AUTH=implicit'), null);
    assert.equal(uriLocality(at('default')), 'default');
    assert.deepEqual(uriLocality(at('region%3Dus-west')), { key: 'region', value: 'us-west' });
    for (const wrong of ['region%3Da%2Czone%3Db', 'region', 'region=', '%3Da', '%', '']) {
      assert.throws(() => uriLocality(at(wrong)), { message: 'tier must be in the form "key=value"' }, wrong);
    }
  });

  it('choose the place for the narrowest tier of the node', () => {
    const list = ['default', 'region%3Deu', 'zone%3Db'].map((text) => uriLocality(at(text)));
    const bulkOf = (node: string) => placeForNode(list, node === '' ? [] : parseLocality(node)).bulk;
    assert.deepEqual(
      ['', 'region=us', 'region=eu', 'region=eu,zone=a', 'region=eu,zone=b', 'region=us,zone=b'].map(bulkOf),
      [0, 0, 1, 1, 2, 2],
    );
  });

  it('need exactly one default, and one place each', () => {
    const tier = { key: 'region', value: 'eu' };
    assert.throws(() => placeForNode([tier, null], []), /no location of the list is the default/);
    assert.throws(() => placeForNode(['default', 'default'], []), /two locations are given for .* default/);
    assert.throws(() => placeForNode(['default', tier, tier], []), /two locations .* region=eu/);
  });
});
