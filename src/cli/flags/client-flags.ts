import { join } from 'node:path';
import { InputError } from '../../base/index.ts';
import {
  DEFAULT_TARGET,
  parseUrl,
  socketTarget,
  withCertificates,
  type ConnectionTarget,
} from '../sql/target.ts';
import { optionalFlag, switchFlag, type FlagValues } from './flag.ts';
import { readInteger, readPath } from './readers.ts';

const readText = (text: string) => text;

/** Flags of commands that connect to a SQL port. */
export const CLIENT_FLAGS = {
  url: optionalFlag({
    name: 'url',
    placeholder: 'URL',
    help: 'Where to connect: postgresql://user@host:port/database?options=-ccluster=NAME. Only a URL can name a virtual cluster.',
    parse: parseUrl,
  }),
  host: optionalFlag({
    name: 'host',
    placeholder: 'HOST',
    defaultText: DEFAULT_TARGET.host,
    help: 'Host, or host:port. A virtual cluster other than the default one is named by --url.',
    parse: readText,
  }),
  port: optionalFlag({
    name: 'port',
    short: 'p',
    placeholder: 'PORT',
    defaultText: String(DEFAULT_TARGET.port),
    help: 'TCP port.',
    parse: (text) => readInteger(text, { min: 1, max: 65535 }),
  }),
  user: optionalFlag({
    name: 'user',
    short: 'u',
    placeholder: 'NAME',
    defaultText: DEFAULT_TARGET.user,
    help: 'User to log in as.',
    parse: readText,
  }),
  database: optionalFlag({
    name: 'database',
    short: 'd',
    placeholder: 'NAME',
    defaultText: DEFAULT_TARGET.database,
    help: 'Database; cluster:NAME/DATABASE also names the virtual cluster.',
    parse: readText,
  }),
  insecure: switchFlag({ name: 'insecure', help: 'Connects without TLS, whatever certificates there are.' }),
  certsDir: optionalFlag({
    name: 'certs-dir',
    placeholder: 'DIR',
    help: 'Folder with ca.crt, client.USER.crt and client.USER.key; connects with TLS.',
    parse: readPath,
  }),
  store: optionalFlag({
    name: 'store',
    inEnvironment: false,
    placeholder: 'DIR',
    help: "Connects through the local socket in a node's store, without a password: the operator's way in.",
    parse: readPath,
  }),
  socket: optionalFlag({
    name: 'socket',
    inEnvironment: false,
    placeholder: 'DIR',
    help: 'Connects through the local socket in a folder.',
    parse: readPath,
  }),
};

/** Folder of the local socket in a store. */
export function socketDirectoryOf(store: string): string {
  return join(store, 'run', 'sql');
}

/** Where the flags lead. @throws InputError `usage` when they contradict each other */
export function toTarget(
  flags: FlagValues<typeof CLIENT_FLAGS>,
  environment: Readonly<Record<string, string | undefined>>,
): ConnectionTarget {
  const ways = [
    ['--url', flags.url],
    ['--host', flags.host],
    ['--store', flags.store],
    ['--socket', flags.socket],
  ] as const;
  const [first, second] = ways.filter(([, value]) => value !== undefined).map(([name]) => name);
  if (first !== undefined && second !== undefined) {
    throw new InputError('usage', `${first} and ${second} exclude each other`, {
      hint: 'a URL holds everything: postgresql://user@host:port/database?options=-ccluster=NAME',
    });
  }
  if (flags.port !== undefined && first !== undefined && first !== '--host') {
    throw new InputError('usage', `${first} and --port exclude each other`);
  }
  const base = flags.url ?? hostTarget(flags.host);
  const named: ConnectionTarget = {
    ...base,
    port: flags.port ?? base.port,
    user: flags.user ?? base.user,
    database: flags.database ?? base.database,
    password: base.password ?? environment['PGPASSWORD'],
  };
  const directory = flags.socket ?? (flags.store === undefined ? undefined : socketDirectoryOf(flags.store));
  if (directory !== undefined) return socketTarget(named, directory);
  if (flags.insecure) return { ...named, tls: 'off' };
  return flags.certsDir === undefined ? named : withCertificates(named, flags.certsDir);
}

function hostTarget(host: string | undefined): ConnectionTarget {
  if (host === undefined) return DEFAULT_TARGET;
  if (host.startsWith('/')) return { ...DEFAULT_TARGET, host };
  const match =
    /^(?:\[([^\]]+)\]|([^\s:/@?]+|[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*))(?::(\d{1,5}))?$/.exec(host);
  const name = match?.[1] ?? match?.[2];
  if (name === undefined) {
    throw new InputError('usage', `not a host: ${JSON.stringify(host)}`, {
      hint: 'write HOST or HOST:PORT; a URL goes to --url',
    });
  }
  return {
    ...DEFAULT_TARGET,
    host: name,
    port: match?.[3] === undefined ? DEFAULT_TARGET.port : Number(match[3]),
  };
}
