/** Drivers of storage services against servers that speak the real protocols, over connections that fail. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { PassThroughClient } from 'google-auth-library';
import { GcsServer } from '../../test/harness/gcs-server.ts';
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
import { openGs } from './gs/gs-service.ts';
import { parseGsUri } from './gs/gs-uri.ts';
import { testPatience } from './service/testing.ts';
import type { Patience } from './service/patience.ts';
import { serviceBlobStore } from './service/service-blob-store.ts';
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
  'short_body',
  'slow_body',
  'other_range',
  'no_range',
];
/** So few that what is waited for under `hang` still comes in time. */
const AT_ONCE = { concurrency: 3 };

function openByUri(uri: string, patience = testPatience): BlobStore {
  const location = parseServiceUri(uri);
  assert.ok(location !== undefined);
  return serviceStore(location, { displayUri: serviceDisplayUri(location), patience, azurePartsAtOnce: 2 });
}

type Open = (uri: string, patience?: Patience) => BlobStore;

function describeService(
  name: string,
  { start, open = openByUri }: { readonly start: () => Promise<StorageServer>; readonly open?: Open },
): void {
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
      // What hangs is given up early; on a slow machine that happens to what does not hang, too, and it is asked for again and again.
      const hurried = { attemptMs: 1500, operationMs: 600_000 };
      const patience = { ...testPatience, ...(fault === 'hang' ? hurried : {}) };
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

  it('stores nothing but what was sent, whatever happens to it on its way', async () => {
    const content = randomBytes(9 * MIB + 1);
    for (const fault of ['damaged_request', 'wrong_etag'] as const) {
      await using proxy = await FaultyProxy.start(server.endpoint);
      const uri = server.newUri();
      const store = open(spoiled(uri, proxy), { ...testPatience, operationMs: 5000 });
      const failed = new Set<string>();
      proxy.plan = ({ method, path, bodyBytes }) => {
        if (bodyBytes < 900 || failed.has(`${method} ${path}`)) return undefined;
        failed.add(`${method} ${path}`);
        return fault;
      };
      for (const bytes of [content.subarray(0, 1000), content]) {
        const key = parseBlobKey(`of-${bytes.length}`);
        const [{ status }] = await Promise.allSettled([store.put(key, pieces(bytes), { signal })]);
        if (status === 'rejected') assert.equal(await open(uri).size(key, { signal }), null);
        else assert.ok(bytes.equals(await readBlob(open(uri), key, { bytesMax: 32 * MIB, signal })));
      }
      assert.ok(proxy.faults >= 2);
    }
  });

  it('gives up in the midst of a part: when its time is over, and at once when it is told to', async () => {
    await using proxy = await FaultyProxy.start(server.endpoint);
    const uri = server.newUri();
    const content = randomBytes(17 * MIB);
    const isPart = (bytes: number) => bytes > MIB;
    proxy.plan = ({ bodyBytes }) => (isPart(bodyBytes) ? 'status_500' : undefined);
    const impatient = open(spoiled(uri, proxy), { ...testPatience, operationMs: 300 });
    await assert.rejects(impatient.put(parseBlobKey('late'), pieces(content), { signal }), (error) =>
      isAppError(error, 'blob_unavailable'),
    );
    proxy.plan = ({ bodyBytes }) => (isPart(bodyBytes) ? 'hang' : undefined);
    const before = proxy.faults;
    const stop = new AbortController();
    const sent = open(spoiled(uri, proxy)).put(parseBlobKey('stopped'), pieces(content), {
      signal: stop.signal,
    });
    const ended = assert.rejects(sent, (error) => isAppError(error, 'cancelled'));
    await waitFor('a part to be under way', () => proxy.faults > before);
    stop.abort();
    await ended;
    // The same for what is read.
    await open(uri).put(parseBlobKey('there'), pieces(content), { signal });
    proxy.plan = ({ method, path }) => (method === 'GET' && path.includes('there') ? 'hang' : undefined);
    const begun = proxy.faults;
    const stopReading = new AbortController();
    const range = { offset: MIB, length: 9 * MIB };
    const reading = readBlob(open(spoiled(uri, proxy)), parseBlobKey('there'), {
      bytesMax: 32 * MIB,
      range,
      signal: stopReading.signal,
    });
    const endedReading = assert.rejects(reading, (error) => isAppError(error, 'cancelled'));
    await waitFor('a range to be asked for', () => proxy.faults > begun);
    stopReading.abort();
    await endedReading;
    const left = await Array.fromAsync(open(uri).list('', { deep: true, signal }));
    assert.deepEqual(
      left.map(({ key }) => key),
      ['there'],
    );
  });

  it('asks once for a range that the service cannot give now, and again when it has waited', async () => {
    await using proxy = await FaultyProxy.start(server.endpoint);
    const uri = server.newUri();
    const key = parseBlobKey('later');
    await open(uri).put(key, Buffer.from('content'), { signal });
    const answers = ['status_500', 'status_503_after', undefined] as const;
    let asked = 0;
    proxy.plan = ({ method, path }) =>
      method === 'GET' && path.includes('later') ? answers[asked++] : undefined;
    const range = { offset: 1, length: 3 };
    const read = await readBlob(open(spoiled(uri, proxy)), key, { bytesMax: 16, range, signal });
    assert.equal(Buffer.from(read).toString(), 'ont');
    assert.equal(asked, answers.length);
  });

  it('never takes a part of a range for the whole of it', async () => {
    await using proxy = await FaultyProxy.start(server.endpoint);
    const uri = server.newUri();
    const key = parseBlobKey('cut');
    const content = randomBytes(9 * MIB);
    await open(uri).put(key, pieces(content), { signal });
    for (const fault of ['cut_body', 'short_body', 'other_range', 'no_range'] as const) {
      proxy.plan = ({ method, path }) => (method === 'GET' && path.includes('cut') ? fault : undefined);
      const store = open(spoiled(uri, proxy), { ...testPatience, operationMs: 300 });
      const read = readBlob(store, key, {
        bytesMax: 32 * MIB,
        range: { offset: 1, length: 8 * MIB },
        signal,
      });
      await assert.rejects(read, (error) => isAppError(error, 'blob_unavailable'), fault);
    }
  });

  it('tells a name that somebody else took meanwhile from its own', async () => {
    await using proxy = await FaultyProxy.start(server.endpoint);
    const uri = server.newUri();
    const key = parseBlobKey('contended');
    let isTaken = false;
    proxy.plan = ({ method }) =>
      method !== 'GET' && method !== 'HEAD' && !isTaken ? 'cut_before' : undefined;
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
describe('services', { concurrency: 3 }, () => {
  describe('Azure', AT_ONCE, () => describeService('azure', { start: startAzurite }));

  it('Azure gets as many parts at once as the setting says', async () => {
    await using server = await startAzurite();
    for (const azurePartsAtOnce of [1, 3]) {
      await using proxy = await FaultyProxy.start(server.endpoint);
      const uri = server
        .newUri()
        .replace(encodeURIComponent(server.endpoint), encodeURIComponent(proxy.endpoint));
      const location = parseServiceUri(uri);
      assert.ok(location !== undefined);
      const store = serviceStore(location, { displayUri: 'here', patience: testPatience, azurePartsAtOnce });
      // Parts that nobody answers stay under way: no more than so many are sent.
      proxy.plan = ({ method, bodyBytes }) => (method === 'PUT' && bodyBytes > MIB ? 'hang' : undefined);
      const stop = new AbortController();
      const sent = store.put(parseBlobKey('x'), pieces(randomBytes(40 * MIB)), { signal: stop.signal });
      const ended = assert.rejects(sent, (error) => isAppError(error, 'cancelled'));
      await waitFor('the parts to be under way', () => proxy.faults >= azurePartsAtOnce);
      stop.abort();
      await ended;
      assert.equal(proxy.faults, azurePartsAtOnce);
    }
  });
  describe('S3', { ...AT_ONCE, skip: skipWithout('radosgw') }, () =>
    describeService('s3', { start: startRadosGateway }),
  );
  describe('Google', AT_ONCE, () => describeService('gs', { start: startGoogle, open: openGoogle }));
});

async function startGoogle(): Promise<StorageServer> {
  const server = await GcsServer.start();
  let folders = 0;
  const newUri = () =>
    `gs://bucket/folder-${folders++}?AUTH=implicit&GS_ENDPOINT=${encodeURIComponent(server.endpoint)}`;
  return { endpoint: server.endpoint, newUri, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** The server asks for no rights, so the library that gets them is passed by. */
function openGoogle(uri: string, patience = testPatience): BlobStore {
  const location = parseGsUri(uri);
  const { folder } = location;
  const displayUri = serviceDisplayUri(location);
  const open = () => openGs(location, { displayUri, authClient: new PassThroughClient() });
  return serviceBlobStore({ displayUri, folder, patience, open });
}

async function* pieces(content: Buffer): AsyncIterable<Uint8Array> {
  for (let at = 0; at < content.length; at += 700_001) yield content.subarray(at, at + 700_001);
}
