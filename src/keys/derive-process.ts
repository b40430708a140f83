/** Entry of the process that makes a passphrase a key. It serves one request, and ends. */
import { scryptSync } from 'node:crypto';
import type { DeriveRequest } from './derive.ts';

/** What scrypt takes beside its table. */
const MEMORY_SPARE_BYTES = 1024 * 1024;

process.once('disconnect', () => process.exit(1));
process.once('message', ({ passphrase, salt, kdf, length }: DeriveRequest) => {
  const N = 2 ** kdf.logN;
  const maxmem = 128 * kdf.r * (N + kdf.p + 2) + MEMORY_SPARE_BYTES;
  const key = scryptSync(passphrase, salt, length, { N, r: kdf.r, p: kdf.p, maxmem });
  process.send?.(new Uint8Array(key), () => process.exit(0));
});
