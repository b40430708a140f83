import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Answer, TestControl } from '../../../test/harness/control.ts';
import { ManualClock } from '../../../test/harness/manual-clock.ts';
import { ScriptedBackups } from '../../../test/harness/scripted-backups.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import type { Timestamp } from '../../base/index.ts';

/** 2026-11-21 10:00:00 UTC, a Saturday. */
const START = 1_795_255_200_000_000n as Timestamp;

const SCHEDULE_COLUMNS = [
  'id',
  'label',
  'schedule_status',
  'next_run',
  'state',
  'recurrence',
  'jobsrunning',
  'owner',
  'created',
  'on_previous_running',
  'on_execution_failure',
  'command',
];

describe('backup schedules', () => {
  let test: TestControl;
  const clock = new ManualClock(START);
  const backups = new ScriptedBackups();

  before(async () => {
    const { bulkWorker, collectionReader } = backups;
    test = await TestControl.open({ bulkWorker, collectionReader, clock, virtualized: 'main' });
    await test.postgres('CREATE ROLE plain LOGIN; CREATE ROLE keeper LOGIN; CREATE ROLE other LOGIN');
    await test.postgres('GRANT atoll_backup, atoll_externalioimplicitaccess TO keeper, other');
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  let places = 0;
  /** Each schedule its own collection, in the future unless the test says otherwise. */
  const create = async (rest: string, options: { as?: string; label?: string; with?: string } = {}) => {
    places += 1;
    const label = options.label ?? `label ${places}`;
    const later = "first_run = '2027-01-01 00:00:00+00', ignore_existing_backups";
    const made = await test.ask(
      `CREATE SCHEDULE '${label.replaceAll("'", "''")}' FOR BACKUP INTO 'nodelocal://1/p${places}' ${options.with ?? ''} ${rest}` +
        (rest.includes('SCHEDULE OPTIONS') ? ', ignore_existing_backups' : ` WITH SCHEDULE OPTIONS ${later}`),
      options.as === undefined ? {} : { as: options.as },
    );
    return made.rows;
  };
  const idOf = (row: Answer['rows'][number] | undefined) => row?.['schedule_id'] ?? row?.['id'] ?? '';
  const show = async (id: string) => (await test.rows(`SHOW SCHEDULE ${id}`))[0];
  const refuse = (text: string, as = 'root') => test.refusal(text, { as });

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
    const [incremental, full] = made.rows.map(idOf);
    await backups.begun;
    const [job] = await test.rows(`SHOW JOBS FOR SCHEDULE ${full}`);
    assert.equal(job?.['status'], 'running');
    assert.match(job?.['description'] ?? '', /^BACKUP INTO '\/2026\/11\/21-100000\.\d\d' IN 'nodelocal:/);
    const [busy] = await test.rows(`SHOW SCHEDULE ${full}`);
    assert.equal(busy?.['jobsrunning'], '1');
    backups.finish();
    await test.rows(`SHOW JOB WHEN COMPLETE ${job?.['job_id']}`);
    const shown = await waitFor('the incremental one to be let go', async () => {
      const row = await show(incremental ?? '');
      return row?.['schedule_status'] === 'ACTIVE' && row;
    });
    assert.equal(shown['next_run'], '2026-11-22 00:00:00+00');
    assert.equal((await show(full ?? ''))?.['next_run'], '2026-11-22 00:00:00+00');
    await test.ask(`DROP SCHEDULE ${full}`);
    assert.equal((await refuse(`SHOW SCHEDULE ${incremental}`)).sqlstate, '42704');
    assert.deepEqual(await test.rows(`SHOW JOBS FOR SCHEDULE ${full}`), []);
    assert.equal((await test.rows(`SHOW JOB ${job?.['job_id']}`))[0]?.['status'], 'succeeded');
  });

  const RECURRENCES: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
    [
      "RECURRING '@hourly'",
      [
        ['PAUSED', '@hourly'],
        ['ACTIVE', '@daily'],
      ],
    ],
    [
      "RECURRING '*/15 * * * *'",
      [
        ['PAUSED', '*/15 * * * *'],
        ['ACTIVE', '@daily'],
      ],
    ],
    [
      "RECURRING '@daily'",
      [
        ['PAUSED', '@daily'],
        ['ACTIVE', '@weekly'],
      ],
    ],
    ["RECURRING '@weekly'", [['ACTIVE', '@weekly']]],
    ["RECURRING '@hourly' FULL BACKUP ALWAYS", [['ACTIVE', '@hourly']]],
    [
      "RECURRING '@daily' FULL BACKUP '0 1 * * 1'",
      [
        ['PAUSED', '@daily'],
        ['ACTIVE', '0 1 * * 1'],
      ],
    ],
  ];
  for (const [rest, expected] of RECURRENCES) {
    it(`recur as ${rest} says`, async () => {
      const rows = await create(rest);
      assert.deepEqual(
        rows.map((row) => [row['status']?.split(':')[0], row['schedule']]),
        expected,
      );
    });
  }

  it('begin at their first time: now, a time to come, or the next of the crontab', async () => {
    const firstRun = async (options: string) =>
      (await create(`RECURRING '@daily' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS ${options}`))[0]?.[
        'first_run'
      ];
    assert.equal(await firstRun("first_run = '2026-12-24 20:00:00+02:00'"), '2026-12-24 18:00:00+00');
    assert.equal(await firstRun("first_run = '2026-12-24'"), '2026-12-24 00:00:00+00');
    assert.equal(await firstRun("on_previous_running = 'skip'"), '2026-11-22 00:00:00+00');
    const [row] = await create("RECURRING '@weekly' WITH SCHEDULE OPTIONS first_run = now");
    assert.equal(row?.['first_run'], '2026-11-21 10:00:00+00');
    await backups.begun;
    await test.ask(`PAUSE SCHEDULE ${idOf(row)}`);
    backups.finish();
  });

  const REFUSED: readonly (readonly [string, string, RegExp])[] = [
    [
      "CREATE SCHEDULE IF NOT EXISTS FOR BACKUP INTO 'nodelocal://1/x' RECURRING '@daily'",
      '22023',
      /needs a label/,
    ],
    ["CREATE SCHEDULE x FOR BACKUP INTO 'nodelocal://1/x' RECURRING 'sometimes'", '22023', /crontab/],
    [
      "CREATE SCHEDULE x FOR BACKUP INTO 'nodelocal://1/x' RECURRING '@daily' WITH SCHEDULE OPTIONS first_run = '2026-11-21 09:59:59+00'",
      '22023',
      /in the past/,
    ],
    [
      "CREATE SCHEDULE x FOR BACKUP INTO 'nodelocal://1/x' RECURRING '@daily' WITH SCHEDULE OPTIONS first_run = 'soon'",
      '22023',
      /no time/,
    ],
    [
      "CREATE SCHEDULE x FOR BACKUP INTO 'nodelocal://1/x' RECURRING '@daily' WITH SCHEDULE OPTIONS on_execution_failure = 'cry'",
      '22023',
      /on_execution_failure/,
    ],
    [
      "CREATE SCHEDULE x FOR BACKUP INTO 'nodelocal://1/x' WITH detached = false RECURRING '@daily'",
      '22023',
      /always detached/,
    ],
    [
      "CREATE SCHEDULE x FOR BACKUP INTO 's3://b/x?AWS_SECRET_ACCESS_KEY=geheim' RECURRING '@daily'",
      '22023',
      /AWS_ACCESS_KEY_ID/,
    ],
    [
      "CREATE SCHEDULE x FOR BACKUP INTO 'nodelocal://1/x' AS OF SYSTEM TIME '-1s' RECURRING '@daily'",
      '0A000',
      /scheduled time/,
    ],
    [
      "CREATE SCHEDULE x FOR BACKUP INTO 'nodelocal://1/x' RECURRING '@daily' WITH SCHEDULE OPTIONS first_run = '2027-01-01'",
      '55000',
      /backups already created in nodelocal:\/\/1\/x/,
    ],
    ['PAUSE SCHEDULE 12345', '42704', /does not exist/],
    ['ALTER BACKUP SCHEDULE 12345 SET LABEL x', '42704', /does not exist/],
    ['SHOW CREATE SCHEDULE 12345', '42704', /does not exist/],
  ];
  for (const [text, sqlstate, message] of REFUSED) {
    it(`refuse ${text.slice(0, 130)}`, async () => {
      const before = (await test.rows('SHOW SCHEDULES')).length;
      const error = await refuse(text);
      assert.equal(error.sqlstate === '42710' ? '55000' : error.sqlstate, sqlstate);
      assert.match(error.message, message);
      assert.equal((await test.rows('SHOW SCHEDULES')).length, before);
    });
  }

  it('are made once by IF NOT EXISTS', async () => {
    await create("RECURRING '@weekly'", { label: 'only once' });
    const again = await test.ask(
      "CREATE SCHEDULE IF NOT EXISTS 'only once' FOR BACKUP INTO 'nodelocal://1/y' RECURRING '@daily'",
    );
    assert.deepEqual(again.rows, []);
    assert.match(again.notices[0]?.message ?? '', /already exists, skipping/);
    const all = await test.rows('SHOW SCHEDULES');
    assert.equal(all.filter((row) => row['label'] === 'only once').length, 1);
  });

  it('do not share a collection', async () => {
    const error = await refuse(
      `CREATE SCHEDULE x FOR BACKUP INTO 'nodelocal://1/p${places}/' RECURRING '@weekly'`,
    );
    assert.match(error.message, /already backs up into/);
  });

  it('need the privilege to back up, and admins for the metric', async () => {
    const text = "CREATE SCHEDULE FOR BACKUP INTO 'nodelocal://1/z' RECURRING '@weekly'";
    assert.equal((await refuse(text, 'plain')).sqlstate, '42501');
    const metric = `${text} WITH SCHEDULE OPTIONS updates_cluster_last_backup_time_metric, ignore_existing_backups`;
    assert.match((await refuse(metric, 'keeper')).message, /updates_cluster_last_backup_time_metric/);
    const [row] = await create("RECURRING '@weekly'", { as: 'keeper', label: 'of keeper' });
    assert.equal((await show(idOf(row)))?.['owner'], 'keeper');
  });

  it('are shown to their owners and to admins, and changed by nobody else', async () => {
    const [row] = await create("RECURRING '@weekly'", { as: 'keeper' });
    const id = idOf(row);
    const seenBy = async (as: string) => (await test.rows('SHOW SCHEDULES', { as })).map(idOf);
    assert.ok((await seenBy('root')).includes(id));
    assert.ok((await seenBy('keeper')).includes(id));
    assert.deepEqual(await seenBy('other'), []);
    assert.equal((await refuse(`SHOW SCHEDULE ${id}`, 'other')).sqlstate, '42704');
    for (const text of [
      `PAUSE SCHEDULE ${id}`,
      `RESUME SCHEDULE ${id}`,
      `DROP SCHEDULE ${id}`,
      `ALTER BACKUP SCHEDULE ${id} SET LABEL mine`,
      `SHOW CREATE SCHEDULE ${id}`,
    ]) {
      assert.equal((await refuse(text, 'other')).sqlstate, '42501', text);
    }
    await test.ask(`ALTER BACKUP SCHEDULE ${id} SET LABEL mine`, { as: 'keeper' });
    assert.equal((await show(id))?.['label'], 'mine');
  });

  it('are listed with the columns of the documents', async () => {
    const [incremental, full] = await create("RECURRING '@hourly'", { label: 'listed' });
    const list = await test.ask('SHOW SCHEDULES');
    assert.deepEqual(list.columns, SCHEDULE_COLUMNS);
    const shown = list.rows.find((row) => row['id'] === idOf(full));
    assert.deepEqual(
      { ...shown, id: '', command: '', created: '' },
      {
        id: '',
        label: 'listed',
        schedule_status: 'ACTIVE',
        next_run: '2027-01-01 00:00:00+00',
        state: null,
        recurrence: '@daily',
        jobsrunning: '0',
        owner: 'root',
        created: '',
        on_previous_running: 'WAIT',
        on_execution_failure: 'RETRY_SCHED',
        command: '',
      },
    );
    const place = `'nodelocal://1/p${places}'`;
    assert.deepEqual(parseIds(shown?.['command']), {
      backup_statement: `BACKUP INTO ${place} WITH OPTIONS (detached)`,
      unpause_on_success: idOf(incremental),
      dependent_schedule_id: idOf(incremental),
    });
    assert.deepEqual(parseIds((await show(idOf(incremental)))?.['command']), {
      backup_statement: `BACKUP INTO LATEST IN ${place} WITH OPTIONS (detached)`,
      backup_type: '1',
      dependent_schedule_id: idOf(full),
    });
    const typed = await test.ask('SHOW PAUSED SCHEDULES FOR BACKUP');
    assert.deepEqual(typed.columns, [...SCHEDULE_COLUMNS, 'backup_type']);
    assert.ok(typed.rows.every((row) => row['schedule_status'] === 'PAUSED'));
    assert.equal(typed.rows.find((row) => row['id'] === idOf(incremental))?.['backup_type'], 'INCREMENTAL');
    const running = await test.rows('SHOW RUNNING SCHEDULES');
    assert.ok(running.every((row) => row['schedule_status'] === 'ACTIVE'));
    assert.ok(running.some((row) => row['id'] === idOf(full)));
    assert.deepEqual(await test.rows('SHOW SCHEDULES FOR CHANGEFEED'), []);
  });

  it('are made anew by what SHOW CREATE says', async () => {
    const rows = await create("RECURRING '@hourly' FULL BACKUP '30 1 * * *'", { label: "it's" });
    const shown = await test.rows(`SHOW CREATE SCHEDULE ${idOf(rows[0])}`);
    const place = `nodelocal://1/p${places}`;
    const text = shown[0]?.['create_statement'] ?? '';
    assert.equal(
      text,
      `CREATE SCHEDULE 'it''s' FOR BACKUP INTO '${place}' WITH OPTIONS (detached) RECURRING '@hourly' FULL BACKUP '30 1 * * *' ` +
        "WITH SCHEDULE OPTIONS first_run = '2027-01-01 00:00:00+00', on_execution_failure = 'RESCHEDULE', on_previous_running = 'WAIT', " +
        'ignore_existing_backups',
    );
    const both = await test.rows(`SHOW CREATE SCHEDULE ${idOf(rows[1])}`);
    assert.equal(both[0]?.['create_statement'], text);
    const all = await test.rows('SHOW CREATE ALL SCHEDULES');
    assert.equal(all.length, (await test.rows('SHOW SCHEDULES')).length);
    await test.ask(`DROP SCHEDULE ${idOf(rows[1])}`);
    const again = await test.rows(text);
    assert.deepEqual(
      again.map(({ schedule_id: _id, ...row }) => row),
      rows.map(({ schedule_id: _id, ...row }) => row),
    );
  });

  it('pause, go on from their next time, and are dropped', async () => {
    const [row] = await create("RECURRING '@daily' FULL BACKUP ALWAYS", { label: 'stopped' });
    const id = idOf(row);
    assert.equal((await test.ask(`PAUSE SCHEDULE ${id}`)).tag, 'PAUSE SCHEDULES 1');
    assert.deepEqual(
      [(await show(id))?.['schedule_status'], (await show(id))?.['next_run']],
      ['PAUSED', null],
    );
    assert.equal((await refuse(`ALTER BACKUP SCHEDULE ${id} EXECUTE FULL IMMEDIATELY`)).sqlstate, '55000');
    assert.equal((await test.ask(`RESUME SCHEDULE ${id}`)).tag, 'RESUME SCHEDULES 1');
    assert.equal((await show(id))?.['next_run'], '2026-11-22 00:00:00+00');
    assert.equal((await test.ask(`DROP SCHEDULE ${id}`)).tag, 'DROP SCHEDULES 1');
    assert.equal((await refuse(`SHOW SCHEDULE ${id}`)).sqlstate, '42704');
  });

  it('are chosen by a query, which runs as the user', async () => {
    await create("RECURRING '@daily'", { label: 'chosen' });
    const paused = await test.ask(
      "PAUSE SCHEDULES WITH x AS (SHOW SCHEDULES) SELECT id FROM x WHERE label = 'chosen'",
    );
    assert.equal(paused.tag, 'PAUSE SCHEDULES 2');
    const resumed = await test.ask('RESUME SCHEDULES SELECT id FROM [SHOW SCHEDULES] WHERE label = $1', {
      parameters: ['chosen'],
    });
    assert.equal(resumed.tag, 'RESUME SCHEDULES 2');
    assert.equal(
      (await test.ask("PAUSE SCHEDULES (SELECT id FROM [SHOW SCHEDULES] WHERE label = 'none of them')")).tag,
      'PAUSE SCHEDULES 0',
    );
    await test.postgres('CREATE TABLE owner_only (id int8); INSERT INTO owner_only VALUES (1)');
    assert.match(
      (await refuse('DROP SCHEDULES SELECT id FROM owner_only', 'keeper')).message,
      /permission denied/,
    );
    assert.match((await refuse('DROP SCHEDULES SELECT id, 1 FROM [SHOW SCHEDULES]')).message, /one column/);
    assert.match((await refuse("DROP SCHEDULES SELECT 'x'")).message, /not a schedule ID/);
    assert.match(
      (await refuse('DROP SCHEDULES WITH x AS (DELETE FROM owner_only RETURNING id) SELECT id FROM x'))
        .message,
      /query for schedule IDs failed/,
    );
    assert.equal(
      (await test.ask("DROP SCHEDULES SELECT id FROM [SHOW SCHEDULES] WHERE label = 'chosen'")).tag,
      'DROP SCHEDULES 2',
    );
  });

  describe('altered', () => {
    const alter = async (id: string, actions: string) => test.rows(`ALTER BACKUP SCHEDULE ${id} ${actions}`);

    it('change label, place and options of both halves, and the incremental one waits', async () => {
      const rows = await create("RECURRING '@daily'");
      const [incremental, full] = rows.map(idOf);
      await test.ask(`RESUME SCHEDULE ${incremental}`);
      const altered = await alter(
        incremental ?? '',
        "SET LABEL 'moved', SET INTO 'nodelocal://1/elsewhere', SET SCHEDULE OPTION on_execution_failure = 'retry', SET SCHEDULE OPTION on_previous_running = 'skip'",
      );
      assert.deepEqual(altered.map(idOf), [incremental, full]);
      assert.deepEqual(
        altered.map((row) => [row['name'], row['status'], row['backup_stmt']]),
        [
          [
            'moved',
            'PAUSED: Waiting for initial backup to complete',
            "BACKUP INTO LATEST IN 'nodelocal://1/elsewhere' WITH OPTIONS (detached)",
          ],
          ['moved', 'ACTIVE', "BACKUP INTO 'nodelocal://1/elsewhere' WITH OPTIONS (detached)"],
        ],
      );
      const shown = await Promise.all([incremental ?? '', full ?? ''].map(show));
      assert.deepEqual(
        shown.map((row) => [row?.['on_previous_running'], row?.['on_execution_failure']]),
        [
          ['WAIT', 'RETRY_SOON'],
          ['SKIP', 'RETRY_SOON'],
        ],
      );
    });

    it('gain and lose the incremental half', async () => {
      const [row] = await create("RECURRING '@weekly'");
      const gained = await alter(idOf(row), "SET FULL BACKUP '@daily', SET RECURRING '@hourly'");
      assert.deepEqual(
        gained.map((each) => [each['schedule'], each['status']?.split(':')[0]]),
        [
          ['@hourly', 'PAUSED'],
          ['@daily', 'ACTIVE'],
        ],
      );
      assert.equal(idOf(gained[1]), idOf(row));
      const lost = await alter(idOf(gained[0]), 'SET FULL BACKUP ALWAYS');
      assert.deepEqual(
        lost.map((each) => [idOf(each), each['schedule']]),
        [[idOf(row), '@hourly']],
      );
      assert.equal((await refuse(`SHOW SCHEDULE ${idOf(gained[0])}`)).sqlstate, '42704');
    });

    it('stay paused when their times change', async () => {
      const [row] = await create("RECURRING '@weekly'");
      await test.ask(`PAUSE SCHEDULE ${idOf(row)}`);
      const [altered] = await alter(idOf(row), "SET RECURRING '@monthly'");
      assert.deepEqual([altered?.['schedule'], altered?.['status']], ['@monthly', 'PAUSED']);
    });

    it('run at once on demand', async () => {
      const [row] = await create("RECURRING '@weekly'");
      const [now] = await alter(idOf(row), 'EXECUTE FULL IMMEDIATELY');
      assert.equal(now?.['first_run'], '2026-11-21 10:00:00+00');
      await backups.begun;
      backups.finish();
      const [job] = await waitFor('its job', async () => {
        const jobs = await test.rows(`SHOW JOBS FOR SCHEDULES SELECT ${idOf(row)}`);
        return jobs[0]?.['status'] === 'succeeded' && jobs;
      });
      assert.equal(job?.['job_type'], 'BACKUP');
    });

    it('run on demand only while they are active', async () => {
      const [row] = await create("RECURRING '@daily'");
      const incremental = idOf(row);
      const waiting = await refuse(`ALTER BACKUP SCHEDULE ${incremental} EXECUTE IMMEDIATELY`);
      assert.equal(waiting.sqlstate, '55000');
      await test.ask(`PAUSE SCHEDULES SELECT id FROM [SHOW SCHEDULES] WHERE label = 'label ${places}'`);
      for (const action of ['EXECUTE IMMEDIATELY', 'EXECUTE FULL IMMEDIATELY']) {
        assert.equal(
          (await refuse(`ALTER BACKUP SCHEDULE ${incremental} ${action}`)).sqlstate,
          '55000',
          action,
        );
      }
    });

    it('append to the newest complete full backup while another one runs', async () => {
      const [first, second] = await create("RECURRING '@daily'");
      const [incremental, full] = [idOf(first), idOf(second)];
      await alter(full, 'EXECUTE FULL IMMEDIATELY');
      await backups.begun;
      const complete = backups.requests.at(-1)?.subdirectory;
      backups.finish();
      await waitFor('the incremental one to be let go', async () => {
        return (await show(incremental))?.['schedule_status'] === 'ACTIVE';
      });
      // A time is run once.
      clock.advance(1000);
      await alter(full, 'EXECUTE FULL IMMEDIATELY');
      await backups.begun;
      const before = backups.requests.length;
      await alter(full, 'EXECUTE IMMEDIATELY');
      await waitFor('the incremental one to run', () => backups.requests.length > before);
      const request = backups.requests.at(-1);
      assert.equal(request?.onto, complete);
      assert.match(request?.subdirectory ?? '', new RegExp(`^incrementals/${complete}/`));
      const running = await test.rows(`SHOW JOBS FOR SCHEDULES VALUES (${full}), (${incremental})`);
      assert.equal(running.filter((job) => job['status'] === 'running').length, 2);
      backups.finish();
      await test.rows(
        `SHOW JOBS WHEN COMPLETE VALUES ${running.map((job) => `(${job['job_id']})`).join(', ')}`,
      );
    });

    it('take back an option that has a value', async () => {
      const [row] = await create("RECURRING '@weekly'");
      const [altered] = await alter(idOf(row), "SET WITH revision_history = 'false'");
      assert.match(altered?.['backup_stmt'] ?? '', /revision_history = false/);
    });

    const WRONG: readonly (readonly [string, RegExp])[] = [
      ['SET WITH revision_history', /needs a value/],
      ['SET WITH detached = false', /always detached/],
      ["SET SCHEDULE OPTION first_run = '2030-01-01'", /cannot be changed/],
      ['SET SCHEDULE OPTION ignore_existing_backups', /cannot be changed/],
      ['SET LABEL a, SET LABEL b', /label twice/],
      ["SET RECURRING 'never'", /crontab/],
      ["SET INTO 's3://x?AWS_SECRET_ACCESS_KEY=geheim'", /AWS_ACCESS_KEY_ID is missing/],
      ['EXECUTE IMMEDIATELY', /full backups only/],
    ];
    for (const [action, message] of WRONG) {
      it(`refuse ${action}, and nothing changes`, async () => {
        const [row] = await create("RECURRING '@weekly'");
        const before = await show(idOf(row));
        const error = await refuse(
          `ALTER BACKUP SCHEDULE ${idOf(row)} SET SCHEDULE OPTION on_previous_running = 'skip', ${action}`,
        );
        assert.match(error.message, message);
        assert.deepEqual(await show(idOf(row)), before);
      });
    }
  });

  it('are counted, each virtual cluster its own', async () => {
    const families = await test.control.metricsSnapshot({ signal: new AbortController().signal });
    const valueOf = (name: string, tenant = 'main') => {
      const family = families.find((each) => each.name === name);
      assert.ok(family !== undefined, name);
      return family.samples.find(({ labels }) => labels['tenant'] === tenant)?.value;
    };
    assert.ok(Number(valueOf('schedules_BACKUP_started')) >= 3);
    assert.ok(Number(valueOf('schedules_BACKUP_succeeded')) >= 2);
    assert.equal(valueOf('schedules_BACKUP_started', 'system'), 0);
    for (const name of [
      'schedules_BACKUP_failed',
      'schedules_BACKUP_last_completed_time',
      'schedules_BACKUP_protected_age_sec',
      'schedules_BACKUP_protected_record_count',
      'schedules_round_reschedule_skip',
      'schedules_round_reschedule_wait',
      'schedules_round_jobs_started',
      'schedules_error',
      'schedules_malformed',
      'backup_last_failed_time_kms_inaccessible',
    ]) {
      assert.notEqual(valueOf(name), undefined, name);
    }
    for (const type of ['backup', 'restore']) {
      for (const name of [
        'currently_running',
        'currently_paused',
        'currently_idle',
        'resume_completed',
        'resume_failed',
        'resume_retry_error',
        'fail_or_cancel_completed',
        'fail_or_cancel_failed',
        'fail_or_cancel_retry_error',
        'protected_age_sec',
        'protected_record_count',
        'expired_pts_records',
      ]) {
        assert.notEqual(valueOf(`jobs_${type}_${name}`), undefined, name);
      }
    }
    assert.ok(Number(valueOf('jobs_backup_resume_completed')) >= 2);
  });

  it('move the time of the last backup when they are told to', async () => {
    const lastCompleted = async () => {
      const families = await test.control.metricsSnapshot({ signal: new AbortController().signal });
      const family = families.find(({ name }) => name === 'schedules_BACKUP_last_completed_time');
      return family?.samples.find(({ labels }) => labels['tenant'] === 'main')?.value;
    };
    assert.equal(await lastCompleted(), 0);
    await create(
      "RECURRING '@weekly' WITH SCHEDULE OPTIONS first_run = 'now', updates_cluster_last_backup_time_metric",
    );
    await backups.begun;
    backups.finish();
    await waitFor('the metric', async () => (await lastCompleted()) === Number(clock.now() / 1_000_000n));
  });

  it('keep their owner from being dropped', async () => {
    await test.postgres(
      'CREATE ROLE leaver LOGIN; GRANT atoll_backup, atoll_externalioimplicitaccess TO leaver',
    );
    const rows = await create("RECURRING '@daily'", { as: 'leaver' });
    await test.postgres('REVOKE atoll_backup, atoll_externalioimplicitaccess FROM leaver');
    const drop = () => test.postgres('DROP ROLE leaver');
    await assert.rejects(drop, { code: '2BP01' });
    await test.ask(`PAUSE SCHEDULE ${idOf(rows[1])}`);
    await assert.rejects(drop, { code: '2BP01' });
    await test.ask(`DROP SCHEDULE ${idOf(rows[1])}`);
    await drop();
  });

  it('say what happened when a run cannot begin', async () => {
    const [row] = await create("RECURRING '@weekly'", { as: 'keeper' });
    await test.postgres('REVOKE atoll_backup FROM keeper');
    await test.ask(`ALTER BACKUP SCHEDULE ${idOf(row)} EXECUTE FULL IMMEDIATELY`);
    const shown = await waitFor('the refusal', async () => {
      const each = await show(idOf(row));
      return each?.['state'] !== null && each;
    });
    assert.match(shown['state'] ?? '', /^rescheduled: only users with the admin role or the BACKUP/);
    assert.equal(shown['next_run'], '2026-11-22 00:00:00+00');
    await test.postgres('GRANT atoll_backup TO keeper');
  });

  it('stop and go on with jobs.scheduler.enabled, without a restart', async () => {
    await test.ask('SET CLUSTER SETTING jobs.scheduler.enabled = false');
    const [row] = await create("RECURRING '@weekly'");
    await test.ask(`ALTER BACKUP SCHEDULE ${idOf(row)} EXECUTE FULL IMMEDIATELY`);
    assert.deepEqual(await test.rows(`SHOW JOBS FOR SCHEDULE ${idOf(row)}`), []);
    await test.ask('SET CLUSTER SETTING jobs.scheduler.enabled = true');
    await backups.begun;
    const [job, ...others] = await test.rows(`SHOW JOBS FOR SCHEDULE ${idOf(row)}`);
    assert.equal(others.length, 0);
    backups.finish();
    await test.rows(`SHOW JOB WHEN COMPLETE ${job?.['job_id']}`);
  });

  it('outlive the daemon', async () => {
    const before = await test.rows('SHOW SCHEDULES');
    await test.stop();
    await test.start();
    assert.deepEqual(await test.rows('SHOW SCHEDULES'), before);
  });
});

/** A command's JSON, its numbers as text. */
function parseIds(command: string | null | undefined): unknown {
  return JSON.parse((command ?? '').replace(/:(\d+)/g, ':"$1"'));
}
