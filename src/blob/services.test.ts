/** Drivers of storage services against servers that speak the real protocols. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock, Timestamp } from '../base/index.ts';
import { startAzurite, type StorageServer } from '../../test/harness/azurite.ts';
import { skipWithout } from '../../test/harness/programs.ts';
import { type S3Server, startRadosGateway } from '../../test/harness/radosgw.ts';
import type { BlobStore } from './blob-store.ts';
import { describeBlobStore } from './conformance.ts';
import { parseServiceUri, serviceDisplayUri, serviceStore } from './service-location.ts';

const clock: Clock = {
  now: () => (BigInt(Date.now()) * 1000n) as Timestamp,
  monotonicMs: () => performance.now(),
  sleep: (ms, options) => sleep(ms, undefined, options),
};
const rng = { bytes: (length: number) => new Uint8Array(randomBytes(length)) };
const patience = { clock, rng, operationMs: 60_000, attemptMs: 30_000 };

function open(uri: string): BlobStore {
  const location = parseServiceUri(uri);
  assert.ok(location !== undefined);
  return serviceStore(location, { displayUri: serviceDisplayUri(location), patience, azurePartsAtOnce: 1 });
}

describe('Azure', () => {
  let server: StorageServer;
  before(async () => {
    server = await startAzurite();
  });
  after(() => server[Symbol.asyncDispose]());
  describeBlobStore('azure', async () => open(server.newUri()));
});

describe('S3', { skip: skipWithout('radosgw') }, () => {
  let server: S3Server;
  before(async () => {
    server = await startRadosGateway();
  });
  after(() => server[Symbol.asyncDispose]());
  describeBlobStore('s3', async () => open(server.newUri()));
});
