/** What the HTTP server shows of the virtual clusters of this node. */
import { Semaphore, type VirtualClusterId } from '../base/index.ts';
import { type VirtualClusterRecord, dataStateText, serviceModeOf } from '../catalog/index.ts';
import { answersClients, type InstanceState } from '../instance/index.ts';
import type { Core } from './core.ts';
import { diskFamilies } from './guard-disk.ts';
import { jobFamilies } from './job-metrics.ts';
import { inTime } from './in-time.ts';
import { asleepOf } from './suspender.ts';
import { vaultFamilies } from './vault-metrics.ts';
import { replicationFamilies } from './replication-metrics.ts';
import { verifyFamilies } from './verify-metrics.ts';

export interface VirtualClusterStatus {
  readonly id: VirtualClusterId;
  readonly name: string;
  readonly dataState: string;
  readonly serviceMode: 'none' | 'shared';
  /** `missing` when this node has no directory for it, `suspended` when it is stopped until somebody needs it. */
  readonly instance: InstanceState['kind'] | 'missing' | 'suspended';
  /** Clients are let in now. */
  readonly isServing: boolean;
}

export interface ControlHealth {
  /** False before `atoll init`. */
  readonly isInitialized: boolean;
  /** Undefined when clients are served, else why they are not. */
  readonly notReadyReason: string | undefined;
  readonly virtualClusters: readonly VirtualClusterStatus[];
}

/** A figure with its series, named as exported. */
export interface MetricFamily {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly samples: readonly { readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

/** How many virtual clusters are asked at the same time; how long an instance may take to answer a probe. */
const ASKED_AT_ONCE = 8;
const ANSWER_MS_MAX = 2000;

const ACTIVITY = `select coalesce(sum(xact_commit), 0)::text as commits, coalesce(sum(xact_rollback), 0)::text as rollbacks,
    (select count(*)::text from pg_catalog.pg_stat_activity
      where backend_type = 'client backend' and usename not in ('atoll', 'atoll_reader')) as sessions
  from pg_catalog.pg_stat_database where datname <> 'system'`;

interface Activity {
  readonly name: string;
  readonly commits: number;
  readonly rollbacks: number;
  readonly sessions: number;
}

export function virtualClusterStatus(core: Core): readonly VirtualClusterStatus[] {
  return core.catalog.list().map((record) => ({
    id: record.id,
    name: record.name,
    dataState: dataStateText(record.state) ?? '',
    serviceMode: serviceModeOf(record.state),
    instance:
      asleepOf(record) === undefined
        ? (core.options.instanceHost.get(record.id)?.state.kind ?? 'missing')
        : 'suspended',
    isServing: core.gates.isOpen(record.id),
  }));
}

/** Names of the virtual clusters that should serve and whose server does not take up connections in time. */
export async function unresponsiveVirtualClusters(
  core: Core,
  options: { signal: AbortSignal },
): Promise<readonly string[]> {
  const { signal } = options;
  const { clock, instanceHost } = core.options;
  const places = new Semaphore(ASKED_AT_ONCE);
  const answers = await Promise.all(
    core.catalog
      .list()
      .filter((record) => core.gates.isOpen(record.id))
      .map((record) =>
        places.run(async () => {
          const path = instanceHost.get(record.id)?.socketPath;
          const asked = { clock, timeoutMs: ANSWER_MS_MAX, signal };
          return path !== undefined && (await answersClients(path, asked)) ? undefined : record.name;
        }, options),
      ),
  );
  return answers.filter((name) => name !== undefined);
}

/** Figures of every virtual cluster that serves; one that does not answer in time is left out. */
export async function metricFamilies(
  core: Core,
  options: { signal: AbortSignal },
): Promise<readonly MetricFamily[]> {
  const places = new Semaphore(ASKED_AT_ONCE);
  const serving = core.catalog.list().filter((record) => core.gates.isOpen(record.id));
  const answers = await Promise.all(
    serving.map((record) => places.run(() => activityOf(core, record, options), options)),
  );
  const activities = answers.filter((answer) => answer !== undefined);
  const family = (
    name: string,
    type: MetricFamily['type'],
    help: string,
    value: (of: Activity) => number,
  ) => ({
    name,
    help,
    type,
    samples: activities.map((activity) => ({ labels: { tenant: activity.name }, value: value(activity) })),
  });
  return [
    family('sql_txn_commit_count', 'counter', 'Transactions committed', (of) => of.commits),
    family('sql_txn_rollback_count', 'counter', 'Transactions rolled back', (of) => of.rollbacks),
    family('sql_conns', 'gauge', 'Open SQL sessions', (of) => of.sessions),
    ...jobFamilies(core, serving),
    ...vaultFamilies(core),
    ...replicationFamilies(core),
    ...core.suspender.families(),
    ...(await diskFamilies(core)),
    ...(await verifyFamilies(core, options)),
  ];
}

async function activityOf(
  core: Core,
  record: VirtualClusterRecord,
  options: { signal: AbortSignal },
): Promise<Activity | undefined> {
  return inTime(core, options, async (wait) => {
    const instance = core.services.instanceOf(record);
    const [row] = await instance.withSystemClient((client) => client.query(ACTIVITY), wait);
    const figure = (name: string) => Number(row?.[name] ?? 0);
    return {
      name: record.name,
      commits: figure('commits'),
      rollbacks: figure('rollbacks'),
      sessions: figure('sessions'),
    };
  });
}
