/** Figures of the streams of which this physical cluster is the consumer. */
import type { StreamFigures } from '../../replication/index.ts';
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
      name: 'physical_replication_running',
      help: 'Streams that run',
      type: 'gauge',
      samples: [{ labels: {}, value: running }],
    },
  ];
}
