/**
 * The statements that are Atoll's own, as frozen tagged nodes. Everything else is Postgres's and never gets a tree.
 * One node per statement serves the parser, the printer, the privilege check and the help.
 */

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
  | { readonly kind: 'start_service_shared' }
  | { readonly kind: 'stop_service' }
  | { readonly kind: 'rename_to'; readonly name: string }
  | { readonly kind: 'grant_capabilities'; readonly capabilities: CapabilityList }
  | { readonly kind: 'revoke_capabilities'; readonly capabilities: CapabilityList }
  | { readonly kind: 'set_cluster_setting'; readonly name: string; readonly value: Value | 'default' }
  | { readonly kind: 'reset_cluster_setting'; readonly name: string };

export type Statement =
  | {
      readonly kind: 'create_virtual_cluster';
      readonly ifNotExists: boolean;
      readonly name: string;
      readonly like: string | undefined;
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
    }
  | { readonly kind: 'show_virtual_cluster_name' }
  | { readonly kind: 'set_cluster_setting'; readonly name: string; readonly value: Value | 'default' }
  | { readonly kind: 'reset_cluster_setting'; readonly name: string }
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
  | {
      readonly kind: 'show_backup';
      readonly variant: 'default' | 'schemas' | 'files' | 'ranges';
      readonly from: BackupSelector;
      readonly collection: readonly Value[];
      readonly options: readonly Option[];
    }
  | { readonly kind: 'show_jobs'; readonly automatic: boolean }
  | { readonly kind: 'show_job'; readonly jobId: Value; readonly whenComplete: boolean }
  | { readonly kind: 'control_job'; readonly action: 'pause' | 'resume' | 'cancel'; readonly jobId: Value };

export type StatementKind = Statement['kind'];

/** A statement with where it stood in the text it was parsed from. */
export interface Located<T> {
  readonly node: T;
  /** Zero-based UTF-16 offsets, `end` exclusive. */
  readonly begin: number;
  readonly end: number;
}
