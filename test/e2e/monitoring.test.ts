import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
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
  return isThere(name) || words.some((_, at) => at > 0 && isThere(`_${words.slice(at).join('_')}\``));
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

  test('Prometheus takes the rules, the series and the queries of the dashboard', {
    skip: skipWithout('prometheus'),
  }, async () => {
    const checked = await runProgram('promtool', ['check', 'rules', ALERTS]);
    assert.equal(checked.status, 0, checked.stderr);
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
});
