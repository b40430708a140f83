/**
 * Timelines and the collections they are published to. Reads and writes of bulk data happen in worker processes; what
 * is declared here is what jobs and statements see.
 */
import type { IncarnationId, Lsn, Timestamp, VirtualClusterId } from '../base/index.ts';
import type { RateReference, ServiceLocation, UserfileQuota } from '../blob/index.ts';
import type { CopyDatabase } from '../logical-copy/index.ts';
import type { ManifestSelection } from './format/manifest.ts';
import type { ClusterKey, EncryptionInfo } from '../keys/index.ts';
import type { ContinuousClaim, ContinuousForm, ContinuousWindow } from './continuous/contract.ts';
import type { ImageCoverage, ImagePart } from './part/contract.ts';

export type { ClusterKey };

/** Where the bytes come from: a running instance. */
export interface CaptureSource {
  readonly dataDirectory: string;
  /** Folder of the private socket; the worker logs in by `peer`. */
  readonly socketDirectory: string;
  /** As whom the superuser logs in, and where; `atoll` in `system` when left out. Of data of a plain server it is another. */
  readonly login?: { readonly user: string; readonly database: string };
  readonly virtualClusterId: VirtualClusterId;
  readonly virtualClusterName: string;
  readonly incarnation: IncarnationId;
  /** The incarnation it left, when it is known. */
  readonly parentIncarnation?: IncarnationId | null;
  readonly systemIdentifier: bigint;
  readonly engineMajor: number;
  /** It replays the log of an instance elsewhere. */
  readonly isFollower?: boolean;
  /** Of a follower: where its present life left the one before. */
  readonly forkLsn?: Lsn | null;
}

/** An opened collection: a folder of the node or of a storage service, or several of them. */
export type CollectionLocation = (Place | PlacedCollection) & {
  /** Of the chain of backups that is meant; left out when that is not encrypted, and where no chain is. */
  readonly encryption?: ChainEncryption;
};

/** What opens one encrypted chain of backups. Handed to workers over their private channel only. */
export interface ChainEncryption {
  /** The folder of the full backup that the chain begins with. */
  readonly folder: string;
  /** 32 secret bytes. */
  readonly dataKey: Uint8Array;
  /** The record that a new chain gets before anything else; null for a chain that has one. */
  readonly info: Uint8Array | null;
  /** What leads to the collection again, and to this key: for the record of a job. */
  readonly uri: string;
}

export type Place = FolderLocation | ServiceCollection;

/** One collection in several places. */
export interface PlacedCollection {
  /** That of the place of the manifests. */
  readonly displayUri: string;
  /** What leads here again, for the record of a job. Holds secrets. */
  readonly uri: string;
  /** The first holds manifests and markers. */
  readonly places: readonly [Place, ...Place[]];
  /** Of `places`: where this node puts packs and log. */
  readonly bulk: number;
  /** Of `places`: where all of the incremental backups is put; null when it goes where that of full ones goes. */
  readonly incrementals: number | null;
}

export interface FolderLocation {
  /** The URI as users see it, secrets redacted; used in messages. */
  readonly displayUri: string;
  /** Absolute path of the collection's folder, already checked to lie inside the external directory. */
  readonly directory: string;
  /** Whose it is, of userfile storage. */
  readonly userfileOwner?: string;
  /** What userfile storage may hold; left out where that is not limited. */
  readonly quota?: UserfileQuota;
  /** Limits of a collection's transfers; left out for folders that are no storage of users. */
  readonly rates?: RateReference;
}

export interface ServiceCollection {
  /** The URI as users see it, secrets left out; used in messages. */
  readonly displayUri: string;
  /** What leads here again, for the record of a job. Holds secrets unless it names an external connection. */
  readonly uri: string;
  /** Holds secrets; handed to workers over their private channel only. */
  readonly service: ServiceLocation;
  /** How long one operation is tried, in milliseconds: setting `cloudstorage.timeout`. */
  readonly timeoutMs: number;
  /** Setting `cloudstorage.azure.concurrent_upload_buffers`. */
  readonly azurePartsAtOnce: number;
  /** Setting `cloudstorage.http.custom_ca`; null when it is empty. */
  readonly customCa?: string | null;
  readonly rates?: RateReference;
}

export interface BackupProgress {
  /** 0 to 1. */
  readonly fraction: number;
  readonly phase: string;
  /** Of what comes over the network. */
  readonly received?: { readonly receivedBytes: number; readonly totalBytes: number };
}

export interface BackupRequest {
  readonly source: CaptureSource;
  readonly collection: CollectionLocation;
  /** A full backup's `YYYY/MM/DD-HHMMSS.ff`, or an incremental one's below it; chosen and recorded before the first byte is written. */
  readonly subdirectory: string;
  /** The backup of this collection that an incremental one builds on; null for a full one. */
  readonly onto: string | null;
  readonly clusterId: string;
  readonly key: ClusterKey;
  readonly jobId: string;
  /** Rises with every attempt of the job: no attempt reuses another's object names. */
  readonly attempt: number;
  readonly packBytesMax: number;
  readonly release: string;
}

/** Totals of a backup, as its manifest holds them. */
export interface BackupSummary {
  readonly subdirectory: string;
  /** The backup it builds on; null for a full one. */
  readonly baseSubdirectory: string | null;
  readonly startTime: Timestamp | null;
  readonly endTime: Timestamp;
  readonly targetLsn: Lsn;
  readonly timelineId: number;
  /** The log of the backup ends where recovery shall end, and recovery must get at least to here; null when a record follows. */
  readonly logEndLsn: Lsn | null;
  /** With revision history every moment from here to `endTime` can be restored; null without. */
  readonly revisionStart: Timestamp | null;
  /** Log that recovery to `endTime` replays, in bytes. */
  readonly replayBytes: bigint;
  readonly rows: bigint;
  readonly indexEntries: bigint;
  /** Bytes of the data directory that were captured, before compression. */
  readonly bytes: bigint;
  readonly storedBytes: bigint;
  /** The physical cluster that took it. */
  readonly clusterId: string;
  readonly virtualClusterName: string;
  readonly virtualClusterId: VirtualClusterId;
  readonly incarnation: IncarnationId;
  readonly systemIdentifier: bigint;
  readonly engineMajor: number;
  readonly release: string;
  /** What a backup of databases or tables was asked for; null for a whole virtual cluster. */
  readonly selection: ManifestSelection | null;
  /** Files of a data directory, or those that the selection needs; else definitions and rows. */
  readonly isImage: boolean;
  readonly objects: readonly BackupObject[];
}

export interface BackedUpDatabase {
  readonly database: CopyDatabase;
  /** All of it, not only some tables. */
  readonly isWhole: boolean;
}

/** A row of SHOW BACKUP. */
export interface BackupObject {
  readonly database: string | null;
  readonly schema: string | null;
  readonly name: string;
  readonly kind: 'database' | 'schema' | 'table' | 'type';
  readonly sizeBytes: bigint | null;
  readonly rows: bigint | null;
  /** Its number in the catalog of its database, or among the databases; old backups do not know it. */
  readonly oid?: number | undefined;
  /** In logical backups: what makes it, whose it was, and what of it others were granted, as statements. */
  readonly definition?: string | undefined;
  readonly owner?: string | undefined;
  readonly privileges?: string | undefined;
  /** Of a database that has any, the primary one first. */
  readonly regions?: readonly string[] | undefined;
}

export interface BackupResult {
  readonly summary: BackupSummary;
  /** Why an incremental backup read everything; null when it did not. */
  readonly fullReason: string | null;
}

export interface MaterializeRequest {
  readonly collection: CollectionLocation;
  readonly subdirectory: string;
  /** A moment of the backup's revision history; its end when left out. */
  readonly asOf?: Timestamp | null;
  readonly key: ClusterKey;
  /** Empty, owned by the instance's OS user. */
  readonly targetDirectory: string;
  readonly uid: number | null;
  /** Only what this part needs is read and written; everything when left out. */
  readonly part?: ImagePart;
  /**
   * Goes on where an attempt at just this ended in the same directory. Only a failure that nobody can mend by trying again leaves the directory
   * empty. Of the whole alone.
   */
  readonly isResumable?: boolean;
  /** Nothing of it need outlive a crash of the machine: it is looked at and thrown away. */
  readonly isFleeting?: boolean;
  /** The collection is published to continuously: `asOf` is any moment that the base and the log behind it lead to, or null for their end. */
  readonly isContinuous?: boolean;
}

export interface MaterializeResult {
  readonly summary: BackupSummary;
  readonly writtenBytes: bigint;
  /** Of packs, as they are stored. */
  readonly readBytes: bigint;
  /** Length of files that an earlier attempt had written. */
  readonly keptBytes: bigint;
  /** What was written of a part; null when everything was. */
  readonly coverage: ImageCoverage | null;
}

/** Carries out bulk work in worker processes of low priority. */
export interface BulkWorker {
  backup(
    request: BackupRequest,
    options: { onProgress: (progress: BackupProgress) => void; signal: AbortSignal },
  ): Promise<BackupResult>;
  materialize(
    request: MaterializeRequest,
    options: { onProgress: (progress: BackupProgress) => void; signal: AbortSignal },
  ): Promise<MaterializeResult>;
}

/** Who asks to go on with a collection that belongs to another. */
export interface CollectionHeir {
  readonly clusterId: string;
  readonly virtualClusterId: VirtualClusterId;
  readonly virtualClusterName: string;
  /** The lives that its data descends from, its present one included. */
  readonly lives: ReadonlySet<IncarnationId>;
  /** Whether there is no such virtual cluster in this physical cluster any more. */
  readonly isGone: (virtualClusterId: number) => boolean;
}

/** Small reads of a collection, and what is as small to write, done in the daemon. */
export interface CollectionReader {
  /** Complete full backups, oldest first. */
  list(collection: CollectionLocation, options: { signal: AbortSignal }): Promise<readonly string[]>;
  /** The full backup and the complete incremental ones on it, oldest first. @throws AppError `backup_not_found` */
  chain(options: {
    collection: CollectionLocation;
    /** Of the full backup. */
    subdirectory: string;
    signal: AbortSignal;
  }): Promise<readonly string[]>;
  /** The newest full backup. @throws AppError `backup_not_found` when there is no completed backup */
  latest(collection: CollectionLocation, options: { signal: AbortSignal }): Promise<string>;
  /** Checks checksum and MAC. @throws AppError `backup_not_found`, `data_corrupt`, `backup_untrusted`, `format_unsupported` */
  summary(options: {
    collection: CollectionLocation;
    subdirectory: string;
    key: ClusterKey;
    signal: AbortSignal;
  }): Promise<BackupSummary>;
  /** The databases that a logical backup holds, or holds something of; none for a whole virtual cluster. @throws as `summary` */
  databases(options: {
    collection: CollectionLocation;
    subdirectory: string;
    key: ClusterKey;
    signal: AbortSignal;
  }): Promise<readonly BackedUpDatabase[]>;
  /**
   * Gives the collection to an heir: one whose data descends from a full backup it lists, when the virtual cluster of this physical cluster
   * that owned it is gone. Tells from whom it was taken; null when nothing was changed, for whatever reason.
   */
  inherit(options: {
    collection: CollectionLocation;
    heir: CollectionHeir;
    key: ClusterKey;
    signal: AbortSignal;
  }): Promise<{ readonly virtualClusterId: number; readonly virtualClusterName: string } | null>;
  /**
   * What opens the chain of backups that begins in `folder`; null when it is not encrypted.
   * @throws AppError `backup_untrusted`, `format_unsupported`; CorruptError
   */
  encryptionInfo(options: {
    collection: CollectionLocation;
    folder: string;
    key: ClusterKey;
    signal: AbortSignal;
  }): Promise<EncryptionInfo | null>;
  /** Removes what a job has written of a backup that never came to be. Harmless when there is nothing, or a finished backup. */
  discardUnfinished(options: {
    collection: CollectionLocation;
    subdirectory: string;
    jobId: string;
    signal: AbortSignal;
  }): Promise<void>;
  /** Whether the collection is published to continuously, and may hold no other backups. */
  isContinuous(collection: CollectionLocation, options: { signal: AbortSignal }): Promise<boolean>;
  /**
   * What such a collection can be restored to.
   * @throws AppError `backup_not_found` while it leads nowhere yet, `backup_untrusted`, `format_unsupported`; CorruptError
   */
  continuousWindow(
    collection: CollectionLocation,
    options: {
      key: ClusterKey;
      /** Up to which the log of each base is counted; null for all of it. */
      time: Timestamp | null;
      signal: AbortSignal;
    },
  ): Promise<ContinuousWindow>;
  /** Null for a collection that is not published to continuously. @throws CorruptError */
  continuousForm(
    collection: CollectionLocation,
    options: { signal: AbortSignal },
  ): Promise<ContinuousForm | null>;
  /**
   * Takes a collection for the continuous backup of a virtual cluster. Harmless when it is.
   * @throws AppError `object_state` when it is another's, of the other form, or holds backups of the other kind
   */
  claimForContinuous(collection: CollectionLocation, claim: ContinuousClaim): Promise<void>;
  /** Object names of the backup that are not there. */
  missingFiles(options: {
    collection: CollectionLocation;
    subdirectory: string;
    key: ClusterKey;
    signal: AbortSignal;
  }): Promise<readonly string[]>;
}
