/** Connection strings that one node is given to reach another by, with everything encoded that has to be. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { errnoOf, InputError } from '../base/index.ts';
import { formatAddress } from '../daemon/index.ts';
import { DEFAULT_SQL_PORT } from './flags/server-flags.ts';
import { readAddress } from './flags/readers.ts';

/** A server and who logs in, nothing encoded. */
export interface Place {
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** `host:port`, an IPv6 address in brackets. */
  readonly address: string;
  readonly database: string | undefined;
}

export interface ConnectionUri extends Place {
  readonly virtualCluster: string;
  readonly tlsMode: string | undefined;
  /** Values of `sslrootcert`, `sslcert` and `sslkey`: paths, or, inline, the PEM itself. */
  readonly authority: string | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly isInline: boolean;
}

/**
 * Reads `[postgresql://][USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`. Behind a scheme it is a URI, encoded already; without one, the user ends at
 * the first colon and the password at the last at sign, whatever lies between.
 * @throws InputError `usage`; its message never holds the text, which may hold a password
 */
export function parsePlace(text: string): Place {
  const match = /^(postgres(?:ql)?:\/\/)?(?:(.*)@)?([^@/]*)(?:\/([^/]*))?$/s.exec(text);
  if (match === null || /[?#]/.test(`${match[3]}${match[4]}`)) {
    throw usage('not a server to connect to', 'write USER:PASSWORD@HOST:PORT; flags say the rest');
  }
  const [, scheme, login = '', host = '', database = ''] = match;
  const plain = scheme === undefined ? (part: string) => part : decoded;
  const [, user = '', password] = /^([^:]*)(?::(.*))?$/s.exec(login) ?? [];
  const address = readHost(host);
  return {
    user: user === '' ? undefined : plain(user),
    password: password === undefined ? undefined : plain(password),
    address,
    database: database === '' ? undefined : plain(database),
  };
}

/** Prints it. The parameters are those that libpq knows, and `sslinline`. */
export function formatConnectionUri(uri: ConnectionUri): string {
  const { user, password, address, database = 'defaultdb', isInline, virtualCluster } = uri;
  const login =
    user === undefined ? '' : `${encode(user)}${password === undefined ? '' : `:${encode(password)}`}@`;
  const tls = {
    sslmode: uri.tlsMode,
    sslrootcert: uri.authority,
    sslcert: uri.certificate,
    sslkey: uri.key,
  };
  const parameters = {
    options: `-ccluster=${virtualCluster}`,
    sslinline: isInline ? 'true' : undefined,
    ...tls,
  };
  const query = Object.entries(parameters)
    .filter((parameter): parameter is [string, string] => parameter[1] !== undefined)
    .map(([name, value]) => `${name}=${encode(value)}`);
  return `postgresql://${login}${address}/${encode(database)}?${query.join('&')}`;
}

/** The content of a file, as far as it is what it should be. @throws InputError `usage` */
export function readPem(path: string, kind: 'certificate' | 'private key'): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new InputError('usage', `cannot read ${path} (${errnoOf(error) ?? 'unknown reason'})`, {
      cause: error,
    });
  }
  try {
    if (kind === 'private key') createPrivateKey(text);
    else void new X509Certificate(text);
  } catch (error) {
    throw new InputError('usage', `${path} holds no ${kind} in PEM`, { cause: error });
  }
  return text;
}

function readHost(text: string): string {
  let address: ReturnType<typeof readAddress> | undefined;
  try {
    address = readAddress(text, { port: DEFAULT_SQL_PORT });
  } catch {
    // Its message repeats the text: of a password with a slash, the end.
  }
  if (address === undefined || address.host === '') {
    throw usage('the server has no host and port that can be read', 'write HOST, HOST:PORT or [::1]:PORT');
  }
  return formatAddress(address);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw usage('a percent sign begins no encoded character', 'leave postgresql:// out to have it encoded');
  }
}

/** Also what ends a string of SQL, or means something to a shell. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function usage(message: string, hint: string): InputError {
  return new InputError('usage', message, { hint });
}
