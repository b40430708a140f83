import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Flood, FLOOD_BYTES, LOOK_MS } from './flood.ts';

it('a flood is told by how much came since it was asked last, over a stretch that says something', () => {
  let [atMs, received] = [0, 0n];
  const flood = new Flood({ clock: { monotonicMs: () => atMs }, receivedBytes: () => received });
  const after = (ms: number, bytes: number) => {
    atMs += ms;
    received += BigInt(bytes);
    return flood.isOn();
  };
  const perLook = (FLOOD_BYTES * LOOK_MS) / 1000;
  assert.equal(after(LOOK_MS - 1, FLOOD_BYTES), false, 'too soon to say');
  assert.equal(after(1, 0), true);
  assert.equal(after(LOOK_MS - 1, 0), true, 'as it was');
  assert.equal(after(1, Math.ceil(perLook)), true);
  assert.equal(after(LOOK_MS, Math.floor(perLook) - 1), false);
  assert.equal(after(10 * LOOK_MS, Math.floor(9 * perLook)), false);
  received -= 1_000_000n; // Of a virtual cluster that is received no more.
  assert.equal(after(LOOK_MS, 0), false);
});
