import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../base/index.ts';
import { displaySourceUri, parseSourceUri } from './source-address.ts';

describe('the URI of a source', () => {
  it('is taken apart', () => {
    const uri =
      'postgresql://repl%40x:p%2Fw@[::1]:26258/defaultdb?options=-ccluster%3Dsystem&sslmode=disable';
    assert.deepEqual(parseSourceUri(uri), {
      host: '::1',
      port: 26258,
      user: 'repl@x',
      password: 'p/w',
      database: 'defaultdb',
      options: '',
    });
    const short = parseSourceUri('postgres://u@host?options=-ccluster=system%20-csearch_path=x');
    assert.deepEqual([short.port, short.password, short.options], [26257, null, '-csearch_path=x']);
  });

  it('must lead to a system virtual cluster, over what is available', () => {
    const refused: readonly (readonly [string, string])[] = [
      ['postgresql://u@host', 'parameter_invalid'],
      ['postgresql://u@host?options=-ccluster=main', 'parameter_invalid'],
      ['postgresql://host?options=-ccluster=system', 'parameter_invalid'],
      ['postgresql://u@?options=-ccluster=system', 'parameter_invalid'],
      ['mysql://u@host?options=-ccluster=system', 'parameter_invalid'],
      ['postgresql://u@host?options=-ccluster=system&sslmode=verify-full', 'feature_not_supported'],
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
