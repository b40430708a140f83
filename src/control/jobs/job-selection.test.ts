import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../../test/harness/control.ts';
import { ManualClock } from '../../../test/harness/manual-clock.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import { CancelledError } from '../../base/index.ts';
import type { BulkWorker } from '../../timeline/index.ts';
import { noBackups } from '../../../test/harness/scripted-backups.ts';

const HOUR_MS = 3_600_000;

/** Backups that end only when they are stopped. */
const endless: BulkWorker = {
  ...noBackups().bulkWorker,
  backup: (_request, { signal }) =>
    new Promise((_resolve, reject) => {
      const stop = () => reject(new CancelledError());
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop, { once: true });
    }),
};

describe('several jobs by one statement', () => {
  let test: TestControl;
  const clock = new ManualClock();
  before(async () => {
    const { collectionReader } = noBackups();
    test = await TestControl.open({ virtualized: 'main', bulkWorker: endless, collectionReader, clock });
    await test.postgres('CREATE ROLE keeper LOGIN; CREATE ROLE plain LOGIN');
    await test.postgres('GRANT atoll_backup, atoll_externalioimplicitaccess TO keeper');
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  const begin = async (as = 'root') => {
    const [row] = await test.rows("BACKUP INTO 'nodelocal://1/c' WITH detached", { as });
    return row?.['job_id'] ?? '';
  };
  const statusOf = async (id: string) => (await test.rows(`SHOW JOB ${id}`))[0]?.['status'];
  const until = (id: string, status: string) => waitFor(status, async () => (await statusOf(id)) === status);
  const cancelAll = async () => {
    await test.ask('CANCEL ALL BACKUP JOBS');
    await test.rows('SHOW JOBS WHEN COMPLETE SELECT job_id FROM [SHOW JOBS]');
  };

  it('pause with a reason that is shown until they go on', async () => {
    const id = await begin();
    await until(id, 'running');
    assert.equal((await test.ask(`PAUSE JOB ${id} WITH REASON = 'the night shift'`)).tag, 'PAUSE JOBS 1');
    await until(id, 'paused');
    const [paused] = await test.rows(`SHOW JOB ${id}`);
    assert.deepEqual([paused?.['running_status'], paused?.['error']], ['the night shift', null]);
    await test.stop();
    await test.start();
    assert.equal((await test.rows(`SHOW JOB ${id}`))[0]?.['running_status'], 'the night shift');
    await test.ask(`RESUME JOB ${id}`);
    await until(id, 'running');
    assert.notEqual((await test.rows(`SHOW JOB ${id}`))[0]?.['running_status'], 'the night shift');
    await cancelAll();
  });

  it('are named by a query', async () => {
    const ids = [await begin(), await begin(), await begin()];
    await Promise.all(ids.map((id) => until(id, 'running')));
    const [first, second, third] = ids;
    const paused = await test.ask('PAUSE JOBS (SELECT job_id FROM [SHOW JOBS] WHERE job_id IN ($1, $2))', {
      parameters: [first ?? '', second ?? ''],
    });
    assert.equal(paused.tag, 'PAUSE JOBS 2');
    await until(first ?? '', 'paused');
    await until(second ?? '', 'paused');
    assert.equal(await statusOf(third ?? ''), 'running');
    const resumed = await test.ask(
      "RESUME JOBS WITH x AS (SHOW JOBS) SELECT job_id FROM x WHERE status = 'paused'",
    );
    assert.equal(resumed.tag, 'RESUME JOBS 2');
    const shown = await test.rows(`SHOW JOBS VALUES (${first}), (${third}), (1)`);
    assert.deepEqual(new Set(shown.map((row) => row['job_id'])), new Set([first, third]));
    const refused = await test.refusal('CANCEL JOBS SELECT job_id FROM [SHOW JOBS]');
    assert.equal(refused.message, 'job with status canceled cannot be requested to be canceled');
    assert.notEqual(await statusOf(third ?? ''), 'canceled', 'one that is over keeps all from being asked');
    const cancelled = await test.ask("CANCEL JOBS SELECT job_id FROM [SHOW JOBS] WHERE status <> 'canceled'");
    assert.equal(cancelled.tag, 'CANCEL JOBS 3');
    const complete = await test.rows(`SHOW JOBS WHEN COMPLETE VALUES (${first}), (${second})`);
    assert.deepEqual(
      complete.map((row) => row['status']),
      ['canceled', 'canceled'],
    );
  });

  it('are taken by their type, those of other types and those at rest left alone', async () => {
    const [running, resting] = [await begin(), await begin()];
    await until(resting, 'running');
    await test.ask(`PAUSE JOB ${resting}`);
    await until(resting, 'paused');
    assert.equal((await test.ask('CANCEL ALL RESTORE JOBS')).tag, 'CANCEL JOBS 0');
    assert.equal((await test.ask('PAUSE ALL CHANGEFEED JOBS')).tag, 'PAUSE JOBS 0');
    assert.equal((await test.ask('RESUME ALL BACKUP JOBS')).tag, 'RESUME JOBS 1');
    await until(resting, 'running');
    assert.equal((await test.ask('PAUSE ALL BACKUP JOBS')).tag, 'PAUSE JOBS 2');
    await until(running, 'paused');
    assert.equal((await test.ask('CANCEL ALL BACKUP JOBS')).tag, 'CANCEL JOBS 2');
    await test.rows('SHOW JOBS WHEN COMPLETE SELECT job_id FROM [SHOW JOBS]');
    assert.equal((await test.ask('CANCEL ALL BACKUP JOBS')).tag, 'CANCEL JOBS 0');
  });

  it('are taken by their schedule', async () => {
    const [made] = await test.rows(
      "CREATE SCHEDULE FOR BACKUP INTO 'nodelocal://1/s' RECURRING '@daily' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS first_run = 'now'",
    );
    const schedule = made?.['schedule_id'];
    const other = await begin();
    const [job] = await waitFor('its job', async () => {
      const jobs = await test.rows(`SHOW JOBS FOR SCHEDULE ${schedule}`);
      return jobs[0]?.['status'] === 'running' && jobs;
    });
    const id = job?.['job_id'] ?? '';
    assert.equal((await test.ask(`PAUSE JOBS FOR SCHEDULE ${schedule}`)).tag, 'PAUSE JOBS FOR SCHEDULES 1');
    await until(id, 'paused');
    const bySelect = `SELECT id FROM [SHOW SCHEDULES] WHERE id = ${schedule}`;
    assert.equal(
      (await test.ask(`RESUME JOBS FOR SCHEDULES ${bySelect}`)).tag,
      'RESUME JOBS FOR SCHEDULES 1',
    );
    await until(id, 'running');
    assert.equal(await statusOf(other), 'running');
    // A schedule's end does not end its job.
    await test.ask(`DROP SCHEDULE ${schedule}`);
    assert.equal(await statusOf(id), 'running');
    await cancelAll();
  });

  it('are those that the user may see and control', async () => {
    const [own, foreign] = [await begin('keeper'), await begin()];
    await until(foreign, 'running');
    assert.equal((await test.ask('PAUSE ALL BACKUP JOBS', { as: 'keeper' })).tag, 'PAUSE JOBS 1');
    await until(own, 'paused');
    const query = `CANCEL JOBS VALUES (${own}), (${foreign})`;
    assert.equal((await test.ask(query, { as: 'plain' })).tag, 'CANCEL JOBS 0');
    assert.equal((await test.ask(query, { as: 'keeper' })).tag, 'CANCEL JOBS 1');
    assert.equal(await statusOf(foreign), 'running');
    await cancelAll();
  });

  it('tell how the work went to those who ask', async () => {
    const id = await begin();
    await until(id, 'running');
    const detailed = () => test.ask(`SHOW JOB ${id} WITH EXECUTION DETAILS`);
    assert.equal((await detailed()).columns.at(-1), 'execution_details');
    await waitFor('the first attempt', async () => {
      const text = (await detailed()).rows[0]?.['execution_details'] ?? '';
      return (JSON.parse(text) as { attempt: number }).attempt === 1;
    });
    const list = await test.ask('SHOW JOBS WITH EXECUTION DETAILS');
    assert.equal(list.columns.at(-1), 'execution_details');
    await cancelAll();
  });

  it('leave the list after 12 hours and their record after jobs.retention_time', async () => {
    const id = await begin();
    await until(id, 'running');
    await cancelAll();
    const isListed = async () => (await test.rows('SHOW JOBS')).some((row) => row['job_id'] === id);
    clock.advance(11 * HOUR_MS);
    assert.ok(await isListed());
    clock.advance(2 * HOUR_MS);
    assert.ok(!(await isListed()));
    assert.equal((await test.rows(`SHOW JOBS VALUES (${id})`)).length, 1);
    clock.advance(14 * 24 * HOUR_MS);
    await waitFor('the record to be deleted', async () => {
      clock.advance(600_000);
      const rows = await test.rows(`SHOW JOBS VALUES (${id})`);
      return rows.length === 0;
    });
  });
});
