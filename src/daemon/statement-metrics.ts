/** Figures of statements by virtual cluster, added up over the front doors that its clients come in by. */
import type { VirtualClusterId } from '../base/index.ts';
import {
  LATENCY_BOUNDS_MS,
  type LatencyFigures,
  type StatementFigures,
  sumFigures,
} from '../frontdoor/index.ts';
import type { MetricFamily, MetricSample } from '../http/index.ts';

const NANOSECONDS_PER_MS = 1_000_000;

const COUNTERS = {
  sql_query_count: ['statements', 'Statements carried out or failed'],
  sql_select_count: ['selects', 'SELECT statements carried out'],
  sql_insert_count: ['inserts', 'INSERT statements carried out'],
  sql_update_count: ['updates', 'UPDATE statements carried out'],
  sql_delete_count: ['deletes', 'DELETE statements carried out'],
  sql_failure_count: ['failures', 'Statements that failed'],
  sql_txn_begin_count: ['begins', 'BEGIN statements carried out'],
  sql_txn_abort_count: ['aborts', 'Transactions in which a statement failed'],
} as const;

const HISTOGRAMS = {
  sql_service_latency: ['service', 'From a query to the end of its answer, in nanoseconds'],
  sql_txn_latency: ['transactions', 'From the first query of a transaction to its end, in nanoseconds'],
} as const;

/** One series for each virtual cluster, whether anybody has been in it or not. */
export function statementFamilies(parts: {
  readonly doors: readonly { readonly statements: ReadonlyMap<VirtualClusterId, StatementFigures> }[];
  readonly virtualClusters: readonly { readonly id: VirtualClusterId; readonly name: string }[];
}): readonly MetricFamily[] {
  const all = parts.virtualClusters.map(({ id, name }) => {
    const figures = parts.doors
      .map(({ statements }) => statements.get(id))
      .filter((each) => each !== undefined);
    return { tenant: name, figures: sumFigures(figures) };
  });
  return [
    ...Object.entries(COUNTERS).map(
      ([name, [key, help]]): MetricFamily => ({
        name,
        help,
        type: 'counter',
        samples: all.map(({ tenant, figures }) => ({ labels: { tenant }, value: figures[key] })),
      }),
    ),
    ...Object.entries(HISTOGRAMS).map(
      ([name, [key, help]]): MetricFamily => ({
        name,
        help,
        type: 'histogram',
        samples: all.map(({ tenant, figures }) => toSample(figures[key], { tenant })),
      }),
    ),
  ];
}

function toSample({ counts, sumMs }: LatencyFigures, labels: { readonly tenant: string }): MetricSample {
  let count = 0;
  const buckets = counts.map((own, bucket) => {
    count += own;
    return { bound: (LATENCY_BOUNDS_MS[bucket] ?? Infinity) * NANOSECONDS_PER_MS, count };
  });
  return { labels, value: Math.round(sumMs * NANOSECONDS_PER_MS), buckets };
}
