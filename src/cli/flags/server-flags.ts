import type { DaemonConfig, ExternalDirectory, FirstStart } from '../../daemon/index.ts';
import { optionalFlag, switchFlag, valueFlag, type FlagValues } from './flag.ts';
import {
  readAddress,
  readByteSize,
  readChoice,
  readInteger,
  readLocality,
  readPath,
  readPrincipalMap,
} from './readers.ts';

export const DEFAULT_STORE = './atoll-data';
export const DEFAULT_SQL_PORT = 26257;
export const DEFAULT_HTTP_PORT = 8080;

/** Where a node keeps everything; shared by the commands that work on a node of this machine. */
export const storeFlag = valueFlag({
  name: 'store',
  placeholder: 'DIR',
  default: DEFAULT_STORE,
  help: 'Folder that holds everything the node keeps.',
  parse: readPath,
});

const readLogSize = (text: string) => readByteSize(text, { min: 1024, max: 1024 ** 4 });

/** Flags of `start` and `start-single-node`. */
export const SERVER_FLAGS = {
  store: storeFlag,
  listen: valueFlag({
    name: 'listen-addr',
    placeholder: 'HOST:PORT',
    default: `localhost:${DEFAULT_SQL_PORT}`,
    help: 'Address of the SQL port. Port 0 lets the system choose.',
    parse: (text) => readAddress(text, { port: DEFAULT_SQL_PORT }),
  }),
  http: valueFlag({
    name: 'http-addr',
    placeholder: 'HOST:PORT',
    default: `localhost:${DEFAULT_HTTP_PORT}`,
    help: 'Address of health, metrics, API and console. Port 0 lets the system choose.',
    parse: (text) => readAddress(text, { port: DEFAULT_HTTP_PORT }),
  }),
  advertise: optionalFlag({
    name: 'advertise-addr',
    placeholder: 'HOST:PORT',
    defaultText: 'the SQL address',
    help: 'Address under which clients and other nodes reach the SQL port.',
    parse: (text) => readAddress(text, { port: DEFAULT_SQL_PORT }),
  }),
  locality: optionalFlag({
    name: 'locality',
    placeholder: 'KEY=VALUE,...',
    help: 'Where the node stands, from wide to narrow, e.g. region=eu-west,zone=a.',
    parse: readLocality,
  }),
  insecure: switchFlag({
    name: 'insecure',
    help: 'Asks nobody for a password: for trying things out. Only on loopback addresses.',
  }),
  acceptInsecureNetwork: switchFlag({
    name: 'accept-insecure-network',
    help: 'Lets an insecure node listen on addresses that others can reach. Everyone there controls it.',
  }),
  certsDir: optionalFlag({
    name: 'certs-dir',
    placeholder: 'DIR',
    help: 'Folder with ca.crt, node.crt and node.key, as "atoll cert" makes them: encrypts SQL and HTTP. SIGHUP reads them again.',
    parse: readPath,
  }),
  certPrincipalMap: optionalFlag({
    name: 'cert-principal-map',
    placeholder: 'NAME:USER,...',
    help: "Names in clients' certificates, with the users that they log in as instead of their own.",
    parse: readPrincipalMap,
  }),
  acceptSqlWithoutTls: switchFlag({
    name: 'accept-sql-without-tls',
    help: 'Lets SQL clients in that do not encrypt. They log in by password.',
  }),
  background: switchFlag({
    name: 'background',
    inEnvironment: false,
    help: 'Returns when the node is ready and leaves it running.',
  }),
  pidFile: optionalFlag({
    name: 'pid-file',
    placeholder: 'FILE',
    help: "File that holds the node's process number while it runs.",
    parse: readPath,
  }),
  listeningUrlFile: optionalFlag({
    name: 'listening-url-file',
    placeholder: 'FILE',
    help: 'File that receives the connection string when the node is ready.',
    parse: readPath,
  }),
  postgres18: optionalFlag({
    name: 'postgres-18-dir',
    placeholder: 'DIR',
    defaultText: 'the one installed with Atoll',
    help: "Folder of a distribution's PostgreSQL 18, with bin, lib and share, e.g. /usr/lib/postgresql/18.",
    parse: readPath,
  }),
  externalDirectory: optionalFlag({
    name: 'external-io-dir',
    placeholder: 'DIR',
    defaultText: 'extern in the store',
    help: 'Folder behind nodelocal:// addresses, or "disabled".',
    parse: (text): ExternalDirectory =>
      text === 'disabled' ? { kind: 'disabled' } : { kind: 'directory', path: readPath(text) },
  }),
  implicitCredentialsDisabled: switchFlag({
    name: 'external-io-disable-implicit-credentials',
    help: "Refuses storage addresses with AUTH=implicit, which are reached with the node's own credentials.",
  }),
  relayProcesses: valueFlag({
    name: 'relay-processes',
    placeholder: 'COUNT',
    default: '0',
    help: 'Processes that share the SQL port with the daemon and relay beside it. Linux only.',
    parse: (text) => readInteger(text, { min: 0, max: 64 }),
  }),
  user: optionalFlag({
    name: 'user',
    placeholder: 'NAME',
    defaultText: 'atoll where there is such a user, else root',
    help: 'Whose rights the daemon has when it is started as root, which it then gives up; root keeps them.',
    parse: (text) => text,
  }),
  controlGroups: optionalFlag({
    name: 'cgroup-parent',
    placeholder: 'DIR',
    help: 'Folder below /sys/fs/cgroup that is left to the node: each virtual cluster gets a control group in it, which shares the processor and bounds memory. Linux only.',
    parse: readPath,
  }),
  workerCells: valueFlag({
    name: 'worker-cells',
    placeholder: 'on|off',
    default: 'on',
    help: 'Whether processes of backups, restores and captures are kept to the folders and servers of their work. Takes Linux 5.19 and perl.',
    parse: (text) => readChoice(text, ['on', 'off']),
  }),
  logToStderr: valueFlag({
    name: 'log-to-stderr',
    placeholder: 'SEVERITY',
    default: 'warning',
    help: 'Log entries from this severity on also go to standard error: info, warning, error or none.',
    parse: (text) => readChoice(text, ['info', 'warning', 'error', 'none']),
  }),
  logDirectory: optionalFlag({
    name: 'log-dir',
    placeholder: 'DIR',
    defaultText: 'logs in the store',
    help: 'Folder of the log: atoll.log and atoll-audit.log.',
    parse: readPath,
  }),
  logFormat: valueFlag({
    name: 'log-format',
    placeholder: 'FORMAT',
    default: 'text',
    help: 'How files of the log are written: text, or json with an entry per line.',
    parse: (text) => readChoice(text, ['text', 'json']),
  }),
  logFileVerbosity: valueFlag({
    name: 'log-file-verbosity',
    placeholder: 'SEVERITY',
    default: 'info',
    help: 'Log entries from this severity on go to files: info, warning or error. The audit is always whole.',
    parse: (text) => readChoice(text, ['info', 'warning', 'error']),
  }),
  logFileMaxSize: valueFlag({
    name: 'log-file-max-size',
    placeholder: 'SIZE',
    default: '16MiB',
    help: 'Size at which a file of the log is set aside.',
    parse: readLogSize,
  }),
  logGroupMaxSize: valueFlag({
    name: 'log-group-max-size',
    placeholder: 'SIZE',
    default: '176MiB',
    help: 'Size of all files of a kind together; the oldest goes first.',
    parse: readLogSize,
  }),
  redactableLogs: valueFlag({
    name: 'redactable-logs',
    placeholder: 'BOOLEAN',
    default: 'true',
    help: 'Whether what may hold data of users stays marked in files: true or false.',
    parse: (text) => readChoice(text, ['true', 'false']) === 'true',
  }),
};

/** Flags of `start-single-node`: it initialises an empty store by itself. */
export const SINGLE_NODE_FLAGS = {
  ...SERVER_FLAGS,
  virtualizedEmpty: switchFlag({
    name: 'virtualized-empty',
    inEnvironment: false,
    help: 'Makes only the system virtual cluster on the first start, as a standby needs it, and not main.',
  }),
};

/** What the flags say, as the daemon wants it. */
export function toDaemonConfig(
  flags: FlagValues<typeof SERVER_FLAGS>,
  { firstStart }: { firstStart: FirstStart },
): DaemonConfig {
  return {
    store: flags.store,
    listen: flags.listen,
    http: flags.http,
    advertise: flags.advertise,
    locality: flags.locality ?? [],
    isInsecure: flags.insecure,
    certificates:
      flags.certsDir === undefined
        ? undefined
        : { directory: flags.certsDir, principals: flags.certPrincipalMap ?? new Map() },
    acceptsSqlWithoutTls: flags.acceptSqlWithoutTls,
    acceptsInsecureNetwork: flags.acceptInsecureNetwork,
    firstStart,
    postgres18Directory: flags.postgres18,
    externalDirectory: flags.externalDirectory ?? { kind: 'in_store' },
    implicitCredentialsDisabled: flags.implicitCredentialsDisabled,
    relayProcesses: flags.relayProcesses,
    user: flags.user,
    controlGroups: flags.controlGroups,
    hasWorkerCells: flags.workerCells === 'on',
    runFiles: { pid: flags.pidFile, listeningUrl: flags.listeningUrlFile },
    log: {
      directory: flags.logDirectory,
      format: flags.logFormat,
      fileFrom: flags.logFileVerbosity,
      stderrFrom: flags.logToStderr === 'none' ? undefined : flags.logToStderr,
      fileBytesMax: flags.logFileMaxSize,
      groupBytesMax: flags.logGroupMaxSize,
      isRedactable: flags.redactableLogs,
    },
  };
}
