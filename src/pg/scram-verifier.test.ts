import assert from 'node:assert/strict';
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { test } from 'node:test';
import { isPasswordOf, parseVerifier, SCRAM_ITERATIONS_MAX } from './scram-verifier.ts';

/** As Postgres writes it. */
function verifierOf(password: string, iterations = 4096): string {
  const salt = Buffer.from('0123456789abcdef');
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256');
  const key = (name: string) => createHmac('sha256', salted).update(name).digest();
  const storedKey = createHash('sha256').update(key('Client Key')).digest('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${key('Server Key').toString('base64')}`;
}

async function fits(verifier: string, password: string): Promise<boolean> {
  const parsed = parseVerifier(verifier);
  assert.ok(parsed !== undefined);
  return isPasswordOf(parsed, password);
}

test('a password fits the verifier that was made of it, and no other', async () => {
  const pencil = verifierOf('pencil');
  assert.equal(await fits(pencil, 'pencil'), true);
  for (const wrong of ['', 'Pencil', 'pencil ', pencil])
    assert.equal(await fits(pencil, wrong), false, wrong);
});

test('a password is prepared as Postgres prepares it, or taken as it stands', async () => {
  assert.equal(await fits(verifierOf('IX a'), 'I\u00adX\u00a0a'), true);
  assert.equal(await fits(verifierOf('ﬁ'), 'ﬁ'), true, 'a verifier of what was not prepared');
  assert.equal(await fits(verifierOf('fi'), 'ﬁ'), true);
});

test('a verifier that would be much work fits nothing', async () => {
  const verifier = verifierOf('pencil').replace('$4096:', `$${SCRAM_ITERATIONS_MAX + 1}:`);
  assert.equal(await fits(verifier, 'pencil'), false);
  assert.equal(parseVerifier(verifier.replace(/\$\d+:/, '$9999999999:')), undefined);
});
