import type { VirtualClusterId } from '../base/index.ts';
import type { FrontDoorCounters } from '../frontdoor/index.ts';
import type { MetricFamily } from '../http/index.ts';
import type { InstanceHost, InstanceState } from '../instance/index.ts';

const STATES: readonly InstanceState['kind'][] = [
  'stopped',
  'starting',
  'running',
  'stopping',
  'backing_off',
];

/** A front door, or the figures of one in another process. */
interface Door {
  readonly counters: Readonly<FrontDoorCounters>;
  readonly sessions: number;
}

/** Figures of the node itself: its front doors, one for each process, and its instances. */
export function nodeMetrics(parts: {
  doors: readonly Door[];
  instanceHost: InstanceHost;
  /** Names of virtual clusters are unique among these; instances of dropped ones are kept for a while. */
  virtualClusterIds: ReadonlySet<VirtualClusterId>;
}): readonly MetricFamily[] {
  const sum = (of: (door: Door) => number) => parts.doors.reduce((total, door) => total + of(door), 0);
  const count = (name: keyof FrontDoorCounters) => sum((door) => door.counters[name]);
  const instances = parts.instanceHost.list();
  const current = instances.filter(({ identity }) => parts.virtualClusterIds.has(identity.virtualClusterId));
  return [
    figure(
      'sql_sessions',
      'gauge',
      'Connections open at the SQL port',
      sum((door) => door.sessions),
    ),
    figure('sql_connections_accepted_count', 'counter', 'Connections accepted', count('connectionsAccepted')),
    figure(
      'sql_connections_refused_count',
      'counter',
      'Connections that got no session',
      count('connectionsRefused'),
    ),
    figure('sql_authentications_failed_count', 'counter', 'Failed logins', count('authenticationsFailed')),
    figure('sql_bytesin', 'counter', 'Bytes relayed from clients', count('clientBytes')),
    figure('sql_bytesout', 'counter', 'Bytes relayed to clients', count('backendBytes')),
    figure('sql_own_statements_count', 'counter', 'Statements of Atoll carried out', count('ownStatements')),
    figure(
      'sql_own_statements_failed_count',
      'counter',
      'Statements of Atoll that failed',
      count('ownStatementsFailed'),
    ),
    figure('sql_cancel_requests_count', 'counter', 'Cancel requests', count('cancelRequests')),
    figure('sql_backends_lost_count', 'counter', 'Sessions whose backend ended', count('backendsLost')),
    {
      name: 'instances',
      help: 'Instances of PostgreSQL by state',
      type: 'gauge',
      samples: STATES.map((state) => ({
        labels: { state },
        value: instances.filter((instance) => instance.state.kind === state).length,
      })),
    },
    {
      name: 'instance_starts_count',
      help: 'Starts of an instance since the daemon began, adoptions included',
      type: 'counter',
      samples: current.map((instance) => ({
        labels: { tenant: instance.identity.virtualClusterName },
        value: instance.generation,
      })),
    },
  ];
}

function figure(name: string, type: MetricFamily['type'], help: string, value: number): MetricFamily {
  return { name, type, help, samples: [{ labels: {}, value }] };
}
