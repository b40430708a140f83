/** What daemon and bulk worker tell each other over their private channel. */
import type {
  BackupObject,
  BackupProgress,
  BackupRequest,
  BackupResult,
  BackupSummary,
  MaterializeRequest,
  MaterializeResult,
} from '../contract.ts';
import type {
  CaptureBaseRequest,
  CaptureBaseResult,
  MaterializePointRequest,
  PointResult,
  ReceiveBaseRequest,
  ReceiveBaseResult,
  PublishRequest,
  PublishResult,
  RewindRequest,
} from '../store-contract.ts';
import type {
  DescribeDatabasesRequest,
  LogicalBackupRequest,
  RestoreObjectsRequest,
  RestoreObjectsResult,
} from '../logical/contract.ts';
import type {
  BackupFiles,
  CheckDirectoryRequest,
  CheckObjectsRequest,
  DirectoryCheck,
  ListFilesRequest,
  ObjectsCheck,
} from '../verify/contract.ts';
import type { WireError } from './wire-error.ts';

export type BulkWork =
  | { readonly kind: 'backup'; readonly request: BackupRequest }
  | { readonly kind: 'materialize'; readonly request: MaterializeRequest }
  | { readonly kind: 'capture_base'; readonly request: CaptureBaseRequest }
  | { readonly kind: 'materialize_point'; readonly request: MaterializePointRequest }
  | { readonly kind: 'rewind'; readonly request: RewindRequest }
  | { readonly kind: 'receive_base'; readonly request: ReceiveBaseRequest }
  | { readonly kind: 'publish'; readonly request: PublishRequest }
  | { readonly kind: 'backup_objects'; readonly request: LogicalBackupRequest }
  | { readonly kind: 'restore_objects'; readonly request: RestoreObjectsRequest }
  | { readonly kind: 'check_directory'; readonly request: CheckDirectoryRequest }
  | { readonly kind: 'check_objects'; readonly request: CheckObjectsRequest }
  | { readonly kind: 'list_files'; readonly request: ListFilesRequest }
  | { readonly kind: 'describe_databases'; readonly request: DescribeDatabasesRequest };

/** A worker that may stay ends by itself when nothing more to do has come for so long. */
export const SPARE_MS_MAX = 300_000;

export type ToWorker =
  /** The first message, and again only when the worker has said that it waits. */
  | {
      readonly kind: 'work';
      readonly work: BulkWork;
      readonly isLimited: boolean;
      /** It may wait for more when it has done this, if it has not grown large. */
      readonly mayStay: boolean;
    }
  | { readonly kind: 'cancel' };

export type FromWorker =
  /** It has taken the work up. */
  | { readonly kind: 'begun' }
  | { readonly kind: 'progress'; readonly progress: BackupProgress }
  | WorkOutcome
  /** Comes after the outcome, when the worker stays. */
  | { readonly kind: 'waiting' }
  /** Comes after the outcome, when the worker ends: nothing of its work goes on. */
  | { readonly kind: 'ending' };

/** How a work ended. */
export type WorkOutcome =
  | { readonly kind: 'backup_done'; readonly result: BackupResult }
  | { readonly kind: 'materialize_done'; readonly result: MaterializeResult }
  | { readonly kind: 'base_done'; readonly result: CaptureBaseResult }
  | { readonly kind: 'point_done'; readonly result: PointResult }
  | { readonly kind: 'base_received'; readonly result: ReceiveBaseResult }
  | { readonly kind: 'publish_done'; readonly result: PublishResult }
  | { readonly kind: 'objects_backed_up'; readonly result: BackupSummary }
  | { readonly kind: 'objects_restored'; readonly result: RestoreObjectsResult }
  | { readonly kind: 'directory_checked'; readonly result: DirectoryCheck }
  | { readonly kind: 'objects_checked'; readonly result: ObjectsCheck }
  | { readonly kind: 'files_listed'; readonly result: BackupFiles }
  | { readonly kind: 'databases_described'; readonly result: readonly BackupObject[] }
  | { readonly kind: 'failed'; readonly error: WireError };
