import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { AppError, errnoOf, InputError, toError } from '../../base/index.ts';
import type { Authority } from './issue.ts';

const CERTIFICATE_MODE = 0o644;
const KEY_MODE = 0o600;

/** One file that a command makes. */
export interface NewFile {
  readonly path: string;
  readonly content: string | Uint8Array;
  /** Only its owner may read a secret. */
  readonly isSecret: boolean;
}

/**
 * Writes all of the files, or none if one of them is there and may not be replaced. The last is the certificate that makes the others
 * useful. @throws InputError `usage`, AppError `io`
 */
export function writeFiles(files: readonly NewFile[], options: WriteOptions): void {
  const taken = files.find(({ path }) => existsSync(path));
  if (taken !== undefined && !options.mayReplace) throw exists(taken.path, options);
  for (const file of files) writeOne(file, options);
}

interface WriteOptions {
  readonly mayReplace: boolean;
  /** What the user can do about a file that is there, where the command has no --overwrite. */
  readonly takenHint?: string;
}

function writeOne({ path, content, isSecret }: NewFile, options: WriteOptions): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const fd = openSync(temporary, 'wx', isSecret ? KEY_MODE : CERTIFICATE_MODE);
    try {
      const bytes = Buffer.from(content as Uint8Array);
      for (let at = 0; at < bytes.length; at += writeSync(fd, bytes, at));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (options.mayReplace) renameSync(temporary, path);
    else linkSync(temporary, path); // Fails where a rename would silently replace.
  } catch (error) {
    const code = errnoOf(error);
    if (code === undefined) throw error;
    if (code === 'EEXIST') throw exists(path, options);
    throw new AppError('io', `cannot write ${path}: ${toError(error).message}`, { cause: error });
  } finally {
    rmSync(temporary, { force: true });
  }
}

function exists(
  path: string,
  { takenHint = 'add --overwrite to replace it, or name another folder' }: WriteOptions,
): InputError {
  return new InputError('usage', `${path} exists`, { hint: takenHint });
}

/** The newest certificate of `ca.crt`, which stands first, with its key. @throws InputError `usage` */
export function readAuthority(options: { certificatePath: string; keyPath: string }): Authority {
  const key = readKey(options.keyPath);
  const text = readText(options.certificatePath, 'make a CA with atoll cert create-ca');
  const certificate = new X509Certificate(text);
  if (!certificate.checkPrivateKey(key)) {
    throw new InputError('usage', `${options.keyPath} is not the key of ${options.certificatePath}`, {
      hint: 'name the key that was made with it by --ca-key',
    });
  }
  return { certificate, key };
}

/** @throws InputError `usage` */
export function readKey(path: string): KeyObject {
  const text = readText(path, 'name the key of the CA by --ca-key');
  try {
    return createPrivateKey(text);
  } catch (cause) {
    throw new InputError('usage', `${path} holds no private key, or one with a passphrase`, { cause });
  }
}

function readText(path: string, hint: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const what = errnoOf(cause) === 'ENOENT' ? `${path} does not exist` : `cannot read ${path}`;
    throw new InputError('usage', what, { cause, hint });
  }
}
