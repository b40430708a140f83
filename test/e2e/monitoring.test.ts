import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { dashboard } from '../../scripts/generate-dashboard.ts';
import { freePort } from '../harness/azurite.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { runProgram, skipWithout, startProgram } from '../harness/programs.ts';
import { scratchDirectory } from '../harness/scratch.ts';
import { waitFor } from '../harness/wait.ts';

const ROOT = join(import.meta.dirname, '../..');
const ALERTS = join(ROOT, 'docs/monitoring/alerts.yml');
const HTTP_REFERENCE = readFileSync(join(ROOT, 'docs/reference/http.md'), 'utf8');

/** Connections that log in nowhere: three times as many as wait in the lobby at one time. */
const SILENT_CONNECTIONS = 6_000;
const CONNECTIONS_AT_ONCE = 100;
/** They take 23 MiB; without the bounds of the heap (bin/atoll) twice, with a timer and its signals for each five times as much. */
const SILENT_BYTES_MAX = 48 * 2 ** 20;

const JOB_TYPES = ['backup', 'restore', 'replication_stream_ingestion', 'replication_stream_producer'];
const JOB_FIGURES = [
  'currently_running',
  'currently_idle',
  'currently_paused',
  'resume_completed',
  'resume_failed',
  'resume_retry_error',
  'fail_or_cancel_completed',
  'fail_or_cancel_failed',
  'fail_or_cancel_retry_error',
  'protected_age_sec',
  'protected_record_count',
  'expired_pts_records',
];
/** What dashboards and alerts of CockroachDB ask for in the features that we share with it, as its names are exported. */
const EXPECTED_SERIES = [
  'sql_txn_commit_count',
  'sql_txn_rollback_count',
  'sql_txns_open',
  'sql_conns',
  'sql_statements_active',
  'sql_txn_begin_count',
  'sql_txn_abort_count',
  ...['select', 'insert', 'update', 'delete', 'query', 'failure'].map((name) => `sql_${name}_count`),
  'sql_txn_latency',
  'sql_service_latency',
  ...JOB_TYPES.flatMap((type) => JOB_FIGURES.map((figure) => `jobs_${type}_${figure}`)),
  'jobs_running_non_idle',
  ...['started', 'succeeded', 'failed', 'last_completed_time'].map((name) => `schedules_BACKUP_${name}`),
  'schedules_BACKUP_protected_age_sec',
  'schedules_BACKUP_protected_record_count',
  ...['jobs_started', 'reschedule_skip', 'reschedule_wait'].map((name) => `schedules_round_${name}`),
  'schedules_error',
  'schedules_malformed',
  'backup_last_failed_time_kms_inaccessible',
  ...[
    'logical_bytes',
    'replicated_time_seconds',
    'resolved_events_ingested',
    'running',
    'scanning_ranges',
    'catchup_ranges',
    'events_ingested',
    'flushes',
    'flush_hist_nanos',
    'flush_wait_nanos',
    'receive_wait_nanos',
    'admit_latency',
    'commit_latency',
    'distsql_replan_count',
    'failover_progress',
    'status',
    'producer_held_bytes',
  ].map((name) => `physical_replication_${name}`),
];
/** Of them, what has no counterpart: PostgreSQL counts transactions and rows, and receives log as it comes. docs/reference/http.md says so. */
const MISSING_SERIES = [
  ...['begin_started', 'commit_started', 'rollback_started'].map((name) => `sql_txn_${name}_count`),
  'physical_replication_sst_bytes',
];

interface Board {
  readonly panels: readonly { readonly targets?: readonly { readonly expr: string }[] }[];
}

const boardExpressions = (JSON.parse(dashboard()) as Board).panels
  .flatMap(({ targets = [] }) => targets)
  .map(({ expr }) => expr.replaceAll('$tenant', '.*'));

/** Whether the reference names a series: in full, or by the end of a name whose beginning is given once. */
function isDocumented(series: string): boolean {
  const name = series.replace(/^jobs_(?:backup|restore|replication_stream_[a-z]+)_/, 'jobs_<type>_');
  const isThere = (text: string) => HTTP_REFERENCE.includes(`\`${text}`);
  const words = name.split('_');
  // Of a histogram.
  const family = name.replace(/_(?:bucket|sum|count)$/, '');
  if (HTTP_REFERENCE.includes(`\`${family}\``)) return true;
  return isThere(name) || words.some((_, at) => at > 0 && isThere(`_${words.slice(at).join('_')}\``));
}

/** Highest resident memory of a process so far. */
function peakBytes(pid: number): number {
  return Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

/** Connects, says half a word, and stays; resolves when the connection stands. */
function connectSilently(port: number): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const socket = connect(port, '127.0.0.1', () => {
    socket.write(Buffer.from([0, 0, 0]));
    resolve(socket);
  });
  socket.on('error', reject); // Later ones, of those turned away, come too late to matter.
  socket.resume();
  return promise;
}

describe('what operators watch', () => {
  let daemon: TestDaemon;
  let http: string;
  before(async () => {
    daemon = await TestDaemon.start();
    http = /HTTP +http:\/\/(\S+)/.exec(daemon.output)?.[1] ?? '';
  });
  after(() => daemon[Symbol.asyncDispose]());

  test('every series is documented, and the dashboard is the one of its generator', async () => {
    const text = await (await fetch(`http://${http}/_status/vars?cluster=system`)).text();
    const names = text.matchAll(/^# TYPE (\S+)/gm).map(([, name = '']) => name);
    const own = names.filter((name) => !/^(?:process|nodejs)_/.test(name)).toArray();
    assert.ok(own.length > 60);
    assert.deepEqual(
      own.filter((name) => !isDocumented(name)),
      [],
    );
    const path = join(ROOT, 'docs/monitoring/dashboard.json');
    assert.equal(readFileSync(path, 'utf8'), dashboard(), 'run scripts/generate-dashboard.ts --write');
  });

  test('what dashboards of the original ask for is there, or said to be missing', async () => {
    const text = await (await fetch(`http://${http}/metrics?cluster=system`)).text();
    const names = new Set(text.matchAll(/^# TYPE (\S+)/gm).map(([, name]) => name));
    assert.deepEqual(
      EXPECTED_SERIES.filter((name) => !names.has(name)),
      [],
    );
    for (const name of MISSING_SERIES) {
      assert.ok(!names.has(name), `${name} is there: move it to those expected`);
      assert.ok(HTTP_REFERENCE.includes(`\`${name}\``), `${name} is not said to be missing`);
    }
  });

  test('what clients of one virtual cluster do is counted there and nowhere else', async () => {
    const read = async () => {
      const text = await (await fetch(`http://${http}/_status/vars?cluster=system`)).text();
      return (name: string, tenant: string) =>
        Number(new RegExp(`^${name}\\{tenant="${tenant}"\\} (\\d+)$`, 'm').exec(text)?.[1]);
    };
    const names = ['select', 'insert', 'update', 'delete', 'query', 'failure', 'txn_begin', 'txn_abort'].map(
      (name) => `sql_${name}_count`,
    );
    const all = [...names, 'sql_service_latency_count', 'sql_txn_latency_count', 'sql_txn_commit_count'];
    const before = await read();
    await daemon.query(['CREATE TABLE counted (a int)', 'INSERT INTO counted VALUES (1), (2)', 'SELECT 1']);
    const client = await daemon.connect();
    await client.query({ text: 'UPDATE counted SET a = $1', values: [3] });
    await client.query('BEGIN; DELETE FROM counted');
    await assert.rejects(client.query('SELECT 1/0'), { code: '22012' });
    await client.query('ROLLBACK');
    await client.end();
    const after = await read();
    const grown = (tenant: string) => all.map((name) => after(name, tenant) - before(name, tenant));
    // Statements: one each, and CREATE, BEGIN, DELETE, ROLLBACK. Answers: seven; transactions: five.
    assert.deepEqual(grown('main').slice(0, 10), [1, 1, 1, 1, 8, 1, 1, 1, 7, 5]);
    assert.deepEqual(grown('system').slice(0, 8), [0, 0, 0, 0, 0, 0, 0, 0]);
    // Those of the server come when it has gathered them.
    const committed = await waitFor('commits to be told', async () => {
      const later = await read();
      const more = later('sql_txn_commit_count', 'main') - before('sql_txn_commit_count', 'main');
      return more > 0 && more;
    });
    assert.ok(committed >= 1);
  });

  test('series are as many as virtual clusters, and go with them', async () => {
    await daemon.query(
      ['CREATE VIRTUAL CLUSTER passing', 'ALTER VIRTUAL CLUSTER passing START SERVICE SHARED'],
      { cluster: 'system' },
    );
    await daemon.query('SELECT 1', { cluster: 'passing' });
    const series = async () => {
      const text = await (await fetch(`http://${http}/_status/vars?cluster=system`)).text();
      const own = text.split('\n').filter((line) => /^(?!#|process_|nodejs_)\S/.test(line));
      return own.map((line) => line.replace(/ [^ ]*$/, ''));
    };
    const all = await series();
    assert.equal(new Set(all).size, all.length);
    for (const line of all)
      assert.match(
        line,
        /^[a-zA-Z_]+(?:\{(?:tenant="(?:system|main|passing)"(?:,le="(?:\d+|\+Inf)")?|state="\w+")\})?$/,
      );
    const of = (lines: readonly string[], name: string) =>
      lines.filter((line) => line.includes(`tenant="${name}"`)).length;
    assert.ok(of(all, 'passing') > 0 && of(all, 'passing') <= of(all, 'main'));
    await daemon.query(
      ['ALTER VIRTUAL CLUSTER passing STOP SERVICE', 'DROP VIRTUAL CLUSTER passing IMMEDIATE'],
      { cluster: 'system' },
    );
    assert.equal(of(await series(), 'passing'), 0);
  });

  test('Prometheus takes the rules, the series and the queries of the dashboard', {
    skip: skipWithout('prometheus'),
  }, async () => {
    const checked = await runProgram('promtool', ['check', 'rules', ALERTS]);
    assert.equal(checked.status, 0, checked.stderr);
    const text = await (await fetch(`http://${http}/_status/vars?cluster=system`)).text();
    const linted = await runProgram('promtool', ['check', 'metrics'], { input: text });
    // 3: it can be read, and names are not as Prometheus would have them; ours are those of the documents.
    assert.ok(linted.status === 0 || linted.status === 3, linted.stderr);
    const directory = await scratchDirectory('atoll-prometheus-');
    const port = await freePort();
    await writeFile(
      join(directory, 'prometheus.yml'),
      JSON.stringify({
        global: { scrape_interval: '1s', evaluation_interval: '1s' },
        rule_files: [ALERTS],
        scrape_configs: [
          {
            job_name: 'atoll',
            metrics_path: '/_status/vars',
            params: { cluster: ['system'] },
            static_configs: [{ targets: [http] }],
          },
        ],
      }),
    );
    const prometheus = startProgram('prometheus', [
      `--config.file=${join(directory, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ]);
    try {
      const ask = async (path: string): Promise<unknown> => {
        prometheus.requireAlive();
        const answer = await fetch(`http://127.0.0.1:${port}/api/v1/${path}`).catch(() => undefined);
        const body = (await answer?.json()) as { status: string; data: unknown } | undefined;
        return body?.status === 'success' ? body.data : undefined;
      };
      const query = async (expr: string) =>
        (await ask(`query?query=${encodeURIComponent(expr)}`)) as { result: readonly unknown[] } | undefined;
      await waitFor('a scrape', async () => ((await query('up == 1'))?.result.length ?? 0) > 0);
      for (const expr of boardExpressions) assert.ok(await query(expr), expr);
      assert.ok(((await query('sql_conns{tenant="main"}'))?.result.length ?? 0) > 0);
      const rules = await waitFor('all rules to be evaluated', async () => {
        const found = (await ask('rules')) as { groups: { rules: { name: string; health: string }[] }[] };
        const all = found.groups.flatMap((group) => group.rules);
        return all.every(({ health }) => health !== 'unknown') && all;
      });
      assert.deepEqual(
        rules.filter(({ health }) => health !== 'ok'),
        [],
      );
    } finally {
      await prometheus[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    }
  });

  test('no rule and no panel asks for a series that is not there', async () => {
    const rules = readFileSync(ALERTS, 'utf8')
      .matchAll(/expr: (.*)/g)
      .map(([, expr = '']) => expr);
    const known =
      /\b(?:sql|jobs|schedules|timeline|instances?|store|virtual_cluster|physical_replication)_\w+/g;
    for (const expr of [...rules, ...boardExpressions]) {
      for (const [name] of expr.matchAll(known)) assert.ok(isDocumented(name), name);
    }
  });

  test('thousands of connections that say nothing take little memory', {
    skip: process.platform !== 'linux' && 'the peak is read from /proc',
  }, async () => {
    const before = peakBytes(daemon.pid);
    const sockets: Socket[] = [];
    while (sockets.length < SILENT_CONNECTIONS) {
      const batch = Array.from({ length: CONNECTIONS_AT_ONCE }, () => connectSilently(daemon.port));
      sockets.push(...(await Promise.all(batch)));
    }
    assert.deepEqual(await daemon.query('SELECT 1 AS one'), [{ one: 1 }]);
    for (const socket of sockets) socket.destroy();
    const grownMiB = (peakBytes(daemon.pid) - before) / 2 ** 20;
    assert.ok(grownMiB * 2 ** 20 < SILENT_BYTES_MAX, `they took ${grownMiB.toFixed(0)} MiB`);
  });
});
