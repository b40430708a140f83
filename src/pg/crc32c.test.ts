import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { crc32c } from './crc32c.ts';

/** One bit at a time, as the definition reads. */
function slowCrc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0x82f6_3b78;
  }
  return ~crc >>> 0;
}

test('gives the check value and the vectors of RFC 3720', () => {
  assert.equal(crc32c(new TextEncoder().encode('123456789')), 0xe306_9283);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a91_36aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8_ab43);
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index)), 0x46dd_794e);
  assert.equal(crc32c(new Uint8Array()), 0);
});

test('equals the definition on any bytes, and composes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.uint8Array({ maxLength: 100 }), (a, b) => {
      const whole = Uint8Array.from([...a, ...b]);
      assert.equal(crc32c(whole), slowCrc32c(whole));
      assert.equal(crc32c(b, crc32c(a)), crc32c(whole));
    }),
  );
});
