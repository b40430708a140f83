/** Drivers of storage services against servers that speak the real protocols, over connections that fail. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { startAzurite, type StorageServer } from '../../test/harness/azurite.ts';
import { type Fault, FaultyProxy } from '../../test/harness/faulty-proxy.ts';
import { skipWithout } from '../../test/harness/programs.ts';
import { startRadosGateway } from '../../test/harness/radosgw.ts';
import { waitFor } from '../../test/harness/wait.ts';
import { isAppError } from '../base/index.ts';
import { parseBlobKey } from './blob-key.ts';
import type { BlobStore } from './blob-store.ts';
import { describeBlobStore } from './conformance.ts';
import { readBlob } from './read.ts';
import { testPatience } from './service/testing.ts';
import { parseServiceUri, serviceDisplayUri, serviceStore } from './service-location.ts';

const { signal } = new AbortController();
const MIB = 1024 * 1024;
const FAULTS: readonly Fault[] = [
  'hang', // First, for it takes the longest.
  'cut_before',
  'cut_after',
  'status_500',
  'status_503_after',
  'cut_body',
];
/** So few that what is waited for under `hang` still comes in time. */
const AT_ONCE = { concurrency: 3 };

function open(uri: string, patience = testPatience): BlobStore {
  const location = parseServiceUri(uri);
  assert.ok(location !== undefined);
  return serviceStore(location, { displayUri: serviceDisplayUri(location), patience, azurePartsAtOnce: 2 });
}

function describeService(name: string, start: () => Promise<StorageServer>): void {
  let server: StorageServer;
  before(async () => {
    server = await start();
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
  });
  /** The same place, reached through the proxy. */
  const spoiled = (uri: string, proxy: FaultyProxy) =>
    uri.replace(encodeURIComponent(server.endpoint), encodeURIComponent(proxy.endpoint));

  describe('conforms', { concurrency: 1 }, () => describeBlobStore(name, async () => open(server.newUri())));

  it('writes and reads long objects by parts', async () => {
    const store = open(server.newUri());
    const key = parseBlobKey('long');
    const content = randomBytes(17 * MIB + 3);
    await store.put(key, pieces(content), { signal });
    assert.ok(content.equals(await readBlob(store, key, { bytesMax: 32 * MIB, signal })));
    const range = { offset: 5 * MIB - 1, length: 9 * MIB };
    const read = await readBlob(store, key, { bytesMax: 32 * MIB, range, signal });
    assert.ok(content.subarray(range.offset, range.offset + range.length).equals(read));
    await assert.rejects(store.put(key, pieces(content), { signal }), (error) =>
      isAppError(error, 'blob_exists'),
    );
  });

  for (const fault of FAULTS) {
    it(`bears each request failing once: ${fault}`, async () => {
      await using proxy = await FaultyProxy.start(server.endpoint);
      const content = randomBytes(8 * MIB + 7);
      const patience = { ...testPatience, attemptMs: fault === 'hang' ? 1500 : testPatience.attemptMs };
      const failed = new Set<string>();
      proxy.plan = ({ method, path, bodyBytes }) => {
        const what = `${method} ${path} ${bodyBytes > 0}`;
        if (failed.has(what)) return undefined;
        failed.add(what);
        return fault;
      };
      const store = open(spoiled(server.newUri(), proxy), patience);
      for (const [name, bytes] of [
        ['short', content.subarray(0, 1000)],
        ['long', content],
      ] as const) {
        const key = parseBlobKey(`folder/${name}`);
        await store.put(key, pieces(bytes), { signal });
        assert.equal(await store.size(key, { signal }), bytes.length);
        assert.ok(bytes.equals(await readBlob(store, key, { bytesMax: 32 * MIB, signal })));
      }
      const entries = await Array.fromAsync(store.list('', { deep: true, signal }));
      assert.deepEqual(
        entries.map(({ key }) => key),
        ['folder/long', 'folder/short'],
      );
      await store.delete(parseBlobKey('folder/short'), { signal });
      assert.equal(await store.size(parseBlobKey('folder/short'), { signal }), null);
      assert.ok(proxy.faults >= 5);
    });
  }

  it('tells a name that somebody else took meanwhile from its own', async () => {
    await using proxy = await FaultyProxy.start(server.endpoint);
    const uri = server.newUri();
    const key = parseBlobKey('contended');
    let isTaken = false;
    proxy.plan = ({ method }) => (method === 'PUT' && !isTaken ? 'cut_before' : undefined);
    const mine = open(spoiled(uri, proxy)).put(key, Buffer.from('mine'), { signal });
    await waitFor('it to be in doubt', () => proxy.faults > 0);
    await open(uri).put(key, Buffer.from('theirs'), { signal });
    isTaken = true;
    await assert.rejects(mine, (error) => isAppError(error, 'blob_exists'));
  });

  it('gives up when its time is over, and at once when it is told to', async () => {
    await using proxy = await FaultyProxy.start(server.endpoint);
    proxy.plan = () => 'status_500';
    const store = open(spoiled(server.newUri(), proxy), { ...testPatience, operationMs: 300 });
    await assert.rejects(store.size(parseBlobKey('x'), { signal }), (error) =>
      isAppError(error, 'blob_unavailable'),
    );
    proxy.plan = () => 'hang';
    const stop = new AbortController();
    const asked = open(spoiled(server.newUri(), proxy)).put(parseBlobKey('x'), Buffer.from('1'), {
      signal: stop.signal,
    });
    setImmediate(() => stop.abort());
    await assert.rejects(asked, (error) => isAppError(error, 'cancelled'));
  });
}

// Side by side: most of the time goes by in waiting, for answers that never come and for servers to start.
describe('services', { concurrency: 2 }, () => {
  describe('Azure', AT_ONCE, () => describeService('azure', startAzurite));
  describe('S3', { ...AT_ONCE, skip: skipWithout('radosgw') }, () =>
    describeService('s3', startRadosGateway),
  );
});

async function* pieces(content: Buffer): AsyncIterable<Uint8Array> {
  for (let at = 0; at < content.length; at += 700_001) yield content.subarray(at, at + 700_001);
}
