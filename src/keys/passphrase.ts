/** Data keys wrapped with a passphrase. */
import { DATA_KEY_BYTES, openSeal, seal, SEAL_NONCE_BYTES } from './data-key.ts';
import { deriveKeyOf, type DeriveRequest, type KdfParameters } from './derive.ts';

export type { KdfParameters } from './derive.ts';

/** 64 MiB and some hundred milliseconds for each guess. */
export const KDF_PARAMETERS: KdfParameters = { logN: 16, r: 8, p: 2 };
/** What a record may ask of its reader. */
export const KDF_LIMITS = {
  logN: { min: 14, max: 18 },
  r: { min: 8, max: 8 },
  p: { min: 1, max: 16 },
} as const;
export const KDF_SALT_BYTES = 32;

export interface PassphraseLock {
  readonly kdf: KdfParameters;
  readonly salt: Uint8Array;
  readonly wrapped: Uint8Array;
}

const CONTEXT = 'atoll 1 passphrase';

/** Wraps a secret: only who knows the passphrase gets at it. */
export async function lockWithPassphrase(
  secret: Uint8Array,
  options: {
    readonly passphrase: string;
    readonly randomBytes: (count: number) => Uint8Array;
    readonly kdf?: KdfParameters;
  },
): Promise<PassphraseLock> {
  const { passphrase, randomBytes, kdf = KDF_PARAMETERS } = options;
  const salt = randomBytes(KDF_SALT_BYTES);
  const key = await derive({ passphrase, salt, kdf });
  return {
    kdf,
    salt,
    wrapped: seal(secret, { key, context: CONTEXT, nonce: randomBytes(SEAL_NONCE_BYTES) }),
  };
}

/** What was wrapped, or null for another passphrase. */
export async function unlockWithPassphrase(
  { kdf, salt, wrapped }: PassphraseLock,
  { passphrase }: { readonly passphrase: string },
): Promise<Uint8Array | null> {
  return openSeal(wrapped, { key: await derive({ passphrase, salt, kdf }), context: CONTEXT });
}

function derive(options: Pick<DeriveRequest, 'passphrase' | 'salt' | 'kdf'>): Promise<Uint8Array> {
  return deriveKeyOf({ ...options, length: DATA_KEY_BYTES });
}
