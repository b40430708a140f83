/** Drivers of storage services against servers that speak the real protocols, over connections that fail. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { startAzurite, type StorageServer } from '../../test/harness/azurite.ts';
import { type Fault, FaultyProxy } from '../../test/harness/faulty-proxy.ts';
import { skipWithout } from '../../test/harness/programs.ts';
import { startRadosGateway } from '../../test/harness/radosgw.ts';
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
  'cut_before',
  'cut_after',
  'status_500',
  'status_503_after',
  'cut_body',
  'hang',
];

function open(uri: string, patience = testPatience): BlobStore {
  const location = parseServiceUri(uri);
  assert.ok(location !== undefined);
  return serviceStore(location, { displayUri: serviceDisplayUri(location), patience, azurePartsAtOnce: 2 });
}

function describeService(name: string, start: () => Promise<StorageServer>): void {
  let server: StorageServer;
  let proxy: FaultyProxy;
  before(async () => {
    server = await start();
    proxy = await FaultyProxy.start(server.endpoint);
  });
  after(async () => {
    await proxy[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  /** The same place, reached through the proxy. */
  const spoiled = (uri: string) =>
    uri.replace(encodeURIComponent(server.endpoint), encodeURIComponent(proxy.endpoint));

  describeBlobStore(name, async () => open(server.newUri()));

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
      const content = randomBytes(8 * MIB + 7);
      const patience = { ...testPatience, attemptMs: fault === 'hang' ? 1500 : testPatience.attemptMs };
      const failed = new Set<string>();
      proxy.plan = ({ method, path, bodyBytes }) => {
        const what = `${method} ${path} ${bodyBytes > 0}`;
        if (failed.has(what)) return undefined;
        failed.add(what);
        return fault;
      };
      const store = open(spoiled(server.newUri()), patience);
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
      proxy.plan = () => undefined;
    });
  }

  it('tells a name that somebody else took meanwhile from its own', async () => {
    const uri = server.newUri();
    const key = parseBlobKey('contended');
    let spoils = 1;
    proxy.plan = ({ method }) => (method === 'PUT' && spoils-- > 0 ? 'cut_before' : undefined);
    const mine = open(spoiled(uri)).put(key, Buffer.from('mine'), { signal });
    await open(uri).put(key, Buffer.from('theirs'), { signal });
    await assert.rejects(mine, (error) => isAppError(error, 'blob_exists'));
    proxy.plan = () => undefined;
  });

  it('gives up when its time is over, and at once when it is told to', async () => {
    proxy.plan = () => 'status_500';
    const store = open(spoiled(server.newUri()), { ...testPatience, operationMs: 300 });
    await assert.rejects(store.size(parseBlobKey('x'), { signal }), (error) =>
      isAppError(error, 'blob_unavailable'),
    );
    proxy.plan = () => 'hang';
    const stop = new AbortController();
    const asked = open(spoiled(server.newUri())).put(parseBlobKey('x'), Buffer.from('1'), {
      signal: stop.signal,
    });
    setImmediate(() => stop.abort());
    await assert.rejects(asked, (error) => isAppError(error, 'cancelled'));
    proxy.plan = () => undefined;
  });
}

describe('Azure', () => describeService('azure', startAzurite));
describe('S3', { skip: skipWithout('radosgw') }, () => describeService('s3', startRadosGateway));

async function* pieces(content: Buffer): AsyncIterable<Uint8Array> {
  for (let at = 0; at < content.length; at += 700_001) yield content.subarray(at, at + 700_001);
}
