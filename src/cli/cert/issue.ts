import 'reflect-metadata'; // The library below resolves its parts through it, and must find it loaded.
import { createPrivateKey, randomBytes, webcrypto, type KeyObject, type X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import * as x509 from '@peculiar/x509';
import { InputError } from '../../base/index.ts';

const ORGANIZATION = 'Atoll';
const SERIAL_BYTES = 16;
const DAY_MS = 86_400_000;
/** Certificates are valid from a day ago: clocks of other machines may be behind ours. */
const BACKDATED_MS = DAY_MS;
const SIGNATURE_HASH = 'SHA-256';
const PUBLIC_EXPONENT = new Uint8Array([1, 0, 1]);
const CURVES: Readonly<Record<string, { readonly namedCurve: string; readonly hash: string }>> = {
  prime256v1: { namedCurve: 'P-256', hash: 'SHA-256' },
  secp384r1: { namedCurve: 'P-384', hash: 'SHA-384' },
  secp521r1: { namedCurve: 'P-521', hash: 'SHA-512' },
};

/** Common name of the certificates that nodes show. */
export const NODE_PRINCIPAL = 'node';

/** A certificate with its key. */
export interface Issued {
  readonly certificatePem: string;
  /** PKCS #8. */
  readonly key: KeyObject;
}

/** Who signs. */
export interface Authority {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
}

export interface Validity {
  /** Milliseconds since 1970. */
  readonly nowMs: number;
  readonly lifetimeMs: number;
}

/** Makes a certificate that signs itself and others, with a key of its own unless one is given. */
export async function issueAuthority(
  options: Validity & { readonly keyBits: number; readonly key?: KeyObject },
): Promise<Issued> {
  const keys = await keyPair(options.key ?? (await generateKey(options.keyBits)));
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...common(options),
    name: subject(`${ORGANIZATION} CA`),
    keys: keys.pair,
    signingAlgorithm: keys.algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 1, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.pair.publicKey),
    ],
  });
  return { certificatePem: pemOf(certificate), key: keys.key };
}

/** Makes a certificate by which a node shows itself under `hosts` to clients, and to other nodes as a client. */
export async function issueNode(
  options: Validity & {
    readonly keyBits: number;
    readonly authority: Authority;
    readonly hosts: readonly string[];
  },
): Promise<Issued> {
  const names = options.hosts.map((host) => ({
    type: isIP(host) === 0 ? ('dns' as const) : ('ip' as const),
    value: host,
  }));
  return await issue(NODE_PRINCIPAL, {
    ...options,
    usages: [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth],
    extensions: [new x509.SubjectAlternativeNameExtension(names)],
  });
}

/** Makes a certificate by which `user` logs in. */
export async function issueClient(
  options: Validity & { readonly keyBits: number; readonly authority: Authority; readonly user: string },
): Promise<Issued> {
  return await issue(options.user, {
    ...options,
    usages: [x509.ExtendedKeyUsage.clientAuth],
    extensions: [],
  });
}

async function issue(
  commonName: string,
  options: Validity & {
    readonly keyBits: number;
    readonly authority: Authority;
    readonly usages: x509.ExtendedKeyUsageType[];
    readonly extensions: readonly x509.Extension[];
  },
): Promise<Issued> {
  const { authority, usages, extensions } = options;
  requireLongerLife(authority.certificate, options);
  const key = await generateKey(options.keyBits);
  const keys = await keyPair(key);
  const signer = await keyPair(authority.key);
  const issuer = new x509.X509Certificate(authority.certificate.raw);
  const certificate = await x509.X509CertificateGenerator.create({
    ...common(options),
    subject: subject(commonName),
    issuer: issuer.subjectName,
    publicKey: keys.pair.publicKey,
    signingKey: signer.pair.privateKey,
    signingAlgorithm: signer.algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment,
        true,
      ),
      new x509.ExtendedKeyUsageExtension(usages),
      await x509.AuthorityKeyIdentifierExtension.create(signer.pair.publicKey),
      await x509.SubjectKeyIdentifierExtension.create(keys.pair.publicKey),
      ...extensions,
    ],
  });
  return { certificatePem: pemOf(certificate), key };
}

/** A certificate that outlives its signer is refused by clients from one day to the next. */
function requireLongerLife(authority: X509Certificate, { nowMs, lifetimeMs }: Validity): void {
  const endMs = Date.parse(authority.validTo);
  if (nowMs + lifetimeMs <= endMs) return;
  const hours = Math.max(0, Math.floor((endMs - nowMs) / 3_600_000));
  throw new InputError(
    'usage',
    `the certificate would live longer than the CA, which ends on ${authority.validTo}`,
    {
      hint: hours > 0 ? `use --lifetime=${hours}h or less` : 'make a new CA with atoll cert create-ca',
    },
  );
}

function common({ nowMs, lifetimeMs }: Validity) {
  return {
    // Positive, as the standard wants it.
    serialNumber: (BigInt(`0x${randomBytes(SERIAL_BYTES).toString('hex')}`) >> 1n)
      .toString(16)
      .padStart(2 * SERIAL_BYTES, '0'),
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(nowMs + lifetimeMs),
  };
}

function subject(commonName: string): x509.JsonName {
  return [{ O: [ORGANIZATION] }, { CN: [commonName] }];
}

function pemOf(certificate: x509.X509Certificate): string {
  return `${certificate.toString('pem')}\n`;
}

async function generateKey(bits: number): Promise<KeyObject> {
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: SIGNATURE_HASH,
    modulusLength: bits,
    publicExponent: PUBLIC_EXPONENT,
  };
  const pair = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', pair.privateKey));
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}

interface SigningKeys {
  readonly key: KeyObject;
  readonly pair: webcrypto.CryptoKeyPair;
  readonly algorithm: webcrypto.Algorithm & { readonly hash: string };
}

/** The key as the library takes it. @throws InputError `usage` for kinds of keys that are not used here */
async function keyPair(key: KeyObject): Promise<SigningKeys> {
  const { name, hash, namedCurve } = algorithmOf(key);
  const imported = namedCurve === undefined ? { name, hash } : { name, namedCurve };
  const der = key.export({ format: 'der', type: 'pkcs8' });
  const privateKey = await webcrypto.subtle.importKey('pkcs8', der, imported, true, ['sign']);
  const jwk = await webcrypto.subtle.exportKey('jwk', privateKey);
  const { kty, n, e, crv, x, y } = jwk;
  const shown = kty === 'RSA' ? { kty, n, e } : { kty, crv, x, y };
  const publicKey = await webcrypto.subtle.importKey('jwk', shown as webcrypto.JsonWebKey, imported, true, [
    'verify',
  ]);
  return { key, pair: { privateKey, publicKey }, algorithm: { name, hash } };
}

function algorithmOf(key: KeyObject): { name: string; hash: string; namedCurve?: string } {
  if (key.asymmetricKeyType === 'rsa') return { name: 'RSASSA-PKCS1-v1_5', hash: SIGNATURE_HASH };
  const curve = CURVES[key.asymmetricKeyDetails?.namedCurve ?? ''];
  if (key.asymmetricKeyType === 'ec' && curve !== undefined) return { name: 'ECDSA', ...curve };
  throw new InputError('usage', `the CA's key is of an unknown kind: ${key.asymmetricKeyType}`, {
    hint: 'use an RSA key or an elliptic one (P-256, P-384, P-521)',
  });
}
