/** Proving that what the timeline store holds can be read, and restored. */
import type { IncarnationId, Lsn } from '../../base/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { BackupProgress, CollectionLocation } from '../contract.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';

/** A data directory that no server works in. */
export interface CheckDirectoryRequest {
  readonly dataDirectory: string;
}

export interface DirectoryCheck {
  readonly files: number;
  readonly pages: number;
  /** Pages whose checksum is wrong, a sentence each; not more than a few. */
  readonly findings: readonly string[];
}

/** Reads what is stored in the order of its names, a part each time. */
export interface CheckObjectsRequest {
  readonly store: TimelineStoreLocation;
  readonly key: ClusterKey;
  /** The object that was read last; null to begin with the first. */
  readonly after: string | null;
  /** No further object is begun when so many bytes were read. */
  readonly bytesMax: number;
  /** Objects that were damaged, read again first. */
  readonly again: readonly string[];
}

/** A pack, a log object or a manifest of a base, or a closed segment of the log. */
export interface DamagedObject {
  /** Path in the store's folder. */
  readonly object: string;
  readonly reason: string;
  /** Folders of the bases that need it; none for a segment of the log. */
  readonly bases: readonly string[];
  /** What log a segment holds; null for what belongs to bases. */
  readonly log: { readonly incarnation: IncarnationId; readonly endLsn: Lsn } | null;
}

export interface ObjectsCheck {
  /** Read now, those of `again` not counted. */
  readonly objects: number;
  readonly bytes: number;
  /** Of the whole store. */
  readonly bytesAll: number;
  /** The object that was read last; null when there is none behind it. */
  readonly last: string | null;
  readonly damage: readonly DamagedObject[];
}

interface Watched {
  readonly onProgress: (progress: BackupProgress) => void;
  readonly signal: AbortSignal;
}

/** Bulk work that reads and compares, and changes nothing; in a process of its own each time. */
export interface VerifyWorker {
  /** Checks the checksums of all pages of all relations. */
  checkDirectory(request: CheckDirectoryRequest, options: Watched): Promise<DirectoryCheck>;
  /** Checks every byte of stored objects against the checksums they carry. What retention removes meanwhile is not damage. */
  checkObjects(request: CheckObjectsRequest, options: Watched): Promise<ObjectsCheck>;
  /** Lists what a backup of a collection consists of. @throws AppError `backup_not_found`, `backup_untrusted`, `data_corrupt`, ... */
  listFiles(request: ListFilesRequest, options: Pick<Watched, 'signal'>): Promise<BackupFiles>;
}

/** A backup of a collection. */
export interface ListFilesRequest {
  readonly collection: CollectionLocation;
  readonly subdirectory: string;
  readonly key: ClusterKey;
}

/** A place in what is backed up: a byte of a file, or a position in the log. */
export type BackupPosition = { readonly path: string; readonly offset: number } | { readonly lsn: string };

/** An object that was written with the backup, and what it holds: from `begin` up to `end`, not all of what lies between. */
export interface BackupFile {
  readonly path: string;
  /** Null when nothing of it is needed. */
  readonly begin: BackupPosition | null;
  readonly end: BackupPosition | null;
  /** Before compression, of what this backup needs. */
  readonly sizeBytes: bigint;
  readonly fileBytes: bigint;
}

export interface BackupRange {
  readonly begin: BackupPosition;
  readonly end: BackupPosition;
}

export interface BackupFiles {
  readonly files: readonly BackupFile[];
  readonly ranges: readonly BackupRange[];
}
