import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';

/** As many as Postgres uses. */
const ITERATIONS = 4096;
const SALT_BYTES = 16;

/**
 * What Postgres stores instead of a password (RFC 5802): made here, so that a new password never travels, nor shows in a log
 * of statements.
 */
export function scramVerifier(password: string, salt: Uint8Array = randomBytes(SALT_BYTES)): string {
  const normal = password.normalize('NFKC');
  const salted = pbkdf2Sync(normal, salt, ITERATIONS, 32, 'sha256');
  const keyOf = (text: string) => createHmac('sha256', salted).update(text).digest();
  const stored = createHash('sha256').update(keyOf('Client Key')).digest('base64');
  const server = keyOf('Server Key').toString('base64');
  return `SCRAM-SHA-256$${ITERATIONS}:${Buffer.from(salt).toString('base64')}$${stored}:${server}`;
}
