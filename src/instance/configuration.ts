/** The node's configuration of an instance: `<store>/vc/<id>/conf/`, outside the data directory and its reach. */
import { join } from 'node:path';
import { z } from 'zod';
import { errnoOf, InputError } from '../base/index.ts';
import type { InstanceSettings } from './contract.ts';
import { CPU_WEIGHT_DEFAULT } from './control-groups.ts';
import { type Owner, updateFileDurably } from './durable-files.ts';
import type { Privileges } from './privileges/contract.ts';
import type { Engine } from './engine.ts';
import { type RecordFormat, readRecord, sealRecord } from './sealed-record.ts';
import { LOG_LINE_PREFIX } from './log-lines.ts';
import { SOCKET_PORT } from './store-layout.ts';

const SETTINGS_FILE = 'settings.json';
const MIB = 1024 * 1024;

/** What a virtual cluster gets unless somebody decides otherwise; chosen for many small ones on one machine. */
export const DEFAULT_INSTANCE_SETTINGS: InstanceSettings = {
  maxConnections: 100,
  sharedBuffersBytes: 64 * MIB,
  sessionMemoryBytes: 0,
  niceness: 0,
  cpuWeight: CPU_WEIGHT_DEFAULT,
  memoryBytes: 0,
  extra: {},
};

/** Kept for Atoll's own sessions, on top of what tenants get. */
const SUPERUSER_CONNECTIONS = 3;
const READER_CONNECTIONS = 3;

/**
 * Places for transactions in doubt, of every instance alike: whatever was prepared in one can then be recovered in any other. See
 * docs/decisions/0038-prepared-transactions.md.
 */
export const PREPARED_TRANSACTIONS = 20;

/** Postgres wants at least this much, in bytes. */
const SHARED_BUFFERS_BYTES_MIN = 128 * 1024;
const CONNECTIONS_MAX = 10_000;
/** Less, and a session could not even begin. */
export const SESSION_MEMORY_BYTES_MIN = 64 * MIB;
/** Less than that and a server hardly gets up. */
export const MEMORY_BYTES_MIN = 256 * MIB;
const CPU_WEIGHT_MAX = 10_000;

/** The same for every instance, whatever it is asked for. */
const FIXED: Readonly<Record<string, string>> = {
  // The only way in is the private socket.
  listen_addresses: '',
  port: String(SOCKET_PORT),
  unix_socket_permissions: '0700',
  unix_socket_group: '',
  ssl: 'off',
  password_encryption: 'scram-sha-256',

  // What the timeline needs: a log that is whole, decodable, and summarised for incremental captures.
  wal_level: 'logical',
  summarize_wal: 'on',
  full_page_writes: 'on',
  fsync: 'on',
  hot_standby: 'on',
  archive_mode: 'off',
  min_wal_size: '32MB',
  max_wal_size: '1GB',
  // One of each for the vault, one for a capture; the rest is the tenant's.
  max_wal_senders: '12',
  max_replication_slots: '12',
  idle_replication_slot_timeout: '1d',

  // Nothing is loaded that we did not choose.
  shared_preload_libraries: '',
  session_preload_libraries: '',
  local_preload_libraries: '',
  dynamic_library_path: '$libdir',
  allow_alter_system: 'off',
  jit: 'off',

  // Small when idle.
  io_method: 'sync',
  huge_pages: 'off',
  superuser_reserved_connections: String(SUPERUSER_CONNECTIONS),
  reserved_connections: String(READER_CONNECTIONS),
  max_prepared_transactions: String(PREPARED_TRANSACTIONS),
  autovacuum_worker_slots: '4',
  autovacuum_max_workers: '3',

  // Read by LogForwarder, which depends on the prefix. Statements stay out: they may carry passwords.
  log_destination: 'stderr',
  logging_collector: 'off',
  log_line_prefix: LOG_LINE_PREFIX,
  log_error_verbosity: 'default',
  log_min_messages: 'warning',
  log_min_error_statement: 'panic',
  log_statement: 'none',
  log_checkpoints: 'off',
  log_connections: '',
  log_disconnections: 'off',
  log_autovacuum_min_duration: '-1',
  log_timezone: 'UTC',

  lc_messages: 'C',
  lc_monetary: 'C',
  lc_numeric: 'C',
  lc_time: 'C',
};

/** Defaults that operators may change. The first group is memory that Postgres touches at start, used or not. */
const PREFERRED: Readonly<Record<string, string>> = {
  wal_buffers: '1MB',
  io_max_concurrency: '8',
  max_pred_locks_per_transaction: '16',

  // A consumer that does not come, be it the vault or a tenant's, may not fill the disk.
  max_slot_wal_keep_size: '10GB',
  // Of each session; tenants can't raise it.
  temp_file_limit: '10GB',

  timezone: 'UTC',
  datestyle: 'iso, mdy',
  default_text_search_config: 'pg_catalog.english',
  // An administrator who is no superuser can use the roles it made, as one expects of `root`.
  createrole_self_grant: 'set, inherit',
};

/** Decided for each instance by us, or no parameters at all; never in `extra`. */
const DERIVED = [
  'cluster_name',
  'config_file',
  'data_directory',
  'extension_control_path',
  'external_pid_file',
  'hba_file',
  'ident_file',
  'include',
  'include_dir',
  'include_if_exists',
  'max_connections',
  'shared_buffers',
  'unix_socket_directories',
];

const settingsSchema = z.strictObject({
  maxConnections: z.int(),
  sharedBuffersBytes: z.int(),
  sessionMemoryBytes: z.int().default(0),
  niceness: z.int().default(0),
  cpuWeight: z.int().default(CPU_WEIGHT_DEFAULT),
  memoryBytes: z.int().default(0),
  extra: z.record(z.string(), z.string()),
});

export const SETTINGS_FORMAT: RecordFormat<z.infer<typeof settingsSchema>> = {
  format: 'atoll-instance-settings',
  version: 1,
  body: settingsSchema,
};

/** @throws InputError `parameter_invalid` */
export function checkSettings(settings: InstanceSettings): void {
  const { maxConnections, sharedBuffersBytes, sessionMemoryBytes, niceness, extra } = settings;
  const { cpuWeight, memoryBytes } = settings;
  if (!Number.isInteger(maxConnections) || maxConnections < 1 || maxConnections > CONNECTIONS_MAX) {
    throw new InputError('parameter_invalid', `max_connections must be 1 to ${CONNECTIONS_MAX}`);
  }
  if (!Number.isSafeInteger(sharedBuffersBytes) || sharedBuffersBytes < SHARED_BUFFERS_BYTES_MIN) {
    throw new InputError(
      'parameter_invalid',
      `shared_buffers must be at least ${SHARED_BUFFERS_BYTES_MIN} bytes`,
    );
  }
  if (sessionMemoryBytes !== 0 && !(sessionMemoryBytes >= SESSION_MEMORY_BYTES_MIN)) {
    throw new InputError(
      'parameter_invalid',
      `memory of a session must be 0 or at least ${SESSION_MEMORY_BYTES_MIN} bytes`,
    );
  }
  if (!Number.isInteger(niceness) || niceness < 0 || niceness > 19) {
    throw new InputError('parameter_invalid', 'niceness must be 0 to 19');
  }
  if (!Number.isInteger(cpuWeight) || cpuWeight < 1 || cpuWeight > CPU_WEIGHT_MAX) {
    throw new InputError('parameter_invalid', `weight at the processor must be 1 to ${CPU_WEIGHT_MAX}`);
  }
  if (memoryBytes !== 0 && !(Number.isSafeInteger(memoryBytes) && memoryBytes >= MEMORY_BYTES_MIN)) {
    throw new InputError('parameter_invalid', `memory must be 0 or at least ${MEMORY_BYTES_MIN} bytes`);
  }
  for (const [name, value] of Object.entries(extra)) {
    if (!/^[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?$/.test(name)) {
      throw new InputError('parameter_invalid', `not a configuration parameter: ${JSON.stringify(name)}`);
    }
    if (name in FIXED || DERIVED.includes(name)) {
      throw new InputError('parameter_invalid', `parameter ${name} of an instance is fixed`);
    }
    if (/\p{Cc}/u.test(value)) {
      throw new InputError('parameter_invalid', `value of parameter ${name} holds control characters`);
    }
  }
}

export interface ConfigurationFiles {
  readonly postgresql: string;
  readonly hba: string;
  readonly ident: string;
}

/** What a server reads. */
export const CONFIGURATION_FILES = ['postgresql.conf', 'pg_hba.conf', 'pg_ident.conf'] as const;

export function configurationFiles(directory: string): ConfigurationFiles {
  const [postgresql, hba, ident] = CONFIGURATION_FILES;
  return {
    postgresql: join(directory, postgresql),
    hba: join(directory, hba),
    ident: join(directory, ident),
  };
}

/** Writes all files for the next start. The instance's user may read them and not change them. */
export async function writeConfiguration(options: {
  directory: string;
  clusterName: string;
  socketDirectory: string;
  settings: InstanceSettings;
  engine: Engine;
  user: Owner | null;
  privileges: Privileges;
  /** On top of everything: those of a follower. */
  parameters?: Readonly<Record<string, string>>;
  /** Nobody but the daemon itself is let in, also not those whom it would lead here. */
  isClosed?: boolean;
}): Promise<void> {
  const { directory, settings, user, privileges } = options;
  checkSettings(settings);
  const files = configurationFiles(directory);
  const readable = { mode: 0o640, owner: user === null ? null : { uid: 0, gid: user.gid } };
  await updateFileDurably({ path: files.postgresql, content: postgresqlConf(options), ...readable });
  await updateFileDurably({
    path: files.hba,
    content: options.isClosed === true ? HBA_CLOSED : HBA,
    ...readable,
  });
  await updateFileDurably({ path: files.ident, content: identOf(privileges.peers()), ...readable });
  const body = {
    maxConnections: settings.maxConnections,
    sharedBuffersBytes: settings.sharedBuffersBytes,
    sessionMemoryBytes: settings.sessionMemoryBytes,
    niceness: settings.niceness,
    cpuWeight: settings.cpuWeight,
    memoryBytes: settings.memoryBytes,
    extra: { ...settings.extra },
  };
  await updateFileDurably({
    path: join(directory, SETTINGS_FILE),
    content: sealRecord(SETTINGS_FORMAT, body),
    mode: 0o600,
  });
}

/** The settings of the last start. @throws CorruptError, AppError `format_unsupported` */
export async function readSettings(directory: string): Promise<InstanceSettings | undefined> {
  try {
    return await readRecord(SETTINGS_FORMAT, join(directory, SETTINGS_FILE));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function postgresqlConf(options: {
  clusterName: string;
  socketDirectory: string;
  settings: InstanceSettings;
  engine: Engine;
  privileges: Privileges;
  parameters?: Readonly<Record<string, string>>;
}): string {
  const { settings, engine } = options;
  const connections = settings.maxConnections + SUPERUSER_CONNECTIONS + READER_CONNECTIONS;
  const parameters: Record<string, string> = {
    ...PREFERRED,
    ...settings.extra,
    ...FIXED,
    // Who may pass through the folder may reach the socket: the daemon and the instance itself.
    ...(options.privileges.isSeparate ? { unix_socket_permissions: '0777' } : {}),
    cluster_name: options.clusterName,
    unix_socket_directories: options.socketDirectory,
    max_connections: String(connections),
    shared_buffers: `${Math.ceil(settings.sharedBuffersBytes / 1024)}kB`,
    ...(engine.extensionControlPath === null ? {} : { extension_control_path: engine.extensionControlPath }),
    ...options.parameters,
  };
  const lines = Object.entries(parameters).map(([name, value]) => `${name} = ${quoteParameter(value)}`);
  return `# Written by Atoll before every start; changes made here are lost.\n${lines.join('\n')}\n`;
}

function quoteParameter(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}

const HBA = `# Written by Atoll before every start.
local all         all peer map=atoll
local replication all peer map=atoll
`;

const HBA_CLOSED = `# Written by Atoll before every start.
local all         atoll peer map=atoll
`;

/** The OS users who are let in, as every role. */
function identOf(users: readonly string[]): string {
  const lines = users.map((user) => `atoll "${user}" all`);
  return `# Written by Atoll before every start.\n${lines.join('\n')}\n`;
}
