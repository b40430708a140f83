import assert from 'node:assert/strict';
import { randomBytes, scryptSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { deriveKeyOf } from './derive.ts';

const ASKED = 6;

function processes(): number {
  return readdirSync('/proc').filter((pid) => {
    try {
      const isOurs = new RegExp(`^PPid:\\s+${process.pid}$`, 'm').test(
        readFileSync(`/proc/${pid}/status`, 'latin1'),
      );
      return isOurs && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('derive-process');
    } catch {
      return false; // It ended meanwhile, or is no process.
    }
  }).length;
}

test('however many ask for keys of passphrases, two are made at a time', {
  skip: process.platform !== 'linux',
}, async () => {
  const kdf = { logN: 4, r: 8, p: 1 };
  const salt = randomBytes(16);
  let pending = ASKED;
  const keys = Array.from({ length: ASKED }, (_, index) =>
    deriveKeyOf({ passphrase: `phrase ${index}`, salt, kdf, length: 32 }).finally(() => (pending -= 1)),
  );
  let most = 0;
  for (; pending > 0; await sleep(1)) most = Math.max(most, processes());
  for (const [index, key] of (await Promise.all(keys)).entries()) {
    assert.deepEqual(Buffer.from(key), scryptSync(`phrase ${index}`, salt, 32, { N: 16, r: 8, p: 1 }));
  }
  assert.ok(most === 1 || most === 2, `${most} at once`);
});
