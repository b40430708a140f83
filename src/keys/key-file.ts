/** The key of a physical cluster as a file that people keep and carry: a line of text that shows damage. */
import { crc32 } from 'node:zlib';
import { AppError, InputError } from '../base/index.ts';
import { type ClusterKey, clusterKeyOf } from './cluster-key.ts';

const KEY_BYTES = 32;
export const KEY_FILE_BYTES_MAX = 4096;

/** `atoll-cluster-key 1 <id> <secret in base64url> <CRC-32 of what is before, in hexadecimal>`, and a line feed. */
export function formatKeyFile({ id, secret }: ClusterKey): string {
  const line = `atoll-cluster-key 1 ${id} ${Buffer.from(secret).toString('base64url')}`;
  return `${line} ${checksumOf(line)}\n`;
}

/**
 * Reads such a line, or the 32 bytes of the file `cluster-key` of a store. No message repeats any of it.
 * @param name of the file, for messages
 * @throws InputError `parameter_invalid`; AppError `format_unsupported`
 */
export function parseKeyFile(bytes: Uint8Array, name: string): ClusterKey {
  if (bytes.length === KEY_BYTES) return clusterKeyOf(bytes);
  const text = Buffer.from(bytes.subarray(0, KEY_FILE_BYTES_MAX)).toString('latin1').trim();
  const match = /^(atoll-cluster-key (\d{1,9}) (.*)) ([0-9a-f]{8})$/.exec(text);
  const [, line = '', version, rest = '', checksum] = match ?? [];
  if (match === null || checksumOf(line) !== checksum) {
    throw new InputError('parameter_invalid', `${name} is not the key of a cluster, or is damaged`, {
      hint: 'give what "atoll cluster-key export" wrote, or the file "cluster-key" of a store',
    });
  }
  if (version !== '1') {
    throw new AppError('format_unsupported', `${name} is of version ${version}, supported is 1`);
  }
  const key = clusterKeyOf(Buffer.from(rest.split(' ')[1] ?? '', 'base64url'));
  if (key.secret.length === KEY_BYTES && rest.split(' ')[0] === key.id) return key;
  throw new InputError('parameter_invalid', `${name} is not the key of a cluster`);
}

function checksumOf(line: string): string {
  return crc32(line).toString(16).padStart(8, '0');
}
