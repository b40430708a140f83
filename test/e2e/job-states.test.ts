/** kill -9 of the daemon in each state of a job, at the moment the state has become durable: what the next daemon makes of it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { JobStatus } from '../../src/catalog/index.ts';
import { JOB_FAULT_POINTS } from '../../src/timeline/index.ts';
import { TestDaemon } from '../harness/daemon.ts';
import { waitFor } from '../harness/wait.ts';

/** Kills every worker of a backup, so that the job goes from one attempt to the next. */
const NEVER_DONE = 'capture.after_plan';

interface Case {
  /** What a test asks of the first daemon, besides to die in the state. */
  readonly faults?: string;
  /** Delay before the second attempt, in the first daemon. */
  readonly retryDelay?: string;
  /** What is asked while attempt follows attempt. */
  readonly ask?: 'PAUSE' | 'CANCEL';
  /** Where the job rests under the second daemon. */
  readonly rests: JobStatus;
  readonly error?: RegExp;
}

/** Forgetting a state does not compile. */
const CASES: Readonly<Record<JobStatus, Case>> = {
  pending: { rests: 'succeeded' },
  running: { rests: 'succeeded' },
  'retry-running': { faults: NEVER_DONE, rests: 'succeeded' },
  'pause-requested': { faults: NEVER_DONE, ask: 'PAUSE', rests: 'paused' },
  paused: { faults: NEVER_DONE, ask: 'PAUSE', rests: 'paused' },
  'cancel-requested': { faults: NEVER_DONE, ask: 'CANCEL', rests: 'canceled' },
  reverting: { faults: NEVER_DONE, ask: 'CANCEL', rests: 'canceled' },
  'retry-reverting': { faults: `${NEVER_DONE},job.clean_up_fails`, ask: 'CANCEL', rests: 'canceled' },
  'revert-failed': {
    faults: `${NEVER_DONE},job.clean_up_fails`,
    retryDelay: '10ms',
    rests: 'revert-failed',
    error: /asked to fail/,
  },
  succeeded: { rests: 'succeeded' },
  failed: { faults: NEVER_DONE, retryDelay: '10ms', rests: 'failed', error: /ended unexpectedly/ },
  canceled: { faults: NEVER_DONE, ask: 'CANCEL', rests: 'canceled' },
};

type JobStatusOf<Point extends string> = Point extends `job.${infer Status}` ? Status : never;

const MAIN = { cluster: 'main' } as const;
const RESTING: ReadonlySet<unknown> = new Set([
  'succeeded',
  'failed',
  'canceled',
  'revert-failed',
  'paused',
] satisfies JobStatus[]);

describe('a daemon that is killed when a job has become', () => {
  let owner: TestDaemon;
  before(async () => {
    owner = await TestDaemon.start();
    await owner.query('CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id', MAIN);
    await owner.kill();
  });
  after(async () => {
    await owner[Symbol.asyncDispose]();
  });

  const newestJob = async (daemon: TestDaemon): Promise<Record<string, unknown> | undefined> =>
    (await daemon.query('SELECT * FROM system.jobs ORDER BY id DESC LIMIT 1', MAIN))[0];

  /** Leaves a job behind in `status`, and no daemon. */
  async function dieIn(status: JobStatus, { faults, retryDelay = '2s', ask }: Case): Promise<void> {
    const points = [...(faults === undefined ? [] : [faults]), `job.${status}`];
    await using daemon = await TestDaemon.start({
      store: owner.store,
      environment: { ATOLL_TEST_FAULT_POINT: points.join(',') },
    });
    await daemon.query(`SET CLUSTER SETTING jobs.registry.retry.initial_delay = '${retryDelay}'`, MAIN);
    const ended = daemon.ended();
    // The daemon may die before it answers.
    const begun = daemon
      .query(`BACKUP INTO 'nodelocal://1/${status}' WITH detached`, MAIN)
      .then(([row]) => String(row?.['job_id']))
      .catch(() => undefined);
    if (ask !== undefined) {
      const id = await begun;
      await waitFor(
        'a failed attempt',
        async () => (await newestJob(daemon))?.['status'] === 'retry-running',
      );
      await daemon.query(`${ask} JOB ${id}`, MAIN).catch(() => undefined);
    }
    await ended;
    await begun;
  }

  for (const point of JOB_FAULT_POINTS) {
    const status = point.slice('job.'.length) as JobStatusOf<typeof point>;
    const what = CASES[status];
    test(`${status}: the next one brings it to ${what.rests}`, async () => {
      await dieIn(status, what);
      const daemon = await TestDaemon.start({ store: owner.store });
      try {
        const job = await waitFor('the job to rest', async () => {
          const found = await newestJob(daemon);
          return RESTING.has(found?.['status']) && found;
        });
        assert.equal(job['status'], what.rests);
        assert.match(String(job['description']), new RegExp(`nodelocal://1/${status}'`), 'there is one job');
        if (what.error !== undefined) assert.match(String(job['error_msg']), what.error);
        if (what.rests === 'paused') {
          await daemon.query(`RESUME JOB ${String(job['id'])}`, MAIN);
          const [resumed] = await daemon.query(`SHOW JOB WHEN COMPLETE ${String(job['id'])}`, MAIN);
          assert.equal(resumed?.['status'], 'succeeded', String(resumed?.['error']));
        }
        // One backup or none: what was cut off is no backup, what succeeded is there once.
        const backups = await daemon.query(`SHOW BACKUPS IN 'nodelocal://1/${status}'`, MAIN);
        assert.equal(backups.length, ['succeeded', 'paused'].includes(what.rests) ? 1 : 0);
        if (what.rests === 'succeeded') return;
        // Whatever was left, the next backup to the same place works.
        const [next] = await daemon.query(`BACKUP INTO 'nodelocal://1/${status}'`, MAIN);
        assert.equal(next?.['status'], 'succeeded');
      } finally {
        await daemon.kill();
        await daemon[Symbol.asyncDispose]();
      }
    });
  }
});
