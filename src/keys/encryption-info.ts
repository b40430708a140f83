/** The object that tells how the data key of a chain of backups is got at. Byte by byte in docs/formats/encryption.md. */
import { crc32 } from 'node:zlib';
import type { z } from 'zod';
import { AppError, CorruptError, type IncarnationId, lazySchema, parseIncarnationId } from '../base/index.ts';
import { beginMac, type ClusterKey, macsEqual } from './cluster-key.ts';
import { KDF_LIMITS, KDF_SALT_BYTES, type PassphraseLock } from './passphrase.ts';

/** The data key as one key of a service for keys has wrapped it. */
export interface KmsLock {
  /** Which key that is, without telling its name: see `KmsKey.id`. */
  readonly keyId: string;
  readonly wrapped: Uint8Array;
}

/** Each of them alone opens the backup. */
export type EncryptionLocks =
  | { readonly kind: 'passphrase'; readonly lock: PassphraseLock }
  | { readonly kind: 'kms'; readonly locks: readonly [KmsLock, ...KmsLock[]] };

export interface EncryptionInfo {
  /** The folder of the full backup that the chain begins with. */
  readonly folder: string;
  /** The life of the data that began the chain, as its manifest says too: who descends from it may go on in the collection. */
  readonly incarnation: IncarnationId;
  readonly dataKeyId: string;
  readonly locks: EncryptionLocks;
}

const BEGIN = 'atoll-encryption-info';
const VERSION = '1';

const infoSchema = lazySchema((z) => {
  const base64 = z
    .string()
    .regex(/^[A-Za-z0-9+/]+={0,2}$/)
    .max(16_384)
    .transform((text): Uint8Array => Buffer.from(text, 'base64'));
  const within = ({ min, max }: { readonly min: number; readonly max: number }) => z.int().min(min).max(max);

  const passphraseSchema = z.strictObject({
    kind: z.literal('passphrase'),
    lock: z.strictObject({
      kdf: z.strictObject({
        logN: within(KDF_LIMITS.logN),
        r: within(KDF_LIMITS.r),
        p: within(KDF_LIMITS.p),
      }),
      salt: base64.refine((bytes) => bytes.length === KDF_SALT_BYTES),
      wrapped: base64,
    }),
  });
  const kmsLockSchema = z.strictObject({ keyId: z.string().regex(/^[0-9a-f]{64}$/), wrapped: base64 });
  return z.strictObject({
    folder: z.string(),
    incarnation: z.string().transform((text): IncarnationId => parseIncarnationId(text)),
    clusterKeyId: z.string(),
    dataKeyId: z.string().regex(/^[0-9a-f]{32}$/),
    locks: z.discriminatedUnion('kind', [
      passphraseSchema,
      z.strictObject({ kind: z.literal('kms'), locks: z.tuple([kmsLockSchema], kmsLockSchema) }),
    ]),
  });
});

/** The record as bytes, signed with the cluster's key: nobody else puts a data key of his own in its place. */
export function encodeEncryptionInfo(
  info: EncryptionInfo,
  { key }: { readonly key: ClusterKey },
): Uint8Array {
  const json = JSON.stringify({ ...info, clusterKeyId: key.id, locks: plainLocks(info.locks) });
  const line = `${BEGIN} ${VERSION} ${json}\n`;
  const signed = `${line}${signatureOf(line, key)}\n`;
  return Buffer.from(`${signed}${checksumOf(signed)}\n`);
}

/**
 * Reads the record of the chain that begins in `folder`.
 * @throws CorruptError; AppError `format_unsupported`, `backup_untrusted` when it was signed by another cluster, changed, or is of another
 * backup
 */
export function decodeEncryptionInfo(
  bytes: Uint8Array,
  { key, folder, name }: { readonly key: ClusterKey; readonly folder: string; readonly name: string },
): EncryptionInfo {
  const match = /^((atoll-encryption-info (\d+) (.*)\n)([0-9a-f]{64})\n)([0-9a-f]{8})\n$/.exec(
    Buffer.from(bytes).toString('utf8'),
  );
  const [, signed = '', line = '', version, json = '', signature = '', checksum] = match ?? [];
  if (checksum === undefined || checksumOf(signed) !== checksum) throw new CorruptError(`${name} is damaged`);
  if (version !== VERSION) {
    throw new AppError(
      'format_unsupported',
      `${name} is of format version ${version}, supported is ${VERSION}`,
      {
        hint: 'use the release that wrote it, or a newer one',
      },
    );
  }
  const { clusterKeyId, ...info } = parsed(json, name);
  const isOurs = macsEqual(Buffer.from(signature, 'hex'), Buffer.from(signatureOf(line, key), 'hex'));
  if (isOurs && info.folder === folder) return info;
  const ofKey =
    clusterKeyId === key.id ? 'its signature is wrong' : `it was signed with the key ${clusterKeyId}`;
  const reason = isOurs ? `it is of backup ${info.folder}` : ofKey;
  throw new AppError(
    'backup_untrusted',
    `${name} was not written by this cluster for this backup: ${reason}`,
    {
      hint: 'restoring runs what it restores, so only backups made by this physical cluster are accepted',
    },
  );
}

/** Believed only when the signature is right. */
function parsed(json: string, name: string): z.output<ReturnType<typeof infoSchema>> {
  try {
    return infoSchema().parse(JSON.parse(json));
  } catch (error) {
    throw new CorruptError(`${name} is damaged`, { cause: error });
  }
}

function plainLocks(locks: EncryptionLocks) {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
  if (locks.kind === 'kms') {
    return { ...locks, locks: locks.locks.map(({ keyId, wrapped }) => ({ keyId, wrapped: text(wrapped) })) };
  }
  const { kdf, salt, wrapped } = locks.lock;
  return { ...locks, lock: { kdf, salt: text(salt), wrapped: text(wrapped) } };
}

function signatureOf(line: string, key: ClusterKey): string {
  return beginMac({ key, purpose: 'encryption info mac' }).update(line).digest('hex');
}

function checksumOf(text: string): string {
  return crc32(text).toString(16).padStart(8, '0');
}
