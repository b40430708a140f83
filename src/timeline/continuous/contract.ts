/**
 * Continuous backup: the vault's log and the timeline's bases go on to a collection as they come about, so that losing a node's disk costs
 * seconds. Byte by byte in docs/formats/continuous.md.
 */
import type { IncarnationId, Lsn, Timestamp, VirtualClusterId } from '../../base/index.ts';
import type { ClusterKey } from '../../keys/index.ts';
import type { BackupSummary, CollectionLocation } from '../contract.ts';
import type { TimelineStoreLocation, VaultStatus } from '../store-contract.ts';

/** What is published, and where to. Holds secrets; travels over the private channel of the publishing process only. */
export interface ContinuousTarget {
  readonly virtualClusterId: VirtualClusterId;
  readonly virtualClusterName: string;
  readonly store: TimelineStoreLocation;
  readonly collection: CollectionLocation;
  readonly clusterId: string;
  readonly key: ClusterKey;
  /** What is older than this, and not needed to get to what is not, is removed from the collection; microseconds. */
  readonly windowUs: bigint;
  /** Log that is kept on this node for a collection that cannot be reached; beyond, retention goes on without it. */
  readonly backlogBytesMax: bigint;
}

/** Whether everything in the collection but its `metadata` is encrypted; decided when it is taken, for ever. */
export type ContinuousForm = 'open' | 'encrypted';

export interface ContinuousClaim {
  readonly owner: Pick<ContinuousTarget, 'clusterId' | 'virtualClusterId' | 'virtualClusterName'>;
  readonly form: ContinuousForm;
  /** What opens it, of one that begins encrypted: written before the marker. */
  readonly info: Uint8Array | null;
  readonly signal: AbortSignal;
}

export type ContinuousState =
  /** The collection does not hold a base yet that leads to the present. */
  | { readonly kind: 'beginning' }
  | { readonly kind: 'publishing' }
  /** Tried again by itself. `isGivenUp`: log that was not published is no longer kept, so a gap is likely. */
  | { readonly kind: 'failing'; readonly reason: string; readonly isGivenUp: boolean };

export interface ContinuousStatus {
  readonly virtualClusterId: VirtualClusterId;
  readonly state: ContinuousState;
  readonly incarnation: IncarnationId | null;
  /** Everything before it is in the collection, from its oldest base on; null before the first base is. */
  readonly publishedLsn: Lsn | null;
  /** Every moment from the oldest base's to here can be restored from the collection alone; null while none can. */
  readonly restorableThrough: Timestamp | null;
  /** End of the oldest base on the way to the present: where the window begins. */
  readonly restorableFrom: Timestamp | null;
  /** Durable here and not there, in bytes. */
  readonly backlogBytes: bigint;
  /** Since the publishing process began. */
  readonly publishedBytes: bigint;
  readonly publishedBases: number;
  readonly failures: number;
}

/** Publishes the timelines of virtual clusters of this node, in a process of its own. */
export interface ContinuousHost {
  /** Begins, or goes on with what has changed. Harmless when just this is published. */
  publish(target: ContinuousTarget): void;
  /** Ends it, and lets go of what was kept for it. Harmless when nothing is published. */
  stop(virtualClusterId: VirtualClusterId): void;
  /** How far the vault is; without it nothing goes on. */
  note(statuses: readonly VaultStatus[]): void;
  status(virtualClusterId: VirtualClusterId): ContinuousStatus | undefined;
  close(): Promise<void>;
}

/** What a collection that is published to continuously holds. */
export interface ContinuousWindow {
  /**
   * Complete bases on the way to its newest moment, oldest first; from each of them the log leads there without a gap. `replayBytes`
   * is the log from the base to the time that was asked for.
   */
  readonly bases: readonly BackupSummary[];
  readonly incarnation: IncarnationId;
  /** Every moment from the oldest base's to here can be restored. */
  readonly through: Timestamp;
}
