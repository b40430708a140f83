/** Makes docs/monitoring/dashboard.json, the Grafana dashboard; `--write` writes it, otherwise it is printed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

interface Query {
  readonly expr: string;
  readonly legend: string;
}

interface Panel {
  readonly title: string;
  readonly unit: 'short' | 's' | 'bytes' | 'Bps' | 'ops' | 'percentunit';
  readonly queries: readonly Query[];
}

/** Series of the virtual clusters chosen at the top. */
const CHOSEN = '{tenant=~"$tenant"}';
const perTenant = (expr: string): readonly Query[] => [{ expr, legend: '{{tenant}}' }];

const ROWS: readonly { readonly title: string; readonly panels: readonly Panel[] }[] = [
  {
    title: 'Can it be restored?',
    panels: [
      {
        title: 'Restorable through: age',
        unit: 's',
        queries: [
          {
            expr: `timeline_vault_restorable_through_age_seconds${CHOSEN}`,
            legend: 'on the node {{tenant}}',
          },
          {
            expr: `timeline_continuous_restorable_through_age_seconds${CHOSEN}`,
            legend: 'remote {{tenant}}',
          },
        ],
      },
      {
        title: 'Newest scheduled backup: age',
        unit: 's',
        queries: perTenant(`time() - (schedules_BACKUP_last_completed_time${CHOSEN} > 0)`),
      },
      {
        title: 'Newest restore that was tried out: age',
        unit: 's',
        queries: perTenant(`timeline_check_last_success_age_seconds${CHOSEN}`),
      },
      {
        title: 'Damage, gaps, failed checks',
        unit: 'short',
        queries: [
          { expr: `timeline_verify_damaged_objects${CHOSEN}`, legend: 'damaged objects {{tenant}}' },
          { expr: `timeline_vault_gaps${CHOSEN}`, legend: 'gap {{tenant}}' },
          { expr: `timeline_check_failed${CHOSEN}`, legend: 'failed check {{tenant}}' },
        ],
      },
    ],
  },
  {
    title: 'Replication',
    panels: [
      {
        title: 'Replication lag',
        unit: 's',
        queries: perTenant(`time() - (physical_replication_replicated_time_seconds${CHOSEN} > 0)`),
      },
      {
        title: 'Logical bytes',
        unit: 'Bps',
        queries: perTenant(`rate(physical_replication_logical_bytes${CHOSEN}[1m])`),
      },
      {
        title: 'From a commit until it is durable on the standby: 99th percentile',
        unit: 's',
        queries: perTenant(
          `histogram_quantile(0.99, sum by (tenant, le) (rate(physical_replication_commit_latency_bucket${CHOSEN}[5m]))) / 1e9`,
        ),
      },
      {
        title: 'Log kept at the primary for its standbys',
        unit: 'bytes',
        queries: perTenant(`physical_replication_producer_held_bytes${CHOSEN}`),
      },
      {
        title: 'State of streams',
        unit: 'short',
        queries: [{ expr: `physical_replication_status${CHOSEN}`, legend: '{{tenant}} {{state}}' }],
      },
    ],
  },
  {
    title: 'Jobs',
    panels: [
      {
        title: 'Backups and restores under way',
        unit: 'short',
        queries: [
          { expr: `jobs_backup_currently_running${CHOSEN}`, legend: 'backup {{tenant}}' },
          { expr: `jobs_restore_currently_running${CHOSEN}`, legend: 'restore {{tenant}}' },
        ],
      },
      {
        title: 'Failures',
        unit: 'short',
        queries: [
          { expr: `increase(jobs_backup_resume_failed${CHOSEN}[1h])`, legend: 'backup {{tenant}}' },
          { expr: `increase(jobs_restore_resume_failed${CHOSEN}[1h])`, legend: 'restore {{tenant}}' },
          { expr: `increase(schedules_BACKUP_failed${CHOSEN}[1h])`, legend: 'schedule {{tenant}}' },
        ],
      },
    ],
  },
  {
    title: 'Workload',
    panels: [
      {
        title: 'Transactions',
        unit: 'ops',
        queries: [
          { expr: `rate(sql_txn_commit_count${CHOSEN}[1m])`, legend: 'committed {{tenant}}' },
          { expr: `rate(sql_txn_rollback_count${CHOSEN}[1m])`, legend: 'rolled back {{tenant}}' },
        ],
      },
      {
        title: 'Sessions',
        unit: 'short',
        queries: [
          { expr: `sql_conns${CHOSEN}`, legend: 'open {{tenant}}' },
          { expr: `sql_statements_active${CHOSEN}`, legend: 'active {{tenant}}' },
          { expr: `sql_statements_waiting${CHOSEN}`, legend: 'waiting {{tenant}}' },
        ],
      },
      {
        title: 'Oldest open transaction',
        unit: 's',
        queries: perTenant(`sql_txn_oldest_age_seconds${CHOSEN}`),
      },
      {
        title: 'Bytes through the SQL port',
        unit: 'Bps',
        queries: [
          { expr: 'rate(sql_bytesin[1m])', legend: 'in {{instance}}' },
          { expr: 'rate(sql_bytesout[1m])', legend: 'out {{instance}}' },
        ],
      },
    ],
  },
  {
    title: 'Storage and node',
    panels: [
      {
        title: 'Free on the disk',
        unit: 'bytes',
        queries: [{ expr: 'store_free_bytes', legend: '{{instance}}' }],
      },
      {
        title: 'Log kept in the timeline',
        unit: 'bytes',
        queries: perTenant(`timeline_vault_stored_bytes${CHOSEN}`),
      },
      {
        title: 'CPU of the daemon',
        unit: 'percentunit',
        queries: [{ expr: 'rate(process_cpu_seconds_total[1m])', legend: '{{instance}}' }],
      },
      {
        title: 'Memory of the daemon',
        unit: 'bytes',
        queries: [{ expr: 'process_resident_memory_bytes', legend: '{{instance}}' }],
      },
    ],
  },
];

const COLUMNS = 24;
const PANEL_HEIGHT = 7;
const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };

export function dashboard(): string {
  const panels: object[] = [];
  let y = 0;
  for (const row of ROWS) {
    panels.push({
      type: 'row',
      id: panels.length + 1,
      title: row.title,
      gridPos: { h: 1, w: COLUMNS, x: 0, y },
    });
    y += 1;
    const width = COLUMNS / row.panels.length;
    for (const [at, panel] of row.panels.entries()) {
      panels.push({
        type: 'timeseries',
        id: panels.length + 1,
        title: panel.title,
        datasource: DATASOURCE,
        gridPos: { h: PANEL_HEIGHT, w: width, x: at * width, y },
        fieldConfig: { defaults: { unit: panel.unit, min: 0 }, overrides: [] },
        targets: panel.queries.map(({ expr, legend }, index) => ({
          refId: String.fromCharCode(65 + index),
          datasource: DATASOURCE,
          expr,
          legendFormat: legend,
        })),
      });
    }
    y += PANEL_HEIGHT;
  }
  const board = {
    title: 'Atoll',
    uid: 'atoll',
    schemaVersion: 39,
    timezone: 'utc',
    refresh: '30s',
    time: { from: 'now-6h', to: 'now' },
    templating: {
      list: [
        { name: 'datasource', type: 'datasource', query: 'prometheus' },
        {
          name: 'tenant',
          label: 'Virtual cluster',
          type: 'query',
          datasource: DATASOURCE,
          query: { query: 'label_values(sql_conns, tenant)', refId: 'tenant' },
          refresh: 2,
          multi: true,
          includeAll: true,
          allValue: '.*',
          current: { text: 'All', value: '$__all' },
        },
      ],
    },
    panels,
  };
  return `${JSON.stringify(board, null, 2)}\n`;
}

if (import.meta.main) {
  const path = join(import.meta.dirname, '..', 'docs', 'monitoring', 'dashboard.json');
  if (process.argv.includes('--write')) writeFileSync(path, dashboard());
  else process.stdout.write(dashboard());
}
