import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../base/index.ts';
import { parseUserfileUri, resolveUserfileUri, withUserfileOwner } from './userfile-uri.ts';

const resolve = (uri: string) =>
  resolveUserfileUri(parseUserfileUri(uri) ?? never(uri), { directory: '/vc' });

function never(uri: string): never {
  throw new Error(`not userfile: ${uri}`);
}

test('a userfile URI leads to a folder of its user', () => {
  assert.equal(parseUserfileUri('nodelocal://1/a'), undefined);
  const written = withUserfileOwner('userfile:///a/b%20c/', 'ann');
  assert.equal(written, 'userfile://defaultdb.public.userfiles_ann/a/b%20c');
  assert.equal(resolve(written).directory, '/vc/ann/a/b c');
  assert.equal(withUserfileOwner(written, 'bob'), written);
  assert.equal(withUserfileOwner('s3://b/a', 'bob'), 's3://b/a');
});

test('no name of a user and no path leads out of the folder of the user', () => {
  const name = fc.oneof(
    fc.string({ unit: 'grapheme', minLength: 1 }),
    fc.constantFrom('..', '.', 'a/b', '../x', 'a.b'),
  );
  fc.assert(
    fc.property(name, fc.string(), (user, path) => {
      let written: string;
      try {
        written = withUserfileOwner(`userfile:///${path}`, user);
      } catch (error) {
        assert.ok(isAppError(error), String(error));
        return;
      }
      const { owner, directory, displayUri } = resolve(written);
      assert.equal(owner, user);
      const [, , folder = '', ...below] = directory.split('/');
      assert.ok(folder !== '' && folder !== '.' && folder !== '..');
      assert.ok(!below.includes('..'));
      assert.equal(resolve(displayUri).directory, directory);
    }),
  );
});

test('what is malformed is refused', () => {
  const table: Readonly<Record<string, string>> = {
    'userfile://': 'parameter_invalid',
    'userfile:/x': 'parameter_invalid',
    'userfile:///a/../b': 'parameter_invalid',
    'userfile:///a//b': 'parameter_invalid',
    'userfile:///%2e%2e': 'parameter_invalid',
    'userfile:///a%2fb': 'parameter_invalid',
    'userfile:///%zz': 'parameter_invalid',
    'userfile:///a?AUTH=implicit': 'parameter_invalid',
    'userfile:///a#b': 'parameter_invalid',
    'userfile://db.s.prefix/a': 'feature_not_supported',
    'userfile://defaultdb.public.userfiles_/a': 'feature_not_supported',
  };
  for (const [uri, code] of Object.entries(table)) {
    assert.throws(
      () => resolve(uri),
      (error) => {
        assert.ok(isAppError(error), `${uri}: ${String(error)}`);
        assert.equal(error.code, code, uri);
        return true;
      },
    );
  }
});
