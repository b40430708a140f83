import assert from 'node:assert/strict';
import { rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../../test/harness/control.ts';
import { ScriptedBackups } from '../../../test/harness/scripted-backups.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import { AppError, required } from '../../base/index.ts';

const SYSTEM = { in: 'system' } as const;

describe('jobs by statement', () => {
  const backups = new ScriptedBackups();
  let test: TestControl;
  before(async () => {
    const { bulkWorker, collectionReader } = backups;
    test = await TestControl.open({ virtualized: 'main', bulkWorker, collectionReader });
    await test.postgres(`
      CREATE ROLE plain LOGIN; CREATE ROLE viewer LOGIN; CREATE ROLE controller LOGIN; CREATE ROLE keeper LOGIN`);
    await test.postgres(`
      GRANT atoll_viewjob TO viewer; GRANT atoll_controljob TO controller;
      GRANT atoll_backup, atoll_externalioimplicitaccess TO keeper`);
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  /** A BACKUP that has begun and waits. */
  const begin = async (as = 'root') => {
    const [row] = await test.rows("BACKUP INTO 'nodelocal://1/c' WITH detached", { as });
    await backups.begun;
    return row?.['job_id'] ?? '';
  };
  const show = async (id: string, as = 'root') => (await test.rows(`SHOW JOB ${id}`, { as }))[0];
  const status = async (id: string) => (await show(id))?.['status'];
  const cancel = async (id: string) => {
    await test.ask(`CANCEL JOB ${id}`);
    await test.rows(`SHOW JOB WHEN COMPLETE ${id}`);
  };

  it('are shown while they run, with what they have reached', async () => {
    const id = await begin();
    const shown = await waitFor('progress', async () => {
      const job = await show(id);
      return job?.['running_status'] === 'copying' && job;
    });
    const path = backups.requests.at(-1)?.subdirectory;
    assert.deepEqual(
      [
        shown['job_type'],
        shown['status'],
        shown['fraction_completed'],
        shown['finished'],
        shown['coordinator_id'],
      ],
      ['BACKUP', 'running', '0.25', null, '1'],
    );
    assert.equal(shown['description'], `BACKUP INTO '/${path}' IN 'nodelocal://1/c' WITH OPTIONS (detached)`);
    assert.equal(shown['statement'], shown['description']);
    const list = await test.ask('SHOW JOBS');
    assert.deepEqual(list.columns, [
      'job_id',
      'job_type',
      'description',
      'user_name',
      'status',
      'running_status',
      'created',
      'started',
      'finished',
      'modified',
      'fraction_completed',
      'error',
      'coordinator_id',
    ]);
    assert.equal(list.rows[0]?.['job_id'], id);
    assert.deepEqual(await test.rows('SHOW AUTOMATIC JOBS'), []);
    backups.finish();
    const [done] = await test.rows(`SHOW JOB WHEN COMPLETE ${id}`);
    assert.deepEqual([done?.['status'], done?.['fraction_completed']], ['succeeded', '1']);
  });

  it('return the totals of the work', async () => {
    const blocking = test.rows("BACKUP INTO 'nodelocal://1/c'");
    await backups.begun;
    backups.finish();
    const [row] = await blocking;
    assert.deepEqual(
      { ...row, job_id: null },
      {
        job_id: null,
        status: 'succeeded',
        fraction_completed: '1',
        rows: '5',
        index_entries: '6',
        bytes: '7',
      },
    );
  });

  it('go on when nobody waits any more, and say so with their number', async () => {
    const heard: string[] = [];
    const client = new AbortController();
    const waiting = test.refusal("BACKUP INTO 'nodelocal://1/c'", {
      signal: client.signal,
      onNotice: ({ message, hint = '' }) => heard.push(message, hint),
    });
    await backups.begun;
    client.abort();
    assert.equal((await waiting).code, 'cancelled');
    const id = /^the BACKUP goes on: only the wait for job (\d+) has ended$/.exec(heard[0] ?? '')?.[1] ?? '';
    assert.equal(heard[1], `wait for it with SHOW JOB WHEN COMPLETE ${id}, or end it with CANCEL JOB ${id}`);
    assert.equal(await status(id), 'running');
    backups.finish();
    const [done] = await test.rows(`SHOW JOB WHEN COMPLETE ${id}`);
    assert.equal(done?.['status'], 'succeeded');
    for (const action of ['PAUSE', 'RESUME', 'CANCEL']) {
      const over = await test.refusal(`${action} JOB ${id}`);
      assert.deepEqual([over.code, over.hint?.startsWith('it is over: SHOW JOB')], ['object_state', true]);
    }
  });

  it('pause, resume under a new attempt, and end', async () => {
    const id = await begin();
    assert.equal((await test.ask(`PAUSE JOB ${id}`)).tag, 'PAUSE JOBS 1');
    await waitFor('the pause', async () => (await status(id)) === 'paused');
    assert.equal((await test.ask(`RESUME JOB ${id}`)).tag, 'RESUME JOBS 1');
    await backups.begun;
    assert.deepEqual(
      backups.requests.slice(-2).map((request) => request.attempt),
      [1, 2],
    );
    assert.equal(backups.requests.at(-1)?.subdirectory, backups.requests.at(-2)?.subdirectory);
    backups.finish();
    assert.equal((await test.rows(`SHOW JOB WHEN COMPLETE ${id}`))[0]?.['status'], 'succeeded');
    for (const action of ['PAUSE', 'RESUME', 'CANCEL']) {
      assert.equal((await test.refusal(`${action} JOB ${id}`)).sqlstate, '55000', action);
    }
  });

  it('are cancelled, and whoever waits is told', async () => {
    const blocked = test.refusal("BACKUP INTO 'nodelocal://1/c'");
    await backups.begun;
    const [job] = await test.rows('SHOW JOBS');
    assert.equal((await test.ask(`CANCEL JOB ${job?.['job_id']}`)).tag, 'CANCEL JOBS 1');
    const error = await blocked;
    assert.deepEqual([error.code, error.message], ['cancelled', `job ${job?.['job_id']} was canceled`]);
    assert.equal(await status(job?.['job_id'] ?? ''), 'canceled');
  });

  it('tell who waits that they were paused', async () => {
    const blocked = test.refusal("BACKUP INTO 'nodelocal://1/c'");
    await backups.begun;
    const [job] = await test.rows('SHOW JOBS');
    const id = job?.['job_id'] ?? '';
    await test.ask(`PAUSE JOB ${id}`);
    const error = await blocked;
    assert.deepEqual([error.sqlstate, error.message], ['55000', `job ${id} was paused before it completed`]);
    assert.match(error.hint ?? '', /RESUME JOB/);
    await cancel(id);
  });

  it('give the error of the work under its own code', async () => {
    const blocked = test.refusal("BACKUP INTO 'nodelocal://1/c'");
    await backups.begun;
    backups.fail(new AppError('data_corrupt', 'checksum mismatch in page 7', { hint: 'look at the disk' }));
    const error = await blocked;
    assert.deepEqual(
      [error.sqlstate, error.message, error.hint],
      ['XX001', 'checksum mismatch in page 7', 'look at the disk'],
    );
    const [job] = await test.rows('SHOW JOBS');
    assert.deepEqual([job?.['status'], job?.['error']], ['failed', 'checksum mismatch in page 7']);
  });

  it('wait after a transient error, and can be cancelled meanwhile', async () => {
    const id = await begin();
    backups.fail(new AppError('blob_unavailable', 'storage is away'));
    await waitFor('the wait', async () => (await status(id)) === 'retry-running');
    assert.equal((await show(id))?.['error'], 'storage is away');
    await cancel(id);
  });

  it('tell who waits that an attempt failed and is repeated', async () => {
    await test.ask("SET CLUSTER SETTING jobs.registry.retry.initial_delay = '100ms'");
    const blocked = test.ask("BACKUP INTO 'nodelocal://1/c'");
    await backups.begun;
    backups.fail(new AppError('blob_unavailable', 'storage is away'));
    await backups.begun;
    backups.finish();
    const { notices } = await blocked;
    await test.ask('RESET CLUSTER SETTING jobs.registry.retry.initial_delay');
    assert.equal(notices.length, 1);
    assert.match(
      notices[0]?.message ?? '',
      /^attempt 1 of job \d+ failed and is repeated at 20[-0-9]+ .*: storage is away$/,
    );
  });

  it('tell who waits that they wait for a full disk', { skip: process.platform !== 'linux' }, async () => {
    const main = required(test.host.get(test.idOf('main')), 'instance');
    const blocked = test.ask("BACKUP INTO 'nodelocal://1/c'");
    await backups.begun;
    const options = join(main.dataDirectory, 'postmaster.opts');
    await rm(options, { force: true });
    await symlink('/dev/full', options);
    if (main.state.kind === 'running') process.kill(main.state.pid, 'SIGQUIT');
    await waitFor('the failed start', () => main.state.kind === 'backing_off');
    backups.finish();
    const told = () => test.logger.lines.filter((line) => /its record can(?:not)? be written/.test(line));
    await waitFor('the job to wait', () => told().some((line) => line.includes('no space is left')));
    await rm(options);
    const { notices, rows } = await blocked;
    assert.equal(rows[0]?.['status'], 'succeeded');
    const messages = notices.map(({ message }) => message);
    assert.ok(
      messages.some((message) => /^job \d+ waits.*no space is left on its disk$/.test(message)),
      messages.join('\n'),
    );
    assert.match(messages.at(-1) ?? '', /^job \d+ goes on$/);
    assert.ok(told().length <= 8, told().join('\n'));
  });

  it('are seen and controlled by those who may', async () => {
    const ofRoot = await begin();
    const ofKeeper = await begin('keeper');
    const seen = async (as: string) => {
      const jobs = await test.rows('SHOW JOBS', { as });
      return [ofRoot, ofKeeper].map((id) => jobs.some((job) => job['job_id'] === id));
    };
    assert.deepEqual(await seen('plain'), [false, false]);
    assert.deepEqual(await seen('keeper'), [false, true]);
    assert.deepEqual(await seen('viewer'), [true, true]);
    assert.deepEqual(await seen('controller'), [true, true]);
    assert.equal((await test.refusal(`SHOW JOB ${ofRoot}`, { as: 'plain' })).sqlstate, '42704');
    assert.equal((await test.refusal(`CANCEL JOB ${ofKeeper}`, { as: 'plain' })).sqlstate, '42704');
    const viewing = await test.refusal(`CANCEL JOB ${ofKeeper}`, { as: 'viewer' });
    assert.deepEqual(
      [viewing.sqlstate, viewing.message],
      ['42501', 'user viewer does not have CONTROLJOB privilege'],
    );
    const admins = await test.refusal(`CANCEL JOB ${ofRoot}`, { as: 'controller' });
    assert.equal(admins.sqlstate, '42501');
    await test.ask(`PAUSE JOB ${ofKeeper}`, { as: 'controller' });
    await test.ask(`CANCEL JOB ${ofKeeper}`, { as: 'keeper' });
    await cancel(ofRoot);
  });

  it('are given away by admins to anybody, by their owners to roles of theirs, in any state', async () => {
    await test.postgres('CREATE ROLE crew; GRANT crew TO keeper');
    const id = await begin('keeper');
    const owner = async () => (await show(id))?.['user_name'];
    const give = `ALTER JOB ${id} OWNER TO`;
    for (const [as, role, code] of [
      ['plain', 'plain', '42704'],
      ['viewer', 'viewer', '42501'],
      ['controller', 'controller', '42501'],
      ['keeper', 'plain', '42501'],
      ['keeper', 'nobody', '42704'],
      ['root', 'public', '42704'],
    ] as const) {
      assert.equal((await test.refusal(`${give} ${role}`, { as })).sqlstate, code, `${as} to ${role}`);
    }
    assert.equal((await test.ask(`${give} crew`, { as: 'keeper' })).tag, 'ALTER JOB');
    assert.equal(await owner(), 'crew');
    await test.ask(`${give} keeper`);
    // Progress that is written afterwards leaves the owner alone, and so does a restart.
    await test.stop();
    await test.start();
    await backups.begun;
    assert.equal(await owner(), 'keeper');
    await test.ask(`PAUSE JOB ${id}`);
    await waitFor('the pause', async () => (await status(id)) === 'paused');
    await test.ask(`${give} plain`);
    await test.ask(`CANCEL JOB ${id}`, { as: 'plain' });
    await test.rows(`SHOW JOB WHEN COMPLETE ${id}`);
    await test.ask(`${give} current_user`);
    assert.equal(await owner(), 'root');
  });

  it('pause where jobs.debug.pausepoints says', async () => {
    assert.equal(
      (await test.refusal("SET CLUSTER SETTING jobs.debug.pausepoints = 'nowhere'")).sqlstate,
      '22023',
    );
    await test.ask("SET CLUSTER SETTING jobs.debug.pausepoints = 'restore.before_flow, backup.before.flow'");
    const blocked = await test.refusal("BACKUP INTO 'nodelocal://1/c'");
    assert.equal(blocked.sqlstate, '55000');
    assert.match(blocked.message, /^job \d+ was paused .* error: pause point "backup.before.flow" hit$/);
    const [held] = await test.rows('SHOW JOBS');
    const id = held?.['job_id'] ?? '';
    assert.deepEqual([held?.['status'], held?.['error']], ['paused', 'pause point "backup.before.flow" hit']);
    await test.ask(`RESUME JOB ${id}`);
    await waitFor('the job to be held again', async () => (await status(id)) === 'paused');
    await test.ask('RESET CLUSTER SETTING jobs.debug.pausepoints');
    await test.ask(`RESUME JOB ${id}`);
    await backups.begun;
    backups.finish();
    assert.equal((await test.rows(`SHOW JOB WHEN COMPLETE ${id}`))[0]?.['status'], 'succeeded');
  });

  it('of other virtual clusters are not there', async () => {
    const id = await begin();
    assert.equal((await test.refusal(`SHOW JOB ${id}`, SYSTEM)).sqlstate, '42704');
    assert.deepEqual(await test.rows('SHOW JOBS', SYSTEM), []);
    await cancel(id);
  });

  it('refuse what is no job ID', async () => {
    assert.equal((await test.refusal('SHOW JOB 12345')).sqlstate, '42704');
    assert.equal((await test.refusal("CANCEL JOB 'twelve'")).sqlstate, '22023');
    assert.equal(
      (await test.refusal('CANCEL JOB $1', { parameters: ['99999999999999999999'] })).sqlstate,
      '22023',
    );
    const inside = await test.refusal('CANCEL JOB 12345', { transaction: 'in_transaction' });
    assert.equal(inside.sqlstate, '25001');
  });

  it('go on under a new attempt after the daemon, also when the service stops and starts', async () => {
    const id = await begin();
    await test.stop();
    await test.start();
    await backups.begun;
    assert.equal(backups.requests.at(-1)?.attempt, 2);
    await test.ask('ALTER VIRTUAL CLUSTER main STOP SERVICE', SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER main START SERVICE SHARED', SYSTEM);
    await backups.begun;
    assert.equal(backups.requests.at(-1)?.attempt, 3);
    backups.finish();
    assert.equal((await test.rows(`SHOW JOB WHEN COMPLETE ${id}`))[0]?.['status'], 'succeeded');
  });

  it('shorten long descriptions in the list only', async () => {
    const uri = `nodelocal://1/${'long/'.repeat(30)}c`;
    const [row] = await test.rows(`BACKUP INTO '${uri}' WITH detached`);
    await backups.begun;
    const [listed] = await test.rows('SHOW JOBS');
    assert.equal(listed?.['description']?.length, 100);
    assert.ok((await show(row?.['job_id'] ?? ''))?.['description']?.includes(uri));
    await cancel(row?.['job_id'] ?? '');
  });

  it('that restore keep everybody else away from the virtual cluster', async () => {
    await test.ask('CREATE VIRTUAL CLUSTER target', SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER target GRANT ALL CAPABILITIES', SYSTEM);
    await test.ask('ALTER VIRTUAL CLUSTER target START SERVICE SHARED', SYSTEM);
    const restore = "RESTORE FROM LATEST IN 'nodelocal://1/c' WITH detached";
    const [row] = await test.rows(restore, { in: 'target' });
    await backups.begun;
    const id = row?.['job_id'] ?? '';
    const [shown] = await test.rows('SHOW JOBS', { in: 'target' });
    assert.deepEqual([shown?.['job_id'], shown?.['job_type']], [id, 'RESTORE']);
    assert.equal((await test.refusal(restore, { in: 'target' })).sqlstate, '55006');
    const stop = await test.refusal('ALTER VIRTUAL CLUSTER target STOP SERVICE', SYSTEM);
    assert.deepEqual([stop.sqlstate, stop.hint?.includes(`CANCEL JOB ${id}`)], ['55006', true]);
    await test.ask(`CANCEL JOB ${id}`, { in: 'target' });
    await test.rows(`SHOW JOB WHEN COMPLETE ${id}`, { in: 'target' });
    assert.equal((await test.rows(`SHOW JOB ${id}`, { in: 'target' }))[0]?.['status'], 'canceled');
    await test.ask('ALTER VIRTUAL CLUSTER target STOP SERVICE', SYSTEM);
    await test.ask('DROP VIRTUAL CLUSTER target IMMEDIATE', SYSTEM);
  });
});
