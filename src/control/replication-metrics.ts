/** Figures of the streams of which this physical cluster is the consumer. */
import type { Core } from './core.ts';
import type { MetricFamily } from './status.ts';

const RUNNING: ReadonlySet<string> = new Set([
  'initializing',
  'replicating',
  'pending_failover',
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
    return { labels: { tenant: name }, value: Number(bytes) };
  });
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
      help: 'Bytes of log received from the source of a stream since the daemon started',
      type: 'counter',
      samples: received,
    },
    {
      name: 'physical_replication_running',
      help: 'Streams that run',
      type: 'gauge',
      samples: [{ labels: {}, value: running }],
    },
  ];
}
