/** What pg_authid keeps of a password (RFC 5803), and what it is worth to somebody who shows the password itself. */
import { createHash, createHmac, pbkdf2, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

export interface ScramVerifier {
  readonly iterations: number;
  readonly salt: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

export const SCRAM_KEY_BYTES = 32;
/** Whoever sets a password may hand Postgres a verifier of a billion iterations, each of which would be ours to do. */
export const SCRAM_ITERATIONS_MAX = 100_000;

/** Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; undefined when it is something else. */
export function parseVerifier(text: string): ScramVerifier | undefined {
  const match = /^SCRAM-SHA-256\$(\d{1,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/.exec(
    text,
  );
  if (match === null) return undefined;
  const [salt, storedKey, serverKey] = match.slice(2).map((part) => Buffer.from(part, 'base64'));
  const iterations = Number(match[1]);
  if (salt === undefined || storedKey?.length !== SCRAM_KEY_BYTES || serverKey?.length !== SCRAM_KEY_BYTES)
    return undefined;
  return iterations > 0 ? { iterations, salt, storedKey, serverKey } : undefined;
}

/** Whether the verifier was made of this password. False, too, when finding out would take more than `SCRAM_ITERATIONS_MAX`. */
export async function isPasswordOf(verifier: ScramVerifier, password: string): Promise<boolean> {
  if (verifier.iterations > SCRAM_ITERATIONS_MAX) return false;
  // Postgres prepares what is valid and takes everything else as it stands.
  for (const candidate of new Set([prepared(password), password])) {
    const salted = await hash(candidate, verifier);
    const clientKey = createHmac('sha256', salted).update('Client Key').digest();
    const storedKey = createHash('sha256').update(clientKey).digest();
    if (timingSafeEqual(storedKey, verifier.storedKey)) return true;
  }
  return false;
}

function hash(password: string, { salt, iterations }: ScramVerifier): Promise<Buffer> {
  return promisify(pbkdf2)(password, salt, iterations, SCRAM_KEY_BYTES, 'sha256');
}

/** What RFC 3454 maps to a space (C.1.2), and to nothing (B.1). */
const SPACES = /\p{Zs}|\u200b/gu;
const NOTHING =
  /\u00ad|\u034f|\u1806|\u180b|\u180c|\u180d|\u200c|\u200d|\u2060|\ufeff|\p{Variation_Selector}/gu;

/** SASLprep (RFC 4013) without its prohibitions. */
function prepared(password: string): string {
  return password.replace(SPACES, ' ').replace(NOTHING, '').normalize('NFKC');
}
