/** Services behind certificates of an authority that nobody knows: believed when the setting says so, and not otherwise. */
import assert from 'node:assert/strict';
import { type AddressInfo, connect } from 'node:net';
import { createServer, type Server } from 'node:tls';
import { after, before, describe, it } from 'node:test';
import { startAzurite, type StorageServer } from '../../test/harness/azurite.ts';
import { TestAuthority } from '../../test/harness/certificates.ts';
import { GcsServer } from '../../test/harness/gcs-server.ts';
import { AwsServer } from '../../test/harness/sts-server.ts';
import { isAppError } from '../base/index.ts';
import { parseBlobKey } from './blob-key.ts';
import { openGs } from './gs/gs-service.ts';
import { parseGsUri } from './gs/gs-uri.ts';
import { readBlob } from './read.ts';
import { serviceBlobStore } from './service/service-blob-store.ts';
import { testPatience } from './service/testing.ts';
import { trustedAuthorities } from './service/trust.ts';
import { parseServiceUri, serviceStore } from './service-location.ts';

const { signal } = new AbortController();
const KEY = parseBlobKey('x');
const patience = { ...testPatience, operationMs: 300 };
const isDisbelieved = (error: unknown) => {
  assert.ok(isAppError(error, 'blob_unavailable'), String(error));
  return true;
};

describe('a service with a certificate of its own authority', () => {
  let authority: TestAuthority;
  let azurite: StorageServer;
  let aws: AwsServer;
  let google: GcsServer;
  const fronts: Server[] = [];

  /** TLS before a server that speaks none. */
  async function behindTls(endpoint: string): Promise<string> {
    const { certificate: cert, key } = await authority.node();
    const { port } = new URL(endpoint);
    const front = createServer({ cert, key }, (client) => {
      const server = connect(Number(port), '127.0.0.1');
      client.pipe(server).pipe(client);
      for (const socket of [client, server])
        socket.on('error', () => [client, server].map((each) => each.destroy()));
    });
    fronts.push(front);
    await new Promise<void>((done) => front.listen(0, '127.0.0.1', done));
    return `https://localhost:${(front.address() as AddressInfo).port}`;
  }

  before(async () => {
    authority = await TestAuthority.make();
    [azurite, aws, google] = await Promise.all([startAzurite(), AwsServer.start(), GcsServer.start()]);
    aws.roles.push({ arn: 'arn:aws:iam::1:role/a', trusts: 'FIRST', externalId: null });
  });
  after(async () => {
    for (const front of fronts) front.close();
    for (const server of [azurite, aws, google]) await server?.[Symbol.asyncDispose]();
  });

  function open(uri: string, customCa: string | null) {
    const location = parseServiceUri(uri);
    assert.ok(location !== undefined);
    return serviceStore(location, { displayUri: 'here', patience, azurePartsAtOnce: 1, customCa });
  }

  it('of the S3 kind, and where it gives out roles', async () => {
    const secure = await behindTls(aws.endpoint);
    const uri = aws.uri({ AWS_ENDPOINT: secure, ASSUME_ROLE: 'arn:aws:iam::1:role/a' });
    await assert.rejects(open(uri, null).size(KEY, { signal }), isDisbelieved);
    assert.equal(await open(uri, authority.certificate).size(KEY, { signal }), null);
    assert.deepEqual([aws.assumed.length, aws.asked], [1, ['ROLE0']]);
  });

  it('of Azure', async () => {
    const secure = await behindTls(azurite.endpoint);
    const uri = azurite.newUri().replace(encodeURIComponent(azurite.endpoint), encodeURIComponent(secure));
    await assert.rejects(open(uri, null).size(KEY, { signal }), isDisbelieved);
    const store = open(uri, authority.certificate);
    await store.put(KEY, Buffer.from('kept'), { signal });
    assert.equal(Buffer.from(await readBlob(store, KEY, { bytesMax: 10, signal })).toString(), 'kept');
  });

  it('of Google', async () => {
    const secure = await behindTls(google.endpoint);
    google.advertised = secure;
    const location = parseGsUri(`gs://bucket/f?AUTH=implicit&GS_ENDPOINT=${encodeURIComponent(secure)}`);
    const storeWith = (customCa: string | null) =>
      serviceBlobStore({
        displayUri: 'here',
        folder: 'f',
        patience,
        open: () =>
          openGs(location, {
            displayUri: 'here',
            authorities: trustedAuthorities(customCa),
            authClient: google.authClient,
          }),
      });
    await assert.rejects(storeWith(null).size(KEY, { signal }), isDisbelieved);
    const store = storeWith(authority.certificate);
    const content = Buffer.alloc(9 * 1024 * 1024, 'longer than a part');
    await store.put(KEY, content, { signal });
    assert.ok(content.equals(await readBlob(store, KEY, { bytesMax: content.length, signal })));
  });

  it('is not tried with a setting that holds no certificate', () => {
    for (const text of ['no certificate', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----']) {
      assert.throws(
        () => trustedAuthorities(text),
        (error) => isAppError(error, 'parameter_invalid'),
      );
    }
    assert.equal(trustedAuthorities(null), undefined);
  });
});
