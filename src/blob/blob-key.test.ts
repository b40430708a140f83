import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../base/index.ts';
import { BLOB_KEY_PART_BYTES_MAX, parseBlobKey } from './blob-key.ts';

test('keys that could leave their folder are refused', () => {
  const refused = [
    '',
    '/',
    '/a',
    'a/',
    'a//b',
    '.',
    '..',
    '../a',
    'a/..',
    'a/../b',
    './a',
    'a/./b',
    'a\0b',
    'a\nb',
    'a\\b',
    '\u0085',
    '\ud800',
    '.tmp-1',
    'a/.tmp-x',
    'x'.repeat(BLOB_KEY_PART_BYTES_MAX + 1),
    'é'.repeat(128),
    'ab/'.repeat(400) + 'c',
  ];
  for (const text of refused) {
    assert.throws(
      () => parseBlobKey(text),
      (error) => isAppError(error, 'name_invalid'),
      JSON.stringify(text),
    );
  }
});

test('ordinary names are keys', () => {
  for (const text of [
    'a',
    'a/b',
    '2026/01/02-030405.06/data/1-0.pack',
    '..a',
    'a..',
    '...',
    ' ',
    'naïve/😀',
  ]) {
    assert.equal(parseBlobKey(text), text);
  }
});

test('what is accepted never climbs', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('.', '/', 'a', '\\', '\0', ' ') }), (text) => {
      try {
        parseBlobKey(text);
      } catch {
        return;
      }
      const resolved = new URL(text.replaceAll(' ', '_'), 'file:///root/base/').pathname;
      assert.ok(resolved.startsWith('/root/base/') && resolved !== '/root/base/', text);
    }),
  );
});
