/** Passphrase or KMS keys that a command opens encrypted backups with. What stands on the command line, everybody on the machine can read. */
import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { type Clock, errnoOf, InputError } from '../base/index.ts';
import { type BackupKeys, passphraseKeys } from '../control/index.ts';
import { openKmsKey, parseKmsUri } from '../kms/index.ts';

const SECRET_BYTES_MAX = 1024 * 1024;

/** @throws InputError `usage`, `parameter_invalid` */
export async function readEncryptionKeys(
  files: { readonly passphraseFile?: string | undefined; readonly kmsFile?: string | undefined },
  options: { readonly stdin: Readable; readonly clock: Clock; readonly isStdinTaken: boolean },
): Promise<BackupKeys> {
  const { passphraseFile, kmsFile } = files;
  if (passphraseFile !== undefined && kmsFile !== undefined) {
    throw new InputError('usage', '--encryption-passphrase-file and --kms-uri-file do not go together', {
      hint: 'backups are encrypted with a passphrase, or with KMS keys',
    });
  }
  const file = passphraseFile ?? kmsFile;
  if (file === undefined) return { kind: 'none' };
  if (file === '-' && options.isStdinTaken) {
    throw new InputError('usage', 'standard input holds the locations of the collection already', {
      hint: 'put the passphrase, or the URIs of KMS keys, into a file',
    });
  }
  const lines = (await readSecret(file, options.stdin)).split(/\r?\n/);
  if (passphraseFile !== undefined) return passphraseKeys(lines[0] ?? '');
  const uris = lines.map((line) => line.trim()).filter((line) => line !== '');
  const [first, ...others] = uris.map((uri) => openKmsKey(parseKmsUri(uri), options));
  if (first === undefined) throw new InputError('usage', 'the file of --kms-uri-file holds no URI');
  return { kind: 'kms', keys: [first, ...others] };
}

async function readSecret(file: string, stdin: Readable): Promise<string> {
  const bytes = file === '-' ? await readAll(stdin) : await readSmallFile(file);
  if (bytes.length > SECRET_BYTES_MAX)
    throw new InputError('usage', `${file} is too long for what it should hold`);
  return bytes.toString('utf8');
}

async function readAll(stdin: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stdin as AsyncIterable<Buffer | string>) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    chunks.push(bytes);
    length += bytes.length;
    if (length > SECRET_BYTES_MAX) break;
  }
  return Buffer.concat(chunks, length);
}

async function readSmallFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    throw new InputError('usage', `${path} cannot be read: ${errnoOf(error)}`);
  }
}
