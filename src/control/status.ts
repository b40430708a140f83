/** What the HTTP server shows of the virtual clusters of this node. */
import { Semaphore, type VirtualClusterId } from '../base/index.ts';
import { dataStateText, serviceModeOf } from '../catalog/index.ts';
import { answersClients, type InstanceState } from '../instance/index.ts';
import type { Core } from './core.ts';
import { continuousFamilies } from './backup/continuous-backups.ts';
import { diskFamilies } from './virtual-clusters/guard-disk.ts';
import { jobFamilies } from './jobs/job-metrics.ts';
import { sqlFamilies } from './sql-metrics.ts';
import { asleepOf } from './virtual-clusters/suspender.ts';
import { vaultFamilies } from './timeline/vault-metrics.ts';
import { replicationFamilies } from './replication/replication-metrics.ts';
import { verifyFamilies } from './timeline/verify-metrics.ts';

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
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: readonly {
    readonly labels: Readonly<Record<string, string>>;
    /** Of a histogram, the sum of all observations. */
    readonly value: number;
    /** Of a histogram: how many were not above each bound, the last of which is infinite. */
    readonly buckets?: readonly { readonly bound: number; readonly count: number }[];
  }[];
}

/** How many virtual clusters are asked at the same time; how long an instance may take to answer a probe. */
const ASKED_AT_ONCE = 8;
const ANSWER_MS_MAX = 2000;

export function virtualClusterStatus(core: Core): readonly VirtualClusterStatus[] {
  return core.catalog.list().map((record) => ({
    id: record.id,
    name: record.name,
    dataState: dataStateText(record.state) ?? '',
    serviceMode: serviceModeOf(record.state),
    instance:
      asleepOf(record) === undefined
        ? (core.options.instanceHost.get(record.readerOf ?? record.id)?.state.kind ?? 'missing')
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
          const path = instanceHost.get(record.readerOf ?? record.id)?.socketPath;
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
  const serving = core.catalog.list().filter((record) => core.gates.isOpen(record.id));
  return [
    ...(await sqlFamilies(core, serving, options)),
    ...jobFamilies(core, serving),
    ...vaultFamilies(core),
    ...continuousFamilies(core),
    ...replicationFamilies(core),
    ...core.suspender.families(),
    ...(await diskFamilies(core)),
    ...(await verifyFamilies(core, options)),
  ];
}
