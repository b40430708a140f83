import type { BlobRange, SignalOptions } from '../blob-store.ts';

/**
 * One object storage service as its client library gives it: single requests on full names, without patience or memory
 * of their own. What all services have in common (parts, parallel reads, trying again, lost answers) is in
 * `ServiceBlobStore`, once.
 *
 * Errors are already ours: `blob_unavailable` when trying again can help, `blob_not_found`, `blob_exists`,
 * `storage_refused`, `storage_unusable`, `disk_full`. None carries a secret, and none keeps the library's error as its
 * cause, for that holds the request.
 */
export interface ObjectService {
  /** Where it is, secrets left out; for messages. */
  readonly displayUri: string;
  /** Size of a part of an upload, in bytes. What is not longer is sent by one request. */
  readonly partBytes: number;
  /** How many parts of one upload may be under way at a time. */
  readonly partsAtOnce: number;
  /** The service takes no object of more parts. */
  readonly partsMax: number;

  /** @throws AppError `blob_exists` when the name is taken, in which case nothing changed */
  putOnce(object: NewObject & { readonly bytes: Uint8Array }, options: SignalOptions): Promise<void>;

  beginParts(object: NewObject, options: SignalOptions): Promise<PartUpload>;

  /**
   * What the service answers when it is asked for a range: fewer bytes when the object ends before it does, none when it
   * begins behind the end. Whether they are the right ones is for the caller to say.
   * @throws AppError `blob_not_found`
   */
  read(
    request: { readonly name: string; readonly range: BlobRange },
    options: SignalOptions,
  ): Promise<ReadAnswer>;

  /** What is stored under the name, or null. */
  describe(name: string, options: SignalOptions): Promise<StoredObject | null>;

  /** Some of the names that begin with `prefix`. With `shallow`, names with a further `/` are one folder. */
  listPage(request: ListRequest, options: SignalOptions): Promise<ListPage>;

  /** Harmless when there is none. */
  remove(name: string, options: SignalOptions): Promise<void>;

  /** Frees the parts of uploads below the prefix that nobody will complete, where the service does not do so itself. */
  discardParts(prefix: string, options: SignalOptions): Promise<void>;

  close(): void;
}

export interface NewObject {
  readonly name: string;
  /** Random, stored beside the object: tells after a lost answer whether what is there now is what we sent. */
  readonly token: string;
}

/** Bytes as they came from the network, which are not put together: every copy of a long read costs. */
export interface ReadAnswer {
  readonly chunks: readonly Uint8Array[];
  /** The answer's `Content-Range`; null when it has none, which says that the bytes are those from the beginning on. */
  readonly contentRange: string | null;
}

/** There is nothing in the range. */
export const NOTHING_READ: ReadAnswer = { chunks: [], contentRange: null };

export interface StoredObject {
  readonly sizeBytes: number;
  readonly token: string | null;
}

/** An object sent in parts. Nothing is visible before `complete`. */
export interface PartUpload {
  /** `index` counts from 0. The same part may be sent again after an error; parts may be sent at the same time. */
  putPart(
    part: { readonly index: number; readonly bytes: Uint8Array },
    options: SignalOptions,
  ): Promise<void>;
  /** @throws AppError `blob_exists` */
  complete(options: SignalOptions): Promise<void>;
  abort(options: SignalOptions): Promise<void>;
}

export interface ListRequest {
  readonly prefix: string;
  readonly shallow: boolean;
  readonly pageToken: string | null;
}

export interface ListPage {
  readonly objects: readonly { readonly name: string; readonly sizeBytes: number }[];
  /** Prefixes that end in `/`. */
  readonly folders: readonly string[];
  readonly nextPageToken: string | null;
}
