import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';

/** One series of a family at one moment. */
export interface MetricSample {
  readonly labels: Readonly<Record<string, string>>;
  /** Of a histogram, the sum of all observations. */
  readonly value: number;
  /** Of a histogram: how many were not above each bound, the last of which is infinite. */
  readonly buckets?: readonly { readonly bound: number; readonly count: number }[];
}

/** A named figure with all its series, as control and daemon report it. Names have underscores, as exported. */
export interface MetricFamily {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: readonly MetricSample[];
}

/** The label that ties a series to a virtual cluster. Series without it belong to the node. */
export const TENANT_LABEL = 'tenant';

/** What a reader of the metrics may see. */
export type Visibility = { readonly kind: 'all' } | { readonly kind: 'tenant'; readonly name: string };

/**
 * Who sees what: the system virtual cluster sees all. Without the query parameter `cluster=system` only the default target's
 * series are given, unless that is the system virtual cluster itself.
 */
export function visibilityOf(options: { cluster: string | undefined; defaultTarget: string }): Visibility {
  const name = options.cluster ?? options.defaultTarget;
  return name === 'system' ? { kind: 'all' } : { kind: 'tenant', name };
}

/** The families as far as they are visible; a family without visible series disappears. */
export function visibleFamilies(
  families: readonly MetricFamily[],
  visibility: Visibility,
): readonly MetricFamily[] {
  if (visibility.kind === 'all') return families;
  return families
    .map((family) => ({
      ...family,
      samples: family.samples.filter((sample) => sample.labels[TENANT_LABEL] === visibility.name),
    }))
    .filter((family) => family.samples.length > 0);
}

/** Series that are the node's own, the same whichever virtual cluster looks at them. */
export function nodeFamilies(families: readonly MetricFamily[]): readonly MetricFamily[] {
  return families
    .map((family) => ({
      ...family,
      samples: family.samples.filter((sample) => sample.labels[TENANT_LABEL] === undefined),
    }))
    .filter((family) => family.samples.length > 0);
}

/** The text form that Prometheus reads. */
export async function formatFamilies(families: readonly MetricFamily[]): Promise<string> {
  const registry = new Registry();
  for (const { name, help, type, samples } of families.filter((family) => family.type !== 'histogram')) {
    const labelNames = [...new Set(samples.flatMap((sample) => Object.keys(sample.labels)))];
    const options = { name, help, labelNames, registers: [registry] };
    if (type === 'counter') {
      const counter = new Counter(options);
      for (const { labels, value } of samples) counter.inc(labels, value);
    } else {
      const gauge = new Gauge(options);
      for (const { labels, value } of samples) gauge.set(labels, value);
    }
  }
  const histograms = families.filter(({ type }) => type === 'histogram').map(formatHistogram);
  return [await registry.metrics(), ...histograms].join('');
}

/** By hand, for the client library fills histograms by observing alone. */
function formatHistogram({ name, help, samples }: MetricFamily): string {
  const lines = samples.flatMap(({ labels, value, buckets = [] }) => {
    const own = Object.entries(labels).map(([label, text]) => `${label}=${JSON.stringify(text)}`);
    const line = (suffix: string, figure: number, more: readonly string[] = []) => {
      const all = [...own, ...more].join(',');
      return `${name}${suffix}${all === '' ? '' : `{${all}}`} ${figure}`;
    };
    return [
      ...buckets.map(({ bound, count }) =>
        line('_bucket', count, [`le="${bound === Infinity ? '+Inf' : bound}"`]),
      ),
      line('_sum', value),
      line('_count', buckets.at(-1)?.count ?? 0),
    ];
  });
  return ['', `# HELP ${name} ${help}`, `# TYPE ${name} histogram`, ...lines, ''].join('\n');
}

/** How often the event loop's delay is sampled; more often costs an idle node CPU. */
const LOOP_SAMPLE_MS = 50;

/** Figures of the daemon's own process: CPU, memory, event loop, garbage collection. They are the node's. */
export class ProcessMetrics {
  readonly #registry = new Registry();

  constructor() {
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: LOOP_SAMPLE_MS });
  }

  async format(): Promise<string> {
    return this.#registry.metrics();
  }
}
