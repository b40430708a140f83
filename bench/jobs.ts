/** What many schedules and a long history of jobs cost: listing them, a round of the scheduler, and doing nothing. */
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pg from 'pg';
import type { IncarnationId, Logger, VirtualClusterId } from '../src/base/index.ts';
import { JobIdSource, type SystemDatabase, postgresScheduleStore } from '../src/catalog/index.ts';
import { systemClock } from '../src/daemon/clock.ts';
import { Scheduler } from '../src/jobs/index.ts';
import { TestDaemon } from '../test/harness/daemon.ts';
import { timed } from './processes.ts';
import { type Figure, median, milliseconds } from './report.ts';

const SCHEDULES = 1000;
const FINISHED_JOBS = 10_000;
const ROUNDS = 9;
const IDLE_MS = 20_000;
const TICKS_PER_SECOND = 100;

const suite = 'Schedules and jobs';
const silent: Logger = { log() {}, info() {}, warning() {}, error() {}, for: () => silent };

export async function benchJobs(): Promise<Figure[]> {
  await using daemon = await TestDaemon.start();
  const main = { cluster: 'main' } as const;
  const [row] = await daemon.query('SELECT id FROM [SHOW VIRTUAL CLUSTER main]', { cluster: 'system' });
  const system = await connectToSystem(daemon, Number(row?.['id']));
  await fill(system);
  const client = await daemon.connect(main);
  const slowest = async (sql: string) => {
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) times.push(await timed(() => client.query(sql)));
    return median(times);
  };
  const figures: Figure[] = [
    {
      suite,
      what: `SHOW SCHEDULES with ${SCHEDULES} schedules (median)`,
      value: milliseconds(await slowest('SHOW SCHEDULES')),
      goal: '< 50 ms',
    },
    {
      suite,
      what: `SHOW JOBS with ${FINISHED_JOBS} finished jobs in the last 14 days (median)`,
      value: milliseconds(await slowest('SHOW JOBS')),
      goal: '< 50 ms',
    },
    {
      suite,
      what: `a round of the scheduler over ${SCHEDULES} schedules, none due (median)`,
      value: milliseconds(await roundMs(system)),
      goal: '< 50 ms',
    },
  ];
  await client.end();
  await system.end();
  const before = await cpuSeconds(daemon.pid);
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  const share = ((await cpuSeconds(daemon.pid)) - before) / (IDLE_MS / 1000);
  figures.push({
    suite,
    what: `CPU of the daemon with ${SCHEDULES} schedules, nobody connected`,
    value: `${(share * 100).toFixed(1)} %`,
    goal: '< 1 %',
  });
  return figures;
}

/** The bootstrap superuser's way in, which only the daemon's OS user has. */
async function connectToSystem(daemon: TestDaemon, id: number): Promise<pg.Client> {
  const sockets = (await readdir(daemon.store, { recursive: true })).filter((name) =>
    name.endsWith('.s.PGSQL.5432'),
  );
  const socket = sockets.find((name) => name.split('/').includes(String(id)));
  const client = new pg.Client({
    host: dirname(join(daemon.store, socket ?? '')),
    user: 'atoll',
    database: 'system',
    types: { getTypeParser: () => (value: string) => value },
  });
  await client.connect();
  return client;
}

/** Half of the jobs are a day old and more, as after days of hourly work: SHOW JOBS lists the last 12 hours. */
async function fill(system: pg.Client): Promise<void> {
  await system.query(`insert into public.scheduled_jobs
    select 1000 + i, 'schedule ' || i, 'root', now(), '@daily', now() + interval '1 day', null, 'wait', 'reschedule', 'full',
      'BACKUP INTO ''nodelocal://1/p' || i || ''' WITH OPTIONS (detached)', null, null, false, true, null, gen_random_uuid()
    from generate_series(1, ${SCHEDULES}) i`);
  await system.query(`insert into public.jobs (job_id, job_type, description, user_name, status, created, started, finished,
      modified, fraction_completed, coordinator_id, payload, incarnation, schedule_id, scheduled_for, schedule_settled)
    select i, 'BACKUP', 'BACKUP INTO ''/2026/01/01-000000.00'' IN ''nodelocal://1/p''', 'root', 'succeeded', at, at, at, at, 1, 1,
      '{}', gen_random_uuid(), 1000 + i % ${SCHEDULES}, at, true
    from (select i, now() - i * interval '2 minutes' as at from generate_series(1, ${FINISHED_JOBS}) i) jobs`);
  await system.query('analyze public.jobs; analyze public.scheduled_jobs');
}

async function roundMs(system: pg.Client): Promise<number> {
  const virtualClusterId = 3 as VirtualClusterId;
  const { signal } = new AbortController();
  const database: SystemDatabase = {
    withSystemClient: (use) =>
      use({ query: async (sql, parameters = []) => (await system.query<never>(sql, [...parameters])).rows }),
  };
  const clock = systemClock();
  const scheduler = new Scheduler({
    clock,
    logger: silent,
    ids: new JobIdSource({ clock, nodeId: 1 }),
    startRun: () => Promise.reject(new Error('nothing is due')),
  });
  const [row] = (
    await system.query<{ incarnation: string }>('select incarnation from public.scheduled_jobs limit 1')
  ).rows;
  await system.query('update public.scheduled_jobs set incarnation = $1', [row?.incarnation]);
  await scheduler.attach(
    {
      virtualClusterId,
      virtualClusterName: 'main',
      incarnation: (row?.incarnation ?? '') as IncarnationId,
      store: postgresScheduleStore(database),
      policy: () => ({ isEnabled: true, paceUs: 60_000_000n, startsMax: 5, isHistoryProtected: false }),
    },
    { signal },
  );
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    scheduler.notify(virtualClusterId);
    times.push(await timed(() => scheduler.roundOfAll({ signal })));
  }
  return median(times);
}

/** User and system time of a process, from its `stat`. */
async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
