/** Where the source of a stream is: a `postgresql://` URI, taken apart. It holds a password, so nothing of it is told but user and host. */
import { InputError } from '../base/index.ts';

export interface SourceAddress {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string | null;
  readonly database: string;
  /** Start-up options, without the virtual cluster's name. */
  readonly options: string;
}

const PORT_DEFAULT = 26257;
/** Encrypted connections are offered by no front door yet. */
const PLAIN_MODES: ReadonlySet<string> = new Set(['disable', 'allow', 'prefer']);

/**
 * Reads a URI that must lead to a system VC: `options=-ccluster=system`, encoded or not.
 * @throws InputError `parameter_invalid`, `feature_not_supported`; their messages repeat nothing of the URI
 */
export function parseSourceUri(uri: string): SourceAddress {
  if (!/^postgres(?:ql)?:\/\//i.test(uri)) {
    throw invalid(
      'it is no postgresql:// URI',
      'write postgresql://user:password@host:26257?options=-ccluster=system',
    );
  }
  const url = parsedUrl(uri);
  const { searchParams } = url;
  const mode = searchParams.get('sslmode') ?? 'prefer';
  if (!PLAIN_MODES.has(mode)) {
    throw new InputError(
      'feature_not_supported',
      'replication over an encrypted connection is not available',
      {
        hint: 'write sslmode=disable, over a network that nobody else listens to',
      },
    );
  }
  const words = (searchParams.get('options') ?? '').split(/\s+/).filter((word) => word !== '');
  const cluster = words.find((word) => /^-c\s*cluster(?:=|%3d)/i.test(word));
  if (cluster === undefined || !/(?:=|%3d)system$/i.test(cluster)) {
    throw invalid('it does not lead to a system virtual cluster', 'add options=-ccluster=system');
  }
  const user = decoded(url.username);
  if (user === '')
    throw invalid(
      'it names no user',
      'name a user of the other system virtual cluster that holds REPLICATION',
    );
  const [, ...path] = url.pathname.split('/');
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? PORT_DEFAULT : Number(url.port),
    user,
    password: url.password === '' ? null : decoded(url.password),
    database: decoded(path.join('/')) || 'defaultdb',
    options: words.filter((word) => word !== cluster).join(' '),
  };
}

/** As a column shows it: who and where, nothing else. */
export function displaySourceUri(uri: string): string {
  if (!URL.canParse(uri)) return 'redacted';
  const { protocol, username, host } = new URL(uri);
  return `${protocol}//${username}@${host}?redacted`;
}

function parsedUrl(uri: string): URL {
  if (!URL.canParse(uri))
    throw invalid('it is no URI of a server', 'encode what is special in user and password');
  const url = new URL(uri);
  if (url.hostname === '') throw invalid('it names no host', 'write postgresql://user@host:26257');
  return url;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid(
      'a percent sign in it begins no encoded character',
      'encode what is special in user and password',
    );
  }
}

function invalid(reason: string, hint: string): InputError {
  return new InputError('parameter_invalid', `invalid connection string of a replication stream: ${reason}`, {
    hint,
  });
}
