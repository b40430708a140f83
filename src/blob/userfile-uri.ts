/**
 * `userfile://defaultdb.public.userfiles_USER/path`: files that a user keeps in the store of the node. `userfile:///path` means those of
 * who says it, and is written out before anything is recorded.
 */
import { join } from 'node:path';
import { InputError } from '../base/index.ts';
import { keyPartProblem } from './blob-key.ts';

const ROOT = 'defaultdb.public.userfiles_';
const PATH_BYTES_MAX = 1024;

export interface UserfileUri {
  /** Null in `userfile:///path`. */
  readonly owner: string | null;
  /** Parts from the root down, decoded. */
  readonly parts: readonly string[];
  /** With its question mark, or empty. */
  readonly query: string;
}

export interface UserfileLocation {
  /** With the owner in it; it carries no secret. */
  readonly displayUri: string;
  /** Absolute path. It need not exist. */
  readonly directory: string;
  readonly owner: string;
}

/** Undefined for other schemes. @throws InputError `parameter_invalid`, `feature_not_supported` for roots that are no user's */
export function parseUserfileUri(uri: string): UserfileUri | undefined {
  if (!/^userfile:/i.test(uri)) return undefined;
  const match = /^userfile:\/\/([^/?#]*)(\/[^?#]*)?(\?[^#]*)?$/i.exec(uri);
  if (match === null) throw invalid('it is no userfile URI');
  const [, host = '', path = '', query = ''] = match;
  if (query !== '' && !/^\?COCKROACH_LOCALITY=[^&]*$/.test(query)) {
    throw new InputError('parameter_invalid', 'unknown userfile query parameters', {
      hint: 'userfile takes none but COCKROACH_LOCALITY',
    });
  }
  const parts = path.split('/').slice(1).map(decode);
  if (parts.at(-1) === '') parts.pop();
  const problem = parts.map(keyPartProblem).find((reason) => reason !== null);
  if (problem !== undefined) throw invalid(`its path is refused: ${problem}`);
  if (Buffer.byteLength(parts.join('/')) > PATH_BYTES_MAX) throw invalid('its path is too long');
  return { owner: host === '' ? null : ownerOf(host), parts, query };
}

/** The URI with its user written out; others as they are. @throws as `parseUserfileUri` */
export function withUserfileOwner(uri: string, user: string): string {
  const found = parseUserfileUri(uri);
  return found === undefined ? uri : `${formatUserfileUri(found.owner ?? user, found.parts)}${found.query}`;
}

export function formatUserfileUri(owner: string, parts: readonly string[]): string {
  return `userfile://${ROOT}${encodeOwner(owner)}/${parts.map(encodeURIComponent).join('/')}`;
}

/**
 * The folder behind a URI with its owner in it, below the folder of a virtual cluster's files.
 * @throws InputError `parameter_invalid` when it names no owner
 */
export function resolveUserfileUri(
  { owner, parts }: UserfileUri,
  { directory }: { readonly directory: string },
): UserfileLocation {
  if (owner === null) {
    throw new InputError('parameter_invalid', 'userfile:///path does not say whose file it is', {
      hint: `write userfile://${ROOT}NAME/path; an external connection gets another URI by ALTER EXTERNAL CONNECTION`,
    });
  }
  return {
    displayUri: formatUserfileUri(owner, parts),
    directory: join(directory, encodeOwner(owner), ...parts),
    owner,
  };
}

/** Where a user's files are, and the record of whose they are: beside their folder, under a name that no folder has. */
export function userfileOwnerFile(
  owner: string,
  { directory }: { readonly directory: string },
): { readonly folder: string; readonly recordPath: string } {
  const folder = join(directory, encodeOwner(owner));
  return { folder, recordPath: `${folder}.owner` };
}

/** A name as one part of a path and of a host: it keeps neither dots nor slashes. */
function encodeOwner(owner: string): string {
  return encodeURIComponent(owner).replaceAll('.', '%2E');
}

function ownerOf(host: string): string {
  const owner = host.toLowerCase().startsWith(ROOT) ? decode(host.slice(ROOT.length)) : '';
  if (owner !== '') return owner;
  throw new InputError(
    'feature_not_supported',
    'userfile storage other than that of users is not available',
    { hint: `write userfile:///path for your own files, or userfile://${ROOT}NAME/path` },
  );
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid('it has a malformed %-escape');
  }
}

function invalid(reason: string): InputError {
  return new InputError('parameter_invalid', `invalid userfile URI: ${reason}`, {
    hint: 'write userfile:///path, a path that goes down from the root',
  });
}
