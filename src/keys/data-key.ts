/** The key that a chain of backups is encrypted with. Byte by byte in docs/formats/encryption.md. */
import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';
import { assert } from '../base/index.ts';

export const DATA_KEY_BYTES = 32;
export const SEAL_NONCE_BYTES = 12;
export const SEAL_TAG_BYTES = 16;
const ID_BYTES = 16;
const CIPHER = 'aes-256-gcm';

/** A key that was made at random for one chain of backups. It is stored nowhere but wrapped. */
export interface DataKey {
  /** Public name of the key, derived from it, in hexadecimal: tells which key something was encrypted with. */
  readonly id: string;
  readonly secret: Uint8Array;
}

/** The key with this secret of `DATA_KEY_BYTES` bytes. */
export function dataKeyOf(secret: Uint8Array): DataKey {
  assert(secret.length === DATA_KEY_BYTES, 'a data key has 32 bytes');
  const id = hkdfSync('sha256', secret, new Uint8Array(0), 'atoll 1 data key id', ID_BYTES);
  return { id: Buffer.from(id).toString('hex'), secret: new Uint8Array(secret) };
}

/**
 * The key of one object: of this header, which holds a salt that no other attempt at writing it has, under this path in its collection. Where
 * either differs, nothing opens.
 */
export function objectKey(options: {
  readonly dataKey: DataKey;
  readonly salt: Uint8Array;
  readonly header: Uint8Array;
  readonly path: string;
}): KeyObject {
  const { dataKey, salt, header, path } = options;
  const info = Buffer.concat([Buffer.from('atoll 1 sealed object\0'), header, Buffer.from(path)]);
  return createSecretKey(Buffer.from(hkdfSync('sha256', dataKey.secret, salt, info, DATA_KEY_BYTES)));
}

/** Encrypts a short secret; `nonce` is random. The context must be given again to open it. */
export function seal(
  plain: Uint8Array,
  options: { readonly key: Uint8Array; readonly context: string; readonly nonce: Uint8Array },
): Uint8Array {
  const { key, context, nonce } = options;
  assert(nonce.length === SEAL_NONCE_BYTES, 'a nonce has 12 bytes');
  const cipher = createCipheriv(CIPHER, key, nonce).setAAD(Buffer.from(context));
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** What `seal` was given; null when key or context is another, or the bytes were changed. */
export function openSeal(
  sealed: Uint8Array,
  { key, context }: { readonly key: Uint8Array; readonly context: string },
): Uint8Array | null {
  if (sealed.length < SEAL_NONCE_BYTES + SEAL_TAG_BYTES) return null;
  const end = sealed.length - SEAL_TAG_BYTES;
  const decipher = createDecipheriv(CIPHER, key, sealed.subarray(0, SEAL_NONCE_BYTES));
  decipher.setAAD(Buffer.from(context)).setAuthTag(sealed.subarray(end));
  const plain = decipher.update(sealed.subarray(SEAL_NONCE_BYTES, end));
  try {
    decipher.final();
    return plain;
  } catch {
    return null;
  }
}
