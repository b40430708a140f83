/** What the consumer of a stream needs of the rest. */
import type { Clock, IncarnationId, Logger, Lsn, Timestamp, VirtualClusterId } from '../base/index.ts';
import type { InstanceHost, InternalClient } from '../instance/index.ts';
import type { ReceiveWorker } from '../timeline/index.ts';
import type { StreamCatalog } from './stream-catalog.ts';
import type { StreamMeter } from './stream-figures.ts';
import type { Divergence } from './stream-record.ts';
import type { FailoverCut } from './stream-state.ts';

export interface ConsumerDependencies {
  readonly streams: StreamCatalog;
  readonly instanceHost: InstanceHost;
  readonly receiver: ReceiveWorker;
  readonly clock: Clock;
  readonly newIncarnation: () => IncarnationId;
  /** One life-cycle change of a virtual cluster at a time. */
  readonly exclusively: <T>(id: VirtualClusterId, use: () => Promise<T>) => Promise<T>;
  /** Lets the vault receive what the follower receives. */
  readonly followLog: (id: VirtualClusterId) => Promise<void>;
  readonly unfollowLog: (id: VirtualClusterId) => Promise<void>;
  /** What must not be kept of the source, in database `system` of what becomes a virtual cluster of its own. */
  readonly prepare: (
    client: InternalClient,
    options: { id: VirtualClusterId; incarnation: IncarnationId },
  ) => Promise<void>;
  readonly noteSubscriptions: (id: VirtualClusterId, names: readonly string[]) => void;
  /** Takes the data back to where the source's history left it; the result is begun and not committed. */
  readonly rewindToDivergence: (
    context: ConsumerContext,
    options: { id: VirtualClusterId; incarnation: IncarnationId; divergence: Divergence },
  ) => Promise<void>;
  /** Keeps what the first image replaces, where there is something. */
  readonly keepReplaced: (context: ConsumerContext, id: VirtualClusterId) => Promise<void>;
  /** Takes a stopped follower back to a point of its own timeline, as a new life, committed and stopped. */
  readonly goBack: (
    context: ConsumerContext,
    options: { id: VirtualClusterId; cut: FailoverCut },
  ) => Promise<void>;
  /** Waits until the follower's own timeline holds its log up to a position. */
  readonly whenKept: (id: VirtualClusterId, lsn: Lsn, wait: { signal: AbortSignal }) => Promise<void>;
  /** Where that timeline leads to a moment. @throws InputError `time_outside_window` */
  readonly pointAt: (
    id: VirtualClusterId,
    moment: { time: Timestamp; signal: AbortSignal },
  ) => Promise<FailoverCut['point']>;
  /** How far back a failover may go, in microseconds, where the stream does not say. */
  readonly windowUs: (id: VirtualClusterId) => bigint;
  /** The oldest moment that the timeline leads to; null when there is none yet. */
  readonly oldestTime: (id: VirtualClusterId) => Promise<Timestamp | null>;
  /** Lets clients read the follower, where they may; harmless where it is done. */
  readonly tendReader: (id: VirtualClusterId) => Promise<void>;
  /** Nobody reads any more: what follows is about to be written. Harmless where nobody does. */
  readonly dropReader: (id: VirtualClusterId) => Promise<void>;
  /** How long a source may be out of reach before the stream is given up. */
  readonly patienceMs: (id: VirtualClusterId) => number;
}

export interface ConsumerContext {
  readonly signal: AbortSignal;
  readonly logger: Logger;
  report(progress: { fraction: number; runningStatus: string }): void;
}

/** What the steps of a stream work with. */
export interface ConsumerTools {
  readonly dependencies: ConsumerDependencies;
  readonly meter: StreamMeter;
  readonly context: ConsumerContext;
}
