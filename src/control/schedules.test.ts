import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../test/harness/control.ts';
import { ManualClock } from '../../test/harness/manual-clock.ts';
import { ScriptedBackups } from '../../test/harness/scripted-backups.ts';
import { waitFor } from '../../test/harness/wait.ts';

/** 2026-11-21 10:00:00 UTC, a Saturday. */
const START = 1_795_255_200_000_000n;

describe('backup schedules', () => {
  let test: TestControl;
  const clock = new ManualClock(START as never);
  const backups = new ScriptedBackups();

  before(async () => {
    const { bulkWorker, collectionReader } = backups;
    test = await TestControl.open({ bulkWorker, collectionReader, clock, virtualized: 'main' });
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  it('make a paused incremental one and a full one that runs at once', async () => {
    const made = await test.ask(
      "CREATE SCHEDULE schedule_label FOR BACKUP INTO 'nodelocal://1/first' RECURRING '@daily'",
    );
    assert.deepEqual(made.columns, ['schedule_id', 'name', 'status', 'first_run', 'schedule', 'backup_stmt']);
    assert.deepEqual(
      made.rows.map(({ schedule_id: _id, ...row }) => row),
      [
        {
          name: 'schedule_label',
          status: 'PAUSED: Waiting for initial backup to complete',
          first_run: null,
          schedule: '@daily',
          backup_stmt: "BACKUP INTO LATEST IN 'nodelocal://1/first' WITH OPTIONS (detached)",
        },
        {
          name: 'schedule_label',
          status: 'ACTIVE',
          first_run: '2026-11-21 10:00:00+00',
          schedule: '@weekly',
          backup_stmt: "BACKUP INTO 'nodelocal://1/first' WITH OPTIONS (detached)",
        },
      ],
    );
    const [incremental, full] = made.rows.map((row) => row['schedule_id']);
    await backups.begun;
    const [job] = await test.rows(`SHOW JOBS FOR SCHEDULE ${full}`);
    assert.equal(job?.['status'], 'running');
    backups.finish();
    await test.rows(`SHOW JOB WHEN COMPLETE ${job?.['job_id']}`);
    const shown = await waitFor('the incremental one to be let go', async () => {
      const [row] = await test.rows(`SHOW SCHEDULE ${incremental}`);
      return row?.['schedule_status'] === 'ACTIVE' && row;
    });
    assert.equal(shown['next_run'], '2026-11-22 00:00:00+00');
  });
});
