import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type AppError, errnoOf, InputError, isAppError, toError } from '../base/index.ts';

/** Texts (PEM) by which one side of a TLS connection shows itself. */
export interface CertificateWithKey {
  /** The certificate, and behind it those between it and the CA, if any. */
  readonly certificate: string;
  readonly key: string;
}

/** What a node takes from its folder of certificates. */
export interface NodeCertificates {
  readonly node: CertificateWithKey;
  /** For browsers; the node's own unless there is another. */
  readonly console: CertificateWithKey;
  /** Who vouches for clients: `ca-client.crt`, else `ca.crt`. PEM. */
  readonly clientAuthorities: string;
  /** What is not wrong enough to be refused, e.g. that a certificate has expired. */
  readonly warnings: readonly string[];
}

/** Nobody but the owner, and root's group, may read a key. */
const KEY_MODE_FORBIDDEN = 0o137;
const KEY_MODE_FORBIDDEN_TO_OTHERS = 0o177;

/** All certificates of a PEM text, in order. @throws Error when one of them is malformed */
export function certificatesOf(pem: string): X509Certificate[] {
  const parts = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  return parts.map((part) => new X509Certificate(part));
}

/**
 * Reads `ca.crt`, `node.crt`, `node.key` and, where they are, `ca-client.crt`, `ui.crt`, `ui.key`, as `atoll cert` writes them.
 * @throws InputError `usage` when something is missing, unreadable, unsafe or does not fit together
 */
export function readNodeCertificates(directory: string, { nowMs }: { nowMs: number }): NodeCertificates {
  const ca = readAuthorities(directory, 'ca.crt');
  const node = readPair(directory, 'node');
  const clientCa = readOptional(directory, 'ca-client.crt') === undefined ? undefined : 'ca-client.crt';
  const console = readOptional(directory, 'ui.crt') === undefined ? undefined : readPair(directory, 'ui');
  const authorities = clientCa === undefined ? ca : readAuthorities(directory, clientCa);
  return {
    node,
    console: console ?? node,
    clientAuthorities: authorities,
    warnings: [
      ...warningsOf('ca.crt', ca, nowMs),
      ...warningsOf('node.crt', node.certificate, nowMs),
      ...(clientCa === undefined ? [] : warningsOf(clientCa, authorities, nowMs)),
      ...(console === undefined ? [] : warningsOf('ui.crt', console.certificate, nowMs)),
    ],
  };
}

function warningsOf(name: string, pem: string, nowMs: number): string[] {
  const [first] = certificatesOf(pem);
  if (first === undefined) return [];
  if (Date.parse(first.validTo) <= nowMs) return [`${name} has expired on ${first.validTo}`];
  return Date.parse(first.validFrom) > nowMs ? [`${name} is not valid before ${first.validFrom}`] : [];
}

function readAuthorities(directory: string, name: string): string {
  const pem = readRequired(directory, name);
  requireCertificate(directory, { name, pem });
  return pem;
}

function readPair(directory: string, base: string): CertificateWithKey {
  const name = `${base}.crt`;
  const certificate = readRequired(directory, name);
  const first = requireCertificate(directory, { name, pem: certificate });
  const keyName = `${base}.key`;
  requirePrivate(join(directory, keyName));
  const key = readRequired(directory, keyName);
  let isPair: boolean;
  try {
    isPair = first.checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw new InputError(
      'usage',
      `${join(directory, keyName)} holds no private key, or one with a passphrase`,
      {
        cause,
      },
    );
  }
  if (isPair) return { certificate, key };
  throw new InputError('usage', `${join(directory, keyName)} is not the key of ${name}`, {
    hint: 'a certificate and its key are made together; make both anew with atoll cert create-node --overwrite',
  });
}

function requireCertificate(
  directory: string,
  { name, pem }: { name: string; pem: string },
): X509Certificate {
  try {
    const [first] = certificatesOf(pem);
    if (first !== undefined) return first;
  } catch (cause) {
    throw new InputError('usage', `${join(directory, name)} is malformed: ${toError(cause).message}`, {
      cause,
    });
  }
  throw new InputError('usage', `${join(directory, name)} holds no certificate`);
}

/** @throws InputError `usage` when others could read the key */
function requirePrivate(path: string): void {
  let stat: { mode: number; uid: number };
  try {
    stat = statSync(path);
  } catch (cause) {
    throw unreadable(path, cause);
  }
  const forbidden = stat.uid === 0 ? KEY_MODE_FORBIDDEN : KEY_MODE_FORBIDDEN_TO_OTHERS;
  if ((stat.mode & forbidden) === 0) return;
  const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
  throw new InputError('usage', `others may read the key ${path} (its mode is ${mode})`, {
    hint: `chmod 0600 ${path}`,
  });
}

function readRequired(directory: string, name: string): string {
  const path = join(directory, name);
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

function readOptional(directory: string, name: string): string | undefined {
  try {
    return readRequired(directory, name);
  } catch (error) {
    if (isAppError(error) && errnoOf(error.cause) === 'ENOENT') return undefined;
    throw error;
  }
}

function unreadable(path: string, cause: unknown): AppError {
  if (errnoOf(cause) !== 'ENOENT') {
    return new InputError('usage', `cannot read ${path}: ${toError(cause).message}`, { cause });
  }
  return new InputError('usage', `there is no ${path}`, {
    cause,
    hint: 'make certificates with atoll cert create-ca and atoll cert create-node HOST..., or name their folder by --certs-dir',
  });
}
