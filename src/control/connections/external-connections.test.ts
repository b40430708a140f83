import assert from 'node:assert/strict';
import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TestControl } from '../../../test/harness/control.ts';
import { ScriptedBackups } from '../../../test/harness/scripted-backups.ts';
import { waitFor } from '../../../test/harness/wait.ts';
import type { CollectionLocation } from '../../timeline/index.ts';

const SECRET = 'gehe1mnis';
const SERVER = `postgresql://repl:${SECRET}@primary.example:26257/db?sslmode=require&sslpassword=${SECRET}&options=-ccluster%3Dsystem`;

describe('external connections', () => {
  let test: TestControl;
  const backups = new ScriptedBackups();
  before(async () => {
    const { bulkWorker, collectionReader } = backups;
    test = await TestControl.open({ virtualized: 'main', bulkWorker, collectionReader });
    await test.postgres('CREATE ROLE plain LOGIN; CREATE ROLE maker LOGIN; CREATE ROLE keeper LOGIN');
    await test.postgres('GRANT atoll_externalconnection, atoll_externalioimplicitaccess TO maker');
    await test.postgres('GRANT atoll_backup TO keeper');
  });
  after(async () => {
    await test[Symbol.asyncDispose]();
  });

  const list = async (as = 'root') =>
    (await test.rows('SHOW EXTERNAL CONNECTIONS', { as })).map((row) => row['connection_name']);

  it('name a folder of the node, tried before', async () => {
    const made = await test.ask("CREATE EXTERNAL CONNECTION backup_here AS 'nodelocal://1/named'");
    assert.equal(made.tag, 'CREATE EXTERNAL CONNECTION');
    const shown = await test.ask('SHOW EXTERNAL CONNECTION backup_here');
    assert.deepEqual(shown.columns, ['connection_name', 'connection_uri', 'connection_type']);
    assert.deepEqual(shown.rows, [
      {
        connection_name: 'backup_here',
        connection_uri: 'nodelocal://1/named',
        connection_type: 'STORAGE',
      },
    ]);
    // Nothing is left of the trial.
    assert.deepEqual(await filesIn('named'), []);
  });

  it('are created once', async () => {
    const text = "EXTERNAL CONNECTION backup_here AS 'nodelocal://1/other'";
    assert.equal((await test.refusal(`CREATE ${text}`)).sqlstate, '42710');
    const again = await test.ask(`CREATE ${text.replace('CONNECTION', 'CONNECTION IF NOT EXISTS')}`);
    assert.match(again.notices[0]?.message ?? '', /already exists, skipping/);
    const [row] = await test.rows('SHOW EXTERNAL CONNECTION backup_here');
    assert.equal(row?.['connection_uri'], 'nodelocal://1/named');
  });

  it('hold backups, each path its own collection', async () => {
    for (const path of ['', '/app', '/system']) {
      const [row] = await test.rows(`BACKUP INTO 'external://backup_here${path}' WITH detached`);
      await backups.begun;
      const request = backups.requests.at(-1);
      assert.equal(directoryOf(request?.collection), join(test.externalDirectory, `named${path}`));
      const [job] = await test.rows(`SHOW JOB ${row?.['job_id']}`);
      assert.match(job?.['description'] ?? '', new RegExp(`IN 'external://backup_here${path}'`));
      backups.finish();
      await test.rows(`SHOW JOB WHEN COMPLETE ${row?.['job_id']}`);
    }
    assert.notDeepEqual(await test.rows("SHOW BACKUPS IN 'external://backup_here/app'"), []);
    const schedule = await test.rows(
      "CREATE SCHEDULE x FOR BACKUP INTO 'external://backup_here/scheduled' RECURRING '@weekly' WITH SCHEDULE OPTIONS first_run = '2999-01-01', ignore_existing_backups",
    );
    assert.match(schedule[0]?.['backup_stmt'] ?? '', /external:\/\/backup_here\/scheduled/);
  });

  const REFUSED: readonly (readonly [string, string, RegExp])[] = [
    ["CREATE EXTERNAL CONNECTION c AS 'nowhere'", '22023', /not a URI/],
    [`CREATE EXTERNAL CONNECTION c AS 'ftp://u:${SECRET}@h/'`, '22023', /unknown scheme "ftp"/],
    [
      `CREATE EXTERNAL CONNECTION c AS 's3://b/x?AWS_SECRET_ACCESS_KEY=${SECRET}'`,
      '22023',
      /AWS_ACCESS_KEY_ID is missing/,
    ],
    [
      `CREATE EXTERNAL CONNECTION c AS 's3://b/x?aws_secret_access_key=${SECRET}&${SECRET}'`,
      '22023',
      /unknown S3 query parameters: aws_secret_access_key, redacted$/,
    ],
    [
      `CREATE EXTERNAL CONNECTION c AS 'gs://b/x?CREDENTIALS=${SECRET}'`,
      '22023',
      /no key of a service account/,
    ],
    [
      `CREATE EXTERNAL CONNECTION c AS 'aws-kms:///x?AWS_SECRET_ACCESS_KEY=${SECRET}'`,
      '22023',
      /^invalid AWS KMS URI: REGION is missing$/,
    ],
    [
      `CREATE EXTERNAL CONNECTION c AS 'nodelocal://1/x?auth=${SECRET}'`,
      '22023',
      /unknown nodelocal query parameters: auth/,
    ],
    ["CREATE EXTERNAL CONNECTION c AS 'nodelocal://7/x'", '22023', /node 7/],
    ["CREATE EXTERNAL CONNECTION c AS 'nodelocal://1/../x'", '22023', /path is refused/],
    ["CREATE EXTERNAL CONNECTION c AS 'external://backup_here'", '22023', /another external connection/],
    ["CREATE EXTERNAL CONNECTION c AS 'userfile://db/x'", '22023', /no userfile URI/],
    [
      `CREATE EXTERNAL CONNECTION c AS 'postgresql://u:${SECRET}@h/d?SSLMODE=${SECRET}'`,
      '22023',
      /unknown postgresql query parameters: SSLMODE/,
    ],
    ['CREATE EXTERNAL CONNECTION "a/b" AS \'nodelocal://1/x\'', '42602', /invalid name/],
    ["ALTER EXTERNAL CONNECTION nobody AS 'nodelocal://1/x'", '42704', /does not exist/],
    ['DROP EXTERNAL CONNECTION nobody', '42704', /does not exist/],
    ['SHOW EXTERNAL CONNECTION nobody', '42704', /does not exist/],
    ["BACKUP INTO 'external://nobody/x'", '42704', /does not exist/],
    [
      `BACKUP INTO 'external://backup_here/x?AWS_SECRET_ACCESS_KEY=${SECRET}'`,
      '22023',
      /not an external connection/,
    ],
    ["BACKUP INTO 'external://backup_here/../x'", '22023', /path is refused/],
  ];
  for (const [text, sqlstate, message] of REFUSED) {
    it(`refuse ${text.replaceAll(SECRET, 'S')}`, async () => {
      const before = await list();
      const error = await test.refusal(text);
      assert.equal(error.sqlstate, sqlstate, error.message);
      assert.match(error.message, message);
      assert.ok(!`${error.message} ${error.hint} ${error.detail}`.includes(SECRET));
      assert.deepEqual(await list(), before);
    });
  }

  it('are refused where the storage cannot be written, and nothing is kept', async () => {
    await mkdir(test.externalDirectory, { recursive: true });
    await writeFile(join(test.externalDirectory, 'taken'), 'a file where a folder should be');
    const error = await test.refusal("CREATE EXTERNAL CONNECTION c AS 'nodelocal://1/taken/x'");
    assert.ok(['58030', '22023'].includes(error.sqlstate), error.sqlstate);
    await symlink('/', join(test.externalDirectory, 'out'));
    assert.match(
      (await test.refusal("CREATE EXTERNAL CONNECTION c AS 'nodelocal://1/out/x'")).message,
      /symbolic link/,
    );
    await rm(join(test.externalDirectory, 'out'));
    assert.ok(!(await list()).includes('c'));
  });

  it('to userfile storage lead to the files of who made them, and take no whole virtual cluster', async () => {
    await test.ask("CREATE EXTERNAL CONNECTION files AS 'userfile:///backups'");
    const error = await test.refusal("BACKUP INTO 'external://files/a'");
    assert.equal(error.sqlstate, '0A000');
    assert.match(error.message, /userfile/);
    await test.ask("BACKUP DATABASE defaultdb INTO 'external://files/a'");
    await test.ask('DROP EXTERNAL CONNECTION files');
  });

  it('are for those who may', async () => {
    const create = "CREATE EXTERNAL CONNECTION of_maker AS 'nodelocal://1/maker'";
    assert.match((await test.refusal(create, { as: 'plain' })).message, /EXTERNALCONNECTION/);
    await test.ask(create, { as: 'maker' });
    assert.deepEqual(await list('maker'), ['of_maker']);
    assert.deepEqual(await list('plain'), []);
    assert.ok((await list()).includes('of_maker'));
    const use = "BACKUP INTO 'external://of_maker/a' WITH detached";
    assert.match(
      (await test.refusal(use, { as: 'keeper' })).message,
      /does not have USAGE privilege on external_connection of_maker/,
    );
    const grant = (privilege: string) =>
      test.host.get(test.idOf('main'))?.withSystemClient(
        (client) =>
          client.query(
            `insert into public.external_connection_privileges
              select 'of_maker', oid, $1, false from pg_roles where rolname = 'keeper'`,
            [privilege],
          ),
        { signal: new AbortController().signal },
      );
    await grant('USAGE');
    const [row] = await test.rows(use, { as: 'keeper' });
    await backups.begun;
    backups.finish();
    await test.rows(`SHOW JOB WHEN COMPLETE ${row?.['job_id']}`);
    assert.deepEqual(await list('keeper'), ['of_maker']);
    for (const text of [
      'DROP EXTERNAL CONNECTION of_maker',
      "ALTER EXTERNAL CONNECTION of_maker AS 'nodelocal://1/mine'",
      'SHOW CREATE EXTERNAL CONNECTION of_maker',
    ]) {
      assert.equal((await test.refusal(text, { as: 'keeper' })).sqlstate, '42501', text);
    }
    assert.equal((await test.rows('SHOW CREATE EXTERNAL CONNECTION of_maker', { as: 'maker' })).length, 1);
    await grant('DROP');
    assert.equal(
      (await test.ask('DROP EXTERNAL CONNECTION of_maker', { as: 'keeper' })).tag,
      'DROP EXTERNAL CONNECTION',
    );
    assert.ok(!(await list()).includes('of_maker'));
  });

  it('keep their owner from being dropped, and from being impersonated', async () => {
    await test.postgres('CREATE ROLE leaver LOGIN; GRANT atoll_externalconnection TO leaver');
    await test.ask(`CREATE EXTERNAL CONNECTION of_leaver AS '${SERVER}'`, { as: 'leaver' });
    await test.postgres('REVOKE atoll_externalconnection FROM leaver');
    await assert.rejects(() => test.postgres('DROP ROLE leaver'), { code: '2BP01' });
    await test.ask('DROP EXTERNAL CONNECTION of_leaver', { as: 'leaver' });
    await test.postgres('DROP ROLE leaver');
  });

  it('need the capability of the virtual cluster to lead to the node', async () => {
    const system = { in: 'system' } as const;
    await test.ask('ALTER VIRTUAL CLUSTER main REVOKE CAPABILITY can_use_nodelocal_storage', system);
    for (const text of [
      "CREATE EXTERNAL CONNECTION d AS 'nodelocal://1/d'",
      "BACKUP INTO 'external://backup_here/d'",
    ]) {
      assert.match((await test.refusal(text)).message, /can_use_nodelocal_storage/);
    }
    await test.ask('ALTER VIRTUAL CLUSTER main GRANT CAPABILITY can_use_nodelocal_storage', system);
  });

  it('can be led elsewhere, also while a schedule uses them', async () => {
    await test.ask("ALTER EXTERNAL CONNECTION backup_here AS 'nodelocal://1/moved'");
    const [row] = await test.rows("BACKUP INTO 'external://backup_here/y' WITH detached");
    await backups.begun;
    assert.equal(directoryOf(backups.requests.at(-1)?.collection), join(test.externalDirectory, 'moved/y'));
    backups.finish();
    await test.rows(`SHOW JOB WHEN COMPLETE ${row?.['job_id']}`);
    const none = await test.ask("ALTER EXTERNAL CONNECTION IF EXISTS nobody AS 'nodelocal://1/x'");
    assert.match(none.notices[0]?.message ?? '', /skipping/);
  });

  it('leave a schedule without a place when they are dropped, which it says', async () => {
    await test.ask("CREATE EXTERNAL CONNECTION short AS 'nodelocal://1/short'");
    const [made] = await test.rows(
      "CREATE SCHEDULE y FOR BACKUP INTO 'external://short/a' RECURRING '@weekly' WITH SCHEDULE OPTIONS first_run = '2999-01-01', ignore_existing_backups",
    );
    await test.ask('DROP EXTERNAL CONNECTION short');
    await test.ask(`ALTER BACKUP SCHEDULE ${made?.['schedule_id']} EXECUTE FULL IMMEDIATELY`);
    const state = await waitFor('the failure', async () => {
      const [row] = await test.rows(`SHOW SCHEDULE ${made?.['schedule_id']}`);
      return row?.['state'] ?? false;
    });
    assert.match(state, /external connection with name "short" does not exist/);
  });

  it('never tell their secrets but to those who may read them', async () => {
    await test.ask(`CREATE EXTERNAL CONNECTION server AS '${SERVER}'`);
    const refusals = [
      await test.refusal(`CREATE EXTERNAL CONNECTION server AS '${SERVER}'`),
      await test.refusal("BACKUP INTO 'external://server/x'"),
    ];
    const outputs = [
      await test.rows('SHOW EXTERNAL CONNECTIONS'),
      await test.rows('SHOW EXTERNAL CONNECTION server'),
      await test.rows('SHOW JOBS'),
      await test.rows('SHOW SCHEDULES'),
      await test.rows('SHOW CREATE ALL SCHEDULES'),
      refusals.map(({ message, hint, detail, stack }) => [message, hint, detail, stack]),
      test.logger.lines,
    ];
    assert.ok(!JSON.stringify(outputs).includes(SECRET));
    const [row] = await test.rows('SHOW EXTERNAL CONNECTION server');
    assert.deepEqual(
      [row?.['connection_uri'], row?.['connection_type']],
      [
        'postgresql://repl:redacted@primary.example:26257/db?sslmode=redacted&sslpassword=redacted&options=redacted',
        'FOREIGNDATA',
      ],
    );
    const [created] = await test.rows('SHOW CREATE EXTERNAL CONNECTION server');
    assert.equal(created?.['create_statement'], `CREATE EXTERNAL CONNECTION server AS '${SERVER}'`);
    assert.ok((await test.rows('SHOW CREATE ALL EXTERNAL CONNECTIONS')).length >= 2);
  });

  it('are checked on demand', async () => {
    const checked = await test.ask(
      "CHECK EXTERNAL CONNECTION 'external://backup_here/check' WITH transfer = '3MiB', concurrently = '2'",
    );
    assert.deepEqual(checked.columns, [
      'node',
      'locality',
      'ok',
      'error',
      'transferred',
      'read_speed',
      'write_speed',
      'can_delete',
    ]);
    const [row] = checked.rows;
    assert.deepEqual(
      [row?.['node'], row?.['ok'], row?.['error'], row?.['transferred'], row?.['can_delete']],
      ['1', 't', null, '6 MiB', 't'],
    );
    assert.match(row?.['read_speed'] ?? '', /B\/s$/);
    assert.deepEqual(await filesIn('moved/check'), []);
    await writeFile(join(test.externalDirectory, 'blocked'), '');
    const [bad] = await test.rows("CHECK EXTERNAL CONNECTION 'external://backup_here/check/a'");
    assert.equal(bad?.['ok'], 't');
    assert.equal(
      (await test.refusal("CHECK EXTERNAL CONNECTION 'external://backup_here' WITH transfer = 'much'"))
        .sqlstate,
      '22023',
    );
  });

  async function filesIn(folder: string): Promise<readonly string[]> {
    const entries = await readdir(join(test.externalDirectory, folder), { recursive: true }).catch(() => []);
    return entries.filter((name) => name.includes('crdb'));
  }
});

function directoryOf(collection: CollectionLocation | undefined): string | undefined {
  return collection !== undefined && 'directory' in collection ? collection.directory : undefined;
}
