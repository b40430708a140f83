/**
 * Every cluster setting, declared once: the statements, the defaults, the checks and `docs/reference/settings.md` come from here.
 */
import { PAUSE_POINTS, PAUSE_POINTS_PATTERN } from './pause-points.ts';
import { CURRENT_RELEASE } from './releases.ts';
import type { SettingType } from './setting-value.ts';

/**
 * `application`: each virtual cluster has its own value, set inside it. `system-only`: one value for the physical cluster, seen and
 * set in the system VC. `system-visible`: set in the system VC, readable everywhere.
 */
export type SettingScope = 'application' | 'system-only' | 'system-visible';

export interface SettingDeclaration {
  readonly type: SettingType;
  /** In printed form. */
  readonly defaultValue: string;
  readonly scope: SettingScope;
  /** Reserved settings are listed by SHOW ALL only. */
  readonly visibility: 'public' | 'reserved';
  readonly description: string;
  /** `stored`: kept and shown for compatibility, with nothing that acts on it in this release; setting it says so. */
  readonly effect: 'active' | 'stored';
  readonly aliases?: readonly string[];
  /** Other products' older scope: an attempt from an app VC can be ignored with a notice instead of refused. */
  readonly wasApplication?: true;
  /** A system-only setting that the operator may also give to one virtual cluster. */
  readonly perVirtualCluster?: true;
  /** An application setting that makes sense for the system VC itself, also while its interface is restricted. */
  readonly alsoForSystem?: true;
  /**
   * `secret`: shown to nobody but as `redacted`. `sensitive`: so to those who may only view settings, while
   * `server.redact_sensitive_settings.enabled`.
   */
  readonly holds?: 'secret' | 'sensitive';
  /** Takes effect when the virtual cluster's service starts the next time. */
  readonly atNextStart?: true;
}

const BOOL: SettingType = { kind: 'bool' };
const TEXT: SettingType = { kind: 'string', lengthMax: 10_000 };
const SIZE: SettingType = { kind: 'byte_size', min: 0n, max: 1n << 60n };
const DURATION: SettingType = { kind: 'duration', minUs: 0n, maxUs: 10_000n * 86_400_000_000n };
const POSITIVE_DURATION: SettingType = { ...DURATION, minUs: 1000n };
const int = (min: bigint, max: bigint): SettingType => ({ kind: 'int', min, max });
const MIB = 1n << 20n;

const application = { scope: 'application', visibility: 'public' } as const;
const systemOnly = { scope: 'system-only', visibility: 'public' } as const;
const systemVisible = { scope: 'system-visible', visibility: 'public' } as const;
const active = { effect: 'active' } as const;
const stored = { effect: 'stored' } as const;

/** Timeouts that Postgres keeps in milliseconds, in 31 bits. */
const sessionTimeout = {
  ...application,
  ...active,
  alsoForSystem: true,
  type: { kind: 'duration', minUs: 0n, maxUs: 2_147_483_647_000n },
  defaultValue: '0s',
} as const;

const declared = {
  'admission.disk_bandwidth_tokens.elastic.enabled': {
    ...systemOnly,
    ...stored,
    type: BOOL,
    defaultValue: 'true',
    description: 'whether bulk work is slowed down when the disk is saturated',
  },
  'backup.compaction.threshold': {
    ...application,
    ...stored,
    type: int(0n, 4n),
    defaultValue: '0',
    description: 'length of a scheduled chain from which on its incrementals are merged; 0 for never',
  },
  'bulkio.backup.deprecated_full_backup_with_subdir.enabled': {
    ...application,
    ...active,
    type: BOOL,
    defaultValue: 'false',
    description: 'whether BACKUP INTO a subdirectory that holds no backup makes a full backup there',
  },
  'bulkio.backup.file_size': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: { kind: 'byte_size', min: MIB, max: 1n << 34n },
    defaultValue: '128 MiB',
    description: 'target size of a data file of a backup',
  },
  'bulkio.backup.read_retry_delay': {
    ...application,
    ...stored,
    type: DURATION,
    defaultValue: '5s',
    description: 'how long to wait before a failed read of a backup is tried again, per attempt so far',
  },
  'bulkio.backup.read_timeout': {
    ...application,
    ...stored,
    type: DURATION,
    defaultValue: '5m0s',
    description: 'how long one read of a backup may take before the backup fails',
  },
  'cloudstorage.azure.concurrent_upload_buffers': {
    ...application,
    ...active,
    type: int(1n, 64n),
    defaultValue: '1',
    description: 'buffers in flight per file written to Azure',
  },
  'cloudstorage.http.custom_ca': {
    ...application,
    ...active,
    type: { kind: 'string', lengthMax: 1_000_000 },
    defaultValue: '',
    description: 'further root certificates, in PEM, that storage is trusted by',
  },
  'cloudstorage.timeout': {
    ...application,
    ...active,
    type: POSITIVE_DURATION,
    defaultValue: '10m0s',
    description: 'how long one operation of remote storage may take',
  },
  'cloudstorage.userfile.total_max': {
    ...application,
    ...active,
    type: SIZE,
    defaultValue: '0 B',
    description: 'bytes that the files of all users may take together in userfile storage; 0 for no limit',
  },
  'cluster.auto_upgrade.enabled': {
    ...application,
    ...stored,
    alsoForSystem: true,
    aliases: ['auto_upgrade.enabled'],
    type: BOOL,
    defaultValue: 'true',
    description: 'whether an upgrade is finalized without being asked',
  },
  'cluster.organization': {
    ...systemVisible,
    ...stored,
    type: TEXT,
    defaultValue: '',
    description: 'name of the organization that runs the physical cluster',
  },
  'cluster.preserve_downgrade_option': {
    ...application,
    ...stored,
    alsoForSystem: true,
    aliases: ['preserve_downgrade_option'],
    type: { kind: 'string', lengthMax: 10, pattern: /^(\d+\.\d+)?$/ },
    defaultValue: '',
    description:
      'the current release, to keep an upgrade from being finalized automatically; empty otherwise',
  },
  'diagnostics.reporting.enabled': {
    ...application,
    ...stored,
    type: BOOL,
    defaultValue: 'true',
    description: 'accepted and never acted on: nothing is ever reported to anybody',
  },
  'enterprise.license': {
    ...systemVisible,
    ...stored,
    holds: 'secret',
    type: TEXT,
    defaultValue: '',
    description: 'accepted and never checked: no feature needs a license',
  },
  'feature.backup.enabled': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: BOOL,
    defaultValue: 'true',
    description: 'whether BACKUP is allowed',
  },
  'feature.restore.enabled': {
    ...application,
    ...active,
    type: BOOL,
    defaultValue: 'true',
    description: 'whether RESTORE is allowed',
  },
  'gc.ttlseconds': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: int(60n, 315_360_000n),
    defaultValue: '14400',
    description: 'how many seconds back every moment of a virtual cluster can be gone to, given the room',
  },
  'instance.cpu_weight': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    atNextStart: true,
    type: int(1n, 10_000n),
    defaultValue: '100',
    description:
      "share of the processor against other virtual clusters' when all want it; without control groups what is below 100 becomes niceness",
  },
  'instance.max_connections': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    atNextStart: true,
    type: int(20n, 10_000n),
    defaultValue: '200',
    description: 'sessions that a virtual cluster admits at the same time',
  },
  'instance.memory_limit': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    atNextStart: true,
    type: { kind: 'byte_size', min: 0n, minUnlessZero: 256n * MIB, max: 1n << 50n },
    defaultValue: '0 B',
    description:
      'memory that all sessions of a virtual cluster may take together, cached files included, at least 256 MiB; 0 for no limit; needs control groups',
  },
  'instance.niceness': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    atNextStart: true,
    type: int(0n, 19n),
    defaultValue: '0',
    description:
      'how far a virtual cluster stands back when the processor is busy; not one with the capability exempt_from_rate_limiting',
  },
  'instance.session_memory': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    atNextStart: true,
    type: { kind: 'byte_size', min: 0n, minUnlessZero: 64n * MIB, max: 1n << 50n },
    defaultValue: '0 B',
    description:
      'memory that one session of a virtual cluster may take beyond what all share, at least 64 MiB; 0 for no limit',
  },
  'instance.shared_buffers': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    atNextStart: true,
    type: { kind: 'byte_size', min: MIB, max: 1n << 40n },
    defaultValue: '128 MiB',
    description: 'memory in which a virtual cluster keeps pages, shared by its sessions',
  },
  'instance.slot_wal_limit': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    atNextStart: true,
    type: { kind: 'byte_size', min: 64n * MIB, max: 1n << 50n },
    defaultValue: '10 GiB',
    description: 'log that a virtual cluster keeps for replication slots whose consumers do not come',
  },
  'instance.temp_file_limit': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    atNextStart: true,
    type: { kind: 'byte_size', min: MIB, max: 1n << 50n },
    defaultValue: '10 GiB',
    description: 'temporary files that one session of a virtual cluster may have on disk',
  },
  'jobs.debug.pausepoints': {
    ...application,
    ...active,
    visibility: 'reserved',
    alsoForSystem: true,
    type: { kind: 'string', lengthMax: 1000, pattern: PAUSE_POINTS_PATTERN },
    defaultValue: '',
    description: `places, with commas between, at which jobs pause: ${PAUSE_POINTS.join(', ')}`,
  },
  'jobs.registry.retry.initial_delay': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: POSITIVE_DURATION,
    defaultValue: '30s',
    description: 'how long a job waits before its first retry; doubled with every further one',
  },
  'jobs.registry.retry.max_delay': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: POSITIVE_DURATION,
    defaultValue: '24h0m0s',
    description: 'the longest a job waits before a retry',
  },
  'jobs.retention_time': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: { ...DURATION, minUs: 60_000_000n },
    defaultValue: '336h0m0s',
    description: 'how long the record of a finished job is kept',
  },
  'jobs.scheduler.enabled': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: BOOL,
    defaultValue: 'true',
    description: 'whether schedules start jobs',
  },
  'jobs.scheduler.max_jobs_per_iteration': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: int(0n, 1000n),
    defaultValue: '5',
    description: 'jobs that schedules start in one round; 0 for no limit',
  },
  'jobs.scheduler.pace': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: POSITIVE_DURATION,
    defaultValue: '1m0s',
    description: 'how long a schedule that is due and cannot start yet waits for another try',
  },
  'kv.bulk_io_write.max_rate': {
    ...systemOnly,
    ...stored,
    type: { ...SIZE, min: 1n },
    defaultValue: '1 TiB',
    description: 'bytes per second that a restore may write',
  },
  'kv.bulk_sst.max_allowed_overage': {
    ...systemOnly,
    ...stored,
    visibility: 'reserved',
    type: SIZE,
    defaultValue: '64 MiB',
    description: 'accepted for compatibility: captures have fixed frames',
  },
  'kv.bulk_sst.target_size': {
    ...systemOnly,
    ...stored,
    visibility: 'reserved',
    type: SIZE,
    defaultValue: '16 MiB',
    description: 'accepted for compatibility: captures have fixed frames',
  },
  'kv.closed_timestamp.side_transport_interval': {
    ...systemVisible,
    ...stored,
    wasApplication: true,
    type: DURATION,
    defaultValue: '200ms',
    description: 'accepted for compatibility: replicated time is published every second',
  },
  'kv.closed_timestamp.target_duration': {
    ...systemVisible,
    ...stored,
    wasApplication: true,
    type: DURATION,
    defaultValue: '3s',
    description: 'accepted for compatibility: replicated time is published every second',
  },
  'kv.protectedts.reconciliation.interval': {
    ...systemVisible,
    ...stored,
    wasApplication: true,
    type: POSITIVE_DURATION,
    defaultValue: '5m0s',
    description: 'how often pins of retained history are compared with the jobs that hold them',
  },
  'kv.rangefeed.enabled': {
    ...systemVisible,
    ...stored,
    wasApplication: true,
    type: BOOL,
    defaultValue: 'false',
    description: 'accepted for compatibility: streams of changes need no switch',
  },
  'physical_replication.consumer.minimum_flush_interval': {
    ...systemOnly,
    ...stored,
    aliases: ['bulkio.stream_ingestion.minimum_flush_interval'],
    type: DURATION,
    defaultValue: '5s',
    description: 'the least time between two flushes of replicated changes',
  },
  'physical_replication.consumer.pause_limit': {
    ...systemOnly,
    ...active,
    type: POSITIVE_DURATION,
    defaultValue: '24h0m0s',
    description:
      'how long replication may be paused before its stream is given up, and its source keeps log for it no longer',
  },
  'physical_replication.consumer.retry_window': {
    ...systemOnly,
    ...active,
    type: POSITIVE_DURATION,
    defaultValue: '3m0s',
    description:
      'how long the source of a replication stream may be out of reach before the stream is given up',
  },
  'physical_replication.producer.expiration_window': {
    ...systemOnly,
    ...active,
    type: POSITIVE_DURATION,
    defaultValue: '24h0m0s',
    description:
      'how long log is kept for a consumer that is not heard of, before its replication stream is cancelled',
  },
  'schedules.backup.gc_protection.enabled': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: BOOL,
    defaultValue: 'true',
    description: 'whether a schedule keeps the history that its next incremental needs',
  },
  'server.child_metrics.enabled': {
    ...application,
    ...stored,
    type: BOOL,
    defaultValue: 'false',
    description: 'whether metrics are exported with further labels',
  },
  'server.consistency_check.max_rate': {
    ...systemOnly,
    ...stored,
    type: SIZE,
    defaultValue: '8 MiB',
    description: 'bytes per second that consistency checks may read',
  },
  'server.controller.default_target_cluster': {
    ...systemOnly,
    ...active,
    type: { kind: 'string', lengthMax: 63, pattern: /^([a-z0-9]([a-z0-9_-]*[a-z0-9])?)?$/ },
    defaultValue: 'system',
    description: 'virtual cluster that a connection is taken to when it names none',
  },
  'server.eventlog.enabled': {
    ...application,
    ...stored,
    type: BOOL,
    defaultValue: 'true',
    description: 'whether notable events are recorded in a table',
  },
  'server.eventlog.ttl': {
    ...application,
    ...stored,
    type: DURATION,
    defaultValue: '2160h0m0s',
    description: 'how long recorded events are kept',
  },
  'server.host_based_authentication.configuration': {
    holds: 'sensitive',
    ...application,
    ...stored,
    type: TEXT,
    defaultValue: '',
    description: 'rules by which clients authenticate; empty for the built-in ones',
  },
  'server.max_connections_per_gateway': {
    ...application,
    ...active,
    type: int(-1n, 1_000_000n),
    defaultValue: '-1',
    description: 'sessions of non-administrators that one node admits; -1 for no limit',
  },
  'server.rangelog.ttl': {
    ...systemOnly,
    ...stored,
    type: DURATION,
    defaultValue: '720h0m0s',
    description: 'accepted for compatibility: there are no ranges to log',
  },
  'server.redact_sensitive_settings.enabled': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: BOOL,
    defaultValue: 'false',
    description: 'whether values of sensitive settings are hidden from those who may only view settings',
  },
  'server.sql_connections.max': {
    ...systemOnly,
    ...active,
    type: int(10n, 1_000_000n),
    defaultValue: '10000',
    description: 'SQL connections of all kinds that one process of a node has at the same time',
  },
  'server.sql_connections.pending_max': {
    ...systemOnly,
    ...active,
    type: int(1n, 1_000_000n),
    defaultValue: '1000',
    description:
      'SQL connections that have not logged in yet; beyond, the oldest of the address with the most is closed',
  },
  'server.user_login.failures_max': {
    ...systemOnly,
    ...active,
    type: int(1n, 1_000_000n),
    defaultValue: '30',
    description: 'failed logins that one address may have at once before its further ones wait',
  },
  'server.user_login.failures_per_minute': {
    ...systemOnly,
    ...active,
    type: int(1n, 1_000_000n),
    defaultValue: '60',
    description: 'failed logins that one address may have in the long run',
  },
  'server.user_login.min_password_length': {
    ...application,
    ...stored,
    type: int(1n, 1000n),
    defaultValue: '1',
    description: 'the fewest characters a password may have',
  },
  'server.user_login.password_encryption': {
    ...application,
    ...stored,
    type: { kind: 'enum', values: ['scram-sha-256'] },
    defaultValue: 'scram-sha-256',
    description: 'how passwords are kept',
  },
  'server.user_login.timeout': {
    ...application,
    ...active,
    type: POSITIVE_DURATION,
    defaultValue: '10s',
    description: 'what a client may take for each thing it has to say while it logs in',
  },
  'server.web_session.timeout': {
    ...application,
    ...active,
    aliases: ['server.web_session_timeout'],
    type: POSITIVE_DURATION,
    defaultValue: '168h0m0s',
    description: 'how long a session at the HTTP port lives',
  },
  'spanconfig.range_coalescing.application.enabled': {
    ...systemOnly,
    ...stored,
    visibility: 'reserved',
    type: BOOL,
    defaultValue: 'true',
    description: 'accepted for compatibility: there are no ranges',
  },
  'spanconfig.range_coalescing.system.enabled': {
    ...systemOnly,
    ...stored,
    visibility: 'reserved',
    type: BOOL,
    defaultValue: 'true',
    description: 'accepted for compatibility: there are no ranges',
  },
  'sql.defaults.datestyle': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: { kind: 'enum', values: ['ISO, MDY', 'ISO, DMY', 'ISO, YMD'] },
    defaultValue: 'ISO, MDY',
    description: 'DateStyle that sessions begin with',
  },
  'sql.defaults.idle_in_session_timeout': {
    ...sessionTimeout,
    description: 'idle_session_timeout that sessions begin with; 0 for none',
  },
  'sql.defaults.idle_in_transaction_session_timeout': {
    ...sessionTimeout,
    description: 'idle_in_transaction_session_timeout that sessions begin with; 0 for none',
  },
  'sql.defaults.intervalstyle': {
    ...application,
    ...active,
    alsoForSystem: true,
    type: { kind: 'enum', values: ['postgres', 'iso_8601', 'sql_standard'] },
    defaultValue: 'postgres',
    description: 'IntervalStyle that sessions begin with',
  },
  'sql.defaults.lock_timeout': {
    ...sessionTimeout,
    description: 'lock_timeout that sessions begin with; 0 for none',
  },
  'sql.defaults.primary_region': {
    ...application,
    ...active,
    type: TEXT,
    defaultValue: '',
    description: 'primary region that RESTORE DATABASE gives to databases that come without one',
  },
  'sql.defaults.statement_timeout': {
    ...sessionTimeout,
    description: 'statement_timeout that sessions begin with; 0 for none',
  },
  'sql.error_tip_system_interface.enabled': {
    ...systemOnly,
    ...active,
    visibility: 'reserved',
    type: BOOL,
    defaultValue: 'false',
    description:
      'whether an app VC that sets what used to be its own setting gets a notice instead of an error',
  },
  'sql.restrict_system_interface.enabled': {
    ...systemOnly,
    ...active,
    visibility: 'reserved',
    type: BOOL,
    defaultValue: 'false',
    description: 'whether the system VC refuses object creation and changes of application settings',
  },
  'storage.max_sync_duration': {
    ...systemVisible,
    ...stored,
    type: POSITIVE_DURATION,
    defaultValue: '20s',
    description: 'how long a flush to disk may take before it is called stalled',
  },
  'storage.sstable.compression_algorithm_backup_storage': {
    ...systemVisible,
    ...stored,
    type: { kind: 'enum', values: ['fastest', 'balanced', 'good', 'snappy', 'zstd', 'none'] },
    defaultValue: 'fastest',
    description: 'accepted for compatibility: backups are compressed by zstd at its fastest level',
  },
  'storage.sstable.compression_algorithm_backup_transport': {
    ...systemVisible,
    ...stored,
    visibility: 'reserved',
    type: { kind: 'enum', values: ['fastest', 'balanced', 'good', 'snappy', 'zstd', 'none'] },
    defaultValue: 'fastest',
    description: 'accepted for compatibility: backups are compressed by zstd at its fastest level',
  },
  'timeline.base.interval': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    type: { ...DURATION, minUs: 60_000_000n },
    defaultValue: '1h0m0s',
    description:
      'age of the newest base of a timeline from which on a new one is captured, if enough was written since',
  },
  'timeline.base.wal_size': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    type: { kind: 'byte_size', min: 16n * MIB, max: 1n << 40n },
    defaultValue: '512 MiB',
    description:
      'log since the newest base of a timeline from which on a new one is captured: not much more is ever replayed',
  },
  'timeline.check.interval': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    type: DURATION,
    defaultValue: '168h0m0s',
    description:
      'time between two restores of a virtual cluster to a random moment that are tried out on a copy; 0 for never',
  },
  'timeline.continuous.backlog_max': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    type: { ...SIZE, min: 64n * MIB },
    defaultValue: '16 GiB',
    description:
      'log of a virtual cluster that is kept on the node while the collection of its continuous backup cannot be reached; beyond, or after 24 hours, it is kept no longer for that',
  },
  'timeline.continuous.window': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    type: DURATION,
    defaultValue: '24h0m0s',
    description:
      'how far back a continuous backup reaches: what is older, and not needed to get to what is not, is removed from its collection',
  },
  'timeline.disk.free_min': {
    ...systemOnly,
    ...active,
    type: SIZE,
    defaultValue: '1 GiB',
    description:
      'room on the disk of the store below which no base is captured; below three times as much, slots of tenants that keep log are given up, below twice as much, windows of timelines become shorter, and below half of it the virtual cluster that grows most becomes read-only',
  },
  'timeline.disk.ballast': {
    ...systemOnly,
    ...active,
    type: SIZE,
    defaultValue: '64 MiB',
    description:
      'room on the disk of the store that is taken to be given back when fewer bytes than an eighth of timeline.disk.free_min are free; 0 for none',
  },
  'timeline.enabled': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    type: BOOL,
    defaultValue: 'true',
    description:
      'whether bases of a virtual cluster are captured and what its timeline no longer needs is removed',
  },
  'timeline.size_max': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    type: { ...SIZE, min: 64n * MIB },
    defaultValue: '256 GiB',
    description:
      'room on disk that the timeline of a virtual cluster may take; beyond, its window becomes shorter',
  },
  'timeline.verify.interval': {
    ...systemOnly,
    ...active,
    perVirtualCluster: true,
    type: DURATION,
    defaultValue: '168h0m0s',
    description: 'time within which everything that a timeline stores is read again and checked; 0 for never',
  },
  'timeseries.storage.enabled': {
    ...systemOnly,
    ...stored,
    type: BOOL,
    defaultValue: 'true',
    description: 'whether metrics are kept over time for the console',
  },
  'timeseries.storage.resolution_10s.ttl': {
    ...systemVisible,
    ...stored,
    type: DURATION,
    defaultValue: '240h0m0s',
    description: 'how long metrics are kept at a resolution of 10 seconds',
  },
  'timeseries.storage.resolution_30m.ttl': {
    ...systemVisible,
    ...stored,
    type: DURATION,
    defaultValue: '2160h0m0s',
    description: 'how long metrics are kept at a resolution of 30 minutes',
  },
  'ui.display_timezone': {
    ...application,
    ...stored,
    type: { kind: 'string', lengthMax: 64, pattern: /^[A-Za-z0-9_+\-/]+$/ },
    defaultValue: 'Etc/UTC',
    description: 'time zone in which the console shows times',
  },
  version: {
    ...application,
    ...active,
    alsoForSystem: true,
    type: { kind: 'enum', values: [CURRENT_RELEASE] },
    defaultValue: CURRENT_RELEASE,
    description: 'release that the virtual cluster behaves as',
  },
} as const satisfies Record<string, SettingDeclaration>;

const STORAGE_PROVIDERS = ['azure', 'gs', 'http', 'nodelocal', 'nullsink', 's3', 'userfile'] as const;
/** Those that backups are written to and read from. */
export const LIMITED_PROVIDERS = ['azure', 'gs', 'nodelocal', 's3', 'userfile'] as const;
const RATE_SETTINGS = {
  'read.node_burst_limit':
    'bytes that one node may read at once after a time of rest; 0 for what its rate limit brings in a second',
  'read.node_rate_limit': 'bytes per second that one node may read; 0 for no limit',
  'write.node_burst_limit':
    'bytes that one node may write at once after a time of rest; 0 for what its rate limit brings in a second',
  'write.node_rate_limit': 'bytes per second that one node may write; 0 for no limit',
} as const;

/** `cloudstorage.<provider>.<read|write>.node_<rate|burst>_limit`. */
const storageRates: Record<string, SettingDeclaration> = Object.fromEntries(
  STORAGE_PROVIDERS.flatMap((provider) =>
    Object.entries(RATE_SETTINGS).map(([limit, description]) => [
      `cloudstorage.${provider}.${limit}`,
      {
        ...application,
        ...((LIMITED_PROVIDERS as readonly string[]).includes(provider) ? active : stored),
        type: SIZE,
        defaultValue: '0 B',
        description: `${provider}: ${description}`,
      },
    ]),
  ),
);

/** Settings that code may ask for by name. */
export type KnownSettingName =
  | keyof typeof declared
  | `cloudstorage.${(typeof LIMITED_PROVIDERS)[number]}.${keyof typeof RATE_SETTINGS}`;

export const SETTING_DECLARATIONS: Readonly<Record<string, SettingDeclaration>> = {
  ...declared,
  ...storageRates,
};
