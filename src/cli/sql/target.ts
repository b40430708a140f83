import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { InputError } from '../../base/index.ts';

/** Where a session goes and as whom. */
export interface ConnectionTarget {
  /** Host name or address; a folder's absolute path for a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly password: string | undefined;
  /** Start-up options, e.g. `-ccluster=main -c search_path=app`. */
  readonly options: string | undefined;
  readonly applicationName: string;
  readonly tls: TlsMode;
  readonly tlsFiles: TlsFiles;
  readonly connectTimeoutSeconds: number;
}

export type TlsMode = 'off' | 'encrypted' | 'verified_authority' | 'verified_host';

export interface TlsFiles {
  readonly authority: string | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
}

export const DEFAULT_TARGET: ConnectionTarget = {
  host: 'localhost',
  port: 26257,
  user: 'root',
  database: 'defaultdb',
  password: undefined,
  options: undefined,
  applicationName: 'atoll sql',
  tls: 'off',
  tlsFiles: { authority: undefined, certificate: undefined, key: undefined },
  connectTimeoutSeconds: 15,
};

const PARAMETERS = [
  'host',
  'port',
  'user',
  'password',
  'dbname',
  'options',
  'application_name',
  'connect_timeout',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
] as const;
type Parameter = (typeof PARAMETERS)[number];

/**
 * Reads `postgresql://user:password@host:port/database?options=-ccluster=NAME&sslmode=...`, the URL of Postgres's own
 * programs. What it leaves out is as in the default target. `options` may be percent-encoded or not.
 * @throws InputError `usage`; its message never holds the URL, which may hold a password
 */
export function parseUrl(text: string): ConnectionTarget {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text);
  if (match === null) {
    throw new InputError('usage', 'not a connection URL', {
      hint: 'write postgresql://user@host:port/database?options=-ccluster=NAME',
    });
  }
  const [user, password] = splitOnce(match[1] ?? '', ':');
  const authority = parseAuthority(match[2] ?? '');
  const parameters = parseParameters(match[4] ?? '');
  const first = (...texts: (string | undefined)[]) => texts.find((each) => each !== undefined && each !== '');
  const port = first(parameters.port, authority.port);
  return {
    ...DEFAULT_TARGET,
    host: first(parameters.host, decode(authority.host)) ?? DEFAULT_TARGET.host,
    port: port === undefined ? DEFAULT_TARGET.port : parsePort(port),
    user: first(parameters.user, decode(user)) ?? DEFAULT_TARGET.user,
    password: first(parameters.password, password === undefined ? undefined : decode(password)),
    database: first(parameters.dbname, decode(match[3] ?? '')) ?? DEFAULT_TARGET.database,
    options: first(parameters.options),
    applicationName: first(parameters.application_name) ?? DEFAULT_TARGET.applicationName,
    connectTimeoutSeconds: Number(first(parameters.connect_timeout) ?? DEFAULT_TARGET.connectTimeoutSeconds),
    tls: parseTlsMode(parameters.sslmode),
    tlsFiles: {
      authority: first(parameters.sslrootcert),
      certificate: first(parameters.sslcert),
      key: first(parameters.sslkey),
    },
  };
}

/** Prints the target without its password, so that `parseUrl` and Postgres's programs read it. */
export function formatUrl(target: ConnectionTarget): string {
  const isSocket = target.host.startsWith('/');
  const host = target.host.includes(':') ? `[${target.host}]` : target.host;
  const parameters = [
    isSocket ? `host=${encodeURIComponent(target.host)}&port=${target.port}` : undefined,
    target.options === undefined ? undefined : `options=${encodeURIComponent(target.options)}`,
    TLS_NAMES[target.tls] === 'disable' ? undefined : `sslmode=${TLS_NAMES[target.tls]}`,
  ].filter((parameter) => parameter !== undefined);
  const place = isSocket ? '' : `@${host}:${target.port}`;
  const user = encodeURIComponent(target.user);
  const query = isSocket ? [`user=${user}`, ...parameters] : parameters;
  return (
    `postgresql://${isSocket ? '' : user}${place}/${encodeURIComponent(target.database)}` +
    (query.length === 0 ? '' : `?${query.join('&')}`)
  );
}

/** `host:port` for people. */
export function formatPlace(target: ConnectionTarget): string {
  return `${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`;
}

/** Takes the certificates of a folder laid out by `atoll cert`: `ca.crt`, `client.USER.crt`, `client.USER.key`. */
export function withCertificates(target: ConnectionTarget, directory: string): ConnectionTarget {
  const file = (name: string) => (existsSync(join(directory, name)) ? join(directory, name) : undefined);
  const authority = file('ca.crt');
  if (authority === undefined) {
    throw new InputError('usage', `no ca.crt in the certificates folder ${directory}`);
  }
  return {
    ...target,
    tls: target.tls === 'off' ? 'verified_host' : target.tls,
    tlsFiles: {
      authority: target.tlsFiles.authority ?? authority,
      certificate: target.tlsFiles.certificate ?? file(`client.${target.user}.crt`),
      key: target.tlsFiles.key ?? file(`client.${target.user}.key`),
    },
  };
}

/** Finds the local socket in a folder, whatever port is in its name. @throws InputError `usage` */
export function socketTarget(target: ConnectionTarget, directory: string): ConnectionTarget {
  let names: string[] = [];
  try {
    names = readdirSync(directory);
  } catch (error) {
    throw new InputError('usage', `no local socket: cannot read ${directory}`, {
      cause: error,
      hint: 'is the node running, and was it started by the user who asks?',
    });
  }
  const ports = names
    .map((name) => /^\.s\.PGSQL\.(\d+)$/.exec(name)?.[1])
    .filter((port) => port !== undefined);
  const port = ports[0];
  if (port === undefined || ports.length > 1) {
    throw new InputError('usage', `${ports.length} local sockets in ${directory}, and one is needed`, {
      hint: 'is the node running? otherwise name the socket by --url',
    });
  }
  return { ...target, host: directory, port: Number(port), tls: 'off' };
}

/** What TLS needs to know of a target; false without TLS. */
export function tlsOptions(target: ConnectionTarget): ConnectionOptions | false {
  if (target.tls === 'off') return false;
  const read = (path: string | undefined) => (path === undefined ? {} : { content: readFileSync(path) });
  const { content: ca } = read(target.tlsFiles.authority);
  const { content: cert } = read(target.tlsFiles.certificate);
  const { content: key } = read(target.tlsFiles.key);
  return {
    rejectUnauthorized: target.tls !== 'encrypted',
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(target.tls === 'verified_authority' ? { checkServerIdentity: () => undefined } : {}),
  };
}

const TLS_NAMES: Readonly<Record<TlsMode, string>> = {
  off: 'disable',
  encrypted: 'require',
  verified_authority: 'verify-ca',
  verified_host: 'verify-full',
};

function parseTlsMode(text: string | undefined): TlsMode {
  switch (text) {
    case undefined:
    case '':
    case 'disable':
    case 'allow':
    case 'prefer':
      return 'off';
    case 'require':
      return 'encrypted';
    case 'verify-ca':
      return 'verified_authority';
    case 'verify-full':
      return 'verified_host';
    default:
      throw new InputError('usage', `unknown sslmode ${JSON.stringify(text)}`, {
        hint: 'use disable, allow, prefer, require, verify-ca or verify-full',
      });
  }
}

function parseAuthority(text: string): { host: string; port: string | undefined } {
  if (text.includes(',')) throw new InputError('usage', 'a connection URL names one host here');
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d*))?$/.exec(text);
  if (match === null) throw new InputError('usage', 'host and port of the connection URL are malformed');
  return { host: match[1] ?? match[2] ?? '', port: match[3] };
}

function parseParameters(query: string): Partial<Record<Parameter, string>> {
  const parameters: Partial<Record<Parameter, string>> = {};
  for (const part of query.split('&')) {
    if (part === '') continue;
    const [name, value = ''] = splitOnce(part, '=');
    const known = PARAMETERS.find((parameter) => parameter === decode(name));
    if (known === undefined) {
      throw new InputError('usage', `unknown parameter ${JSON.stringify(name)} in the connection URL`, {
        hint: `known are ${PARAMETERS.join(', ')}`,
      });
    }
    parameters[known] = decode(known === 'options' ? value.replaceAll('+', '%20') : value);
  }
  return parameters;
}

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) throw new InputError('usage', `not a port: ${JSON.stringify(text)}`);
  return port;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new InputError('usage', 'the connection URL has a malformed percent sign', { cause: error });
  }
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const index = text.indexOf(separator);
  return index === -1 ? [text, undefined] : [text.slice(0, index), text.slice(index + 1)];
}
