import assert from 'node:assert/strict';
import { test } from 'node:test';
import { beginMac, clusterKeyOf, deriveKey, macsEqual } from './cluster-key.ts';

const key = clusterKeyOf(new Uint8Array(32).fill(7));

test('derived values never change: what was signed must stay readable', () => {
  assert.equal(key.id, 'e272e990b9701532');
  const mac = beginMac({ key, purpose: 'manifest mac' }).update('abc').digest('hex');
  assert.equal(mac, '41851c93919d22588022b3e12fba54e1f24738837d225920e565e0d4ee62893c');
  const derived = deriveKey({ key, purpose: 'pack tag', salt: new Uint8Array([1]), length: 16 });
  assert.equal(Buffer.from(derived).toString('hex'), '1d2f56ec71eb6f665aef8bf6ed8c3505');
});

test('MACs are compared in full', () => {
  assert.ok(macsEqual(new Uint8Array([1, 2]), new Uint8Array([1, 2])));
  assert.ok(!macsEqual(new Uint8Array([1, 2]), new Uint8Array([1, 3])));
  assert.ok(!macsEqual(new Uint8Array([1, 2]), new Uint8Array([1])));
});
