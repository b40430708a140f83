import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../base/index.ts';
import { PLAIN_SOURCE } from '../pg/index.ts';
import { TestAuthority, writeCertificates } from '../../test/harness/certificates.ts';
import { scratchDirectory } from '../../test/harness/scratch.ts';
import { displaySourceUri, parseSourceUri } from './source-address.ts';

const isInvalid = (error: unknown) => isAppError(error, 'parameter_invalid');

describe('the URI of a source', () => {
  it('is taken apart', () => {
    const uri =
      'postgresql://repl%40x:p%2Fw@[::1]:26258/defaultdb?options=-ccluster%3Dsystem&sslmode=disable';
    assert.deepEqual(parseSourceUri(uri), {
      kind: 'atoll',
      host: '::1',
      port: 26258,
      user: 'repl@x',
      password: 'p/w',
      database: 'defaultdb',
      options: '',
      tls: PLAIN_SOURCE,
    });
    const short = parseSourceUri('postgres://u@host?options=-ccluster=system%20-csearch_path=x');
    assert.deepEqual([short.port, short.password, short.options], [26257, null, '-csearch_path=x']);
  });

  it('leads to a plain server where it names no virtual cluster', () => {
    const { kind, port, database, options } = parseSourceUri('postgresql://u@host?options=-cwork_mem%3D1MB');
    assert.deepEqual([kind, port, database, options], ['postgres', 5432, 'postgres', '-cwork_mem=1MB']);
  });

  it('brings certificates and keys, as files or in itself', async () => {
    const authority = await TestAuthority.make();
    const pair = await authority.client('repl');
    const directory = await scratchDirectory('atoll-uri-');
    await writeCertificates(directory, { 'ca.crt': authority.certificate, repl: pair });
    const tlsOf = (parameters: Readonly<Record<string, string>>) => {
      const query = new URLSearchParams({ options: '-ccluster=system', ...parameters });
      return parseSourceUri(`postgresql://u@host?${String(query)}`).tls;
    };
    const expected = {
      mode: 'verify-full',
      authority: authority.certificate,
      certificate: pair.certificate,
      key: pair.key,
    };
    const named = ['ca.crt', 'repl.crt', 'repl.key'].map((name) => `${directory}/${name}`);
    const contents = [authority.certificate, pair.certificate, pair.key];
    for (const [sslrootcert = '', sslcert = '', sslkey = ''] of [named, contents]) {
      assert.deepEqual(tlsOf({ sslmode: 'verify-full', sslrootcert, sslcert, sslkey }), expected);
    }
    await rm(directory, { recursive: true });
    assert.equal(tlsOf({}).mode, 'prefer');
    assert.equal(tlsOf({ sslrootcert: authority.certificate }).authority, null);
    assert.equal(tlsOf({ sslmode: 'allow' }).mode, 'prefer');
    assert.deepEqual(tlsOf({ sslmode: 'disable', sslinline: 'true', sslrootcert: 'x' }), PLAIN_SOURCE);
    assert.throws(() => tlsOf({ sslmode: 'require', sslcert: pair.certificate }), isInvalid);
    assert.throws(() => tlsOf({ sslmode: 'require', sslcert: pair.certificate, sslkey: 'x' }), isInvalid);
  });

  it('must lead to a system virtual cluster or to none, over what is available', () => {
    const refused: readonly (readonly [string, string])[] = [
      ['postgresql://u@host?options=-ccluster=main', 'parameter_invalid'],
      ['postgresql://host?options=-ccluster=system', 'parameter_invalid'],
      ['postgresql://u@?options=-ccluster=system', 'parameter_invalid'],
      ['mysql://u@host?options=-ccluster=system', 'parameter_invalid'],
      ['postgresql://u@host?options=-ccluster=system&sslmode=verify-full', 'parameter_invalid'],
      ['postgresql://u@host?options=-ccluster=system&sslmode=verify', 'parameter_invalid'],
      ['postgresql://u@host?options=-ccluster=system&sslrootcert=/no/such/file', 'parameter_invalid'],
      ['postgresql://u@host?options=-ccluster=system&sslrootcert=/', 'parameter_invalid'],
      [
        'postgresql://u@host?options=-ccluster=system&sslinline=true&sslrootcert=nonsense',
        'parameter_invalid',
      ],
    ];
    for (const [uri, code] of refused) {
      assert.throws(
        () => parseSourceUri(uri),
        (error) => isAppError(error) && error.code === code,
        uri,
      );
    }
  });

  it('shows no secret, neither in messages nor in columns', () => {
    assert.equal(
      displaySourceUri('postgresql://user:pw@hostname:26257/x?options=-ccluster=system&sslrootcert=abc'),
      'postgresql://user@hostname:26257?redacted',
    );
    fc.assert(
      fc.property(fc.string(), fc.string(), (before, after) => {
        const uri = `${before}verysecret${after}`;
        try {
          parseSourceUri(uri);
        } catch (error) {
          assert.ok(isAppError(error));
          assert.ok(!`${error.message} ${error.hint}`.includes('verysecret'));
        }
      }),
    );
  });
});
