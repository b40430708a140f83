import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { redactUri } from './redact.ts';

describe('redactUri', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['nodelocal://1/backups', 'nodelocal://1/backups'],
    ['external://backup_s3/app', 'external://backup_s3/app'],
    ['userfile:///a/b', 'userfile:///a/b'],
    ['2021/03/23-213101.37', '2021/03/23-213101.37'],
    ['', ''],
    [
      's3://b/p?AUTH=specified&AWS_ACCESS_KEY_ID=AKIA&AWS_SECRET_ACCESS_KEY=a/b%2Fc&AWS_REGION=eu-1',
      's3://b/p?AUTH=specified&AWS_ACCESS_KEY_ID=redacted&AWS_SECRET_ACCESS_KEY=redacted&AWS_REGION=eu-1',
    ],
    [
      'gs://b?CREDENTIALS=e30=&COCKROACH_LOCALITY=region%3Deu',
      'gs://b?CREDENTIALS=redacted&COCKROACH_LOCALITY=region%3Deu',
    ],
    [
      'azure-blob://c?AZURE_ACCOUNT_NAME=n&AZURE_ACCOUNT_KEY=k&AZURE_CLIENT_SECRET=s',
      'azure-blob://c?AZURE_ACCOUNT_NAME=n&AZURE_ACCOUNT_KEY=redacted&AZURE_CLIENT_SECRET=redacted',
    ],
    ['s3://b?aws_secret_access_key=x', 's3://b?aws_secret_access_key=redacted'],
    ['s3://b?AWS%5FSECRET=x&NEW_THING=y', 's3://b?AWS%5FSECRET=redacted&NEW_THING=redacted'],
    ['s3://b?secret', 's3://b?redacted'],
    ['s3://b?AWS_ENDPOINT=https%3A%2F%2Fminio%3A9000', 's3://b?AWS_ENDPOINT=https%3A%2F%2Fminio%3A9000'],
    ['s3://b?AWS_ENDPOINT=https://u:p@minio', 's3://b?AWS_ENDPOINT=redacted'],
    ['postgresql://u:p@h:26257/d?sslmode=x', 'postgresql://u:redacted@h:26257/d?sslmode=redacted'],
    ['postgresql://u:p@ss/w@h/d', 'postgresql://u:redacted@h/d'],
    ['postgresql://u@h:26257', 'postgresql://u@h:26257'],
    ['postgresql://h:26257/d', 'postgresql://h:26257/d'],
    ['postgresql://u:pass', 'postgresql://u:redacted'],
    ['postgresql://u:p?q@h/d', 'postgresql://u:redacted?redacted'],
    [':p@h?k=v', ':p@h?k=redacted'],
  ];
  for (const [uri, expected] of cases) {
    it(`shows ${uri || 'nothing'}`, () => assert.equal(redactUri(uri), expected));
  }

  it('changes nothing the second time', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (host, query) => {
        for (const uri of [host, `s3://${host}?${query}`, `postgresql://u:${host}@h/d?${query}`]) {
          assert.equal(redactUri(redactUri(uri)), redactUri(uri));
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('never lets a secret parameter or a password through', () => {
    const secret = fc
      .stringMatching(/^[A-Za-z0-9+/%=:@?#]{1,30}$/)
      .map((text) => `SECRET${text.replaceAll('&', '')}SECRET`);
    const name = fc.constantFrom(
      'AWS_SECRET_ACCESS_KEY',
      'AWS_SESSION_TOKEN',
      'CREDENTIALS',
      'x',
      '',
      'AWS_ENDPOINT2',
    );
    fc.assert(
      fc.property(name, secret, (parameter, value) => {
        assert.ok(
          !redactUri(`s3://b/p?AUTH=specified&${parameter}=${value}&AWS_REGION=x`).includes(
            'SECRET' + value.slice(6),
          ),
        );
        assert.ok(!redactUri(`s3://b/p?${parameter}=${value}`).includes(value));
        assert.ok(!redactUri(`postgresql://user:${value}@host/d`).includes(value));
      }),
      { numRuns: 1000 },
    );
  });
});
