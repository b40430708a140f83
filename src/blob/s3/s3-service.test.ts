import assert from 'node:assert/strict';
import dns, { type LookupOptions } from 'node:dns';
import { after, before, beforeEach, describe, it } from 'node:test';
import { AwsServer } from '../../../test/harness/sts-server.ts';
import { type ErrorCode, isAppError } from '../../base/index.ts';
import { parseBlobKey } from '../blob-key.ts';
import type { BlobStore } from '../blob-store.ts';
import { testPatience } from '../service/testing.ts';
import { parseS3Uri, S3_STORAGE_CLASSES } from './s3-uri.ts';
import { parseServiceUri, serviceDisplayUri, serviceStore } from '../service-location.ts';

const { signal } = new AbortController();
const KEY = parseBlobKey('x');

describe('S3', () => {
  let server: AwsServer;
  before(async () => {
    server = await AwsServer.start();
    server.roles.push(
      { arn: 'arn:aws:iam::1:role/a', trusts: 'FIRST', externalId: 'one&two' },
      { arn: 'arn:aws:iam::2:role/b', trusts: 'ROLE0', externalId: null },
      { arn: 'arn:aws:iam::3:role/c', trusts: 'ROLE1', externalId: 'three' },
    );
  });
  beforeEach(() => {
    server.failure = null;
    server.asked.length = 0;
    server.assumed.length = 0;
    server.demandsDigest = null;
    server.written.length = 0;
    server.begun.length = 0;
    server.firstToken = null;
  });
  after(() => server[Symbol.asyncDispose]());

  function open(parameters: Readonly<Record<string, string>> = {}): BlobStore {
    const location = parseServiceUri(server.uri(parameters));
    assert.ok(location !== undefined);
    return serviceStore(location, {
      displayUri: serviceDisplayUri(location),
      patience: { ...testPatience, operationMs: 500 },
      azurePartsAtOnce: 1,
    });
  }

  const chain = (...roles: number[]) =>
    roles
      .map((index) => {
        const { arn, externalId } = server.roles[index] ?? { arn: '', externalId: null };
        return externalId === null ? arn : `${arn};external_id=${externalId}`;
      })
      .join(',');

  it('takes on a chain of roles, each with the rights of the one before and its external id', async () => {
    const store = open({ ASSUME_ROLE: chain(0, 1, 2) });
    for (let time = 0; time < 2; time++) assert.equal(await store.size(KEY, { signal }), null);
    assert.deepEqual(
      server.assumed,
      server.roles.map(({ arn }) => arn),
      'in order, and only once',
    );
    assert.deepEqual(server.asked, ['ROLE2', 'ROLE2']);
  });

  it('is refused at once, without a secret, when a role cannot be taken on', async () => {
    for (const roles of [
      chain(1),
      chain(0, 2),
      'arn:aws:iam::1:role/a;external_id=wrong',
      'arn:aws:iam::9:role/none',
    ]) {
      await assert.rejects(open({ ASSUME_ROLE: roles }).size(KEY, { signal }), (error) => {
        assert.ok(isAppError(error, 'storage_refused'), `${roles}: ${String(error)}`);
        assert.doesNotMatch(`${error.message}${error.detail}${error.hint}`, /secret/);
        return true;
      });
    }
    assert.deepEqual(server.asked, []);
  });

  const faults: readonly (readonly ['sts' | 's3', number, string, ErrorCode, RegExp])[] = [
    ['s3', 403, 'RequestTimeTooSkewed', 'storage_refused', /set the clock of the node/],
    ['s3', 400, 'ExpiredToken', 'storage_refused', /the credentials have expired/],
    ['sts', 403, 'ExpiredTokenException', 'storage_refused', /the credentials have expired/],
    ['s3', 403, 'AccessDenied', 'storage_refused', /check the credentials/],
    ['s3', 404, 'NoSuchBucket', 'storage_unusable', /the bucket does not exist/],
    ['s3', 403, 'QuotaExceeded', 'disk_full', /the storage is full/],
    ['sts', 503, 'ServiceUnavailable', 'blob_unavailable', /not available/],
  ];
  for (const [of, status, word, code, text] of faults) {
    it(`says what ${word} of ${of} means`, async () => {
      server.failure = { of, status, word };
      const store = open({ ASSUME_ROLE: chain(0) });
      // A question of which the answer has a body, for answers to HEAD say nothing.
      await assert.rejects(store.discardUploads('', { signal }), (error) => {
        assert.ok(isAppError(error, code), String(error));
        assert.match(`${error.message} ${error.hint ?? ''}`, text);
        assert.doesNotMatch(`${error.message}${error.detail}${error.hint}`, /secret/);
        return true;
      });
    });
  }

  it('signs what it writes, and sends an MD5 only where one is demanded', async () => {
    const content = Buffer.from('content');
    await open().put(KEY, content, { signal });
    assert.deepEqual(server.written, [{ bytes: content.length, hasDigest: false }]);
    for (const word of ['InvalidRequest', 'MissingContentMD5']) {
      server.written.length = 0;
      server.asked.length = 0;
      server.demandsDigest = word;
      const store = open();
      for (const name of ['one', 'two']) await store.put(parseBlobKey(name), content, { signal });
      assert.deepEqual(
        server.written.map(({ hasDigest }) => hasDigest),
        [true, true],
      );
      assert.equal(server.asked.length, 3, 'it is asked for once');
    }
    server.demandsDigest = 'InvalidArgument';
    await assert.rejects(open().put(KEY, content, { signal }), (error) =>
      isAppError(error, 'storage_unusable'),
    );
    server.demandsDigest = 'InvalidRequest';
    const skipping = open({ AWS_SKIP_CHECKSUM: 'true' });
    await assert.rejects(skipping.put(KEY, content, { signal }), (error) =>
      isAppError(error, 'storage_unusable'),
    );
  });

  it('makes every object, short or long, of the class and with the encryption that is asked for', async () => {
    const long = Buffer.alloc(9 * 1024 * 1024);
    const made = async (parameters: Readonly<Record<string, string>>, content: Buffer) => {
      server.begun.length = 0;
      await open(parameters).put(KEY, content, { signal });
      assert.equal(server.begun.length, 1);
      const { storageClass, encryption, encryptionKey, isInParts } = server.begun[0] ?? {};
      assert.equal(isInParts, content === long);
      return [storageClass, encryption, encryptionKey];
    };
    for (const name of S3_STORAGE_CLASSES) {
      assert.deepEqual(await made({ S3_STORAGE_CLASS: name }, Buffer.from('1')), [name, null, null]);
    }
    assert.deepEqual(await made({}, Buffer.from('1')), [null, null, null]);
    const wanted = {
      S3_STORAGE_CLASS: 'INTELLIGENT_TIERING',
      AWS_SERVER_ENC_MODE: 'aws:kms',
      AWS_SERVER_KMS_ID: 'key',
    };
    assert.deepEqual(await made(wanted, long), ['INTELLIGENT_TIERING', 'aws:kms', 'key']);
    for (const wrong of ['standard', 'COLD', '']) {
      assert.throws(
        () => parseS3Uri(server.uri({ S3_STORAGE_CLASS: wrong })),
        (error) =>
          isAppError(error, 'parameter_invalid') && error.message.includes('unknown S3_STORAGE_CLASS'),
      );
    }
  });

  it('sends the token of a session with its keys', async () => {
    server.firstToken = 'token-of-a-session';
    const isRefused = (error: unknown) => isAppError(error, 'storage_refused');
    await assert.rejects(open().put(KEY, Buffer.from('1'), { signal }), isRefused);
    await open({ AWS_SESSION_TOKEN: 'token-of-a-session' }).put(KEY, Buffer.from('1'), { signal });
  });

  it('names the bucket in the host, or in the path where that is asked for', async (context) => {
    // No resolver knows names below one of ours.
    const here = (_host: string, { all }: LookupOptions, answered: (...answer: unknown[]) => void) =>
      all === true ? answered(null, [{ address: '127.0.0.1', family: 4 }]) : answered(null, '127.0.0.1', 4);
    const lookup = context.mock.method(dns, 'lookup', here as typeof dns.lookup);
    const endpoint = server.endpoint.replace('127.0.0.1', 'storage.test');
    const { host } = new URL(endpoint);
    for (const style of ['false', 'true']) {
      await open({ AWS_ENDPOINT: endpoint, AWS_USE_PATH_STYLE: style }).put(KEY, Buffer.from('1'), {
        signal,
      });
    }
    assert.deepEqual(
      server.begun.map((each) => [each.host, each.path]),
      [
        [`bucket.${host}`, '/folder/x'],
        [host, '/bucket/folder/x'],
      ],
    );
    assert.ok(lookup.mock.callCount() > 0);
  });

  it('frees all uploads that were given up, however many', async () => {
    const digits = (index: number) => String(index).padStart(5, '0');
    server.uploads = Array.from({ length: 1100 }, (_, index) => ({
      key: `folder/${digits(Math.trunc(index / 3))}`,
      id: digits(index),
    }));
    await open().discardUploads('', { signal });
    assert.equal(server.uploads.length, 0);
  });
});
