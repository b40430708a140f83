import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import { type AppError, errnoOf, InputError, lazySchema, toError } from '../base/index.ts';

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

/** The names of all files that a node may read. */
export const CERTIFICATE_FILES = [
  'ca.crt',
  'node.crt',
  'node.key',
  'ca-client.crt',
  'ui.crt',
  'ui.key',
] as const;

/** What lies in the folder of certificates under a name, as who may read it has found it. */
export const certificateFilesSchema = lazySchema((z) =>
  z.record(
    z.string(),
    z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('file'), text: z.string(), mode: z.int(), uid: z.int() }),
      z.strictObject({ kind: z.literal('unreadable'), code: z.string() }),
    ]),
  ),
);
export type CertificateFiles = z.infer<ReturnType<typeof certificateFilesSchema>>;
export type CertificateFile = CertificateFiles[string];

interface CertificateFolder {
  readonly directory: string;
  file(name: string): CertificateFile;
}

/** @throws with errno */
export function readCertificateFile(path: string): CertificateFile {
  const { mode, uid } = statSync(path);
  return { kind: 'file', text: readFileSync(path, 'utf8'), mode, uid };
}

function fileAt(path: string): CertificateFile {
  try {
    return readCertificateFile(path);
  } catch (error) {
    const code = errnoOf(error);
    if (code === undefined) throw error;
    return { kind: 'unreadable', code };
  }
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
 * Reads `ca.crt`, `node.crt`, `node.key` and, where they are, `ca-client.crt`, `ui.crt`, `ui.key`, as `atoll cert` writes them; what is in
 * `files` was read before by somebody with more rights.
 * @throws InputError `usage` when something is missing, unreadable, unsafe or does not fit together
 */
export function readNodeCertificates(
  directory: string,
  { nowMs, files }: { readonly nowMs: number; readonly files?: CertificateFiles },
): NodeCertificates {
  const folder: CertificateFolder = {
    directory,
    file: (name) => files?.[name] ?? fileAt(join(directory, name)),
  };
  const ca = readAuthorities(folder, 'ca.crt');
  const node = readPair(folder, 'node');
  const clientCa = readOptional(folder, 'ca-client.crt') === undefined ? undefined : 'ca-client.crt';
  const console = readOptional(folder, 'ui.crt') === undefined ? undefined : readPair(folder, 'ui');
  const authorities = clientCa === undefined ? ca : readAuthorities(folder, clientCa);
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

function readAuthorities(folder: CertificateFolder, name: string): string {
  const pem = readRequired(folder, name);
  requireCertificate(folder.directory, { name, pem });
  return pem;
}

function readPair(folder: CertificateFolder, base: string): CertificateWithKey {
  const { directory } = folder;
  const name = `${base}.crt`;
  const certificate = readRequired(folder, name);
  const first = requireCertificate(directory, { name, pem: certificate });
  const keyName = `${base}.key`;
  requirePrivate(folder, keyName);
  const key = readRequired(folder, keyName);
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
function requirePrivate(folder: CertificateFolder, name: string): void {
  const path = join(folder.directory, name);
  const file = folder.file(name);
  if (file.kind === 'unreadable') throw unreadable(path, file.code);
  const forbidden = file.uid === 0 ? KEY_MODE_FORBIDDEN : KEY_MODE_FORBIDDEN_TO_OTHERS;
  if ((file.mode & forbidden) === 0) return;
  const mode = (file.mode & 0o777).toString(8).padStart(4, '0');
  throw new InputError('usage', `others may read the key ${path} (its mode is ${mode})`, {
    hint: `chmod 0600 ${path}`,
  });
}

function readRequired(folder: CertificateFolder, name: string): string {
  const file = folder.file(name);
  if (file.kind === 'unreadable') throw unreadable(join(folder.directory, name), file.code);
  return file.text;
}

function readOptional(folder: CertificateFolder, name: string): string | undefined {
  const file = folder.file(name);
  return file.kind === 'unreadable' && file.code === 'ENOENT' ? undefined : readRequired(folder, name);
}

function unreadable(path: string, code: string): AppError {
  if (code !== 'ENOENT') return new InputError('usage', `cannot read ${path}: ${code}`);
  return new InputError('usage', `there is no ${path}`, {
    hint: 'make certificates with atoll cert create-ca and atoll cert create-node HOST..., or name their folder by --certs-dir',
  });
}
