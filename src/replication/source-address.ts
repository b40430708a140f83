/** Where the source of a stream is: a `postgresql://` URI, taken apart. It holds a password, so nothing of it is told but user and host. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { errnoOf, InputError } from '../base/index.ts';
import { PLAIN_SOURCE, type SourceTls } from '../pg/index.ts';

export interface SourceAddress {
  /** The system VC of another Atoll, or a plain PostgreSQL server. */
  readonly kind: 'atoll' | 'postgres';
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string | null;
  readonly database: string;
  /** Start-up options, without the virtual cluster's name. */
  readonly options: string;
  readonly tls: SourceTls;
}

/** What a URI leaves out. */
const DEFAULTS = {
  atoll: { port: 26257, database: 'defaultdb' },
  postgres: { port: 5432, database: 'postgres' },
} as const;
/** `allow` tries without encryption first; whoever does not mind may as well have it the other way round. */
const TLS_MODES: Readonly<Record<string, SourceTls['mode']>> = {
  disable: 'disable',
  allow: 'prefer',
  prefer: 'prefer',
  require: 'require',
  'verify-ca': 'verify-ca',
  'verify-full': 'verify-full',
};
const PEM_BYTES_MAX = 256 * 1024;

/**
 * Reads a URI that leads to a system VC, `options=-ccluster=system`, encoded or not; or, without that option, to a plain server.
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
  const words = (searchParams.get('options') ?? '').split(/\s+/).filter((word) => word !== '');
  const cluster = words.find((word) => /^-c\s*cluster(?:=|%3d)/i.test(word));
  if (cluster !== undefined && !/(?:=|%3d)system$/i.test(cluster)) throw notSystem();
  const kind = cluster === undefined ? 'postgres' : 'atoll';
  const user = decoded(url.username);
  if (user === '')
    throw invalid(
      'it names no user',
      'name a user of the other system virtual cluster, or a role of the plain server, that holds REPLICATION',
    );
  const [, ...path] = url.pathname.split('/');
  return {
    kind,
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? DEFAULTS[kind].port : Number(url.port),
    user,
    password: url.password === '' ? null : decoded(url.password),
    database: decoded(path.join('/')) || DEFAULTS[kind].database,
    options: words.filter((word) => word !== cluster).join(' '),
    tls: tlsOf(searchParams),
  };
}

/** For what only another Atoll can do. */
export function notSystem(): InputError {
  return invalid(
    'it does not lead to a system virtual cluster',
    'add options=-ccluster=system; a plain PostgreSQL server is followed by CREATE VIRTUAL CLUSTER ... FROM REPLICATION OF system',
  );
}

function tlsOf(parameters: URLSearchParams): SourceTls {
  const mode = TLS_MODES[parameters.get('sslmode') ?? 'prefer'];
  if (mode === undefined) {
    throw invalid('its sslmode is unknown', 'use disable, allow, prefer, require, verify-ca or verify-full');
  }
  if (mode === 'disable') return PLAIN_SOURCE;
  const [authority, certificate, key] = ['sslrootcert', 'sslcert', 'sslkey'].map((name) =>
    pemOf(parameters, name),
  ) as [string | null, string | null, string | null];
  if (authority === null && mode.startsWith('verify')) {
    throw invalid(
      'it says by no sslrootcert which CA must have signed the certificate of the source',
      'atoll encode-uri writes it, with --ca-cert and --inline',
    );
  }
  if ((certificate === null) !== (key === null)) {
    throw invalid('of sslcert and sslkey it has only one', 'name both or none');
  }
  // Given one, libpq would verify, and go on without encryption when that fails.
  return { mode, authority: mode === 'prefer' ? null : authority, certificate, key };
}

/** The certificate or key that a parameter holds, or names as a file on the node. Read whenever it is used: files are replaced in time. */
function pemOf(parameters: URLSearchParams, name: string): string | null {
  const value = parameters.get(name) ?? '';
  if (value === '') return null;
  const isInline = value.startsWith('-----BEGIN ') || parameters.get('sslinline') === 'true';
  const text = isInline ? value : textOfFile(value, name);
  try {
    if (name === 'sslkey') createPrivateKey(text);
    else void new X509Certificate(text);
  } catch {
    throw invalid(
      `its ${name} is no ${name === 'sslkey' ? 'private key without a passphrase' : 'certificate'} in PEM`,
      'name a file of the node that runs this statement, or write the content, encoded, with sslinline=true',
    );
  }
  return text;
}

function textOfFile(path: string, name: string): string {
  try {
    const { size } = statSync(path);
    if (size <= PEM_BYTES_MAX) return readFileSync(path, 'utf8');
  } catch (error) {
    throw invalid(
      `the file of its ${name} cannot be read (${errnoOf(error) ?? 'unknown reason'})`,
      'it must be on the node that runs this statement; atoll encode-uri --inline writes its content instead',
    );
  }
  throw invalid(`the file of its ${name} is too long`, 'name a file in PEM');
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
