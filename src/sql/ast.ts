/**
 * The statements that are Atoll's own, as frozen tagged nodes. Everything else is Postgres's and never gets a tree.
 * One node per statement serves the parser, the printer, the privilege check and the help.
 */
import type { PrivilegeStatement, RoleReference } from './ast-privileges.ts';

/** A value as it was written. Placeholders (`$1`) are bound at execution. */
export type Value =
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'number'; readonly text: string }
  | { readonly kind: 'boolean'; readonly value: boolean }
  | { readonly kind: 'null' }
  | { readonly kind: 'identifier'; readonly name: string }
  | { readonly kind: 'placeholder'; readonly number: number };

/** `name` or `name = value`; the name is a key of `OPTIONS`: lower case, several words joined by `_` (`execution_locality`). */
export interface Option {
  readonly name: string;
  /** `undefined` when only the name was given, a list for `(a, b)`. */
  readonly value: Value | readonly Value[] | undefined;
}

/** `[[database.]schema.]table`, or `*` in place of the table. */
export interface TablePattern {
  readonly qualifiers: readonly string[];
  /** `undefined` for `*`. */
  readonly name: string | undefined;
}

export type BackupTargets =
  | { readonly kind: 'virtual_cluster' }
  | { readonly kind: 'databases'; readonly names: readonly string[] }
  | { readonly kind: 'tables'; readonly patterns: readonly TablePattern[] };

export type RestoreTargets = BackupTargets | { readonly kind: 'system_users' };

/** Which backup of a collection. */
export type BackupSelector =
  | { readonly kind: 'latest' }
  | { readonly kind: 'subdirectory'; readonly path: Value };

export type CapabilityList =
  | { readonly kind: 'all' }
  | {
      readonly kind: 'some';
      readonly capabilities: readonly { readonly name: string; readonly value: Value | undefined }[];
    };

export type AlterVirtualClusterAction =
  /** With force also where a planned switchover has put it out of service. */
  | { readonly kind: 'start_service_shared'; readonly withForce: boolean }
  | { readonly kind: 'stop_service' }
  | { readonly kind: 'rename_to'; readonly name: string }
  | { readonly kind: 'grant_capabilities'; readonly capabilities: CapabilityList }
  | { readonly kind: 'revoke_capabilities'; readonly capabilities: CapabilityList }
  | { readonly kind: 'set_cluster_setting'; readonly name: string; readonly value: Value | 'default' }
  | { readonly kind: 'reset_cluster_setting'; readonly name: string }
  | { readonly kind: 'pause_replication' }
  | { readonly kind: 'resume_replication' }
  /** A failover; the time may lie ahead. Drained: the source is put out of service first, so that nothing is lost. */
  | { readonly kind: 'complete_replication'; readonly to: Value | 'latest' | 'latest_drained' }
  /** A failback: `uri` leads to the system VC that `source` belongs to. */
  | ({ readonly kind: 'start_replication' } & ReplicationSource)
  /** Of the stream that it follows by. */
  | { readonly kind: 'set_replication'; readonly options: StreamOptions }
  /** Of the streams that follow it. */
  | { readonly kind: 'set_replication_source'; readonly expirationWindow: Value }
  /** `source` is a virtual cluster's name; today it must be the same one's. */
  | { readonly kind: 'reset_data'; readonly source: string; readonly asOf: Value }
  /** Without a time, at a moment of the window that is chosen at random. */
  | { readonly kind: 'check_timeline'; readonly asOf: Value | undefined }
  /** Stops its instance when it has been idle for so long. */
  | { readonly kind: 'set_suspend_after'; readonly after: Value }
  | { readonly kind: 'reset_suspend_after' }
  /** Log and bases go on to a collection as they come about. */
  | {
      readonly kind: 'set_continuous_backup';
      readonly location: Value;
      readonly options: readonly Option[];
    }
  | { readonly kind: 'reset_continuous_backup' }
  | { readonly kind: 'undrop' };

export interface ReplicationSource {
  readonly source: string;
  readonly uri: Value;
  readonly options: StreamOptions;
}

/** What is said of a replication stream; the values are durations. */
export interface StreamOptions {
  /** Lets the follower be read, under a name of its own. */
  readonly readVirtualCluster: boolean;
  /** How far back it may be failed over. */
  readonly retention: Value | undefined;
  /** For how long the source keeps log when it hears nothing. */
  readonly expirationWindow: Value | undefined;
}

/** What a zone is of. */
export type ZoneTarget =
  | { readonly kind: 'range'; readonly name: string }
  | { readonly kind: 'database'; readonly name: string }
  /** Never `*`. */
  | { readonly kind: 'table'; readonly table: TablePattern };

export type RegionAction =
  | { readonly kind: 'set_primary'; readonly region: string }
  | { readonly kind: 'add'; readonly ifNotExists: boolean; readonly region: string }
  | { readonly kind: 'drop'; readonly ifExists: boolean; readonly region: string };

/** What a zone is configured with; `discard` takes all of it back. */
export type ZoneVariables =
  | 'discard'
  | readonly { readonly name: string; readonly value: Value | 'default' }[];

/** A query of Postgres's that yields ids: its tokens parted by single blanks, words in lower case. It runs as the asking user. */
export interface IdQuery {
  readonly kind: 'query';
  readonly text: string;
}

export type ScheduleSelection = { readonly kind: 'one'; readonly id: Value } | IdQuery;

interface JobsOfSchedules {
  readonly kind: 'of_schedules';
  readonly schedules: ScheduleSelection;
}

export type ListedJobs = { readonly kind: 'all' } | IdQuery | JobsOfSchedules;

export const JOB_TYPES = ['backup', 'changefeed', 'restore', 'import'] as const;

export type ControlledJobs =
  | { readonly kind: 'one'; readonly id: Value }
  | IdQuery
  | JobsOfSchedules
  | { readonly kind: 'of_type'; readonly type: (typeof JOB_TYPES)[number] };

/** What can recur; only backups do. */
export type ScheduledKind = 'backup' | 'sql_statistics' | 'changefeed';

/** A BACKUP without the parts that its schedule decides. */
export interface ScheduledBackup {
  readonly targets: BackupTargets;
  readonly destination: readonly Value[];
  readonly options: readonly Option[];
}

export type AlterScheduleAction =
  | { readonly kind: 'set_label'; readonly label: Value }
  | { readonly kind: 'set_into'; readonly destination: readonly Value[] }
  | { readonly kind: 'set_with'; readonly option: Option }
  | { readonly kind: 'set_recurring'; readonly recurring: Value }
  | { readonly kind: 'set_full_backup'; readonly fullBackup: Value | 'always' }
  | { readonly kind: 'set_schedule_option'; readonly option: Option }
  | { readonly kind: 'execute_immediately'; readonly full: boolean };

export type FileUploadAction =
  /** `offset` says how much is thought to be there. */
  | { readonly kind: 'append'; readonly content: Value; readonly offset: Value }
  /** `checksum` is the SHA-256 of the whole file in hexadecimal. */
  | { readonly kind: 'finish'; readonly checksum: Value }
  | { readonly kind: 'cancel' };

export type Statement =
  | {
      readonly kind: 'create_virtual_cluster';
      readonly ifNotExists: boolean;
      readonly name: string;
      readonly like: string | undefined;
      /** A branch: what it begins as. Without `asOf` as the other one is now. */
      readonly from: { readonly source: string; readonly asOf: Value | undefined } | undefined;
      /** A follower of a virtual cluster elsewhere: `uri` leads to the system VC that `source` belongs to. */
      readonly replication: ReplicationSource | undefined;
    }
  | {
      readonly kind: 'alter_virtual_cluster';
      readonly name: string;
      readonly action: AlterVirtualClusterAction;
    }
  | {
      readonly kind: 'drop_virtual_cluster';
      readonly ifExists: boolean;
      readonly name: string;
      readonly immediate: boolean;
    }
  | {
      readonly kind: 'show_virtual_clusters';
      /** `undefined` lists all. */
      readonly name: string | undefined;
      readonly withCapabilities: boolean;
      readonly withReplicationStatus: boolean;
      readonly withDropped: boolean;
      readonly withSuspension: boolean;
    }
  | { readonly kind: 'show_timeline'; readonly name: string }
  | { readonly kind: 'show_timeline_checks'; readonly name: string }
  | { readonly kind: 'show_timeline_retention'; readonly name: string }
  | { readonly kind: 'show_zone_configuration'; readonly target: ZoneTarget }
  | { readonly kind: 'show_zone_configurations' }
  | {
      readonly kind: 'show_regions';
      readonly from:
        | { readonly kind: 'all' }
        | { readonly kind: 'cluster' }
        | { readonly kind: 'all_databases' }
        /** `undefined`: the session's. */
        | { readonly kind: 'database'; readonly name: string | undefined };
    }
  /** What failbacks have cut off and is still kept. */
  | { readonly kind: 'show_salvage'; readonly name: string }
  | { readonly kind: 'show_fingerprints'; readonly name: string; readonly asOf: Value | undefined }
  | { readonly kind: 'show_virtual_cluster_name' }
  | { readonly kind: 'set_cluster_setting'; readonly name: string; readonly value: Value | 'default' }
  | { readonly kind: 'reset_cluster_setting'; readonly name: string }
  /** ALTER RANGE, DATABASE or TABLE. Range `default` stands for the whole virtual cluster. */
  | { readonly kind: 'configure_zone'; readonly target: ZoneTarget; readonly variables: ZoneVariables }
  | { readonly kind: 'alter_database_regions'; readonly database: string; readonly action: RegionAction }
  /** CREATE TABLE or ALTER TABLE with storage parameter `exclude_data_from_backup`. */
  | {
      readonly kind: 'exclude_table_data';
      /** WITH of CREATE TABLE, SET or RESET of ALTER TABLE. */
      readonly action: 'with' | 'set' | 'reset';
      /** The table's name, and before it its schema and database, as far as they are given. */
      readonly table: readonly string[];
      /** IF NOT EXISTS, IF EXISTS. */
      readonly isGuarded: boolean;
      readonly isExcluded: boolean;
      /** What is Postgres's, as it was written: before the action, the other parameters, and behind them. */
      readonly head: string;
      readonly parameters: readonly string[];
      readonly tail: string;
    }
  /** A table, view, materialized view or sequence. */
  | { readonly kind: 'show_create_table'; readonly table: TablePattern }
  /** `TABLE system.jobs`, or the name alone where a query reads a table. */
  | { readonly kind: 'show_system_table'; readonly table: SystemTable }
  | {
      readonly kind: 'show_cluster_setting';
      readonly name: string;
      readonly forVirtualCluster: string | undefined;
    }
  | {
      readonly kind: 'show_cluster_settings';
      readonly visibility: 'public' | 'all';
      readonly forVirtualCluster: string | undefined;
    }
  | {
      readonly kind: 'backup';
      readonly targets: BackupTargets;
      /** `undefined`: a new full backup. */
      readonly appendTo: BackupSelector | undefined;
      /** One URI, or the list of a locality-aware backup. */
      readonly destination: readonly Value[];
      readonly asOf: Value | undefined;
      readonly options: readonly Option[];
    }
  | {
      readonly kind: 'restore';
      readonly targets: RestoreTargets;
      readonly from: BackupSelector;
      readonly source: readonly Value[];
      readonly asOf: Value | undefined;
      readonly options: readonly Option[];
    }
  | { readonly kind: 'show_backups'; readonly collection: readonly Value[] }
  /** More KMS keys that open a backup and what was added to it. */
  | {
      readonly kind: 'alter_backup';
      readonly from: BackupSelector;
      readonly collection: readonly Value[];
      readonly newKms: readonly Value[];
      readonly oldKms: readonly Value[];
    }
  | {
      readonly kind: 'show_backup';
      readonly variant: 'default' | 'schemas' | 'files' | 'ranges';
      readonly from: BackupSelector;
      readonly collection: readonly Value[];
      readonly options: readonly Option[];
    }
  | {
      readonly kind: 'show_jobs';
      readonly automatic: boolean;
      readonly jobs: ListedJobs;
      /** Waits until the jobs are over; only with a query. */
      readonly whenComplete: boolean;
      readonly withExecutionDetails: boolean;
    }
  | {
      readonly kind: 'show_job';
      readonly jobId: Value;
      readonly whenComplete: boolean;
      readonly withExecutionDetails: boolean;
    }
  | {
      readonly kind: 'control_jobs';
      readonly action: 'pause' | 'resume' | 'cancel';
      readonly jobs: ControlledJobs;
      /** Of a pause only. */
      readonly reason: Value | undefined;
    }
  | { readonly kind: 'alter_job_owner'; readonly jobId: Value; readonly owner: RoleReference }
  | {
      readonly kind: 'create_schedule';
      readonly ifNotExists: boolean;
      readonly label: Value | undefined;
      readonly backup: ScheduledBackup;
      readonly recurring: Value;
      readonly fullBackup: Value | 'always' | undefined;
      readonly scheduleOptions: readonly Option[];
    }
  | {
      readonly kind: 'alter_backup_schedule';
      readonly scheduleId: Value;
      readonly actions: readonly AlterScheduleAction[];
    }
  | {
      readonly kind: 'show_schedules';
      readonly status: 'all' | 'running' | 'paused';
      readonly of: ScheduledKind | undefined;
    }
  | { readonly kind: 'show_schedule'; readonly scheduleId: Value }
  /** `undefined`: of all schedules. */
  | { readonly kind: 'show_create_schedule'; readonly scheduleId: Value | undefined }
  | {
      readonly kind: 'control_schedules';
      readonly action: 'pause' | 'resume' | 'drop';
      readonly schedules: ScheduleSelection;
    }
  | {
      readonly kind: 'create_external_connection';
      readonly ifNotExists: boolean;
      readonly name: string;
      readonly uri: Value;
    }
  | {
      readonly kind: 'alter_external_connection';
      readonly ifExists: boolean;
      readonly name: string;
      readonly uri: Value;
    }
  | { readonly kind: 'drop_external_connection'; readonly name: string }
  /** `undefined` lists all. */
  | { readonly kind: 'show_external_connections'; readonly name: string | undefined }
  | { readonly kind: 'show_create_external_connections'; readonly name: string | undefined }
  /** Said by a consumer to the producer of its stream; both are Atoll. `after` is the place its own history ends at, for a failback. */
  | {
      readonly kind: 'create_replication_stream';
      readonly name: string;
      readonly after: Value | undefined;
    }
  | { readonly kind: 'report_replication_stream'; readonly streamId: Value; readonly report: Value }
  | { readonly kind: 'drop_replication_stream'; readonly streamId: Value }
  | {
      readonly kind: 'check_external_connection';
      readonly uri: Value;
      readonly options: readonly Option[];
    }
  /** Said by `atoll userfile` and `atoll nodelocal`: files are sent in pieces, as text in base64. */
  | { readonly kind: 'create_file_upload'; readonly uri: Value }
  | { readonly kind: 'alter_file_upload'; readonly uploadId: Value; readonly action: FileUploadAction }
  | { readonly kind: 'drop_file'; readonly uri: Value }
  | { readonly kind: 'show_files'; readonly uri: Value }
  | { readonly kind: 'show_file'; readonly uri: Value; readonly offset: Value }
  | PrivilegeStatement;

/** Tables of ours that queries can read from any database of a virtual cluster, as `system.<name>`. */
export const SYSTEM_TABLES = [
  'external_connections',
  'jobs',
  'privileges',
  'role_members',
  'role_options',
  'scheduled_jobs',
  'settings',
  'users',
] as const;
export type SystemTable = (typeof SYSTEM_TABLES)[number];

export type StatementKind = Statement['kind'];

/** A statement with where it stood in the text it was parsed from. */
export interface Located<T> {
  readonly node: T;
  /** Zero-based UTF-16 offsets, `end` exclusive. */
  readonly begin: number;
  readonly end: number;
}
