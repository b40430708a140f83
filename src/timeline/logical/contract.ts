/** Backups of databases and tables, and what is made of them again. */
import type { Lsn, VirtualClusterName } from '../../base/index.ts';
import type { SkipMissing } from '../../logical-copy/index.ts';
import type {
  BackupObject,
  BackupProgress,
  BackupRequest,
  BackupSummary,
  ClusterKey,
  CollectionLocation,
} from '../contract.ts';
import type { ManifestSelection } from '../format/manifest.ts';
import type { IncarnationRecord, TimelinePoint, TimelineStoreLocation } from '../store-contract.ts';

/** What is asked for, names as they were resolved. */
export type LogicalSelection = ManifestSelection;

export interface LogicalBackupRequest extends BackupRequest {
  readonly selection: LogicalSelection;
  /** May log in to the databases and read what is selected; no superuser. */
  readonly role: string;
  /** Where the log is found that tells what changed since an older backup, when the instance has it no more. */
  readonly timeline?: {
    readonly store: TimelineStoreLocation;
    readonly incarnations: readonly IncarnationRecord[];
  };
  /** Given for a backup of the past: then nothing is asked of `source`. Needs `timeline`. */
  readonly moment?: RecoveredMoment;
}

/** A copy of the virtual cluster, as it was at a point of its timeline; what is selected is complete in it. */
export interface RecoveredMoment {
  readonly point: TimelinePoint;
  readonly socketDirectory: string;
  /** As in `LogOrigins`. */
  readonly quietLsn: Lsn | null;
}

/** Where a copy comes from. */
export type CopyOrigin =
  | {
      readonly kind: 'backup';
      readonly collection: CollectionLocation;
      readonly subdirectory: string;
      readonly key: ClusterKey;
      /** Of the backup. */
      readonly database: string;
    }
  | {
      readonly kind: 'instance';
      readonly socketDirectory: string;
      readonly database: string;
      readonly role: string;
    };

export interface RestoreObjectsRequest {
  readonly origin: CopyOrigin;
  /** Null for the whole database. */
  readonly patterns: readonly { readonly schema: string | null; readonly name: string | null }[] | null;
  readonly target: {
    readonly virtualClusterName: VirtualClusterName | string;
    readonly socketDirectory: string;
    readonly database: string;
    /** Makes all of it; no superuser. */
    readonly role: string;
    /** To whom it belongs then; null when that is seen to afterwards. */
    readonly owner: string | null;
  };
  readonly schemaOnly: boolean;
  /** Reads and checks all rows of what is made without them. */
  readonly verifyTableData: boolean;
  readonly skip: SkipMissing;
}

export interface RestoreObjectsResult {
  readonly rows: bigint;
  readonly indexEntries: bigint;
  readonly bytes: bigint;
  /** What was left out because it names what is missing. */
  readonly skipped: readonly string[];
}

/** Databases of an instance that nobody else works in. */
export interface DescribeDatabasesRequest {
  readonly socketDirectory: string;
  /** May log in to the databases; no superuser. */
  readonly role: string;
  readonly databases: readonly string[];
}

export interface LogicalWorker {
  /** What the databases hold, with definitions, owners and privileges, and without sizes. Reads catalogs and sequences alone. */
  describeDatabases(
    request: DescribeDatabasesRequest,
    options: { signal: AbortSignal },
  ): Promise<readonly BackupObject[]>;
  backupObjects(
    request: LogicalBackupRequest,
    options: { onProgress: (progress: BackupProgress) => void; signal: AbortSignal },
  ): Promise<BackupSummary>;
  restoreObjects(
    request: RestoreObjectsRequest,
    options: { onProgress: (progress: BackupProgress) => void; signal: AbortSignal },
  ): Promise<RestoreObjectsResult>;
}
