import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { signatureHash } from './certificate-signature.ts';

/** A certificate's frame: a body of so many bytes, and behind it the signature algorithm. */
function certificate(identifier: string, bodyBytes = 300): Buffer {
  const element = (tag: number, content: Buffer): Buffer => {
    const length =
      content.length < 128 ? [content.length] : [0x82, content.length >> 8, content.length & 255];
    return Buffer.concat([Buffer.from([tag, ...length]), content]);
  };
  const algorithm = element(0x30, element(0x06, Buffer.from(identifier, 'hex')));
  const parts = [element(0x30, Buffer.alloc(bodyBytes)), algorithm, element(0x03, Buffer.alloc(64))];
  return element(0x30, Buffer.concat(parts));
}

test('each signature names its hash, MD5 and SHA-1 that of RFC 5929, others none', () => {
  assert.equal(signatureHash(certificate('2a864886f70d01010b')), 'sha256'); // RSA with SHA-256
  assert.equal(signatureHash(certificate('2a864886f70d01010d', 20)), 'sha512');
  assert.equal(signatureHash(certificate('2a8648ce3d040303')), 'sha384'); // ECDSA with SHA-384
  assert.equal(signatureHash(certificate('2a864886f70d010105')), 'sha256'); // RSA with SHA-1
  assert.equal(signatureHash(certificate('2b6570')), undefined); // Ed25519
});

test('what is cut or changed gives another answer at most, never an error', () => {
  const whole = certificate('2a864886f70d01010b');
  fc.assert(
    fc.property(fc.nat(whole.length), fc.nat(whole.length - 1), fc.nat(255), (length, at, byte) => {
      const changed = Buffer.from(whole);
      changed[at] = byte;
      signatureHash(changed.subarray(0, length));
    }),
  );
});
