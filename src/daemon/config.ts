import { InputError, type Severity } from '../base/index.ts';
import type { LogFormat } from './log/entry.ts';
import { formatAddress, isLoopback, type Address, type LocalityTier } from './address.ts';

/** What becomes of a store that has never been initialised. */
export type FirstStart =
  /** System virtual cluster, and the app virtual cluster `main` as default target. */
  | 'virtualized'
  /** System virtual cluster alone, closed to workloads. */
  | 'virtualized_empty'
  /** The node waits for `atoll init`. */
  | 'wait';

/** Where `nodelocal` lies. */
export type ExternalDirectory =
  | { readonly kind: 'in_store' }
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'disabled' };

/** Where a node's certificates are, and whom those of clients stand for. */
export interface CertificateConfig {
  /** Absolute path of a folder as `atoll cert` fills it. */
  readonly directory: string;
  /** Names in certificates, with the users that they may log in as; a name that is not here is a user's. */
  readonly principals: ReadonlyMap<string, readonly string[]>;
}

/** Everything an operator decides about a node. */
export interface DaemonConfig {
  /** Absolute path of the store's folder. */
  readonly store: string;
  readonly listen: Address;
  readonly http: Address;
  /** What other nodes and printed connection strings use; the listen address when undefined. */
  readonly advertise: Address | undefined;
  readonly locality: readonly LocalityTier[];
  /** Insecure: no passwords, every client is who it says it is. */
  readonly isInsecure: boolean;
  /** Undefined: nothing is encrypted. */
  readonly certificates: CertificateConfig | undefined;
  /** Lets SQL clients in that do not encrypt. */
  readonly acceptsSqlWithoutTls: boolean;
  /** Allows an insecure node to listen where others can reach it. */
  readonly acceptsInsecureNetwork: boolean;
  readonly firstStart: FirstStart;
  /** `bin` and `lib` of a distribution's PostgreSQL 18 instead of the one that comes with Atoll. */
  readonly postgres18Directory: string | undefined;
  readonly externalDirectory: ExternalDirectory;
  /** True when storage may not be reached with the node's own credentials. */
  readonly implicitCredentialsDisabled: boolean;
  /** Processes that relay traffic beside the daemon; 0 relays in the daemon. */
  readonly relayProcesses: number;
  /** Name of the user whose rights a daemon has that is started as root; undefined for the first of those we know. */
  readonly user: string | undefined;
  /** Absolute path of the folder for control groups of virtual clusters; undefined for none. */
  readonly controlGroups: string | undefined;
  /** Processes of bulk work reach what their work needs, where the machine can do that. */
  readonly hasWorkerCells: boolean;
  readonly runFiles: RunFilesConfig;
  readonly log: LogConfig;
}

/** Files that tell other programs of the node, by absolute path; undefined for none. */
export interface RunFilesConfig {
  readonly pid: string | undefined;
  readonly listeningUrl: string | undefined;
}

/** Where the node's log goes, and how much of it is kept. */
export interface LogConfig {
  /** Absolute path of the folder; `logs` in the store when undefined. */
  readonly directory: string | undefined;
  readonly format: LogFormat;
  /** Entries below this severity do not go to files; those of the audit always do. */
  readonly fileFrom: Severity;
  /** Entries of this severity and above also go to standard error. */
  readonly stderrFrom: Severity | undefined;
  /** Size at which a file is set aside. */
  readonly fileBytesMax: number;
  /** Size of all files of a kind together. */
  readonly groupBytesMax: number;
  /** Whether sensitive parts stay marked. */
  readonly isRedactable: boolean;
}

/** Refuses combinations that no single flag can see. @throws InputError `usage` */
export function checkConfig(config: DaemonConfig): void {
  if (config.relayProcesses > 0 && process.platform !== 'linux') {
    throw new InputError('usage', 'several processes can share a port on Linux only', {
      hint: 'leave --relay-processes out',
    });
  }
  if (config.log.groupBytesMax < 2 * config.log.fileBytesMax) {
    throw new InputError('usage', '--log-group-max-size is less than two files of --log-file-max-size', {
      hint: 'a file that is full is kept while the next one is written',
    });
  }
  if (!config.isInsecure) {
    requireEncryption(config);
    return;
  }
  if (config.certificates !== undefined) {
    throw new InputError('usage', '--insecure and --certs-dir exclude each other', {
      hint: 'leave --insecure out: --accept-sql-without-tls lets clients in that do not encrypt',
    });
  }
  if (config.acceptsInsecureNetwork) return;
  for (const [flag, address] of [
    ['listen-addr', config.listen],
    ['http-addr', config.http],
  ] as const) {
    if (isLoopback(address.host)) continue;
    throw new InputError(
      'usage',
      `--insecure with --${flag}=${formatAddress(address)} would give everyone on the network full control`,
      { hint: 'listen on localhost, leave --insecure out, or add --accept-insecure-network' },
    );
  }
}

/** Where others can reach the SQL port, what is read and written there is no business of theirs. */
function requireEncryption({ certificates, acceptsSqlWithoutTls, listen }: DaemonConfig): void {
  if (certificates !== undefined || acceptsSqlWithoutTls || isLoopback(listen.host)) return;
  throw new InputError(
    'usage',
    `--listen-addr=${formatAddress(listen)} without certificates would send everything unencrypted`,
    {
      hint: 'give --certs-dir (see atoll cert), or add --accept-sql-without-tls if the network is private',
    },
  );
}
