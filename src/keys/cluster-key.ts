import { createHmac, type Hmac, hkdfSync, timingSafeEqual } from 'node:crypto';

/** Bytes of a MAC. */
export const MAC_BYTES = 32;

/**
 * Key of a physical cluster. What we write to storage that others can reach is signed with it, because restoring runs
 * what is restored. It never leaves the node in the clear, and travels to workers over their private channel.
 */
export interface ClusterKey {
  /** Public name of the key, derived from it: tells which key signed something. */
  readonly id: string;
  readonly secret: Uint8Array;
}

/** What a derived key is for. Keys of different purposes tell nothing about each other. */
export type KeyPurpose =
  | 'key id'
  | 'manifest mac'
  | 'pack tag'
  | 'checkpoint mac'
  | 'encryption info mac'
  | 'job secret'
  | 'log piece mac';

/** The key with this secret. */
export function clusterKeyOf(secret: Uint8Array): ClusterKey {
  const id = Buffer.from(derive({ secret, purpose: 'key id', salt: new Uint8Array(0), length: 8 }));
  return { id: id.toString('hex'), secret: new Uint8Array(secret) };
}

/** A key of `length` bytes for one purpose, and for one thing when `salt` names it. */
export function deriveKey(options: {
  readonly key: ClusterKey;
  readonly purpose: KeyPurpose;
  readonly salt: Uint8Array;
  readonly length: number;
}): Uint8Array {
  const { key, purpose, salt, length } = options;
  return derive({ secret: key.secret, purpose, salt, length });
}

/** A running MAC (HMAC-SHA-256) for one purpose: feed it with `update`, end it with `digest`. */
export function beginMac(options: { readonly key: ClusterKey; readonly purpose: KeyPurpose }): Hmac {
  const { key, purpose } = options;
  return createHmac('sha256', derive({ secret: key.secret, purpose, salt: new Uint8Array(0), length: 32 }));
}

/** Compares without telling by its duration where they differ. */
export function macsEqual(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && timingSafeEqual(left, right);
}

function derive(options: {
  secret: Uint8Array;
  purpose: KeyPurpose;
  salt: Uint8Array;
  length: number;
}): Uint8Array {
  const { secret, purpose, salt, length } = options;
  return new Uint8Array(hkdfSync('sha256', secret, salt, `atoll 1 ${purpose}`, length));
}
