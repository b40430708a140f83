import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { clusterKeyOf } from './cluster-key.ts';
import { formatKeyFile, parseKeyFile } from './key-file.ts';

const anySecret = fc.uint8Array({ minLength: 32, maxLength: 32 });

test('a key is read back from its file, and from its bytes', () => {
  fc.assert(
    fc.property(anySecret, (secret) => {
      const key = clusterKeyOf(secret);
      for (const bytes of [Buffer.from(formatKeyFile(key)), secret]) {
        const read = parseKeyFile(bytes, 'file');
        assert.equal(read.id, key.id);
        assert.deepEqual(Buffer.from(read.secret), Buffer.from(secret));
      }
    }),
  );
});

test('a file with any character changed is refused, without a word of what it holds', () => {
  const key = clusterKeyOf(Buffer.alloc(32, 7));
  const text = formatKeyFile(key);
  for (let at = 0; at < text.length - 1; at++) {
    const damaged = `${text.slice(0, at)}${text[at] === '~' ? '!' : '~'}${text.slice(at + 1)}`;
    assert.throws(
      () => parseKeyFile(Buffer.from(damaged), 'the file'),
      (error: Error) => {
        assert.match(error.message, /^the file is not the key of a cluster, or is damaged$/);
        return true;
      },
    );
  }
  for (const other of ['', 'x', text.repeat(2), text.slice(10)]) {
    assert.throws(() => parseKeyFile(Buffer.from(other), 'the file'), { code: 'parameter_invalid' });
  }
});
