/** What the threads of a materialization are asked to do. */
import type { KeyObject } from 'node:crypto';
import type { Lsn } from '../../base/index.ts';
import type { BlobKey } from '../../blob/index.ts';
import type { ChangedSetParts } from '../changed-set/changed-set.ts';
import type { LogFacts } from '../changed-set/log-changes.ts';
import type { LogSpan } from '../changed-set/plan.ts';
import type { CollectionLocation } from '../contract.ts';
import type { WalObjectHeader } from '../format/wal-object.ts';
import type { ExpectedWal } from '../objects/wal-reader.ts';
import type { IncarnationRecord, TimelineStoreLocation } from '../store-contract.ts';
import type { RestCell } from '../worker/limiter.ts';

/** What a thread knows from its start. */
export interface MaterializeThreadData {
  readonly collection: CollectionLocation;
  readonly targetDirectory: string;
  readonly restCell: RestCell;
}

/** Frames of one pack, ascending and near each other, and where their content goes. */
export interface RangeTask {
  readonly kind: 'range';
  readonly key: BlobKey;
  readonly tagKey: KeyObject;
  readonly offset: number;
  readonly length: number;
  /** Pages changed since need not be whole. */
  readonly startLsn: Lsn;
  /** Files that the targets name by their number in this list. */
  readonly files: readonly { readonly path: string; readonly kind: 'pages' | 'bytes' }[];
  /** Pages of zeroes are written like others, for something else may be in their place; else they stay holes of new files. */
  readonly isInPlace: boolean;
  /** Every frame is read and checked to be the one that was stored; nothing is expanded or written. */
  readonly isCheck: boolean;
  /** For each frame its offset, length, checksum, and how many targets it has. */
  readonly frames: Uint32Array<ArrayBuffer>;
  readonly tags: Uint8Array<ArrayBuffer>;
  /** For each target its file, start, count, and index in the frame; those of a frame follow each other. */
  readonly targets: Uint32Array<ArrayBuffer>;
}

export const FRAME_FIELDS = 4;
export const TARGET_FIELDS = 4;

export type MaterializeTask =
  | RangeTask
  /** Writes a log object as the segment file of this path. */
  | { readonly kind: 'wal'; readonly wal: ExpectedWal; readonly path: string }
  | VaultTask
  | ChangesTask;

/** Writes a segment of the vault as the file of this path. */
export interface VaultTask {
  readonly kind: 'vault';
  /** Folder of the incarnation's log. */
  readonly directory: string;
  readonly segment: WalObjectHeader;
  readonly path: string;
  /** It is read and checked, and nothing written. */
  readonly isCheck?: boolean;
}

/** Finds out what a stretch of the vault's log changed. */
export interface ChangesTask extends Omit<LogFacts, 'log'> {
  readonly kind: 'changes';
  readonly timeline: TimelineStoreLocation;
  /** Whose log it is. */
  readonly record: IncarnationRecord;
  readonly span: LogSpan;
}

export interface MaterializeResultOfTask {
  readonly writtenBytes: number;
  /** Of a task that asked for them. */
  readonly changes?: ChangedSetParts;
}
