import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../../test/harness/control.ts';
import { ManualClock } from '../../../test/harness/manual-clock.ts';
import { ScriptedBackups } from '../../../test/harness/scripted-backups.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import { AppError } from '../../base/index.ts';

describe('a job whose virtual cluster hangs', () => {
  const backups = new ScriptedBackups();
  const clock = new ManualClock();
  let test: TestControl;
  before(async () => {
    const { bulkWorker, collectionReader } = backups;
    test = await TestControl.open({ virtualized: 'main', bulkWorker, collectionReader, clock });
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  /** Server processes of our own sessions. */
  const ownBackends = async () =>
    (
      await test.postgres("SELECT pid FROM pg_stat_activity WHERE usename = 'atoll' AND datname = 'system'")
    ).map((row) => Number(row['pid']));
  const isThere = (pid: number) => {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  };

  it('gives a write up that takes too long, writes again elsewhere, and is not overtaken by the first', async () => {
    const [row] = await test.rows("BACKUP INTO 'nodelocal://1/c' WITH detached");
    const id = row?.['job_id'];
    await backups.begun;
    const shown = async () => (await test.rows(`SHOW JOB ${id}`))[0];
    await waitFor('what is shown', async () => (await shown())?.['running_status'] === 'copying');
    const stopped = await ownBackends();
    assert.ok(stopped.length > 0);
    for (const pid of stopped) process.kill(pid, 'SIGSTOP');
    try {
      // The state `reverting` is written into a session that does not answer.
      backups.fail(new AppError('data_corrupt', 'checksum mismatch in page 7'));
      const said = (what: RegExp) => test.logger.lines.some((line) => what.test(line));
      await waitFor('the job to go on', () => {
        clock.advance(5000);
        return said(/its record can be written again/);
      });
      assert.ok(said(/did not answer for 30 s/), test.logger.lines.join('\n'));
      await waitFor('the job to end', async () => (await shown())?.['status'] === 'failed');
    } finally {
      for (const pid of stopped) if (isThere(pid)) process.kill(pid, 'SIGCONT');
    }
    // What was given up arrives now, and is older than what is there.
    await waitFor('the sessions to end', () => !stopped.some(isThere));
    const job = await shown();
    assert.deepEqual([job?.['status'], job?.['error']], ['failed', 'checksum mismatch in page 7']);
  });

  it('refuses who asks for a pause, in time', async () => {
    const [row] = await test.rows("BACKUP INTO 'nodelocal://1/d' WITH detached");
    const id = row?.['job_id'];
    await backups.begun;
    await waitFor('what is shown', async () => {
      return (await test.rows(`SHOW JOB ${id}`))[0]?.['running_status'] === 'copying';
    });
    // Only the record's table: all that is asked before is answered.
    const locked = test.host.get(test.idOf('main'));
    const held = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const holder = locked?.withSystemClient(
      async (client) => {
        await client.query('begin');
        await client.query('lock table public.jobs in row exclusive mode');
        await client.query('select from public.jobs for update');
        held.resolve();
        await release.promise;
        await client.query('rollback');
      },
      { signal: new AbortController().signal },
    );
    await held.promise;
    let refused: AppError | undefined;
    const asked = test.refusal(`PAUSE JOB ${id}`).then((error) => (refused = error));
    await waitFor('the refusal', () => {
      clock.advance(5000);
      return refused !== undefined;
    });
    await asked;
    assert.deepEqual([refused?.code, refused?.sqlstate], ['timed_out', '57014']);
    release.resolve();
    await holder;
    backups.finish();
    assert.equal((await test.rows(`SHOW JOB WHEN COMPLETE ${id}`))[0]?.['status'], 'succeeded');
  });
});
