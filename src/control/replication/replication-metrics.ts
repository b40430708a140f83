/** Figures of replication streams, at the consumer and at the producer. All have one series for each stream, or virtual cluster, that there is. */
import type { HistogramFigures } from '../../base/index.ts';
import type { StreamFigures } from '../../replication/index.ts';
import { INTAKE_BOUNDS_NANOS, NO_INTAKE, type VaultIntake } from '../../timeline/index.ts';
import type { Core } from '../core.ts';
import type { MetricFamily } from '../status.ts';

/** A range has no counterpart; this is what Postgres counts its log in. */
const RANGE_BYTES = 16 * 1024 * 1024;

const RUNNING: ReadonlySet<string> = new Set([
  'initializing',
  'replicating',
  'pending_failover',
  'draining',
  'failing_over',
]);

export function replicationFamilies(core: Core): readonly MetricFamily[] {
  const streams = core.streams.list().flatMap((stream) => {
    const name = core.catalog.get(stream.virtualClusterId)?.name;
    return name === undefined || stream.state.kind === 'completed' ? [] : [{ ...stream, name }];
  });
  const replicated = streams.flatMap(({ name, replicatedTime }) =>
    replicatedTime === null ? [] : [{ labels: { tenant: name }, value: Number(replicatedTime) / 1_000_000 }],
  );
  const received = streams.map(({ name, virtualClusterId }) => {
    const bytes = core.options.timeline?.vault.status(virtualClusterId)?.receivedBytes ?? 0n;
    const { scannedBytes } = core.consumer.meter.get(virtualClusterId);
    return { labels: { tenant: name }, value: Number(bytes) + scannedBytes };
  });
  const figure = (value: (figures: StreamFigures) => number) =>
    streams.map(({ name, virtualClusterId }) => ({
      labels: { tenant: name },
      value: value(core.consumer.meter.get(virtualClusterId)),
    }));
  const intake = (value: (figures: VaultIntake) => number) =>
    streams.map(({ name, virtualClusterId }) => ({
      labels: { tenant: name },
      value: value(core.options.timeline?.vault.status(virtualClusterId)?.intake ?? NO_INTAKE),
    }));
  const histogram = (value: (figures: VaultIntake) => HistogramFigures) =>
    streams.map(({ name, virtualClusterId }) =>
      sampleOf(name, value(core.options.timeline?.vault.status(virtualClusterId)?.intake ?? NO_INTAKE)),
    );
  const running = streams.filter(({ state }) => RUNNING.has(state.kind)).length;
  return [
    {
      name: 'physical_replication_replicated_time_seconds',
      help: 'Replicated time of a stream, in seconds since 1970; the lag is the present time minus it',
      type: 'gauge',
      samples: replicated,
    },
    {
      name: 'physical_replication_logical_bytes',
      help: 'Bytes of image and log received from the source of a stream since the daemon started',
      type: 'counter',
      samples: received,
    },
    {
      name: 'physical_replication_behind_bytes',
      help: 'Bytes of log that the source of a stream has and its follower has not replayed',
      type: 'gauge',
      samples: figure(({ behindBytes }) => behindBytes),
    },
    {
      name: 'physical_replication_scanning_ranges',
      help: 'Pieces of 16 MiB of the first image that are still to come',
      type: 'gauge',
      samples: figure(({ scanBytesLeft }) => Math.ceil(scanBytesLeft / RANGE_BYTES)),
    },
    {
      name: 'physical_replication_catchup_ranges',
      help: 'Pieces of 16 MiB of log that are still to be replayed',
      type: 'gauge',
      samples: figure(({ behindBytes }) => Math.floor(behindBytes / RANGE_BYTES)),
    },
    {
      name: 'physical_replication_resolved_events_ingested',
      help: 'How many times the replicated time of a stream went on since the daemon started',
      type: 'counter',
      samples: figure(({ resolvedCount }) => resolvedCount),
    },
    {
      name: 'physical_replication_events_ingested',
      help: 'Transactions of the source whose end has arrived since reception began',
      type: 'counter',
      samples: intake(({ commits }) => commits),
    },
    {
      name: 'physical_replication_receive_wait_nanos',
      help: 'Nanoseconds that passed without log of a stream to take since reception began: nearly all of them while the source has nothing to send',
      type: 'counter',
      samples: intake(({ receiveWaitNanos }) => receiveWaitNanos),
    },
    {
      name: 'physical_replication_flush_wait_nanos',
      help: 'Nanoseconds that it took to make received log durable since reception began: the sum of physical_replication_flush_hist_nanos',
      type: 'counter',
      samples: intake(({ flush }) => flush.sum),
    },
    {
      name: 'physical_replication_flushes',
      help: 'How many times received log was made durable since reception began',
      type: 'counter',
      samples: intake(({ flush }) => countOf(flush)),
    },
    {
      name: 'physical_replication_flush_hist_nanos',
      help: 'What it took to make received log durable, in nanoseconds',
      type: 'histogram',
      samples: histogram(({ flush }) => flush),
    },
    {
      name: 'physical_replication_admit_latency',
      help: 'From a commit at the source to its arrival here, in nanoseconds, by the clocks of both',
      type: 'histogram',
      samples: histogram(({ admitLatency }) => admitLatency),
    },
    {
      name: 'physical_replication_commit_latency',
      help: 'From a commit at the source until it was durable here, in nanoseconds, by the clocks of both',
      type: 'histogram',
      samples: histogram(({ commitLatency }) => commitLatency),
    },
    {
      name: 'physical_replication_distsql_replan_count',
      help: 'How many times the work of a stream was begun again after trouble since the daemon started',
      type: 'counter',
      samples: figure(({ restartCount }) => restartCount),
    },
    {
      name: 'physical_replication_failover_progress',
      help: 'Hundredths of the way back to a failover time that are left; 0 when none is under way',
      type: 'gauge',
      samples: figure(({ wayBackLeft }) => Math.ceil(wayBackLeft * 100)),
    },
    {
      name: 'physical_replication_status',
      help: 'What a stream is doing, as the label state: always 1',
      type: 'gauge',
      samples: streams.map(({ name, state }) => ({ labels: { tenant: name, state: state.kind }, value: 1 })),
    },
    {
      name: 'physical_replication_producer_held_bytes',
      help: 'Log that the source keeps for the one of its followers that is furthest behind',
      type: 'gauge',
      samples: heldBytes(core),
    },
    {
      name: 'physical_replication_running',
      help: 'Streams that run',
      type: 'gauge',
      samples: [{ labels: {}, value: running }],
    },
  ];
}

function heldBytes(core: Core): MetricFamily['samples'] {
  return [...core.producers.heldBytes()].flatMap(([id, bytes]) => {
    const name = core.catalog.get(id)?.name;
    return name === undefined ? [] : [{ labels: { tenant: name }, value: bytes }];
  });
}

function countOf({ counts }: HistogramFigures): number {
  return counts.reduce((all, count) => all + count, 0);
}

function sampleOf(tenant: string, figures: HistogramFigures): MetricFamily['samples'][number] {
  let count = 0;
  const buckets = figures.counts.map((observed, at) => {
    count += observed;
    return { bound: INTAKE_BOUNDS_NANOS[at] ?? Infinity, count };
  });
  return { labels: { tenant }, value: figures.sum, buckets };
}
