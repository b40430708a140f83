/** What the threads of a capture are asked to do, and what they answer. */
import type { Lsn } from '../../base/index.ts';
import type { BlobKey } from '../../blob/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { CollectionLocation } from '../contract.ts';
import type { WalObjectHeader } from '../format/wal-object.ts';
import type { ExpectedPack } from '../objects/pack-check.ts';
import type { WrittenPack } from '../objects/pack-writer.ts';
import type { ExpectedWal } from '../objects/wal-reader.ts';
import type { WrittenWal } from '../objects/wal-writer.ts';
import type { RestCell } from '../worker/limiter.ts';
import type { PageRanges } from './page-ranges.ts';

/** What a thread knows from its start. */
export interface CaptureThreadData {
  readonly threadNo: number;
  readonly threads: number;
  readonly dataDirectory: string;
  readonly collection: CollectionLocation;
  readonly subdirectory: string;
  readonly attempt: number;
  readonly key: ClusterKey;
  readonly packBytesMax: number;
  readonly restCell: RestCell;
}

/** Parts of a file of pages, or a whole file of bytes. */
export interface Slice {
  readonly fileNo: number;
  readonly path: string;
  readonly kind: 'pages' | 'bytes';
  /** Of pages; files of bytes are taken whole, as long as they are when they are read, and have none. */
  readonly ranges: PageRanges;
}

export type CaptureTask =
  /** Comes first: pages changed since this position need not be whole. */
  | { readonly kind: 'begin'; readonly startLsn: Lsn }
  | { readonly kind: 'copy'; readonly slices: readonly Slice[] }
  /** A file whose content is already at hand. */
  | { readonly kind: 'content'; readonly fileNo: number; readonly bytes: Uint8Array }
  | { readonly kind: 'wal'; readonly key: BlobKey; readonly path: string; readonly header: WalObjectHeader }
  /** Ends the thread's pack. */
  | { readonly kind: 'close' }
  | { readonly kind: 'check_pack'; readonly pack: ExpectedPack }
  /** Of a pack that an earlier attempt wrote, what is used of it. */
  | { readonly kind: 'check_frames'; readonly pack: ExpectedPack }
  | { readonly kind: 'check_wal'; readonly wal: ExpectedWal };

/** Frames of a slice follow each other in the task's list, each with as many pages or bytes as fit. */
export interface SliceResult {
  readonly fileNo: number;
  /** Dropped before it could be read. */
  readonly isVanished: boolean;
  /** As asked for. */
  readonly ranges: PageRanges;
  /** Pages or bytes that were taken. */
  readonly units: number;
  readonly frameCount: number;
  readonly heapTuples: number;
  readonly indexEntries: number;
}

export interface CopyResult {
  readonly kind: 'copied';
  readonly slices: readonly SliceResult[];
  /** For each frame its pack's number, offset, length and checksum. */
  readonly frames: Uint32Array<ArrayBuffer>;
  readonly tags: Uint8Array<ArrayBuffer>;
}

export const FRAME_FIELDS = 4;

export type CaptureResult =
  | CopyResult
  | { readonly kind: 'wal'; readonly written: WrittenWal }
  | { readonly kind: 'closed'; readonly packs: readonly NumberedPack[] }
  | { readonly kind: 'done' };

export interface NumberedPack extends WrittenPack {
  /** As frames name it. */
  readonly number: number;
}
