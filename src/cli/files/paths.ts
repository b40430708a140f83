/** Names of remote files: what is written on the command line, and the URIs they become. */
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { InputError } from '../../base/index.ts';
import { parseBlobKey } from '../../blob/index.ts';

const OWN_ROOT = 'userfile:///';
const URI = /^[a-z][a-z0-9+.-]*:\/\//i;
/** One command sends or fetches so many. */
const FILES_MAX = 100_000;

/**
 * The URI of a destination: a URI as it is, anything else a path below `root`. A path must be in its normal form: `a/../b` is refused, not
 * taken for `b`.
 * @throws InputError `usage`
 */
export function remoteUri(written: string, root: string): string {
  if (URI.test(written)) return written;
  return root + encodePath(written.replace(/^\//, ''));
}

/** A path below a URI. @throws InputError `usage` */
export function below(uri: string, path: string): string {
  return `${uri.replace(/\/+$/, '')}/${encodePath(path)}`;
}

function encodePath(path: string): string {
  try {
    parseBlobKey(path);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError('usage', error.message, {
      cause: error,
      hint: 'a path goes down from the root, and has no empty parts, no "." and no ".."',
    });
  }
  return path.split('/').map(encodeURIComponent).join('/');
}

/** Where to list for a pattern, and which of what is listed it means. */
export interface FilePattern {
  /** Of all files that may match; ends in a slash. */
  readonly root: string;
  matches(uri: string): boolean;
}

/** `*` stands for any characters, slashes too; without a pattern all files match. @throws InputError `usage` */
export function parsePattern(written: string | undefined): FilePattern {
  const text = written ?? '*';
  const match = /^(userfile:\/\/[^/]*\/)(.*)$/is.exec(text);
  if (match === null && URI.test(text)) {
    throw new InputError('usage', 'not a pattern of userfile storage', {
      hint: 'write a path with * for any characters, or userfile://defaultdb.public.userfiles_NAME/path',
    });
  }
  const [, root = OWN_ROOT, rest = text.replace(/^\//, '')] = match ?? [];
  const pieces = (match === null ? rest : decode(rest)).split('*');
  return { root, matches: (uri) => isMatched(pathOf(uri), pieces) };
}

/** Whether the pieces follow one another, the first at the beginning and the last at the end. In linear time. */
function isMatched(path: string, pieces: readonly string[]): boolean {
  const [first = '', ...others] = pieces;
  const last = others.pop();
  if (last === undefined) return path === first;
  if (!path.startsWith(first)) return false;
  let at = first.length;
  for (const piece of others) {
    const found = path.indexOf(piece, at);
    if (found === -1) return false;
    at = found + piece.length;
  }
  return path.length - last.length >= at && path.endsWith(last);
}

/** The decoded path of a URI from its root down. What a server says is not believed to stay below a folder. @throws InputError `name_invalid` */
export function pathOf(uri: string): string {
  const path = /^[a-z]+:\/\/[^/]*\/(.*)$/is.exec(uri)?.[1] ?? '';
  return parseBlobKey(path.split('/').map(decode).join('/'));
}

/** @throws InputError `usage` */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InputError('usage', 'a malformed %-escape in a URI', { hint: 'write a "%" as %25' });
  }
}

export interface LocalFile {
  readonly path: string;
  /** From the folder down, with slashes. */
  readonly relative: string;
}

/** All files below a folder, in order. @throws InputError `usage` for links and what is neither file nor folder */
export async function filesBelow(directory: string): Promise<readonly LocalFile[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(
    (cause: unknown) => {
      throw new InputError('usage', `cannot read ${directory}: ${String(cause)}`, { cause });
    },
  );
  const files: LocalFile[] = [];
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) continue;
    if (!entry.isFile()) {
      throw new InputError('usage', `${path} is neither a file nor a folder`, {
        hint: 'links are not followed: copy what they lead to',
      });
    }
    files.push({ path, relative: path.slice(directory.length).replace(/^\/+/, '') });
  }
  if (files.length > FILES_MAX)
    throw new InputError('usage', `${directory} has more than ${FILES_MAX} files`);
  return files.toSorted((a, b) => (a.relative < b.relative ? -1 : 1));
}

/** What a source adds to its destination: of a folder written with a slash at its end, nothing. */
export function lastElement(source: string): string {
  return source.endsWith('/') ? '' : basename(source);
}
