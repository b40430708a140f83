import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../../base/index.ts';
import { DEFAULT_TARGET, formatUrl, parseUrl } from './target.ts';

test('the documented forms of a URL are read', () => {
  const plain = parseUrl(
    'postgresql://root@db.example.com:26257?options=-ccluster=system&sslmode=verify-full',
  );
  assert.equal(plain.host, 'db.example.com');
  assert.equal(plain.options, '-ccluster=system');
  assert.equal(plain.tls, 'verified_host');
  assert.equal(plain.database, 'defaultdb');
  assert.equal(parseUrl('postgresql://h?options=-ccluster%3Dmain').options, '-ccluster=main');
  assert.equal(parseUrl('postgres://h/?options=-ccluster=a+-c+x=1').options, '-ccluster=a -c x=1');
  assert.equal(parseUrl('postgresql://h/cluster%3Amain%2Fapp').database, 'cluster:main/app');
  assert.equal(parseUrl('postgresql://h/cluster:main/app').database, 'cluster:main/app');
  const socket = parseUrl('postgresql://root@/postgres?host=/tmp/s%20x&port=5');
  assert.deepEqual([socket.host, socket.port, socket.user], ['/tmp/s x', 5, 'root']);
  const six = parseUrl('postgresql://u%40x:p%3Aw@[::1]:99/d');
  assert.deepEqual([six.user, six.password, six.host, six.port], ['u@x', 'p:w', '::1', 99]);
  assert.deepEqual(parseUrl('postgresql://'), DEFAULT_TARGET);
});

test('what is wrong with a URL is named, its password never', () => {
  for (const [url, message] of [
    ['http://secret@h', /not a connection URL/],
    ['postgresql://u:secret@h/d?clustr=x', /unknown parameter "clustr"/],
    ['postgresql://u:secret@h:99999/d', /not a port/],
    ['postgresql://u:secret@a,b/d', /one host/],
    ['postgresql://u:secret%@h/d', /percent sign/],
    ['postgresql://u:secret@h/d?sslmode=maybe', /unknown sslmode/],
  ] as const) {
    assert.throws(
      () => parseUrl(url),
      (error) => {
        assert.ok(isAppError(error, 'usage'));
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /secret/);
        return true;
      },
    );
  }
});

test('a printed URL reads back as the same target, without the password', () => {
  const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 10 });
  const target = fc.record({
    user: text,
    database: text,
    port: fc.integer({ min: 1, max: 65535 }),
    host: fc.constantFrom('localhost', '10.0.0.1', '::1', '/run/atoll sockets', 'db.example.com'),
    options: fc.option(text, { nil: undefined }),
    tls: fc.constantFrom('off' as const, 'encrypted' as const, 'verified_authority' as const),
  });
  fc.assert(
    fc.property(target, (change) => {
      const whole = { ...DEFAULT_TARGET, ...change, password: 'secret' };
      const url = formatUrl(whole);
      assert.doesNotMatch(url, /secret/);
      assert.deepEqual(parseUrl(url), { ...whole, password: undefined });
    }),
  );
});
