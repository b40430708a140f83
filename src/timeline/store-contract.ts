/**
 * The timeline store: the bases and the log of one virtual cluster on this machine, and what may be asked of them. A moment is
 * resolved once, to a position on an incarnation, and that position is what counts from then on.
 */
import type { IncarnationId, Lsn, Timestamp, VirtualClusterId } from '../base/index.ts';
import type { ClusterKey } from '../keys/index.ts';
import type { SourceTls } from '../pg/index.ts';
import type {
  BackupObject,
  BackupProgress,
  BackupSummary,
  CaptureSource,
  CollectionLocation,
} from './contract.ts';
import type { ManifestSelection } from './format/manifest.ts';
import type { ImageCoverage, ImagePart } from './part/contract.ts';
import type { VaultIntake } from './vault/intake-figures.ts';

/** A folder of this machine that only the daemon and its workers write to. */
export interface TimelineStoreLocation {
  readonly virtualClusterId: VirtualClusterId;
  readonly directory: string;
}

/** A position on the lineage. Recovery to it ends before the first record at or after `lsn`. */
export interface TimelinePoint {
  readonly incarnation: IncarnationId;
  readonly timelineId: number;
  readonly lsn: Lsn;
  /** The moment this was resolved from, or the newest commit before it. */
  readonly time: Timestamp;
  /** The clock was set back over `time`: it was lived through twice, and the first time counts. */
  readonly isAmbiguous?: true;
}

/** What somebody wants to go back to. */
export type TimelineTarget =
  | { readonly kind: 'time'; readonly time: Timestamp }
  | { readonly kind: 'lsn'; readonly incarnation: IncarnationId; readonly lsn: Lsn }
  /** Everything that the vault holds. */
  | { readonly kind: 'latest' };

/** A life of a data directory, as the vault knows it. The chain of parents is the lineage. */
export interface IncarnationRecord {
  readonly incarnation: IncarnationId;
  readonly parentIncarnation: IncarnationId | null;
  /** Where it left its parent; null when it has none here. */
  readonly forkLsn: Lsn | null;
  readonly systemIdentifier: bigint;
  readonly engineMajor: number;
  /** Timelines of Postgres that it wrote, each from its position on; ascending. */
  readonly timelines: readonly { readonly timelineId: number; readonly beginLsn: Lsn }[];
}

export type VaultState =
  | { readonly kind: 'receiving' }
  /** The instance does not run, or was not reached; tried again by itself. */
  | { readonly kind: 'waiting'; readonly reason: string }
  /** Stopped by its limit or by a full disk; goes on by itself when there is room. */
  | { readonly kind: 'out_of_room'; readonly reason: string }
  /**
   * Receiving, but log that nobody has any more is missing before what follows. A new base makes the time after it restorable; shown until
   * what lies before the gap is collected.
   */
  | { readonly kind: 'gap'; readonly fromLsn: Lsn; readonly toLsn: Lsn };

export interface VaultStatus {
  readonly virtualClusterId: VirtualClusterId;
  readonly incarnation: IncarnationId;
  readonly timelineId: number;
  readonly state: VaultState;
  /** Everything from `oldestLsn` to here is durable in the vault without a gap. */
  readonly durableLsn: Lsn;
  readonly oldestLsn: Lsn;
  /** Every moment up to here could be restored, given a base; null before the first commit or sign of idleness. */
  readonly restorableThrough: Timestamp | null;
  readonly storedBytes: bigint;
  /** Received since the daemon started. */
  readonly receivedBytes: bigint;
  /** Times that are ambiguous because the clock was set back. */
  readonly clockStepsBack: number;
  readonly intake: VaultIntake;
}

export interface VaultSource extends CaptureSource {
  readonly store: TimelineStoreLocation;
  readonly forkLsn: Lsn | null;
  /** Most bytes that its log may take; beyond, the oldest that nobody has pinned goes, then reception stops. */
  readonly bytesMax: bigint;
}

/** Receives the log of all virtual clusters of this node, in a process of its own. */
export interface VaultHost {
  /** Begins, or goes on, to receive; returns when reception is under way or waits for the instance. Harmless when followed. */
  follow(source: VaultSource): Promise<void>;
  /** Ends reception; all that the instance has sent is durable when it returns. Harmless when not followed. */
  unfollow(virtualClusterId: VirtualClusterId): Promise<void>;
  /** At most a second old. */
  status(virtualClusterId: VirtualClusterId): VaultStatus | undefined;
  statuses(): readonly VaultStatus[];
  /** Waits until everything before `lsn` is durable. @throws AppError `cannot_connect_now` when reception stands still */
  whenDurable(virtualClusterId: VirtualClusterId, lsn: Lsn, options: { signal: AbortSignal }): Promise<void>;
  close(): Promise<void>;
}

/** A base of the store: a complete image; its frames may lie in packs of older bases. */
export interface BaseSummary extends BackupSummary {
  readonly startLsn: Lsn;
  /** No target before this can be reached from it. */
  readonly stopLsn: Lsn;
  readonly captureStartTime: Timestamp;
}

export interface CaptureBaseRequest {
  readonly source: CaptureSource;
  readonly store: TimelineStoreLocation;
  readonly subdirectory: string;
  readonly clusterId: string;
  readonly key: ClusterKey;
  readonly jobId: string;
  readonly attempt: number;
  readonly packBytesMax: number;
  readonly release: string;
  /** An older base of the same lineage to build on, or null for a full one. */
  readonly onto: string | null;
  /** What the store knows of lives of the data; that of the source may be missing as long as it is its first. */
  readonly incarnations: readonly IncarnationRecord[];
}

export interface CaptureBaseResult {
  readonly base: BaseSummary;
  /** Pages of relations read from the data directory; 0 when an earlier attempt had completed the base. */
  readonly pagesRead: number;
  /** Why everything was read although there was a base to build on; null when that was not so. */
  readonly fullReason: string | null;
}

/** From the store into an empty data directory, ready to be recovered to `point`. */
export interface MaterializePointRequest {
  readonly store: TimelineStoreLocation;
  readonly point: TimelinePoint;
  /** What the store knows of lives of the data; those on the way to the point are among them. */
  readonly incarnations: readonly IncarnationRecord[];
  readonly key: ClusterKey;
  readonly targetDirectory: string;
  readonly uid: number | null;
  /** Folders of bases that are known to be damaged: begun from only when no other leads to the point. */
  readonly avoid?: readonly string[];
  /** Only what this part needs is read and written; everything when left out. */
  readonly part?: ImagePart;
  /** Nothing of it need outlive a crash of the machine: it is looked at and thrown away. */
  readonly isFleeting?: boolean;
}

/**
 * In place: what has changed since the base is put back. The instance is stopped, and all of its log is in the store. May run any number
 * of times; from its first step to its last the directory cannot be started.
 */
export interface RewindRequest extends Omit<MaterializePointRequest, 'avoid' | 'isFleeting'> {
  /** What the directory held before the first attempt: the end of its log. */
  readonly current: Pick<TimelinePoint, 'incarnation' | 'timelineId' | 'lsn'>;
  /**
   * Folder of the base that is gone back to. The same for all attempts on one directory, also for those that take it back to where it
   * was: what an attempt has written is found among what has changed since its base, and a newer base knows less.
   */
  readonly baseSubdirectory: string;
}

/** A backup of a moment, made of what the store holds: neither the virtual cluster nor its data directory is asked for anything. */
export interface PublishRequest {
  readonly store: TimelineStoreLocation;
  readonly point: TimelinePoint;
  /** What the store knows of lives of the data; those on the way to the point are among them. */
  readonly incarnations: readonly IncarnationRecord[];
  /** Folders of bases that are known to be damaged: begun from only when no other leads to the point. */
  readonly avoid?: readonly string[];
  readonly collection: CollectionLocation;
  /** As in `BackupRequest`. */
  readonly subdirectory: string;
  /** The backup of this collection that an incremental one builds on; null for a full one. */
  readonly onto: string | null;
  /** Only what databases or tables need; everything when left out. */
  readonly part?: PublishedPart;
  /** Keeps the log since `onto`, or since the base of a full backup, so that every moment in between can be restored. */
  readonly hasRevisionHistory: boolean;
  readonly clusterId: string;
  readonly virtualClusterName: string;
  readonly key: ClusterKey;
  readonly jobId: string;
  readonly attempt: number;
  readonly packBytesMax: number;
  readonly release: string;
}

/** Databases or tables, and the files that they need at the moment: proved before, so that the backup can be restored. */
export interface PublishedPart {
  readonly selection: ManifestSelection;
  readonly files: ImagePart;
  /** What there is of it at the moment; nobody has counted its rows. */
  readonly objects: readonly BackupObject[];
}

export interface PublishResult {
  readonly summary: BackupSummary;
  /** Stored bytes of frames that were copied: what the chain did not have. */
  readonly copiedBytes: bigint;
  /** Of these, those that an earlier attempt of the job had copied. */
  readonly resumedBytes: bigint;
}

/** How the directory is to be recovered on its first start. */
export interface PointRecovery {
  readonly lsn: Lsn;
  readonly timelineId: number;
  /**
   * The log in the directory ends where recovery shall end: no record begins at or after `lsn`, so that Postgres must not be told
   * to wait for one. Recovery must then have got at least to `logEndLsn`.
   */
  readonly logEndLsn: Lsn | null;
}

export interface PointResult {
  readonly base: BaseSummary;
  readonly recovery: PointRecovery;
  readonly writtenBytes: bigint;
  /** Bytes of the directory that were left as they were. */
  readonly keptBytes: bigint;
  /** Of packs, as they are stored. */
  readonly readBytes?: bigint;
  /** What was written of a part; null when everything was. */
  readonly coverage?: ImageCoverage | null;
}

/** A server whose log and files may be had over a replication connection. */
export interface ReplicationSource {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string | null;
  /** Start-up options that lead to the instance that is meant. */
  readonly options: string;
  readonly tls: SourceTls;
}

/** From a running instance elsewhere into a data directory of its own, which is to follow it. */
export interface ReceiveBaseRequest {
  readonly source: ReplicationSource;
  /** Of the stream: an attempt goes on only with what one for the same has left. */
  readonly identity: { readonly systemIdentifier: bigint; readonly slot: string };
  /** Empty, or as an earlier attempt has left it. */
  readonly targetDirectory: string;
  readonly uid: number | null;
}

export interface ReceiveBaseResult {
  /** Replay begins here, on this timeline of Postgres. */
  readonly startLsn: Lsn;
  readonly timelineId: number;
  /** In this attempt. */
  readonly receivedBytes: bigint;
  /** Files that earlier attempts had received, and that did not come again. */
  readonly keptBytes: bigint;
  /** Why what earlier attempts had received came again; null where it did not, or there was none. */
  readonly anewBecause: string | null;
}

/** Bulk work between two machines. */
export interface ReceiveWorker {
  receiveBase(
    request: ReceiveBaseRequest,
    options: { onProgress: (progress: BackupProgress) => void; signal: AbortSignal },
  ): Promise<ReceiveBaseResult>;
}

/** Bulk work on timeline stores, beside `BulkWorker`'s on collections. */
export interface TimelineWorker {
  captureBase(
    request: CaptureBaseRequest,
    options: { onProgress: (progress: BackupProgress) => void; signal: AbortSignal },
  ): Promise<CaptureBaseResult>;
  materializePoint(
    request: MaterializePointRequest,
    options: { onProgress: (progress: BackupProgress) => void; signal: AbortSignal },
  ): Promise<PointResult>;
  rewind(
    request: RewindRequest,
    options: { onProgress: (progress: BackupProgress) => void; signal: AbortSignal },
  ): Promise<PointResult>;
  publish(
    request: PublishRequest,
    options: { onProgress: (progress: BackupProgress) => void; signal: AbortSignal },
  ): Promise<PublishResult>;
}

/** Small reads of a timeline store, done in the daemon; they work without the vault's process, too. */
export interface TimelineReader {
  /** Complete bases, oldest first. */
  bases(
    store: TimelineStoreLocation,
    options: { key: ClusterKey; signal: AbortSignal },
  ): Promise<readonly BaseSummary[]>;
  incarnations(store: TimelineStoreLocation): Promise<readonly IncarnationRecord[]>;
  /** The bases that a point of the lineage can be had from, oldest first: on the way to it, with all log from there on. */
  basesTo(
    store: TimelineStoreLocation,
    options: {
      point: Pick<TimelinePoint, 'incarnation' | 'timelineId' | 'lsn'>;
      key: ClusterKey;
      signal: AbortSignal;
    },
  ): Promise<readonly BaseSummary[]>;
  /**
   * Which position a target is, on the lineage that leads to `current`: just before the first commit whose running maximum of
   * commit times exceeds the time. A time that no commit exceeds, because the virtual cluster was idle, is the end of the log: of what
   * was durable when it is asked, or of what was when it is known that idleness lasted beyond the time. There may be no record at or
   * after that position. `latest` is the end of the last complete record that is durable.
   * @throws InputError `time_outside_window`, naming the window
   */
  resolve(
    store: TimelineStoreLocation,
    options: { target: TimelineTarget; current: IncarnationId; key: ClusterKey; signal: AbortSignal },
  ): Promise<TimelinePoint>;
}

/** Keeps bases and log from being collected. */
export interface Pin {
  readonly id: string;
  /** `job 123`, `schedule 45`, `stream 7`. */
  readonly owner: string;
  /** Everything needed to restore any position from here on, up to `throughLsn` or for ever on. */
  readonly incarnation: IncarnationId;
  readonly fromLsn: Lsn;
  readonly throughLsn: Lsn | null;
  readonly expiresAt: Timestamp;
}
