/**
 * Storage URIs of services: `scheme://bucket/path?PARAMETER=value`. Their text holds secrets, so no message repeats more
 * of it than names. Parameters: reference, "Storage URIs".
 */
import { InputError } from '../base/index.ts';
import { keyPartProblem } from './blob-key.ts';

/** What a storage URI says, its parameters decoded. */
export interface StorageUri {
  /** Lower case. */
  readonly scheme: string;
  readonly host: string;
  /** Parts joined by `/`, without slashes at the ends; may be empty. */
  readonly path: string;
  readonly parameters: ReadonlyMap<string, string>;
}

export type UriParameters = Pick<StorageUri, 'parameters'>;

export interface StorageScheme {
  /** As it is called in messages: `S3`. */
  readonly name: string;
  /** What the URI is of; storage when left out. */
  readonly of?: string;
  readonly parameters: readonly string[];
}

const URI_LENGTH_MAX = 8192;
/** Parameters that any scheme may have. */
const COMMON_PARAMETERS = ['COCKROACH_LOCALITY'];

/**
 * Reads a URI of one scheme.
 * @throws InputError `parameter_invalid` for what is malformed, or has parameters that the scheme does not know
 */
export function parseStorageUri(uri: string, scheme: StorageScheme): StorageUri {
  const match = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$/is.exec(uri);
  if (match === null || uri.length > URI_LENGTH_MAX) {
    throw invalidUri(scheme, 'it is not a URI', 'write it as scheme://bucket/path?PARAMETER=value');
  }
  const [, schemeName = '', host = '', path = '', query = '', fragment] = match;
  if (fragment !== undefined) {
    throw invalidUri(scheme, 'it has a fragment', 'write a "#" of the path or of a key as %23');
  }
  if (host === '') throw invalidUri(scheme, 'it names no bucket', 'write it as scheme://bucket/path');
  if (!/^[\w.-]{1,255}$/.test(host)) {
    throw invalidUri(scheme, 'its bucket has characters that no bucket has', 'write only its name there');
  }
  return {
    scheme: schemeName.toLowerCase(),
    host,
    path: parsePath(path, scheme),
    parameters: parseParameters(query, scheme),
  };
}

export function invalidUri(scheme: StorageScheme, reason: string, hint: string): InputError {
  return new InputError(
    'parameter_invalid',
    `invalid ${scheme.name} ${scheme.of ?? 'storage'} URI: ${reason}`,
    { hint },
  );
}

/** @throws InputError `parameter_invalid` when it is missing */
export function requireParameter(uri: UriParameters, scheme: StorageScheme, name: string): string {
  const value = uri.parameters.get(name);
  if (value !== undefined && value !== '') return value;
  const isSpecified = uri.parameters.get('AUTH') === undefined ? ', which is the default' : '';
  throw invalidUri(
    scheme,
    `${name} is missing`,
    `AUTH=specified${isSpecified}, takes its credentials from the URI; AUTH=implicit takes them from the node`,
  );
}

/** How credentials are found. */
export function parseAuth(uri: UriParameters, scheme: StorageScheme): 'specified' | 'implicit' {
  const auth = uri.parameters.get('AUTH') ?? 'specified';
  if (auth === 'specified' || auth === 'implicit') return auth;
  throw invalidUri(scheme, 'unsupported value for AUTH', 'it is specified or implicit');
}

/** Reads a parameter that is true or false. */
export function parseFlag(uri: UriParameters, scheme: StorageScheme, name: string): boolean {
  const text = uri.parameters.get(name) ?? 'false';
  if (/^(?:true|t|1)$/i.test(text)) return true;
  if (/^(?:false|f|0)$/i.test(text)) return false;
  throw invalidUri(scheme, `${name} is neither true nor false`, `write ${name}=true or leave it out`);
}

/** An address of a service, given instead of its provider's own. It carries no user, no query. */
export function parseEndpoint(uri: UriParameters, scheme: StorageScheme, name: string): string | null {
  const text = uri.parameters.get(name);
  if (text === undefined || text === '') return null;
  const withScheme = text.includes('://') ? text : `https://${text}`;
  const url = URL.canParse(withScheme) ? new URL(withScheme) : null;
  const isPlain = url !== null && url.username === '' && url.password === '' && url.search === '';
  if (!isPlain || !['http:', 'https:'].includes(url.protocol)) {
    throw invalidUri(
      scheme,
      `${name} is no address of a server`,
      `write it as ${name}=https%3A%2F%2Fhost%3Aport`,
    );
  }
  return withScheme.replace(/\/+$/, '');
}

function parsePath(path: string, scheme: StorageScheme): string {
  const parts = path.split('/').filter((part) => part !== '');
  const decoded = parts.map((part) => decode(part) ?? '');
  const problem = decoded.map(keyPartProblem).find((reason) => reason !== null);
  if (problem !== undefined) {
    throw invalidUri(scheme, `its path is not usable: ${problem}`, 'a path goes down from the bucket');
  }
  return decoded.join('/');
}

/** What follows the question mark. @throws InputError `parameter_invalid` */
export function parseParameters(query: string, scheme: StorageScheme): ReadonlyMap<string, string> {
  const known = new Set([...scheme.parameters, ...COMMON_PARAMETERS]);
  const found = new Map<string, string>();
  const unknown: string[] = [];
  for (const parameter of query.split('&').filter((text) => text !== '')) {
    const equals = parameter.indexOf('=');
    const name = equals === -1 ? parameter : parameter.slice(0, equals);
    const value = decode(equals === -1 ? '' : parameter.slice(equals + 1));
    // What is no plain name with a value may be a piece of a secret that should have been escaped.
    if (!known.has(name)) unknown.push(/^[A-Za-z_]{1,40}=/.test(parameter) ? name : 'redacted');
    else if (value === undefined)
      throw invalidUri(scheme, `${name} has a malformed escape`, 'write a "%" as %25');
    else if (found.has(name)) throw invalidUri(scheme, `${name} is given twice`, 'give it once');
    else found.set(name, value);
  }
  if (unknown.length > 0) {
    throw new InputError(
      'parameter_invalid',
      `unknown ${scheme.name} query parameters: ${unknown.join(', ')}`,
      { hint: `names are upper case; known are ${[...known].join(', ')}` },
    );
  }
  return found;
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
