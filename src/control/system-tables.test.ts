import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../test/harness/control.ts';
import { ManualClock } from '../../test/harness/manual-clock.ts';
import { ScriptedBackups } from '../../test/harness/scripted-backups.ts';

describe('tables of ours by name', () => {
  const backups = new ScriptedBackups();
  const clock = new ManualClock();
  let test: TestControl;
  before(async () => {
    const { bulkWorker, collectionReader } = backups;
    test = await TestControl.open({ virtualized: 'main', bulkWorker, collectionReader, clock });
    await test.postgres(`CREATE ROLE observer LOGIN; CREATE ROLE plain LOGIN PASSWORD 'geheim'`);
    await test.postgres('GRANT atoll_viewsystemdata TO observer; GRANT plain TO observer WITH ADMIN OPTION');
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  it('hold the jobs of all, with whole descriptions, as far back as records are kept', async () => {
    const [begun] = await test.rows(`BACKUP INTO 'nodelocal://1/${'long'.repeat(40)}' WITH detached`);
    await backups.begun;
    backups.finish();
    const id = begun?.['job_id'];
    await test.rows(`SHOW JOB WHEN COMPLETE ${id}`);
    clock.advance(13 * 3_600_000);
    assert.deepEqual(await test.rows('SHOW JOBS'), []);
    const [job] = await test.rows('TABLE system.jobs', { as: 'observer' });
    assert.deepEqual(
      [
        job?.['id'],
        job?.['status'],
        job?.['job_type'],
        job?.['owner'],
        job?.['num_runs'],
        job?.['created_by_id'],
      ],
      [id, 'succeeded', 'BACKUP', 'root', '1', null],
    );
    assert.ok((job?.['description']?.length ?? 0) > 160);
  });

  it('hold schedules', async () => {
    const made = await test.rows(
      "CREATE SCHEDULE nightly FOR BACKUP INTO 'nodelocal://1/s' RECURRING '@daily' WITH SCHEDULE OPTIONS ignore_existing_backups",
    );
    const rows = await test.rows('TABLE system.scheduled_jobs', { as: 'observer' });
    assert.deepEqual(
      new Set(
        rows.map((row) =>
          [row['schedule_id'], row['schedule_name'], row['owner'], row['schedule_expr']].join(),
        ),
      ),
      new Set(made.map((row) => [row['schedule_id'], 'nightly', 'root', row['schedule']].join())),
    );
    assert.deepEqual(JSON.parse(rows[0]?.['schedule_details'] ?? ''), {
      wait: 'WAIT',
      on_error: 'RETRY_SCHED',
    });
    assert.match(rows[0]?.['execution_args'] ?? '', /"backup_statement": ?"BACKUP INTO/);
  });

  it('hold settings, external connections, users and what these may do', async () => {
    await test.ask("SET CLUSTER SETTING jobs.retention_time = '300h'");
    const [setting] = await test.rows('TABLE system.settings', { as: 'observer' });
    assert.deepEqual(
      [setting?.['name'], setting?.['value'], setting?.['valueType']],
      ['jobs.retention_time', '300h0m0s', 'd'],
    );
    await test.ask("CREATE EXTERNAL CONNECTION server AS 'postgresql://u:geheim@h/d?sslpassword=geheim'");
    await test.ask('GRANT USAGE ON EXTERNAL CONNECTION server TO plain');
    const [connection] = await test.rows('TABLE system.external_connections');
    assert.deepEqual(
      [connection?.['connection_name'], connection?.['connection_type'], connection?.['owner']],
      ['server', 'FOREIGNDATA', 'root'],
    );
    const users = await test.rows('TABLE system.users');
    assert.deepEqual(
      users.map((row) => [row['username'], row['hashedPassword'], row['isRole']]),
      [
        ['admin', null, 't'],
        ['observer', null, 'f'],
        ['plain', 'redacted', 'f'],
        ['root', null, 'f'],
      ],
    );
    assert.deepEqual(
      (await test.rows('TABLE system.role_members')).map((row) => [
        row['role'],
        row['member'],
        row['isAdmin'],
      ]),
      [
        ['admin', 'root', 't'],
        ['observer', 'root', 'f'],
        ['plain', 'observer', 't'],
        ['plain', 'root', 'f'],
      ],
    );
    assert.deepEqual(
      (await test.rows('TABLE system.privileges')).map((row) => [
        row['username'],
        row['path'],
        row['privileges'],
      ]),
      [
        ['observer', '/global/', '{VIEWSYSTEMDATA}'],
        ['plain', '/externalconn/server', '{USAGE}'],
      ],
    );
    const options = await test.rows('TABLE system.role_options');
    assert.deepEqual(
      options.filter((row) => row['username'] === 'admin').map((row) => row['option']),
      ['CREATEDB', 'CREATEROLE', 'NOLOGIN'],
    );
    assert.ok(!JSON.stringify([connection, users]).includes('geheim'));
  });

  it('are read by admins and holders of VIEWSYSTEMDATA only', async () => {
    for (const table of ['jobs', 'users', 'settings']) {
      const refused = await test.refusal(`TABLE system.${table}`, { as: 'plain' });
      assert.deepEqual(
        [refused.sqlstate, refused.hint],
        ['42501', 'an admin can GRANT SYSTEM VIEWSYSTEMDATA'],
      );
    }
  });

  it('name jobs for other statements', async () => {
    const [begun] = await test.rows("BACKUP INTO 'nodelocal://1/named' WITH detached");
    await backups.begun;
    const running = "SELECT id FROM system.jobs WHERE status = 'running' AND created_by_id IS NULL";
    assert.equal((await test.ask(`CANCEL JOBS (${running})`)).tag, 'CANCEL JOBS 1');
    const [over] = await test.rows(`SHOW JOB WHEN COMPLETE ${begun?.['job_id']}`);
    assert.equal(over?.['status'], 'canceled');
    assert.equal((await test.refusal(`CANCEL JOBS (${running})`, { as: 'plain' })).sqlstate, '42501');
    // A table of the tenant's own of that name is what is meant.
    await test.postgres(
      'CREATE SCHEMA system; CREATE TABLE system.jobs AS SELECT 1::int8 AS own; GRANT USAGE ON SCHEMA system TO public',
    );
    assert.equal((await test.ask('CANCEL JOBS (SELECT own FROM system.jobs)')).tag, 'CANCEL JOBS 0');
    await test.postgres('DROP SCHEMA system CASCADE');
  });
});
