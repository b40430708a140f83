/** Figures of what clients do, by virtual cluster, as its instance counts them. */
import { Semaphore } from '../base/index.ts';
import type { VirtualClusterRecord } from '../catalog/index.ts';
import type { Core } from './core.ts';
import { inTime } from './in-time.ts';
import type { MetricFamily } from './status.ts';

/** How many virtual clusters are asked at the same time. */
const ASKED_AT_ONCE = 8;

/** What concerns database `system` is ours, as are the sessions of our own roles. */
const ACTIVITY = `
  with sessions as (
    select state, xact_start, wait_event_type from pg_catalog.pg_stat_activity
     where backend_type = 'client backend' and usename not in ('atoll', 'atoll_reader')
  ), databases as (
    select coalesce(sum(xact_commit), 0) as commits, coalesce(sum(xact_rollback), 0) as rollbacks,
           coalesce(sum(tup_inserted), 0) as inserted, coalesce(sum(tup_updated), 0) as updated,
           coalesce(sum(tup_deleted), 0) as deleted, coalesce(sum(tup_fetched + tup_returned), 0) as read,
           coalesce(sum(deadlocks), 0) as deadlocks, coalesce(sum(temp_bytes), 0) as temp_bytes
      from pg_catalog.pg_stat_database where datname <> 'system'
  )
  select to_json(databases)::text as databases,
         (select json_build_object(
            'sessions', count(*),
            'open', count(xact_start),
            'active', count(*) filter (where state = 'active'),
            'waiting', count(*) filter (where wait_event_type = 'Lock'),
            'oldest', coalesce(greatest(extract(epoch from clock_timestamp() - min(xact_start)), 0), 0))::text
            from sessions) as sessions
    from databases`;

interface Figure {
  readonly name: string;
  readonly type: MetricFamily['type'];
  readonly help: string;
  readonly of: 'databases' | 'sessions';
  readonly key: string;
}

const FIGURES: readonly Figure[] = [
  counter('sql_txn_commit_count', 'Transactions committed', 'commits'),
  counter('sql_txn_rollback_count', 'Transactions rolled back', 'rollbacks'),
  counter('sql_rows_read_count', 'Rows read, by scans and by indexes', 'read'),
  counter('sql_rows_inserted_count', 'Rows inserted', 'inserted'),
  counter('sql_rows_updated_count', 'Rows updated', 'updated'),
  counter('sql_rows_deleted_count', 'Rows deleted', 'deleted'),
  counter('sql_deadlocks_count', 'Deadlocks found', 'deadlocks'),
  counter('sql_temp_bytes', 'Bytes of temporary files that queries wrote', 'temp_bytes'),
  gauge('sql_conns', 'Open SQL sessions', 'sessions'),
  gauge('sql_txns_open', 'Transactions that are open', 'open'),
  gauge('sql_statements_active', 'Statements that are carried out', 'active'),
  gauge('sql_statements_waiting', 'Statements that wait for a lock', 'waiting'),
  gauge('sql_txn_oldest_age_seconds', 'How long the oldest open transaction has been open', 'oldest'),
];

function counter(name: string, help: string, key: string): Figure {
  return { name, type: 'counter', help, of: 'databases', key };
}

function gauge(name: string, help: string, key: string): Figure {
  return { name, type: 'gauge', help, of: 'sessions', key };
}

interface Activity {
  readonly tenant: string;
  readonly databases: Readonly<Record<string, number>>;
  readonly sessions: Readonly<Record<string, number>>;
}

/** One that does not answer in time is left out. */
export async function sqlFamilies(
  core: Core,
  serving: readonly VirtualClusterRecord[],
  options: { signal: AbortSignal },
): Promise<readonly MetricFamily[]> {
  const places = new Semaphore(ASKED_AT_ONCE);
  const answers = await Promise.all(
    serving.map((record) => places.run(() => activityOf(core, record, options), options)),
  );
  const activities = answers.filter((answer) => answer !== undefined);
  return FIGURES.map(({ name, type, help, of, key }) => ({
    name,
    type,
    help,
    samples: activities.map((activity) => ({
      labels: { tenant: activity.tenant },
      value: activity[of][key] ?? 0,
    })),
  }));
}

async function activityOf(
  core: Core,
  record: VirtualClusterRecord,
  options: { signal: AbortSignal },
): Promise<Activity | undefined> {
  return inTime(core, options, async (wait) => {
    const instance = core.services.instanceOf(record);
    const [row] = await instance.withSystemClient((client) => client.query(ACTIVITY), wait);
    return {
      tenant: record.name,
      databases: figuresIn(row?.['databases']),
      sessions: figuresIn(row?.['sessions']),
    };
  });
}

function figuresIn(json: unknown): Readonly<Record<string, number>> {
  return typeof json === 'string' ? (JSON.parse(json) as Record<string, number>) : {};
}
