/** Where the timeline store of a virtual cluster keeps what. See docs/formats/timeline-store.md. */
import { join } from 'node:path';
import { formatWalSegmentName } from '../../pg/index.ts';
import type { IncarnationId, Lsn, VirtualClusterId } from '../../base/index.ts';
import type { TimelineStoreLocation } from '../store-contract.ts';

/** The timeline store of a virtual cluster lies beside its data, in the node's store. */
export function timelineStoreLocation(options: {
  readonly storeDirectory: string;
  readonly virtualClusterId: VirtualClusterId;
}): TimelineStoreLocation {
  const { storeDirectory, virtualClusterId } = options;
  return { virtualClusterId, directory: join(storeDirectory, 'timeline', String(virtualClusterId)) };
}

/** Bases form a collection, as backups do: docs/formats/collection.md. */
export function basesDirectory({ directory }: TimelineStoreLocation): string {
  return join(directory, 'bases');
}

/** The log that one incarnation wrote. */
export function walDirectory({ directory }: TimelineStoreLocation, incarnation: IncarnationId): string {
  return join(directory, 'wal', incarnation);
}

/** A segment, whole and compressed. Its bytes are a log object: docs/formats/wal.md. */
export function closedSegmentName(options: {
  timelineId: number;
  segmentNo: bigint;
  segmentBytes: number;
}): string {
  return `${formatWalSegmentName(options)}.wal`;
}

/** A segment that is being received: the raw bytes of the log from the segment's beginning. */
export function openSegmentName(options: {
  timelineId: number;
  segmentNo: bigint;
  segmentBytes: number;
}): string {
  return `${formatWalSegmentName(options)}.partial`;
}

export const INCARNATION_RECORD_NAME = 'incarnation.json';

const TIME_INDEX_NAME = /^time-index-([0-9A-F]{16})$/;

/** A file of the time index, named after the position that it begins at. */
export function timeIndexName(beginLsn: Lsn): string {
  return `time-index-${beginLsn.toString(16).toUpperCase().padStart(16, '0')}`;
}

/** Where a file of the time index begins, or null when it is none. */
export function timeIndexBegin(name: string): Lsn | null {
  const match = TIME_INDEX_NAME.exec(name);
  return match === null ? null : (BigInt(`0x${match[1]}`) as Lsn);
}

/** Claims on bases and log, one file each. */
export function pinsDirectory({ directory }: TimelineStoreLocation): string {
  return join(directory, 'pins');
}
