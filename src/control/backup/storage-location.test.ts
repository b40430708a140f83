import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../../base/index.ts';
import { parseConnectionUri } from '../connections/connection-uri.ts';
import { parseExternalUri, withPath } from './storage-location.ts';

describe('the URI of an external connection in use', () => {
  const CASES: readonly (readonly [string, ReturnType<typeof parseExternalUri> | 'refused'])[] = [
    ['external://a', { name: 'a', path: '' }],
    ['External://A/b/c/', { name: 'A', path: '/b/c/' }],
    ['external://a%20b/c', { name: 'a b', path: '/c' }],
    ['nodelocal://1/a', undefined],
    ['external:///a', 'refused'],
    ['external:a', 'refused'],
    ['external://a?AUTH=implicit', 'refused'],
    ['external://a#b', 'refused'],
    ['external://%', 'refused'],
  ];
  for (const [uri, expected] of CASES) {
    it(uri, () => {
      if (expected !== 'refused') return assert.deepEqual(parseExternalUri(uri), expected);
      assert.throws(
        () => parseExternalUri(uri),
        (error) => isAppError(error, 'parameter_invalid'),
      );
    });
  }

  const JOINED: readonly (readonly [string, string, string])[] = [
    ['nodelocal://1/a', '/b', 'nodelocal://1/a/b'],
    ['nodelocal://1/a/', '/b', 'nodelocal://1/a/b'],
    ['nodelocal://1/a', '', 'nodelocal://1/a'],
    ['s3://b?AWS_REGION=x&A=/', '/p/q', 's3://b/p/q?AWS_REGION=x&A=/'],
  ];
  for (const [uri, path, expected] of JOINED) {
    it(`${uri} and ${path}`, () => assert.equal(withPath(uri, path), expected));
  }
});

describe('the URI of an external connection', () => {
  const ACCEPTED: readonly (readonly [string, string, string])[] = [
    ['nodelocal://1/a', 'nodelocal', 'STORAGE'],
    ['aws-kms:///k?AUTH=implicit&REGION=r', 'kms', 'KMS'],
    ['gs:///projects/P/locations/L/keyRings/R/cryptoKeys/K?AUTH=implicit', 'kms', 'KMS'],
    ['gs://bucket/x?AUTH=implicit', 'service', 'STORAGE'],
    ['userfile:///a/b', 'userfile', 'STORAGE'],
    ['userfile://defaultdb.public.userfiles_root/a', 'userfile', 'STORAGE'],
    ['postgres://u:p@h:26257/d?options=-ccluster%3Dsystem&sslmode=verify-full', 'postgresql', 'FOREIGNDATA'],
    ['PostgreSQL://h', 'postgresql', 'FOREIGNDATA'],
  ];
  for (const [uri, driver, type] of ACCEPTED) {
    it(uri, () => assert.deepEqual(parseConnectionUri(uri), { driver, type }));
  }

  it('is either accepted or refused without a word of its secrets', () => {
    const secret = 'Xq7!geheim+Z';
    const scheme = fc.constantFrom(
      'nodelocal',
      'userfile',
      'postgresql',
      's3',
      'gs',
      'azure-blob',
      'aws-kms',
      'external',
      'ftp',
      '',
    );
    const rest = fc
      .array(
        fc.oneof(
          fc.constantFrom('/', ':', '@', '?', '&', '=', '#', '..', '%', ' ', 'sslmode', 'h', '1', secret),
          fc.string(),
        ),
        { maxLength: 12 },
      )
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(scheme, rest, (name, tail) => {
        try {
          parseConnectionUri(`${name}://u:${secret}@${tail}`);
        } catch (error) {
          assert.ok(isAppError(error));
          assert.ok(!`${error.message} ${error.hint}`.includes(secret), error.message);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
