import { type Branded, InputError } from '../base/index.ts';

/**
 * Name of an object inside a store: parts joined by `/`, relative, made so that it is the same name on every kind of
 * storage and can never leave the folder or bucket it belongs to.
 */
export type BlobKey = Branded<string, 'BlobKey'>;

/** Longest key, in UTF-8 bytes: the limit of S3 and GCS. */
export const BLOB_KEY_BYTES_MAX = 1024;
/** Longest part of a key, in UTF-8 bytes: the limit of common file systems. */
export const BLOB_KEY_PART_BYTES_MAX = 255;
/** Names that begin so belong to uploads under way and are no keys. */
export const UPLOAD_PREFIX = '.tmp-';

/** Reads a key. @throws InputError `name_invalid` */
export function parseBlobKey(text: string): BlobKey {
  const reason = keyProblem(text);
  if (reason !== null) {
    throw new InputError('name_invalid', `not an object name: ${JSON.stringify(text)}: ${reason}`);
  }
  return text as BlobKey;
}

/** The key of `name` inside `folder`, where an empty folder is the store's root. @throws InputError `name_invalid` */
export function keyInside(folder: BlobKey | '', name: string): BlobKey {
  return parseBlobKey(folder === '' ? name : `${folder}/${name}`);
}

/** Why `part` cannot stand between the slashes of a key, or null. */
export function keyPartProblem(part: string): string | null {
  if (part === '') return 'it has an empty part';
  if (part === '.' || part === '..') return 'it has a relative part';
  if (!part.isWellFormed()) return 'it is not well-formed Unicode';
  if (/[\p{Cc}\\/]/u.test(part)) return 'it has a control character, a slash or a backslash';
  if (part.startsWith(UPLOAD_PREFIX)) return `parts that begin with ${UPLOAD_PREFIX} are reserved`;
  if (Buffer.byteLength(part) > BLOB_KEY_PART_BYTES_MAX) {
    return `a part is longer than ${BLOB_KEY_PART_BYTES_MAX} bytes`;
  }
  return null;
}

function keyProblem(text: string): string | null {
  if (Buffer.byteLength(text) > BLOB_KEY_BYTES_MAX) return `it is longer than ${BLOB_KEY_BYTES_MAX} bytes`;
  for (const part of text.split('/')) {
    const reason = keyPartProblem(part);
    if (reason !== null) return reason;
  }
  return null;
}
