import { chownSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeGroupsFolder, removeGroupsFolder } from '../test/harness/control-groups.ts';
import { TestDaemon } from '../test/harness/daemon.ts';
import { type Latencies, type Load, latencies, mostTransactions } from './pgbench.ts';
import { run, serverUser, whenWorkersIdle } from './processes.ts';
import { type Figure, median } from './report.ts';

const SCALE = 5;
const ROUNDS = Number(process.env['ATOLL_BENCH_ROUNDS'] ?? 3);
const SECONDS = Number(process.env['ATOLL_BENCH_SECONDS'] ?? 10);
const QUIET_CLIENTS = 2;
/** The quiet one asks for a tenth of what it could have. */
const QUIET_SHARE = 0.1;
/** The noisy one wants every core several times over. */
const NOISY_CLIENTS = 8 * availableParallelism();

/** Of the operator's folder, against what runs outside of it: the node and its virtual clusters come before the noisy clients, as a service does on a machine of its own. */
const GROUP_SHARES = 10_240;

interface Measure {
  readonly name: string;
  /** Of the noisy one. */
  readonly settings: readonly string[];
}

/** What a virtual cluster feels of another one that takes all it can get, on the same node. */
export async function benchNeighbours(): Promise<Figure[]> {
  const figures = await compare(
    [
      { name: 'nothing set', settings: [] },
      { name: 'instance.niceness = 19', settings: ['instance.niceness = 19'] },
    ],
    [],
  );
  const groups = makeGroupsFolder('cpu', { shares: GROUP_SHARES });
  if (groups.path === null) {
    console.log(groups.why);
    return figures;
  }
  try {
    const measures = [
      { name: 'control groups, nothing set', settings: [] },
      { name: 'control groups, instance.cpu_weight = 10', settings: ['instance.cpu_weight = 10'] },
    ];
    return [...figures, ...(await compare(measures, [`--cgroup-parent=${groups.path}`]))];
  } finally {
    await removeGroupsFolder(groups.path);
  }
}

/** What the operator has done about the noisy one, on one daemon, in this order. */
async function compare(measures: readonly Measure[], flags: readonly string[]): Promise<Figure[]> {
  const suite = `Neighbours (pgbench -S -s ${SCALE}; the noisy one with ${NOISY_CLIENTS} clients, the quiet one at a tenth of its maximum)`;
  const folder = await mkdtemp(join(tmpdir(), 'atoll-bench-'));
  const user = serverUser();
  if (user !== undefined) chownSync(folder, user.uid, user.gid);
  const figures: Figure[] = [];
  const tell = (figure: Figure) => {
    figures.push(figure);
    console.log(figure.what, figure.value);
  };
  await using daemon = await TestDaemon.start({ flags });
  try {
    // Not `main`, which has the capability exempt_from_rate_limiting.
    for (const name of ['quiet', 'noisy']) {
      await system(daemon, [
        `CREATE VIRTUAL CLUSTER ${name}`,
        `ALTER VIRTUAL CLUSTER ${name} START SERVICE SHARED`,
      ]);
      await run('pgbench', ['-i', '-s', String(SCALE), '-q', daemon.url({ cluster: name })]);
    }
    const loadOf = (cluster: string, clients: number, place: 'apart' | 'first'): Load => ({
      url: daemon.url({ cluster }),
      clients,
      seconds: SECONDS,
      script: ['-S'],
      place,
    });
    // Clients are on other machines than the node. Who measures must not wait for what it measures.
    const quiet = loadOf('quiet', QUIET_CLIENTS, 'first');
    const noisy = loadOf('noisy', NOISY_CLIENTS, 'apart');
    const perSecond = (await mostTransactions(quiet)) * QUIET_SHARE;
    for (const { name, settings } of measures) {
      await restrict(daemon, settings);
      await whenWorkersIdle(daemon.pid);
      const alone: Latencies[] = [];
      const beside: Latencies[] = [];
      let noise = 0;
      for (let round = 0; round < ROUNDS; round += 1) {
        alone.push(await latencies(quiet, { folder, perSecond }));
        const [felt, tps] = await Promise.all([
          latencies(quiet, { folder, perSecond }),
          mostTransactions(noisy),
        ]);
        beside.push(felt);
        noise = Math.max(noise, tps);
      }
      const of = (all: readonly Latencies[], share: keyof Latencies) => median(all.map((one) => one[share]));
      const [before, after] = [of(alone, 'p99'), of(beside, 'p99')];
      tell({
        suite,
        what: `${name}: 99th percentile of the quiet one at ${perSecond.toFixed(0)} tps, alone and beside the noisy one's ${noise.toFixed(0)} tps`,
        value: `${before.toFixed(2)} ms, ${after.toFixed(2)} ms: ${(after / before).toFixed(2)} × (median ${of(alone, 'p50').toFixed(2)}, ${of(beside, 'p50').toFixed(2)} ms)`,
        goal: '< 2 ×',
      });
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return figures;
}

/** Settings of the noisy one, from its next start on, which is now. */
async function restrict(daemon: TestDaemon, settings: readonly string[]): Promise<void> {
  if (settings.length === 0) return;
  await system(daemon, [
    ...settings.map((setting) => `ALTER VIRTUAL CLUSTER noisy SET CLUSTER SETTING ${setting}`),
    'ALTER VIRTUAL CLUSTER noisy STOP SERVICE',
    'ALTER VIRTUAL CLUSTER noisy START SERVICE SHARED',
  ]);
  await daemon.query('SELECT 1', { cluster: 'noisy' });
}

async function system(daemon: TestDaemon, statements: readonly string[]): Promise<void> {
  await daemon.query(statements, { cluster: 'system' });
}
