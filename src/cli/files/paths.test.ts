import assert from 'node:assert/strict';
import { test } from 'node:test';
import { below, lastElement, parsePattern, pathOf, remoteUri } from './paths.ts';

const ROOT = 'userfile:///';

test('paths become URIs only in their normal form', () => {
  assert.equal(remoteUri('a b/c', ROOT), 'userfile:///a%20b/c');
  assert.equal(remoteUri('/a', ROOT), 'userfile:///a');
  assert.equal(remoteUri('userfile://x.y.z/a', ROOT), 'userfile://x.y.z/a');
  assert.equal(below('userfile://x.y.z/a/', 'b#c'), 'userfile://x.y.z/a/b%23c');
  for (const path of ['', 'a//b', '../a', 'a/./b', 'a/']) {
    assert.throws(() => remoteUri(path, ROOT), { code: 'usage' }, path);
  }
  assert.deepEqual(['a/b', 'a/b/', '.'].map(lastElement), ['b', '', '.']);
});

test('patterns match whole paths', () => {
  const uri = 'userfile://defaultdb.public.userfiles_ann/in/a%20b.csv';
  const table: readonly (readonly [string | undefined, boolean])[] = [
    [undefined, true],
    ['*', true],
    ['in/a b.csv', true],
    ['/in/*', true],
    ['*.csv', true],
    ['in/*a*.csv', true],
    ['in', false],
    ['*.csv.csv', false],
    ['in/a b.csv*.csv', false],
    ['userfile://defaultdb.public.userfiles_ann/in/a%20b.csv', true],
  ];
  for (const [pattern, isMatch] of table) {
    assert.equal(parsePattern(pattern).matches(uri), isMatch, pattern);
  }
  assert.equal(parsePattern('userfile://x.y.z/*').root, 'userfile://x.y.z/');
  assert.throws(() => parsePattern('s3://b/*'), { code: 'usage' });
});

test('what a server calls a file stays below the folder that it is put into', () => {
  assert.equal(pathOf('userfile://x.y.z/a/b%20c'), 'a/b c');
  for (const uri of [
    'userfile://x/..',
    'userfile://x/a/%2e%2e/b',
    'userfile://x/a%2f..%2fb',
    'userfile://x//a',
  ]) {
    assert.throws(() => pathOf(uri), { code: 'name_invalid' }, uri);
  }
});
